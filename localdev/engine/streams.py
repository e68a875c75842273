"""The tables' streams. Each has one shard, which is never closed, and records new images."""

from typing import Any

from localdev.engine.errors import Invalid, NotFound
from localdev.engine.items import Request, Response
from localdev.engine.tables import FIRST_SEQUENCE_NUMBER, REGION, Change, Table, utc
from localdev.engine.values import copy_of_item, size_of_item

SHARD = "shardId-00000000000000000000-00000000"
VIEW = "NEW_IMAGE"
MAX_RECORDS = 1000


def described(table: Table, request: Request) -> Response:
    """Return the response to DescribeStream."""
    shard = {"ShardId": SHARD, "SequenceNumberRange": {"StartingSequenceNumber": str(FIRST_SEQUENCE_NUMBER)}}
    return {
        "StreamDescription": {
            "StreamArn": table.stream_arn,
            "StreamLabel": table.stream_label,
            "StreamStatus": "ENABLED",
            "StreamViewType": VIEW,
            "CreationRequestDateTime": utc(table.created_at),
            "TableName": table.name,
            "KeySchema": table.definition["KeySchema"],
            "Shards": [] if request.get("ExclusiveStartShardId") else [shard],
        }
    }


def listed(table: Table) -> dict[str, str]:
    """Return the stream's entry in the response to ListStreams."""
    return {"StreamArn": table.stream_arn, "TableName": table.name, "StreamLabel": table.stream_label}


def shard_iterator(table: Table, request: Request) -> Response:
    """Return a shard iterator, which has the stream's ARN and the index of the next change.

    Raises Invalid and NotFound.
    """
    if request["ShardId"] != SHARD:
        raise NotFound("Requested resource not found: Shard does not exist")
    kind = request["ShardIteratorType"]
    if kind == "TRIM_HORIZON":
        place = 0
    elif kind == "LATEST":
        place = table.trimmed + len(table.changes)
    elif kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER") and "SequenceNumber" in request:
        place = int(request["SequenceNumber"]) - FIRST_SEQUENCE_NUMBER + (kind == "AFTER_SEQUENCE_NUMBER")
    else:
        raise Invalid(f"Invalid ShardIteratorType, or no SequenceNumber for it: {kind}")
    return {"ShardIterator": f"{table.stream_arn}|{place}"}


def stream_of(iterator: str) -> tuple[str, int]:
    """Return the stream's ARN and the change's index in an iterator. Raises Invalid."""
    arn, separator, place = iterator.rpartition("|")
    if not separator or not place.isdecimal():
        raise Invalid("Invalid ShardIterator")
    return arn, int(place)


def records(table: Table, place: int, limit: int) -> Response:
    """Return at most `limit` records from index `place` on, and the next iterator. Skips trimmed records."""
    place = max(place, table.trimmed)
    start = place - table.trimmed
    changes = table.changes[start : start + min(limit, MAX_RECORDS)]
    return {
        "Records": [_record(change) for change in changes],
        "NextShardIterator": f"{table.stream_arn}|{place + len(changes)}",
    }


def _record(change: Change) -> dict[str, Any]:
    image = {} if change.new is None else {"NewImage": copy_of_item(change.new)}
    return {
        "eventID": f"{change.sequence_number:032x}",
        "eventName": change.name,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
        "dynamodb": {
            "ApproximateCreationDateTime": utc(change.at),
            "Keys": copy_of_item(change.keys),
            **image,
            "SequenceNumber": str(change.sequence_number),
            "SizeBytes": size_of_item(change.keys) + size_of_item(change.new or {}),
            "StreamViewType": VIEW,
        },
    }
