"""The Messages table: messages of players and rooms, markers, and items that mark a message as withdrawn.

A recipient's messages are one partition, sorted by message id. Its markers are in the same partition, so
that the stream delivers them in order with the messages. They sort behind all messages, so that queries for
messages don't read them. A room's messages are a partition of their own. A `withdrawn` item takes the key of
a message that must never be stored.
"""

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from chalicelib.aws.dynamodb import Item, in_seconds, milliseconds, unavailable_on_failure
from chalicelib.aws.telemetry import note, timed
from chalicelib.core.message_id import cursor_at
from chalicelib.core.model import (
    ROOM,
    UNKNOWN_POSITION,
    Entry,
    Message,
    Page,
    Poke,
    ReplayMarker,
    RoomMessage,
    Send,
    SentMessage,
    StreamPosition,
)
from chalicelib.core.protocol import ACK_IDS, CURSOR, MESSAGE_ID, PLAYER_ID, ROOM_ID, SENDER

M = TypeVar("M")

MARKER = "marker#"
"""The prefix of a marker's sort key, which sorts behind every message id."""

POKE = "presence#"
"""The prefix of a poke's sort key, which sorts behind every message id."""

POKE_SECONDS = 24 * 60 * 60
"""How long a poke is stored: as long as the stream keeps its record."""

NEXT = "!"
"""A suffix: a message id with it sorts directly behind that id, and before every other."""

EXPIRY_SLACK_SECONDS = 60
"""How much later than its id's retention a message can expire, because its put came after its id was made."""

WHOLE_NUMBER = "[0-9]{1,14}"
"""A count, or milliseconds since the epoch that fit into a message id."""

UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""The errors that parsing an item can raise if this service didn't write it."""


class UnreadableRecord(Exception):
    """Raised for a stream record without a valid message or marker. The text contains nothing of the item."""


class MessagesTable:
    """The MessageStore in DynamoDB. `retention_seconds`: how long a message is stored.

    `clock` returns milliseconds since the epoch.
    """

    def __init__(
        self, client: Any, table: str, retention_seconds: int, clock: Callable[[], int] = milliseconds
    ) -> None:
        self._client = client
        self._table = table
        self._retention_seconds = retention_seconds
        self._clock = clock

    @timed("save_message")
    def put(self, entry: Entry) -> None:
        with unavailable_on_failure():
            self._client.put_item(TableName=self._table, Item=self._expiring(_item(entry)))

    @timed("save_copies")
    def put_copies(self, copies: Sequence[Message]) -> list[Message]:
        puts = [{"PutRequest": {"Item": self._expiring(_item(copy))}} for copy in copies]
        with unavailable_on_failure():
            answer = self._client.batch_write_item(RequestItems={self._table: puts})
        left = answer.get("UnprocessedItems", {}).get(self._table, [])
        missing = {put["PutRequest"]["Item"]["destinationPlayerId"]["S"] for put in left}
        return [copy for copy in copies if copy.destination_player_id in missing]

    @timed("save_pokes")
    def put_pokes(self, pokes: Sequence[Poke]) -> None:
        expires = in_seconds(POKE_SECONDS, self._clock())
        puts = [{"PutRequest": {"Item": {**_item(poke), "expiresAt": expires}}} for poke in pokes]
        with unavailable_on_failure():
            self._client.batch_write_item(RequestItems={self._table: puts})

    @timed("save_message")
    def put_unless_withdrawn(self, message: SentMessage) -> bool:
        there = self._put_if_free(_item(message))
        return there is None or "withdrawn" not in there

    @timed("withdraw")
    def withdraw(self, send: Send) -> SentMessage | None:
        key = _key(send.destination, send.message_id)
        there = self._put_if_free({**key, "withdrawn": {"BOOL": True}})
        if there is None or "withdrawn" in there:
            return None
        return next(_readable([there], _sent_message), None)

    @timed("page")
    def page(self, player_id: str, after: str, until: str | None, limit: int) -> Page:
        """Return a page with one query, even if it skips many items that aren't messages.

        DynamoDB deletes expired items up to two days late. So the query starts at the oldest id within the
        retention, and its filter compares `expiresAt`.
        """
        now = self._clock() / 1000
        oldest = cursor_at(round(1000 * (now - self._retention_seconds - EXPIRY_SLACK_SECONDS)))
        first, last = max(after + NEXT, oldest), until or MARKER
        if first > last:
            return Page((), more=False, end=last)
        with unavailable_on_failure():
            answer = self._client.query(
                TableName=self._table,
                KeyConditionExpression="destinationPlayerId = :player AND messageId BETWEEN :first AND :last",
                FilterExpression="attribute_exists(#message) AND expiresAt > :now",
                ExpressionAttributeNames={"#message": "message"},
                ExpressionAttributeValues={
                    ":player": {"S": player_id},
                    ":first": {"S": first},
                    ":last": {"S": last},
                    ":now": {"N": str(int(now))},
                },
                ConsistentRead=True,
                Limit=limit,
            )
        end = answer.get("LastEvaluatedKey", {}).get("messageId", {}).get("S")
        return Page(tuple(_readable(answer["Items"], _message)), end is not None, end or last)

    def _put_if_free(self, item: Item) -> Item | None:
        """Put the item, or return the item that already has its key."""
        try:
            with unavailable_on_failure():
                self._client.put_item(
                    TableName=self._table,
                    Item=self._expiring(item),
                    ConditionExpression="attribute_not_exists(messageId)",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except ClientError as failure:
            there: Item = failure.response["Item"]
            return there
        return None

    def _expiring(self, item: Item) -> Item:
        return {**item, "expiresAt": in_seconds(self._retention_seconds, self._clock())}


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


def _key(destination: str, message_id: str) -> Item:
    return {"destinationPlayerId": {"S": destination}, "messageId": {"S": message_id}}


def _item(entry: Entry) -> Item:
    if isinstance(entry, ReplayMarker):
        return _marker_item(entry)
    return _poke_item(entry) if isinstance(entry, Poke) else _message_item(entry)


def _poke_item(poke: Poke) -> Item:
    return {**_key(poke.destination, POKE + poke.id), "playerId": {"S": poke.player_id}}


def _message_item(message: SentMessage) -> Item:
    item = _key(message.destination, message.id)
    item["srcPlayerId"] = {"S": message.src_player_id}
    item["message"] = {"S": message.text}
    item["sentAt"] = {"N": str(message.sent_at)}
    if isinstance(message, Message) and message.room_id is not None:
        item["roomId"] = {"S": message.room_id}
    if message.room_message_id is not None:
        item["roomMessageId"] = {"S": message.room_message_id}
    return item


def _marker_item(entry: ReplayMarker) -> Item:
    item = _key(entry.destination_player_id, entry.id)
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


def _readable(items: Iterable[Item], parse: Callable[[Item], M]) -> Iterator[M]:
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
        return _sent_message(item, position)
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


def _sent_message(item: Mapping[str, Any], position: StreamPosition = UNKNOWN_POSITION) -> SentMessage:
    destination = item["destinationPlayerId"]["S"]
    return _room_message(item, position) if destination.startswith(ROOM) else _message(item, position)


def _poke(item: Mapping[str, Any], position: StreamPosition) -> Poke:
    return Poke(
        id=_matching(MESSAGE_ID, item["messageId"]["S"].removeprefix(POKE)),
        room_id=_matching(ROOM_ID, item["destinationPlayerId"]["S"].removeprefix(ROOM)),
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


def _message(item: Mapping[str, Any], position: StreamPosition = UNKNOWN_POSITION) -> Message:
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
