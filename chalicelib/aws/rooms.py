"""The rooms, in items `room#<room id>` of the Websockets table.

`members`, `muted` and `banned` are string sets of player ids. `rate_counter` adds the room's windows. An item
that no join or message renews expires.
"""

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.aws.dynamodb import Item, in_seconds, milliseconds, unavailable_on_failure
from chalicelib.aws.rate_counter import COUNT, IS_WITHIN_RATE, RateCounter
from chalicelib.aws.telemetry import timed
from chalicelib.core.model import ROOM, Room
from chalicelib.core.rate_limit import RateLimit

IS_MEMBER = "contains(members, :player)"
IS_NOT_MUTED = "NOT contains(muted, :player)"
IS_NOT_BANNED = "NOT contains(banned, :player)"
HAS_PLACE = "(attribute_not_exists(members) OR size(members) < :most)"

JOIN = "ADD members :new SET expiresAt = :expires"
JOIN_MUTED = "ADD members :new, muted :new SET expiresAt = :expires"
JOIN_IF = f"({IS_MEMBER} OR {HAS_PLACE}) AND {IS_NOT_BANNED}"
COUNT_IF = f"{IS_MEMBER} AND {IS_NOT_MUTED} AND {IS_WITHIN_RATE}"


def room_key(room_id: str) -> Item:
    return {"id": {"S": ROOM + room_id}}


def room_of(room_id: str, item: Item) -> Room:
    members, muted, banned = (
        frozenset(item.get(name, {}).get("SS", ())) for name in ("members", "muted", "banned")
    )
    expires_at = int(item["expiresAt"]["N"]) if "expiresAt" in item else None
    return Room(room_id, members, muted, banned, expires_at)


class RoomsTable:
    """The RoomStore in DynamoDB. `clock` returns milliseconds since the epoch.

    `room_seconds` is the retention of a room's item after its last join or message.
    """

    def __init__(
        self,
        client: Any,
        table: str,
        *,
        members_per_room: int,
        rate: RateLimit,
        room_seconds: int,
        clock: Callable[[], int] = milliseconds,
    ) -> None:
        self._client = client
        self._table = table
        self._members_per_room = members_per_room
        self._room_seconds = room_seconds
        self._clock = clock
        self._counter = RateCounter(client, table, rate, clock)

    @timed("join")
    def join(self, room_id: str, player_id: str, *, muted: bool = False) -> tuple[bool, Room]:
        try:
            with unavailable_on_failure():
                answer = self._client.update_item(
                    TableName=self._table,
                    Key=room_key(room_id),
                    UpdateExpression=JOIN_MUTED if muted else JOIN,
                    ConditionExpression=JOIN_IF,
                    ExpressionAttributeValues={
                        ":new": {"SS": [player_id]},
                        ":player": {"S": player_id},
                        ":most": {"N": str(self._members_per_room)},
                        ":expires": self._expires(),
                    },
                    ReturnValues="ALL_OLD",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except ClientError as failure:
            return False, room_of(room_id, failure.response.get("Item", {}))
        return True, room_of(room_id, answer.get("Attributes", {}))

    @timed("leave")
    def leave(self, room_id: str, player_id: str) -> None:
        """Remove the member. The condition keeps a room that doesn't exist from being created."""
        try:
            with unavailable_on_failure():
                self._client.update_item(
                    TableName=self._table,
                    Key=room_key(room_id),
                    UpdateExpression="DELETE members :gone",
                    ConditionExpression=IS_MEMBER,
                    ExpressionAttributeValues={":gone": {"SS": [player_id]}, ":player": {"S": player_id}},
                )
        except ClientError:
            return

    @timed("count_room_message")
    def count_message(self, room_id: str, player_id: str) -> tuple[bool, Room]:
        counted, item = self._counter.count(
            room_id,
            player_id,
            1,
            Key=room_key(room_id),
            UpdateExpression=f"{COUNT} SET expiresAt = :expires",
            ConditionExpression=COUNT_IF,
            ExpressionAttributeNames={},
            ExpressionAttributeValues={":player": {"S": player_id}, ":expires": self._expires()},
        )
        return counted, room_of(room_id, item)

    def renew(self, room_id: str) -> None:
        try:
            with unavailable_on_failure():
                self._client.update_item(
                    TableName=self._table,
                    Key=room_key(room_id),
                    UpdateExpression="SET expiresAt = :expires",
                    ConditionExpression="attribute_exists(id)",
                    ExpressionAttributeValues={":expires": self._expires()},
                )
        except ClientError:
            return

    @timed("find_room")
    def find(self, room_id: str, *, consistent: bool = True) -> Room:
        with unavailable_on_failure():
            answer = self._client.get_item(
                TableName=self._table, Key=room_key(room_id), ConsistentRead=consistent
            )
        return room_of(room_id, answer.get("Item", {}))

    def _expires(self) -> dict[str, str]:
        return in_seconds(self._room_seconds, self._clock())
