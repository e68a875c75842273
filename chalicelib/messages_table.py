"""The Messages table: what was said, to whom, in order, and the markers among it; by its attribute names.

A player's messages are one partition, sorted by message id. A marker lies in the same partition, so that
the table's stream hands it over in order with the messages.
"""

import time
from collections.abc import Mapping
from typing import Any

from chalicelib.dynamodb import Item, unavailable_on_failure
from chalicelib.ports import Entry, Message, ReplayMarker


class UnreadableRecord(Exception):
    """A stream record that holds neither a message nor a marker. The text names no content."""


class MessagesTable:
    """The message store in DynamoDB. `retention_seconds`: how long a message can be had."""

    def __init__(self, client: Any, table: str, retention_seconds: int) -> None:
        self._client = client
        self._table = table
        self._retention_seconds = retention_seconds

    def put(self, entry: Entry) -> None:
        item = _item(entry)
        item["expiresAt"] = {"N": str(int(time.time()) + self._retention_seconds)}
        with unavailable_on_failure():
            self._client.put_item(TableName=self._table, Item=item)


def entry_of(record: Mapping[str, Any]) -> Entry | None:
    """What a record of the table's stream brought: None for anything but a new item.

    Raises UnreadableRecord for a new item that is none of ours.
    """
    if record.get("eventName") != "INSERT":
        return None
    try:
        return _entry(record["dynamodb"]["NewImage"])
    except (KeyError, TypeError, ValueError) as broken:
        raise UnreadableRecord(f"{type(broken).__name__} in a stream record") from None


def _item(entry: Entry) -> Item:
    item: Item = {
        "destinationPlayerId": {"S": entry.destination_player_id},
        "messageId": {"S": entry.id},
    }
    if isinstance(entry, ReplayMarker):
        item["replayTo"] = {"S": entry.connection_id}
    else:
        item["srcPlayerId"] = {"S": entry.src_player_id}
        item["message"] = {"S": entry.text}
        item["sentAt"] = {"N": str(entry.sent_at)}
    return item


def _entry(item: Mapping[str, Any]) -> Entry:
    message_id, player_id = item["messageId"]["S"], item["destinationPlayerId"]["S"]
    if "replayTo" in item:
        return ReplayMarker(message_id, player_id, item["replayTo"]["S"])
    return Message(
        message_id,
        player_id,
        item["srcPlayerId"]["S"],
        item["message"]["S"],
        int(item["sentAt"]["N"]),
    )
