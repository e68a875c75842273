"""The items of the Messages table, and their conversion to and from values.

A recipient's messages are one partition, sorted by message id. Its markers are in the same partition, so
that the stream delivers them in order with the messages. They sort behind all messages, so that queries for
messages don't read them. A room's messages are a partition of their own. A `withdrawn` item takes the key of
a message that must never be stored.
"""

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from chalicelib.aws.dynamodb import Item
from chalicelib.aws.telemetry import note
from chalicelib.core.model import (
    ROOM,
    UNKNOWN_POSITION,
    Entry,
    Message,
    Poke,
    ReplayMarker,
    RoomMessage,
    SentMessage,
    StreamPosition,
)
from chalicelib.core.protocol import ACK_IDS, CURSOR, MESSAGE_ID, PLAYER_ID, ROOM_ID, SENDER

M = TypeVar("M")

MARKER = "marker#"
"""The prefix of a marker's sort key, which sorts behind every message id."""

POKE = "presence#"
"""The prefix of a poke's sort key, which sorts behind every message id."""


WHOLE_NUMBER = "[0-9]{1,14}"
"""A count, or milliseconds since the epoch that fit into a message id."""

UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""The errors that parsing an item can raise if this service didn't write it."""


class UnreadableRecord(Exception):
    """Raised for a stream record without a valid message or marker. The text contains nothing of the item."""


def parse_record(record: Mapping[str, Any]) -> Entry | None:
    """Return the record's new message or marker, or None if there is none in it.

    Raises UnreadableRecord for an item that this service didn't write.
    """
    try:
        if record.get("eventName") != "INSERT":
            return None
        item = record["dynamodb"]["NewImage"]
        return None if "withdrawn" in item else _entry(item, _stream_position(record))
    except UNREADABLE as broken:
        raise UnreadableRecord(f"{type(broken).__name__} in a stream record") from None


def written_at(record: Mapping[str, Any]) -> float:
    """Return the record's time in seconds since the epoch, or the current time if it has none."""
    try:
        seconds = float(record["dynamodb"]["ApproximateCreationDateTime"])
    except UNREADABLE:
        return time.time()
    return seconds if math.isfinite(seconds) else time.time()


def message_key(destination: str, message_id: str) -> Item:
    return {"destinationPlayerId": {"S": destination}, "messageId": {"S": message_id}}


def item_of(entry: Entry) -> Item:
    if isinstance(entry, ReplayMarker):
        return _marker_item(entry)
    return _poke_item(entry) if isinstance(entry, Poke) else _message_item(entry)


def _poke_item(poke: Poke) -> Item:
    return {**message_key(poke.destination, POKE + poke.id), "playerId": {"S": poke.player_id}}


def _message_item(message: SentMessage) -> Item:
    item = message_key(message.destination, message.id)
    item["srcPlayerId"] = {"S": message.src_player_id}
    item["message"] = {"S": message.text}
    item["sentAt"] = {"N": str(message.sent_at)}
    if isinstance(message, Message) and message.room_id is not None:
        item["roomId"] = {"S": message.room_id}
    if message.room_message_id is not None:
        item["roomMessageId"] = {"S": message.room_message_id}
    return item


def _marker_item(entry: ReplayMarker) -> Item:
    item = message_key(entry.destination_player_id, entry.id)
    item["messageId"] = {"S": MARKER + entry.id}
    item["replayTo"] = {"S": entry.connection_id}
    item["replayed"] = {"N": str(entry.replayed)}
    item["sync"] = {"BOOL": entry.sync}
    for name, cursor in (("after", entry.after), ("began", entry.first_cursor)):
        if cursor is not None:
            item[name] = {"S": cursor}
    if entry.asked_at is not None:
        item["askedAt"] = {"N": str(entry.asked_at)}
    if entry.has_progress:
        item["walked"] = {"BOOL": True}
    if entry.tries:
        item["tries"] = {"N": str(entry.tries)}
    if entry.ack_id is not None:  # JSON keeps strings and numbers apart, and its numbers have no limit.
        item["ackId"] = {"S": ACK_IDS.dump_json(entry.ack_id).decode()}
    return item


def readable(items: Iterable[Item], parse: Callable[[Item], M]) -> Iterator[M]:
    """Yield the parsed items. Skip and log those that this service didn't write."""
    for item in items:
        try:
            yield parse(item)
        except UNREADABLE as broken:
            note("unreadable", reason=f"{type(broken).__name__} in a stored item")


def _stream_position(record: Mapping[str, Any]) -> StreamPosition:
    """Return the record's position. A stream's label ends its ARN; it is an ISO time, so labels sort."""
    _, separator, label = record["eventSourceARN"].rpartition("/stream/")
    if not separator:
        raise ValueError("eventSourceARN")
    return StreamPosition(label, int(record["dynamodb"]["SequenceNumber"]))


def _entry(item: Mapping[str, Any], position: StreamPosition) -> Entry:
    """Return the entry, with every value checked: a later failure would block the stream."""
    if item["messageId"]["S"].startswith(POKE):
        return _poke(item, position)
    if "replayTo" not in item:
        return sent_message_of(item, position)
    sync, has_progress = item["sync"]["BOOL"], item.get("walked", {"BOOL": False})["BOOL"]
    if not isinstance(sync, bool) or not isinstance(has_progress, bool):
        raise TypeError("sync or walked")
    return ReplayMarker(
        id=_matching(MESSAGE_ID, item["messageId"]["S"].removeprefix(MARKER)),
        destination_player_id=_matching(PLAYER_ID, item["destinationPlayerId"]["S"]),
        connection_id=_text(item["replayTo"]["S"]),
        after=_optional(CURSOR, item, "after"),
        first_cursor=_optional(CURSOR, item, "began"),
        replayed=_whole(item["replayed"]["N"]),
        sync=sync,
        asked_at=_whole(item["askedAt"]["N"]) if "askedAt" in item else None,
        ack_id=ACK_IDS.validate_json(item["ackId"]["S"]) if "ackId" in item else None,
        has_progress=has_progress,
        tries=_whole(item["tries"]["N"]) if "tries" in item else 0,
        stream_position=position,
    )


def sent_message_of(item: Mapping[str, Any], position: StreamPosition = UNKNOWN_POSITION) -> SentMessage:
    destination = item["destinationPlayerId"]["S"]
    return _room_message(item, position) if destination.startswith(ROOM) else message_of(item, position)


def _poke(item: Mapping[str, Any], position: StreamPosition) -> Poke:
    destination = item["destinationPlayerId"]["S"]
    if not destination.startswith(ROOM):
        raise ValueError("destinationPlayerId")
    return Poke(
        id=_matching(MESSAGE_ID, item["messageId"]["S"].removeprefix(POKE)),
        room_id=_matching(ROOM_ID, destination.removeprefix(ROOM)),
        player_id=_matching(PLAYER_ID, item["playerId"]["S"]),
        stream_position=position,
    )


def _room_message(item: Mapping[str, Any], position: StreamPosition) -> RoomMessage:
    return RoomMessage(
        id=_matching(MESSAGE_ID, item["messageId"]["S"]),
        room_id=_matching(ROOM_ID, item["destinationPlayerId"]["S"].removeprefix(ROOM)),
        src_player_id=_matching(SENDER, item["srcPlayerId"]["S"]),
        text=_text(item["message"]["S"]),
        sent_at=_whole(item["sentAt"]["N"]),
        room_message_id=_optional(MESSAGE_ID, item, "roomMessageId"),
        stream_position=position,
    )


def message_of(item: Mapping[str, Any], position: StreamPosition = UNKNOWN_POSITION) -> Message:
    return Message(
        id=_matching(MESSAGE_ID, item["messageId"]["S"]),
        destination_player_id=_matching(PLAYER_ID, item["destinationPlayerId"]["S"]),
        src_player_id=_matching(SENDER, item["srcPlayerId"]["S"]),
        text=_text(item["message"]["S"]),
        sent_at=_whole(item["sentAt"]["N"]),
        room_id=_optional(ROOM_ID, item, "roomId"),
        room_message_id=_optional(MESSAGE_ID, item, "roomMessageId"),
        stream_position=position,
    )


def _optional(pattern: str, item: Mapping[str, Any], name: str) -> str | None:
    return _matching(pattern, item[name]["S"]) if name in item else None


def _matching(pattern: str, value: str) -> str:
    if re.fullmatch(pattern, value) is None:
        raise ValueError(pattern)
    return value


def _text(value: str) -> str:
    value.encode()  # Raises a UnicodeEncodeError, which is a ValueError, for a lone surrogate.
    return value


def _whole(value: str) -> int:
    return int(_matching(WHOLE_NUMBER, value))
