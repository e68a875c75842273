"""The tables of a simulated stage: the DynamoDB engine in memory, with faults at the calls of the stores."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from chalicelib.aws.messages import EXPIRY_SLACK_SECONDS, parse_record
from chalicelib.core.message_id import timestamp_of
from chalicelib.core.model import Entry
from localdev.dynamodb import create_tables
from localdev.engine import ApiError, Client, DynamoDb
from tests.simulation.schedule import Schedule

if TYPE_CHECKING:
    from tests.simulation.world import World

WEBSOCKETS, MESSAGES = "websockets", "messages"
EARLIER_CHANGES = 1_000_000
"""How many changes the first stream has had. A stream of a new table has lower sequence numbers."""

SLOW_SECONDS = 5.0
LATE_SECONDS = 3.0
"""How long after its function was given up a write can still take effect."""

READ = ("before", "crash before", "throttled")
BATCH_READ = (*READ, "unprocessed")
WRITE = ("before", "after", "late", "twice", "crash before", "crash after", "throttled")
"""`late`: the write takes effect after its caller has given up. `twice`: boto3 sends it again, because the
first response was lost."""

KINDS = {"GetItem": READ, "Query": READ, "BatchGetItem": BATCH_READ}
"""The faults of the operations that read."""

Item = dict[str, Any]


class Tables:
    """`client` is for the simulated functions; `reliable`, whose calls never fail, for the world itself.

    `history` has all entries that the stream has brought, in its order, also those of a deleted table.
    """

    def __init__(self, world: "World", slow_puts: float) -> None:
        self._world = world
        self._schedule: Schedule = world.schedule
        self._slow_puts = slow_puts
        self._engine = DynamoDb(lambda: self._schedule.now, self._read_stream)
        self._before_last_write: dict[str, Item | None] = {}
        self.client = Client(self._call)
        self.reliable = Client(self._engine.call)
        self.history: dict[str, Entry] = {}
        for request in _definitions():
            self._engine.call("CreateTable", request)
        self._engine.tables[MESSAGES].trimmed = EARLIER_CHANGES
        self._stream, self._iterator = self._open_stream()

    def websockets_item(self, item_id: str) -> Item | None:
        """Return the item as the engine keeps it: another one after each change."""
        return self._engine.tables[WEBSOCKETS].get((item_id, ""))

    def recreate_messages(self) -> None:
        """Delete the table and create it again. The sequence numbers of its stream start lower."""
        self._engine.call("DeleteTable", {"TableName": MESSAGES})
        (request,) = (each for each in _definitions() if each["TableName"] == MESSAGES)
        self._engine.call("CreateTable", request)
        self._stream, self._iterator = self._open_stream()

    def _open_stream(self) -> tuple[str, str]:
        (stream,) = self.reliable.list_streams(TableName=MESSAGES)["Streams"]
        arn = stream["StreamArn"]
        shards = self.reliable.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        answer = self.reliable.get_shard_iterator(
            StreamArn=arn, ShardId=shards[0]["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )
        return arn, answer["ShardIterator"]

    def _read_stream(self) -> None:
        """Hand over the new records, in order, to the shards of their players."""
        answer = self._engine.call("GetRecords", {"ShardIterator": self._iterator})
        self._iterator = answer["NextShardIterator"]
        for record in answer["Records"]:
            entry = parse_record({**record, "eventSourceARN": self._stream})
            if entry is not None:
                self.history[entry.id] = entry
                self._world.shard_of(entry.destination).records.append(entry)

    def _call(self, operation: str, request: Item) -> Item:
        """One call to AWS: others go on before it, it has its effect or its fault, others go on after it."""
        table, asked_at = request.get("TableName") or next(iter(request["RequestItems"])), self._schedule.now
        name, schedule, random = f"{operation} {table}", self._schedule, self._world.random
        is_slow = table == MESSAGES and operation == "PutItem" and random.random() < self._slow_puts
        if is_slow:
            self._world.faulted[f"{name}: slow"] += 1
        schedule.pause(random.random() * SLOW_SECONDS if is_slow else 0)
        fault = self._world.draw(name, KINDS.get(operation, WRITE))
        if fault == "crash before":
            schedule.crash()
        if fault == "late":
            schedule.later(random.random() * LATE_SECONDS, lambda: self._take_effect_late(operation, request))
        if fault in ("before", "late"):
            raise ApiError("InternalServerError", name)
        if fault == "throttled":
            raise ApiError("ProvisionedThroughputExceededException", name)
        if fault == "unprocessed":
            return self._part_of(request, table)
        if fault == "twice":
            self._effect(operation, request)
            schedule.pause()
        answer = self._effect(operation, request)
        if operation == "Query":
            self._check_costs(answer, asked_at)
        schedule.pause()
        if fault == "after":
            raise ApiError("InternalServerError", name)
        if fault == "crash after":
            schedule.crash()
        if isinstance(answer, ApiError):
            raise answer
        return answer

    def _take_effect_late(self, operation: str, request: Item) -> None:
        """Nobody is there any more to read the response."""
        self._effect(operation, request)

    def _check_costs(self, page: Item | ApiError, asked_at: float) -> None:
        """A page that ends at a message that expired long ago has read it for nothing."""
        last = {} if isinstance(page, ApiError) else page.get("LastEvaluatedKey", {})
        oldest = asked_at - self._world.retention_seconds - EXPIRY_SLACK_SECONDS - 1
        if last and timestamp_of(last["messageId"]["S"]) < 1000 * oldest:
            self._world.expired.append(f"read for nothing: {last['messageId']['S']}")

    def _effect(self, operation: str, request: Item) -> Item | ApiError:
        """Return the response, or the failed condition. Any other error is a bug."""
        self._remember(operation, request)
        try:
            return self._stale(operation, request, self._engine.call(operation, request))
        except ApiError as error:
            if error.code != "ConditionalCheckFailedException":
                raise AssertionError(f"{operation}: {error.code}: {error.message}") from error
            return error

    def _remember(self, operation: str, request: Item) -> None:
        """Keep what the item is before this write, for reads that aren't consistent."""
        if operation not in KINDS and request["TableName"] == WEBSOCKETS:
            item_id = (request.get("Key") or request["Item"])["id"]["S"]
            self._before_last_write[item_id] = self.websockets_item(item_id)

    def _stale(self, operation: str, request: Item, answer: Item) -> Item:
        """Return the answer, or what an eventually consistent read would find: each item as it was before."""
        if operation == "BatchGetItem":
            (asked,), (items,) = request["RequestItems"].values(), answer["Responses"].values()
            if not asked.get("ConsistentRead"):
                ids = [key["id"]["S"] for key in asked["Keys"]]
                now = {item["id"]["S"]: item for item in items}
                before = [self._before_last_write.get(item_id, now.get(item_id)) for item_id in ids]
                answer["Responses"] = {WEBSOCKETS: [item for item in before if item is not None]}
        return answer

    def _part_of(self, request: Item, table: str) -> Item:
        """Read some of the keys, or none, as when a batch is too large or is throttled in part."""
        asked: Mapping[str, Any] = request["RequestItems"][table]
        keys = list(asked["Keys"])
        self._world.random.shuffle(keys)
        count = self._world.random.randrange(len(keys))
        left = {table: {**asked, "Keys": keys[count:]}}
        if not count:
            return {"Responses": {}, "UnprocessedKeys": left}
        answer = self._engine.call("BatchGetItem", {"RequestItems": {table: {**asked, "Keys": keys[:count]}}})
        answer["UnprocessedKeys"] = left
        return self._stale("BatchGetItem", {"RequestItems": {table: {**asked, "Keys": keys[:count]}}}, answer)


@cache
def _definitions() -> tuple[Item, ...]:
    """Return the CreateTable requests that the template's tables are made with."""
    requests: list[Item] = []
    engine = DynamoDb()

    def call(operation: str, request: Item) -> Item:
        if operation == "CreateTable":
            requests.append(request)
        return engine.call(operation, request)

    create_tables(Client(call), {"WebsocketsTable": WEBSOCKETS, "MessagesTable": MESSAGES})
    return tuple(requests)
