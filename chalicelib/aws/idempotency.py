"""Claims of `clientMessageId`s: items `sent#<player>#<clientMessageId>` of the Websockets table.

They are in that table because it has no stream, so a claim doesn't invoke `push_messages`.
"""

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.aws.dynamodb import Item, in_seconds, milliseconds, unavailable_on_failure
from chalicelib.aws.telemetry import timed
from chalicelib.core.model import Send


class IdempotencyTable:
    """The IdempotencyStore in DynamoDB. `retention_seconds` is the same as the messages'.

    `clock` returns milliseconds since the epoch.
    """

    def __init__(
        self, client: Any, table: str, retention_seconds: int, clock: Callable[[], int] = milliseconds
    ) -> None:
        self._client = client
        self._table = table
        self._retention_seconds = retention_seconds
        self._clock = clock

    @timed("find_claim")
    def find(self, player_id: str, client_message_id: str) -> Send | None:
        with unavailable_on_failure():
            answer = self._client.get_item(
                TableName=self._table, Key=_key(player_id, client_message_id), ConsistentRead=True
            )
        return _send_of(answer["Item"]) if "Item" in answer else None

    @timed("claim")
    def claim(self, player_id: str, client_message_id: str, send: Send) -> Send:
        try:
            with unavailable_on_failure():
                self._client.put_item(
                    TableName=self._table,
                    Item=self._item(player_id, client_message_id, send),
                    ConditionExpression="attribute_not_exists(id)",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except ClientError as failure:
            return _send_of(failure.response["Item"])
        return send

    def replace(self, player_id: str, client_message_id: str, old: Send, new: Send) -> bool:
        try:
            with unavailable_on_failure():
                self._client.put_item(
                    TableName=self._table,
                    Item=self._item(player_id, client_message_id, new),
                    ConditionExpression="messageId IN (:old, :new)",
                    ExpressionAttributeValues={
                        ":old": {"S": old.message_id},
                        ":new": {"S": new.message_id},
                    },
                )
        except ClientError:
            return False
        return True

    def _item(self, player_id: str, client_message_id: str, send: Send) -> Item:
        return {
            **_key(player_id, client_message_id),
            "destinationPlayerId": {"S": send.destination},
            "messageId": {"S": send.message_id},
            "expiresAt": in_seconds(self._retention_seconds, self._clock()),
        }


def _key(player_id: str, client_message_id: str) -> Item:
    return {"id": {"S": f"sent#{player_id}#{client_message_id}"}}


def _send_of(item: Item) -> Send:
    return Send(item["destinationPlayerId"]["S"], item["messageId"]["S"])
