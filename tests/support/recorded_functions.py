"""The service's functions over recorded tables and connections: which accesses to AWS each one makes."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from chalicelib.aws.message_items import parse_record
from chalicelib.bootstrap import limits_of, stores_of
from chalicelib.core.access import Access as AccessRule
from chalicelib.core.message_id import MessageIds
from chalicelib.core.model import EVERY_ROOM, Endpoint, Identity
from chalicelib.core.service import Runtime, assemble
from chalicelib.settings import Settings
from deployment.stage import Stage
from tests.support.documented_policies import Access
from tests.support.dynamodb_tables import make_tables
from tests.support.fakes import FakeGateway, Notes, one_after_the_other
from tests.support.recorded_aws import Call, RecordedDynamoDb
from tests.support.stream_records import inserted

ACCOUNT = "eu-west-1:123456789012"
TOKEN_SECONDS = 3600
PAUSE_SECONDS = 10
"""How much later each function is called than the one before: all windows of the rate have ended."""


@dataclass
class RecordedGateway(FakeGateway):
    """`verbs` has the method of each call."""

    verbs: list[str] = field(default_factory=list)

    def post(self, endpoint: Endpoint, connection_id: str, frame: str) -> Any:
        self.verbs.append("POST")
        return super().post(endpoint, connection_id, frame)

    def close(self, endpoint: Endpoint, connection_id: str) -> None:
        self.verbs.append("DELETE")
        super().close(endpoint, connection_id)

    def is_gone(self, endpoint: Endpoint, connection_id: str) -> bool:
        self.verbs.append("GET")
        return super().is_gone(endpoint, connection_id)


class Functions:
    """The functions of a stage. A token is its player's id, and is valid for TOKEN_SECONDS.

    `accesses` has those that each function made. A player can have one connection.
    """

    def __init__(self, stage: Stage) -> None:
        tables = make_tables()
        self.accesses: dict[str, set[Access]] = {}
        self.gateway = RecordedGateway()
        self._names = {tables.websockets: stage.websockets_table, tables.messages: stage.messages_table}
        self._messages_table = tables.messages
        self._stage = stage
        self._dynamodb = RecordedDynamoDb(tables.client, None)
        self._now = time.time()
        self._new_items: list[dict[str, Any]] = []
        self._records = 0
        settings = Settings.from_environment(
            {
                "WEBSOCKETS_TABLE": tables.websockets,
                "MESSAGES_TABLE": tables.messages,
                "CONNECTIONS_PER_PLAYER": "1",
                "AUTH_MODE": "open",
            }
        )
        self._service = assemble(
            AccessRule(is_open=False, tokens=lambda: self),
            stores_of(self._dynamodb, settings, self._clock),
            self.gateway,
            self._runtime(),
            limits_of(settings),
        )

    def identify(self, token: str) -> Identity:
        return Identity(token, int(self._now) + TOKEN_SECONDS, EVERY_ROOM)

    def connect(self, player: str, connection: str) -> None:
        with self._recorded("connect"):
            self._service.registration.connect(
                connection, self._endpoint, {"token": [player], "after": ["0"]}, {}
            )

    def send(self, connection: str, **frame: Any) -> None:
        with self._recorded("message"):
            self._service.messenger.receive(connection, self._endpoint, json.dumps(frame))

    def disconnect(self, connection: str) -> None:
        with self._recorded("disconnect"):
            self._service.registration.disconnect(connection)

    def push(self) -> None:
        """Push the new items of the Messages table, and those that this puts, until there are none."""
        while self._new_items:
            records = [inserted(item, str(self._records + at)) for at, item in enumerate(self._new_items)]
            self._records += len(records)
            self._new_items = []
            entries = [entry for record in records if (entry := parse_record(record)) is not None]
            with self._recorded("push"):
                self._service.push.batch(entries, lambda: 30.0)

    def live(self, player: str, connection: str) -> None:
        self.connect(player, connection)
        self.push()

    def expire_tokens(self) -> None:
        self._now += TOKEN_SECONDS

    @property
    def _endpoint(self) -> Endpoint:
        return Endpoint("api", self._stage.api_gateway_stage)

    def _clock(self) -> int:
        return round(1000 * self._now)

    def _runtime(self) -> Runtime:
        return Runtime(
            new_message_id=MessageIds(lambda: round(1_000_000_000 * self._now)),
            clock=self._clock,
            monotonic=lambda: self._now,
            sleep=lambda seconds: None,
            jitter=lambda: 1.0,
            run_per_player=one_after_the_other,
            run_per_connection=one_after_the_other,
            run_per_chunk=one_after_the_other,
            note=Notes(),
        )

    @contextmanager
    def _recorded(self, function: str) -> Iterator[None]:
        """Add what happens inside to the function's accesses, and the items that it puts to the stream."""
        self._now += PAUSE_SECONDS
        yield
        made = self.accesses.setdefault(function, set())
        for call in self._dynamodb.calls:
            made.update(self._to_tables(call))
            self._new_items += self._put_messages(call)
        for verb in self.gateway.verbs:
            path = f"api/{self._stage.api_gateway_stage}/{verb}/@connections/id"
            made.add(Access("execute-api:ManageConnections", f"arn:aws:execute-api:{ACCOUNT}:{path}"))
        self._dynamodb.calls.clear()
        self.gateway.verbs.clear()

    def _to_tables(self, call: Call) -> Iterator[Access]:
        method, request = call
        action = f"dynamodb:{''.join(word.title() for word in method.split('_'))}"
        for table in request.get("RequestItems") or [request["TableName"]]:
            yield Access(action, f"arn:aws:dynamodb:{ACCOUNT}:table/{self._names[table]}")

    def _put_messages(self, call: Call) -> list[dict[str, Any]]:
        method, request = call
        if method == "put_item" and request["TableName"] == self._messages_table:
            return [request["Item"]]
        writes: list[Mapping[str, Any]] = []
        if method == "batch_write_item":
            writes = request["RequestItems"].get(self._messages_table, [])
        return [write["PutRequest"]["Item"] for write in writes]
