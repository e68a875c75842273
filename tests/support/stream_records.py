"""Records of the Messages table's stream, as the mapping passes them to push."""

from typing import Any

from chalicelib.core.model import StreamPosition

STREAM = "2026-01-01T00:00:00.000"


def position(sequence_number: int, stream: str = STREAM) -> StreamPosition:
    return StreamPosition(stream, sequence_number)


def inserted(item: Any, sequence_number: Any = "1", stream: str = STREAM) -> dict[str, Any]:
    return {
        "eventName": "INSERT",
        "eventSourceARN": f"arn:aws:dynamodb:eu-west-1:000000000000:table/messages/stream/{stream}",
        "dynamodb": {"NewImage": item, "SequenceNumber": sequence_number},
    }
