"""Runs the real service on an embedded DynamoDB in this process, and counts its calls to AWS."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse

from chalicelib.aws.management_api import MAX_CONCURRENT_POSTS
from chalicelib.aws.message_items import parse_record
from chalicelib.bootstrap import wire
from chalicelib.core.model import Endpoint, Entry
from chalicelib.core.service import Service
from chalicelib.settings import Settings
from localdev import dynamodb

HERE = Endpoint("local", "dev")
REMAINING_SECONDS = 60.0
BATCH_RECORDS = MAX_CONCURRENT_POSTS
"""The batch size of app.py's mapping."""


@dataclass(slots=True)
class CountedAws:
    """The service and the calls that it made.

    `post_seconds` is the duration of each post, and `dynamodb_seconds` is added to each call to DynamoDB.
    `posted_at` has the `perf_counter` of the latest post to each connection.
    """

    service: Service
    calls: Counter[str]
    post_seconds: float = 0.0
    dynamodb_seconds: float = 0.0
    posted_at: dict[str, float] = field(default_factory=dict)
    _iterator: str = ""
    _stream_arn: str = ""

    @classmethod
    def start(cls, **settings: str) -> "CountedAws":
        """Start the service. Call this once per process, because it replaces boto3's default session."""
        environment = {"WEBSOCKETS_TABLE": "websockets", "MESSAGES_TABLE": "messages", "AUTH_MODE": "open"}
        limits = {"MESSAGES_PER_SECOND": "1000", "MESSAGE_BURST": "10000", "ROOM_MESSAGES_PER_SECOND": "1000"}
        dynamodb.embed(on_write=lambda: None)
        os.environ["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"] = "http://nowhere.invalid"
        calls: Counter[str] = Counter()
        events = dynamodb.session().events
        for counted in ("dynamodb", "apigatewaymanagementapi"):
            events.register(f"provide-client-params.{counted}", lambda model, **_: calls.update([model.name]))
        aws: CountedAws
        # Before the clients are created, because a client copies its session's hooks at that moment.
        events.register("before-call.apigatewaymanagementapi", lambda **call: aws._post(**call))
        events.register("provide-client-params.dynamodb", lambda **call: aws._wait_for_dynamodb())
        aws = cls(wire(Settings.from_environment(environment | limits | settings)), calls)
        client = boto3.client("dynamodb")
        dynamodb.create_tables(client, {"WebsocketsTable": "websockets", "MessagesTable": "messages"})
        aws._stream_arn = dynamodb.stream_arn(client, "messages")
        aws._iterator = _first_iterator(aws._stream_arn)
        return aws

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Yield a counter that has, after the block, the block's calls by operation."""
        before = Counter(self.calls)
        made: Counter[str] = Counter()
        yield made
        made.update(self.calls - before)

    def connect(self, *players: str) -> None:
        """Give each player a live connection named `c-<player>`."""
        for player in players:
            self.service.registration.connect(f"c-{player}", HERE, {"playerId": [player]}, {})
        self.push()

    def receive(self, player: str, frame: str) -> None:
        self.service.messenger.receive(f"c-{player}", HERE, frame)

    def records(self) -> list[Any]:
        """Return the stream records since the previous call."""
        streams = boto3.client("dynamodbstreams")
        records = []
        while True:
            answer = streams.get_records(ShardIterator=self._iterator, Limit=1000)
            self._iterator = answer["NextShardIterator"]
            records += [{**record, "eventSourceARN": self._stream_arn} for record in answer["Records"]]
            if not answer["Records"]:
                return records

    def push(self) -> None:
        """Push the stream records since the previous call, at most BATCH_RECORDS at a time."""
        entries = self.entries()
        for start in range(0, len(entries), BATCH_RECORDS):
            self.push_batch(entries[start : start + BATCH_RECORDS])

    def entries(self) -> list[Entry]:
        """Return what the stream records since the previous call hold."""
        return [entry for record in self.records() if (entry := parse_record(record)) is not None]

    def push_batch(self, entries: list[Entry]) -> None:
        self.service.push.batch(entries, lambda: REMAINING_SECONDS)

    def _wait_for_dynamodb(self) -> None:
        if self.dynamodb_seconds:
            time.sleep(self.dynamodb_seconds)

    def _post(self, params: Any, **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        if self.post_seconds:
            time.sleep(self.post_seconds)
        self.posted_at[params["url"].rpartition("/")[2]] = time.perf_counter()
        return AWSResponse(params["url"], 200, {}, None), {"ResponseMetadata": {"HTTPStatusCode": 200}}


def seconds_of(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _first_iterator(arn: str) -> str:
    streams = boto3.client("dynamodbstreams")
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    answer = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )
    return str(answer["ShardIterator"])
