"""The stream mapping delivers every record in order, and retries until the function succeeds."""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

import pytest

from chalicelib.aws.message_items import MARKER
from chalicelib.aws.messages import MessagesTable
from chalicelib.core.model import ReplayMarker
from localdev.dynamodb import stream_arn
from localdev.embedded_dynamodb import EmbeddedDynamoDB
from localdev.stream_mapping import StreamMapping
from tests.support.dynamodb_tables import IS_EMBEDDED, Tables, make_tables
from tests.support.sockets import PATIENCE_SECONDS

Batch = list[str]


@dataclass
class Function:
    """Records the ids of each batch. `failures` is how many further calls fail."""

    failures: int = 0
    batches: list[Batch] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        keys = [record["dynamodb"]["Keys"]["messageId"]["S"] for record in event["Records"]]
        self.batches.append([key.removeprefix(MARKER) for key in keys])
        if self.failures:
            self.failures -= 1
            raise RuntimeError("told to fail")


@pytest.fixture
def tables() -> Tables:
    return make_tables()


@pytest.fixture
def function() -> Function:
    return Function()


@pytest.fixture
def mapping(tables: Tables, function: Function) -> Iterator[StreamMapping]:
    mapping = StreamMapping(
        tables.session.client("dynamodbstreams"),
        stream_arn(tables.client, tables.messages),
        "push",
        function,
        poll_seconds=0.01,
    )
    yield mapping
    mapping.stop()


def put(tables: Tables, *message_ids: str) -> None:
    table = MessagesTable(tables.client, tables.messages, 60)
    for message_id in message_ids:
        table.put(ReplayMarker(message_id, "1", "c"))


def wait_for(function: Function, batches: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(function.batches) < batches:
        assert time.monotonic() < deadline, function.batches
        time.sleep(0.01)


def test_a_record_has_the_fields_that_lambda_passes(
    tables: Tables, mapping: StreamMapping, function: Function
) -> None:
    mapping.start()
    put(tables, "m1")
    wait_for(function, 1)

    (record,) = function.events[0]["Records"]
    assert set(record) == {
        "eventID",
        "eventName",
        "eventVersion",
        "eventSource",
        "awsRegion",
        "dynamodb",
        "eventSourceARN",
    }
    assert (record["eventName"], record["eventVersion"]) == ("INSERT", "1.1")
    assert record["eventSourceARN"] == mapping.stream_arn
    assert set(record["dynamodb"]) == {
        "ApproximateCreationDateTime",
        "Keys",
        "NewImage",
        "SequenceNumber",
        "SizeBytes",
        "StreamViewType",
    }
    assert abs(record["dynamodb"]["ApproximateCreationDateTime"] - time.time()) < 60
    assert record["dynamodb"]["NewImage"]["replayTo"] == {"S": "c"}


def test_records_arrive_in_order_in_batches_up_to_the_batch_size(
    tables: Tables, mapping: StreamMapping, function: Function
) -> None:
    put(tables, "m1", "m2", "m3", "m4", "m5")
    replace(mapping, batch_size=2).start()
    wait_for(function, 3)

    assert function.batches == [["m1", "m2"], ["m3", "m4"], ["m5"]]


def test_a_failed_batch_is_redelivered_whole_before_any_later_record(
    tables: Tables, mapping: StreamMapping, function: Function
) -> None:
    function.failures = 2
    put(tables, "m1", "m2", "m3")
    replace(mapping, batch_size=2).start()
    wait_for(function, 4)

    assert function.batches == [["m1", "m2"], ["m1", "m2"], ["m1", "m2"], ["m3"]]


def test_a_window_gathers_records_until_the_batch_is_full(
    tables: Tables, mapping: StreamMapping, function: Function
) -> None:
    mapping = replace(mapping, batch_size=3, window_seconds=PATIENCE_SECONDS)
    mapping.start()
    for message_id in ("m1", "m2", "m3"):
        put(tables, message_id)
    wait_for(function, 1)

    assert function.batches == [["m1", "m2", "m3"]]


def test_a_window_ends_with_a_batch_that_is_not_full(
    tables: Tables, mapping: StreamMapping, function: Function
) -> None:
    replace(mapping, window_seconds=0.05).start()
    put(tables, "m1")
    wait_for(function, 1)

    put(tables, "m2")
    wait_for(function, 2)

    assert function.batches == [["m1"], ["m2"]]


def test_latest_delivers_only_records_written_after_the_start(
    tables: Tables, mapping: StreamMapping, function: Function
) -> None:
    put(tables, "before")
    replace(mapping, starting_position="LATEST").start()
    put(tables, "after")
    wait_for(function, 1)

    assert function.batches == [["after"]]


ATTRIBUTES: dict[str, dict[str, Any]] = {
    "binary": {"B": "AAE="},
    "empty-binary": {"B": ""},
    "binary-set": {"BS": ["AAE=", "/w=="]},
    "number": {"N": "1"},
    "huge-number": {"N": "9" * 38},
    "tiny-number": {"N": f"0.{1:0130}"},
    "number-set": {"NS": ["1", "2.5"]},
    "text": {"S": ""},
    "text-set": {"SS": ["a", "b"]},
    "list": {"L": [{"B": "AAE="}, {"L": []}, {"M": {}}, {"NULL": True}]},
    "map": {"M": {"binary": {"B": "AAE="}, "set": {"BS": ["AAE="]}}},
    "null": {"NULL": True},
    "boolean": {"BOOL": False},
}


@pytest.mark.parametrize("directly", [True, False])
@pytest.mark.skipif(not IS_EMBEDDED, reason="of the embedded DynamoDB")
def test_attributes_of_every_type_reach_the_function_as_json(function: Function, directly: bool) -> None:
    tables = make_tables(directly)
    port = tables.embedded.serve("127.0.0.1", 0)
    arn = stream_arn(tables.client, tables.messages)
    streams = tables.session.client("dynamodbstreams")
    mapping = StreamMapping(streams, arn, "push", function, poll_seconds=0.01)
    mapping.start()
    for name, value in ATTRIBUTES.items():
        put_over_http(port, tables.messages, name, {"odd": value})
    put_over_http(port, tables.messages, "keys-alone", {})
    wait_for_keys(function, [*ATTRIBUTES, "keys-alone"])
    mapping.stop()

    records = [record for event in function.events for record in event["Records"]]
    images = [record["dynamodb"]["NewImage"] for record in records]
    assert json.loads(json.dumps(records)) == records
    assert {image["messageId"]["S"]: image["odd"] for image in images if "odd" in image} == ATTRIBUTES


def put_over_http(port: int, table: str, message_id: str, attributes: dict[str, Any]) -> None:
    """Put an item over HTTP, as curl does."""
    keys = {"destinationPlayerId": {"S": "1"}, "messageId": {"S": message_id}}
    status, content = over_http(port, "PutItem", {"TableName": table, "Item": keys | attributes})
    assert status == 200, content


def over_http(port: int, operation: str, request: dict[str, Any]) -> tuple[int, bytes]:
    """Return the answer's status and content."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    connection.request("POST", "/", json.dumps(request), {"X-Amz-Target": f"DynamoDB_20120810.{operation}"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


@pytest.mark.parametrize("binary", [{"B": "A"}, {"B": "!!"}, {"BS": ["AAE=", "A"]}, {"L": [{"B": "A"}]}])
def test_binary_that_is_not_base64_is_refused(binary: dict[str, Any]) -> None:
    port = EmbeddedDynamoDB(on_write=lambda: None).serve("127.0.0.1", 0)
    keys = {"destinationPlayerId": {"S": "1"}, "messageId": {"S": "m1"}}

    status, content = over_http(port, "PutItem", {"TableName": "messages", "Item": keys | {"x": binary}})

    assert (status, json.loads(content)["__type"].rpartition("#")[2]) == (400, "SerializationException")


def wait_for_keys(function: Function, keys: list[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (seen := [key for batch in function.batches for key in batch]) != keys:
        assert time.monotonic() < deadline, seen
        time.sleep(0.01)


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"eventID": "e", "eventName": "INSERT"},
        {"eventID": "e", "eventName": "INSERT", "dynamodb": None},
        {"eventID": "e", "eventName": "INSERT", "dynamodb": []},
        {"eventName": "INSERT", "dynamodb": {"SequenceNumber": "0"}},
    ],
)
def test_an_unreadable_record_is_reported_and_skipped(
    odd: dict[str, Any], function: Function, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = Stream([{"ShardId": "open"}], {"open": ["m1", "m2"]}, odd={"m1": odd})
    mapping = StreamMapping(stream, "arn:aws:dynamodb:r", "push", function, poll_seconds=0.01)
    mapping.start()
    wait_for_keys(function, ["m2"])
    mapping.stop()

    assert "unreadable" in capsys.readouterr().out


def test_a_function_that_exits_is_retried(function: Function) -> None:
    exits = [SystemExit(1), StopIteration(), KeyboardInterrupt()]

    def exiting(event: dict[str, Any]) -> None:
        if exits:
            raise exits.pop()
        function(event)

    stream = Stream([{"ShardId": "open"}], {"open": ["m1"]})
    mapping = StreamMapping(stream, "arn:aws:dynamodb:r", "push", exiting, poll_seconds=0.01)
    mapping.start()
    wait_for_keys(function, ["m1"])
    mapping.stop()


def test_an_unexpected_end_of_the_mapping_ends_the_process_with_a_message() -> None:
    program = """
import time
from localdev.stream_mapping import StreamMapping

class Streams:
    def describe_stream(self, **_):
        return {"StreamDescription": {"Shards": [{"ShardId": "s"}]}}

    def get_shard_iterator(self, **_):
        return {"ShardIterator": "i"}

    class exceptions:
        class ExpiredIteratorException(Exception): pass
        class TrimmedDataAccessException(Exception): pass

    def get_records(self, **_):
        raise RuntimeError("nobody foresaw this")

StreamMapping(Streams(), "arn:aws:dynamodb:r", "push", print).start()
time.sleep(600)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_SECONDS,
        encoding="utf-8",
    )

    assert ran.returncode == 1
    assert "chalice: stream-mapping stopped: RuntimeError: nobody foresaw this" in ran.stderr


class Stream:
    """A stream of several shards, as DynamoDB splits them. `records` are by shard id."""

    class exceptions:  # noqa: N801  # As boto3 names it.
        class ExpiredIteratorException(Exception):
            pass

        class TrimmedDataAccessException(Exception):
            pass

    def __init__(
        self,
        shards: list[dict[str, str]],
        records: dict[str, list[str]],
        odd: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self.shards = shards
        self.records = records
        self.odd = odd or {}
        self.expired_once: set[str] = set()
        self.failures = 0
        self.trimmed = False

    def describe_stream(self, StreamArn: str, ExclusiveStartShardId: str = "") -> Any:  # noqa: N803
        ids = [shard["ShardId"] for shard in self.shards]
        start = ids.index(ExclusiveStartShardId) + 1 if ExclusiveStartShardId else 0
        page = {"Shards": self.shards[start : start + 1]}
        if start + 1 < len(ids):
            page |= {"LastEvaluatedShardId": ids[start]}  # type: ignore[dict-item]
        return {"StreamDescription": page}

    def get_shard_iterator(
        self,
        StreamArn: str,  # noqa: N803
        ShardId: str,  # noqa: N803
        ShardIteratorType: str,  # noqa: N803
        SequenceNumber: str = "-1",  # noqa: N803
    ) -> Any:
        return {"ShardIterator": f"{ShardId}/{int(SequenceNumber) + 1}"}

    def get_records(self, ShardIterator: str, Limit: int) -> Any:  # noqa: N803
        if self.failures:
            self.failures -= 1
            from botocore.exceptions import ReadTimeoutError

            raise ReadTimeoutError(endpoint_url="streams")
        shard_id, _, position = ShardIterator.partition("/")
        if self.trimmed:
            self.trimmed = False
            raise self.exceptions.TrimmedDataAccessException
        if position == "1" and shard_id not in self.expired_once:
            self.expired_once.add(shard_id)
            raise self.exceptions.ExpiredIteratorException
        start = int(position)
        keys = self.records[shard_id][start : start + Limit]
        found = [self.odd.get(key, stream_record(key, start + n)) for n, key in enumerate(keys)]
        answer = {"Records": found}
        if start + len(keys) < len(self.records[shard_id]) or shard_id.endswith("open"):
            answer["NextShardIterator"] = f"{shard_id}/{start + len(keys)}"  # type: ignore[assignment]
        return answer


def stream_record(message_id: str, sequence_number: int) -> dict[str, Any]:
    return {
        "eventID": message_id,
        "eventName": "INSERT",
        "dynamodb": {
            "ApproximateCreationDateTime": datetime.now(timezone.utc),
            "Keys": {"messageId": {"S": message_id}},
            "SequenceNumber": str(sequence_number),
            "NewImage": {"raw": {"B": b"\x00"}},
        },
    }


def split_stream() -> Stream:
    return Stream(
        [
            {"ShardId": "child-open", "ParentShardId": "parent"},
            {"ShardId": "parent"},
            {"ShardId": "other-open"},
        ],
        {"parent": ["p1", "p2", "p3"], "child-open": ["c1", "c2"], "other-open": ["o1"]},
    )


def test_a_shard_is_read_only_after_its_parent_and_every_shard_is_read(function: Function) -> None:
    mapping = StreamMapping(
        split_stream(), "arn:aws:dynamodb:r", "push", function, batch_size=1, poll_seconds=0.01
    )
    mapping.start()
    wait_for(function, 6)
    mapping.stop()

    seen = [key for batch in function.batches for key in batch]
    assert [key for key in seen if key != "o1"] == ["p1", "p2", "p3", "c1", "c2"]
    assert seen.count("o1") == 1
    assert function.events[0]["Records"][0]["dynamodb"]["NewImage"] == {"raw": {"B": "AA=="}}


def test_reading_continues_at_the_oldest_record_when_the_position_was_trimmed(function: Function) -> None:
    stream = split_stream()
    mapping = StreamMapping(stream, "arn:aws:dynamodb:r", "push", function, poll_seconds=0.01)
    stream.trimmed = True
    mapping.start()
    wait_for(function, 3)
    mapping.stop()

    assert sorted(key for batch in function.batches for key in batch) == ["c1", "c2", "o1", "p1", "p2", "p3"]


def test_a_temporarily_unreadable_stream_loses_nothing(function: Function) -> None:
    stream = split_stream()
    mapping = StreamMapping(
        stream, "arn:aws:dynamodb:r", "push", function, window_seconds=0.05, poll_seconds=0.01
    )
    stream.failures = 3
    mapping.start()
    wait_for(function, 3)
    mapping.stop()

    assert sorted(key for batch in function.batches for key in batch) == ["c1", "c2", "o1", "p1", "p2", "p3"]
