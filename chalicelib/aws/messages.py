"""Stores and reads messages, in the Messages table. `message_items` has their items."""

from collections.abc import Callable, Sequence
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.aws.dynamodb import Item, in_seconds, milliseconds, unavailable_on_failure
from chalicelib.aws.message_items import MARKER, item_of, message_key, message_of, readable, sent_message_of
from chalicelib.aws.telemetry import timed
from chalicelib.core.message_id import cursor_at
from chalicelib.core.model import Entry, Message, Page, Poke, Send, SentMessage

POKE_SECONDS = 24 * 60 * 60
"""How long a poke is stored: as long as the stream keeps its record."""

NEXT = "!"
"""A suffix: a message id with it sorts directly behind that id, and before every other."""

EXPIRY_SLACK_SECONDS = 60
"""How much later than its id's retention a message can expire, because its put came after its id was made."""


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
            self._client.put_item(TableName=self._table, Item=self._expiring(item_of(entry)))

    @timed("save_copies")
    def put_copies(self, copies: Sequence[Message]) -> list[Message]:
        puts = [{"PutRequest": {"Item": self._expiring(item_of(copy))}} for copy in copies]
        with unavailable_on_failure():
            answer = self._client.batch_write_item(RequestItems={self._table: puts})
        left = answer.get("UnprocessedItems", {}).get(self._table, [])
        missing = {put["PutRequest"]["Item"]["destinationPlayerId"]["S"] for put in left}
        return [copy for copy in copies if copy.destination_player_id in missing]

    @timed("save_pokes")
    def put_pokes(self, pokes: Sequence[Poke]) -> None:
        expires = in_seconds(POKE_SECONDS, self._clock())
        puts = [{"PutRequest": {"Item": {**item_of(poke), "expiresAt": expires}}} for poke in pokes]
        with unavailable_on_failure():
            self._client.batch_write_item(RequestItems={self._table: puts})

    @timed("save_message")
    def put_unless_withdrawn(self, message: SentMessage) -> bool:
        there = self._put_if_free(item_of(message))
        return there is None or "withdrawn" not in there

    @timed("withdraw")
    def withdraw(self, send: Send) -> SentMessage | None:
        key = message_key(send.destination, send.message_id)
        there = self._put_if_free({**key, "withdrawn": {"BOOL": True}})
        if there is None or "withdrawn" in there:
            return None
        return next(readable([there], sent_message_of), None)

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
        return Page(tuple(readable(answer["Items"], message_of)), end is not None, end or last)

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
