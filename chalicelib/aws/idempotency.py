"""Which message a `clientMessageId` became: items `sent#<player>#<clientMessageId>` of the Websockets table.

That table has no stream, so that remembering a send does not wake the push function.
"""

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.aws.dynamodb import Item, in_seconds, milliseconds, unavailable_on_failure
from chalicelib.aws.telemetry import timed
from chalicelib.core.ports import Send


class IdempotencyTable:
    """The send store in DynamoDB. `retention_seconds`: as long as the messages themselves.

    `clock` gives milliseconds since the epoch.
    """

    def __init__(
        self, client: Any, table: str, retention_seconds: int, clock: Callable[[], int] = milliseconds
    ) -> None:
        self._client = client
        self._table = table
        self._retention_seconds = retention_seconds
        self._clock = clock

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
            item: Item = failure.response["Item"]
            return Send(item["destinationPlayerId"]["S"], item["messageId"]["S"])
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
            "id": {"S": f"sent#{player_id}#{client_message_id}"},
            "destinationPlayerId": {"S": send.destination_player_id},
            "messageId": {"S": send.message_id},
            "expiresAt": in_seconds(self._retention_seconds, self._clock()),
        }
