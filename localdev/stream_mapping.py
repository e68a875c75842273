"""Emulates Lambda's event source mapping from a DynamoDB stream to a function.

It reads each shard in order, and makes one call per shard at a time. It retries a failed batch as a whole
until the call succeeds, and only then passes the next batch.
"""

import base64
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from localdev import threads
from localdev.functions import Function
from localdev.terminal import show

RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
DISCOVER_SECONDS = 10.0
POLL_SECONDS = 0.25
"""Lambda polls each shard four times per second."""

Record = dict[str, Any]


@dataclass(slots=True)
class Shard:
    """A shard. `iterator` points to the next records, or is None after the end of a closed shard."""

    id: str
    parent: str | None
    iterator: str | None
    last_sequence_number: str | None = None
    """The sequence number of the last record that was read."""

    taken_sequence_number: str | None = None
    """The sequence number of the last record that the function has processed."""

    pending: list[Record] = field(default_factory=list)
    """Records that were read, but that the function has not processed yet."""


@dataclass(slots=True)
class StreamMapping:
    """The mapping. Set `written` after a write to poll the stream immediately."""

    streams: Any
    stream_arn: str
    function_name: str
    function: Function
    batch_size: int = 100
    window_seconds: float = 0
    starting_position: str = "TRIM_HORIZON"
    poll_seconds: float = POLL_SECONDS
    written: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)
    _shards: dict[str, Shard] = field(default_factory=dict)
    _discover_at: float = 0

    def start(self) -> threading.Thread:
        """Find the shards, start `run` in a background thread, and return the thread.

        Records written after this call are processed. An unexpected exception in `run` ends the process.
        """
        self._discover()
        return threads.start("stream-mapping", self.run)

    def run(self) -> None:
        """Process records until `stop` is called."""
        while not self.stopped.is_set():
            self.written.clear()
            try:
                found = self._poll()
            except (ClientError, BotoCoreError) as failure:
                show("stream failed", error=type(failure).__name__)
                found = False
            if not found:
                self.written.wait(self.poll_seconds)

    def stop(self) -> None:
        """Make `run` return after the current call."""
        self.stopped.set()
        self.written.set()

    @property
    def table(self) -> str:
        return self.stream_arn.split("/")[1]

    def last_taken(self) -> int:
        """Return the sequence number of the last record that the function has processed, or 0."""
        return max((int(shard.taken_sequence_number or 0) for shard in self._shards.values()), default=0)

    def _poll(self) -> bool:
        """Process one batch per shard. Return whether there were any records."""
        if time.monotonic() >= self._discover_at:
            self._discover()
        found = [self._process_batch(shard) for shard in self._ready()]
        return any(found)

    def _discover(self) -> None:
        self._discover_at = time.monotonic() + DISCOVER_SECONDS
        first_look = not self._shards
        for shard in self._describe():
            if shard["ShardId"] not in self._shards:
                position = self.starting_position if first_look else "TRIM_HORIZON"
                iterator = self._iterator(shard["ShardId"], ShardIteratorType=position)
                self._shards[shard["ShardId"]] = Shard(shard["ShardId"], shard.get("ParentShardId"), iterator)

    def _describe(self) -> list[dict[str, Any]]:
        shards: list[dict[str, Any]] = []
        more: dict[str, str] = {}
        while True:
            page = self.streams.describe_stream(StreamArn=self.stream_arn, **more)
            shards += page["StreamDescription"]["Shards"]
            last = page["StreamDescription"].get("LastEvaluatedShardId")
            if last is None:
                return shards
            more = {"ExclusiveStartShardId": last}

    def _ready(self) -> list[Shard]:
        """Return the shards whose parent has been read completely, so that a key's records stay in order."""
        return [
            shard
            for shard in self._shards.values()
            if shard.iterator is not None and not self._is_being_read(shard.parent)
        ]

    def _is_being_read(self, shard_id: str | None) -> bool:
        shard = self._shards.get(shard_id or "")
        return shard is not None and shard.iterator is not None

    def _process_batch(self, shard: Shard) -> bool:
        self._read(shard)
        closes_at = time.monotonic() + self.window_seconds
        while 0 < len(shard.pending) < self.batch_size and time.monotonic() < closes_at:
            self.written.clear()
            self.written.wait(min(self.poll_seconds, closes_at - time.monotonic()))
            self._read(shard)
        if not shard.pending:
            return False
        self._invoke(self._lambda_records(shard.pending))
        if not self.stopped.is_set():
            shard.taken_sequence_number = shard.last_sequence_number
        shard.pending.clear()
        return True

    def _lambda_records(self, records: list[Record]) -> list[Record]:
        """Return the records in the format of Lambda's events. Skip unreadable records, and show them."""
        readable = []
        for record in records:
            try:
                readable.append(_lambda_record(record, self.stream_arn))
            except (LookupError, TypeError, ValueError, AttributeError) as broken:
                show("unreadable", function=self.function_name, error=type(broken).__name__)
        return readable

    def _read(self, shard: Shard) -> None:
        if shard.iterator is None:
            return
        limit = self.batch_size - len(shard.pending)
        try:
            answer = self.streams.get_records(ShardIterator=shard.iterator, Limit=limit)
        except self.streams.exceptions.ExpiredIteratorException:
            shard.iterator = self._iterator_after(shard)
            return
        except (
            self.streams.exceptions.TrimmedDataAccessException
        ):  # Continue with the oldest remaining record.
            shard.iterator = self._iterator(shard.id, ShardIteratorType="TRIM_HORIZON")
            return
        shard.pending += answer["Records"]
        for record in answer["Records"]:
            shard.last_sequence_number = _sequence_number(record) or shard.last_sequence_number
        shard.iterator = answer.get("NextShardIterator")
        if shard.iterator is None:
            self._discover_at = 0

    def _iterator_after(self, shard: Shard) -> str:
        if shard.last_sequence_number is None:
            return self._iterator(shard.id, ShardIteratorType=self.starting_position)
        return self._iterator(
            shard.id,
            ShardIteratorType="AFTER_SEQUENCE_NUMBER",
            SequenceNumber=shard.last_sequence_number,
        )

    def _iterator(self, shard_id: str, **position: str) -> str:
        answer = self.streams.get_shard_iterator(StreamArn=self.stream_arn, ShardId=shard_id, **position)
        return str(answer["ShardIterator"])

    def _invoke(self, records: list[Record]) -> None:
        """Call the function with the records, and retry until it succeeds or the mapping is stopped."""
        for record in records:
            show("triggered", **{"function": self.function_name, **_ids(record)})
        attempt = 0
        while records and not self.stopped.is_set():
            try:
                self.function({"Records": records})
            except BaseException as failure:  # Lambda retries after any exception, also sys.exit().
                pause = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                attempt += 1
                show(
                    "batch failed",
                    function=self.function_name,
                    error=type(failure).__name__,
                    records=len(records),
                    attempt=attempt,
                    again_in_seconds=pause,
                )
                self.stopped.wait(pause)
            else:
                return


def _lambda_record(record: Record, stream_arn: str) -> Record:
    """Return a record of the stream's API in the format of Lambda's events."""
    return {
        "eventID": record["eventID"],
        "eventName": record["eventName"],
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": stream_arn.split(":")[3],
        "dynamodb": _plain({**record["dynamodb"]}),
        "eventSourceARN": stream_arn,
        **({"userIdentity": _plain(record["userIdentity"])} if "userIdentity" in record else {}),
    }


def _plain(value: Any) -> Any:
    """Return the value as JSON in Lambda's events has it: times as epoch seconds, binary as base64."""
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float) or value is None else str(value)


def _sequence_number(record: Any) -> str | None:
    try:
        return str(record["dynamodb"]["SequenceNumber"])
    except (LookupError, TypeError):
        return None


def _ids(record: Record) -> dict[str, str]:
    """Return the key attributes and a copy's `roomMessageId` without their types, for the terminal."""
    ids = dict(record["dynamodb"].get("Keys") or {})
    image = record["dynamodb"].get("NewImage") or {}
    if "roomMessageId" in image:
        ids["roomMessageId"] = image["roomMessageId"]
    return {name: " ".join(map(str, value.values())) for name, value in ids.items()}
