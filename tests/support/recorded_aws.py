"""A DynamoDB client that records its calls and says what time it is, and connections that record theirs."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from botocore.exceptions import ClientError

Call = tuple[str, dict[str, Any]]


@dataclass
class RecordedDynamoDb:
    """Calls a client. `time` returns the seconds since the epoch that its Date headers are made of.

    `calls` has each call's method and request. `before` has functions that are called once, before the next
    call of a method. `slow` is called while a call runs. Without `time`, there is no Date header.
    """

    client: Any
    time: Callable[[], float] | None
    calls: list[Call] = field(default_factory=list)
    before: dict[str, Callable[[], object]] = field(default_factory=dict)
    slow: Callable[[], None] = lambda: None

    @property
    def meta(self) -> Any:
        return self.client.meta

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(**request: Any) -> Any:
            self.calls.append((method, request))
            self.before.pop(method, lambda: None)()
            headers = {} if self.time is None else {"date": formatdate(self.time(), usegmt=True)}
            self.slow()
            try:
                answer = getattr(self.client, method)(**request)
            except ClientError as refusal:
                refusal.response["ResponseMetadata"]["HTTPHeaders"] = headers
                raise
            return {**answer, "ResponseMetadata": {**answer["ResponseMetadata"], "HTTPHeaders": headers}}

        return call

    @property
    def methods(self) -> list[str]:
        return [method for method, _ in self.calls]


@dataclass
class RecordedConnections:
    """`@connections`. Posting to or closing a connection that isn't in `open` returns 410.

    `calls` has each call's method and connection. `answers` has the statuses that replace the next answers of
    a connection's calls. `frames` has the frames that a connection received, and `urls` the endpoints.
    `before_post` is called before each post.
    """

    open: set[str] = field(default_factory=set)
    calls: list[tuple[str, str]] = field(default_factory=list)
    answers: dict[str, list[int]] = field(default_factory=dict)
    frames: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    urls: list[str] = field(default_factory=list)
    before_post: Callable[[], None] = lambda: None

    def at(self, url: str) -> "RecordedConnections":
        self.urls.append(url)
        return self

    def post_to_connection(self, ConnectionId: str, Data: bytes) -> None:  # noqa: N803
        self.before_post()
        self._call("post", ConnectionId)
        self.frames.setdefault(ConnectionId, []).append(json.loads(Data))

    def delete_connection(self, ConnectionId: str) -> None:  # noqa: N803
        self._call("delete", ConnectionId)
        self.open.discard(ConnectionId)

    def _call(self, method: str, connection: str) -> None:
        self.calls.append((method, connection))
        planned = self.answers.get(connection) or [200 if connection in self.open else 410]
        status = planned.pop(0)
        if status != 200:
            response: Any = {"Error": {"Code": str(status)}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(response, method)
