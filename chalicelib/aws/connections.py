"""Registers, finds and removes connections, in the Websockets table. `connection_items` has their items."""

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.aws.connection_items import (
    LIVE,
    PROGRESS,
    SINCE,
    STREAM,
    connection_item,
    connection_key,
    connection_of,
    player_key,
    player_of,
)
from chalicelib.aws.dynamodb import Item, in_seconds, milliseconds, unavailable_on_failure
from chalicelib.aws.rate_counter import COUNT, IS_WITHIN_RATE, RateCounter
from chalicelib.aws.telemetry import timed
from chalicelib.core.model import (
    Banned,
    Connection,
    PlayerConnections,
    ReplayProgress,
    StreamPosition,
    TooManyConnections,
)
from chalicelib.core.protocol import MAX_PRESENCE_ROOMS
from chalicelib.core.rate_limit import RateLimit

CONNECTIONS_KEPT = 10_000

IS_OWN = "contains(connections, :connection)"
HAS_ROOM = (
    "(attribute_not_exists(connections) OR size(connections) < :most OR contains(connections, :connection))"
)
IS_NOT_BANNED = "(attribute_not_exists(bannedUntil) OR bannedUntil <= :now)"
HAS_MISSED_NOTHING = "attribute_not_exists(missedFrom)"
TELLS_NO_ROOM = "attribute_not_exists(rooms)"
TELLS_FEW_ROOMS = "(attribute_not_exists(rooms) OR size(rooms) < :most OR contains(rooms, :room))"
IS_STILL_MISSED = "missedFrom = :missed"

NOTE_MISSED = "SET missedFrom = if_not_exists(missedFrom, :missed)"

COUNT_IF_OWN = f"{IS_OWN} AND {IS_WITHIN_RATE}"
COUNT_IF_KNOWN = f"attribute_exists(id) AND {IS_WITHIN_RATE}"
REGISTER = (
    f"{COUNT}, connections :new SET apiId = :api, stage = :stage, #since = :since, seenAt = :now, "
    "expiresAt = :expires"
)
REGISTER_IF = f"{HAS_ROOM} AND {IS_NOT_BANNED} AND {IS_WITHIN_RATE}"
REGISTER_QUIETLY_IF = f"{REGISTER_IF} AND {TELLS_NO_ROOM}"
REGISTER_CHEAPLY_IF = f"{REGISTER_QUIETLY_IF} AND {HAS_MISSED_NOTHING}"


class _NotFound(Exception):
    """Raised so that `lru_cache` doesn't cache the miss."""


class ConnectionsTable:
    """The ConnectionStore in DynamoDB. `clock` returns milliseconds since the epoch.

    `player_seconds` is the retention of a player's item after its last connect.
    """

    def __init__(
        self,
        client: Any,
        table: str,
        *,
        player_seconds: int,
        rate: RateLimit,
        connections_per_player: int,
        clock: Callable[[], int] = milliseconds,
    ) -> None:
        self._client = client
        self._table = table
        self._player_seconds = player_seconds
        self._rate = rate
        self._connections_per_player = connections_per_player
        self._clock = clock
        self._counter = RateCounter(client, table, rate, clock)
        self._find_cached = lru_cache(CONNECTIONS_KEPT)(self._read)

    @timed("save_connection")
    def register(self, connection: Connection, replays: bool = False) -> None:
        """Update the player's item first, so that a refused connect writes no connection item.

        The first update expects the least cost. It fails if the item shows that the connect costs more. A
        connect that is refused for TooManyConnections also counts against the rate limit.
        """
        condition = REGISTER_QUIETLY_IF if replays else REGISTER_CHEAPLY_IF
        registered, player = self._register(connection, self._rate.cost_of_connect(replays, 0), condition)
        if not registered and player.banned_until is not None and player.banned_until > self._clock():
            raise Banned(player.banned_until)
        replays_missed = not replays and player.missed_from is not None
        if not registered and (replays_missed or player.presence_rooms):
            cost = self._rate.cost_of_connect(replays or replays_missed, len(player.presence_rooms))
            registered, player = self._register(connection, cost, REGISTER_IF)
        if not registered:
            self._count(player.id, player.id, 1, update=COUNT, condition=COUNT_IF_KNOWN)
            raise TooManyConnections(player)
        with unavailable_on_failure():
            self._client.put_item(TableName=self._table, Item=connection_item(connection, self._clock()))

    def _register(self, connection: Connection, cost: int, condition: str) -> tuple[bool, PlayerConnections]:
        return self._count(
            connection.player_id,
            connection.player_id,
            cost,
            update=REGISTER,
            condition=condition,
            values={
                ":new": {"SS": [connection.id]},
                ":connection": {"S": connection.id},
                ":most": {"N": str(self._connections_per_player)},
                ":api": {"S": connection.endpoint.api_id},
                ":stage": {"S": connection.endpoint.stage},
                ":since": {"N": str(connection.connected_at)},
                ":now": {"N": str(self._clock())},
                ":expires": in_seconds(self._player_seconds, self._clock()),
            },
            names={"#since": SINCE + connection.id},
        )

    def find(self, connection_id: str) -> Connection | None:
        """Return the connection. It is cached per process, because a registered connection never changes."""
        try:
            return self._find_cached(connection_id)
        except _NotFound:
            return None

    def check_rate(self, player_id: str, connection_id: str, cost: int) -> None:
        self._counter.check(player_id, connection_id, cost)

    @timed("admit")
    def admit(self, player_id: str, connection_id: str, cost: int) -> PlayerConnections | None:
        is_own, player = self._count(
            player_id,
            connection_id,
            cost,
            update=f"{COUNT} SET seenAt = :now",
            condition=COUNT_IF_OWN,
            values={":connection": {"S": connection_id}, ":now": {"N": str(self._clock())}},
        )
        return player if is_own else None

    @timed("charge_replay")
    def charge_replay(self, player_id: str, connection_id: str) -> None:
        if self._rate.cost_of_replay > 0:
            self._count(
                player_id,
                connection_id,
                self._rate.cost_of_replay,
                update=COUNT,
                condition=COUNT_IF_OWN,
                values={":connection": {"S": connection_id}},
            )

    @timed("make_live")
    def make_live(
        self, player_id: str, connection_id: str, start: StreamPosition, caught_up: str | None = None
    ) -> PlayerConnections | None:
        update = "SET #live = :number, #stream = :stream, expiresAt = :expires"
        values: Item = {":number": {"S": str(start.sequence_number)}, ":stream": {"S": start.stream}}
        names = {
            "#live": LIVE + connection_id,
            "#stream": STREAM + connection_id,
            "#walk": PROGRESS + connection_id,
        }
        if caught_up is not None:
            cleared = self._update_own(
                player_id,
                connection_id,
                update=f"{update} REMOVE #walk, missedFrom",
                condition=f"{IS_OWN} AND {IS_STILL_MISSED}",
                values={**values, ":missed": {"S": caught_up}},
                names=names,
            )
            if cleared is not None:
                return player_of(player_id, cleared)
        updated = self._update_own(
            player_id, connection_id, update=f"{update} REMOVE #walk", values=values, names=names
        )
        return None if updated is None else player_of(player_id, updated)

    def add_presence_room(self, player_id: str, connection_id: str, room_id: str) -> bool:
        updated = self._update_own(
            player_id,
            connection_id,
            update="ADD rooms :new SET expiresAt = :expires",
            condition=f"{IS_OWN} AND {TELLS_FEW_ROOMS}",
            values={
                ":new": {"SS": [room_id]},
                ":room": {"S": room_id},
                ":most": {"N": str(MAX_PRESENCE_ROOMS)},
            },
        )
        return updated is not None

    def remove_presence_room(self, player_id: str, room_id: str) -> None:
        with unavailable_on_failure():
            self._client.update_item(
                TableName=self._table,
                Key=player_key(player_id),
                UpdateExpression="DELETE rooms :gone",
                ExpressionAttributeValues={":gone": {"SS": [room_id]}},
            )

    def save_progress(self, player_id: str, connection_id: str, progress: ReplayProgress) -> None:
        ids = {"to": {"S": progress.to}, "turn": {"S": progress.turn}, "until": {"S": progress.until}}
        self._update_own(
            player_id,
            connection_id,
            update="SET #walk = :walk, expiresAt = :expires",
            values={":walk": {"M": ids}},
            names={"#walk": PROGRESS + connection_id},
        )

    def note_missed(self, player_id: str, message_id: str) -> None:
        """Leave the expiry of a banned player's item alone: it keeps the ban."""
        values = {":missed": {"S": message_id}}
        now = self._clock()
        expiry = {":expires": in_seconds(self._player_seconds, now), ":now": {"N": str(now)}}
        update: dict[str, Any] = {"TableName": self._table, "Key": player_key(player_id)}
        try:
            with unavailable_on_failure():
                self._client.update_item(
                    **update,
                    UpdateExpression=f"{NOTE_MISSED}, expiresAt = :expires",
                    ConditionExpression=IS_NOT_BANNED,
                    ExpressionAttributeValues=values | expiry,
                )
        except ClientError:
            with unavailable_on_failure():
                self._client.update_item(
                    **update, UpdateExpression=NOTE_MISSED, ExpressionAttributeValues=values
                )

    def advance_missed(self, player_id: str, old: str, new: str) -> None:
        with suppress(ClientError), unavailable_on_failure():
            self._client.update_item(
                TableName=self._table,
                Key=player_key(player_id),
                UpdateExpression="SET missedFrom = :new",
                ConditionExpression=IS_STILL_MISSED,
                ExpressionAttributeValues={":new": {"S": new}, ":missed": {"S": old}},
            )

    @timed("remove")
    def remove(self, player_id: str, connection_id: str) -> PlayerConnections:
        with unavailable_on_failure():
            answer = self._client.update_item(
                TableName=self._table,
                Key=player_key(player_id),
                UpdateExpression="DELETE connections :connection REMOVE #live, #stream, #since, #walk",
                ExpressionAttributeNames={
                    "#live": LIVE + connection_id,
                    "#stream": STREAM + connection_id,
                    "#since": SINCE + connection_id,
                    "#walk": PROGRESS + connection_id,
                },
                ExpressionAttributeValues={":connection": {"SS": [connection_id]}},
                ReturnValues="ALL_OLD",
            )
            self._client.delete_item(TableName=self._table, Key=connection_key(connection_id))
        return player_of(player_id, answer.get("Attributes", {}))

    def remove_by_id(self, connection_id: str) -> PlayerConnections | None:
        with unavailable_on_failure():
            item = self._client.get_item(
                TableName=self._table, Key=connection_key(connection_id), ConsistentRead=True
            ).get("Item")
        if item is None:
            return None
        return self.remove(item["playerId"]["S"], connection_id)

    @timed("find_connection")
    def _read(self, connection_id: str) -> Connection:
        with unavailable_on_failure():
            answer = self._client.get_item(
                TableName=self._table, Key=connection_key(connection_id), ConsistentRead=True
            )
        item = answer.get("Item")
        if item is None:
            raise _NotFound
        return connection_of(connection_id, item)

    def _count(
        self,
        player_id: str,
        sender: str,
        cost: int,
        *,
        update: str,
        condition: str,
        values: Item | None = None,
        names: dict[str, str] | None = None,
    ) -> tuple[bool, PlayerConnections]:
        """Call RateCounter.count, which raises RateLimited, and return the item as the player."""
        counted, item = self._counter.count(
            player_id,
            sender,
            cost,
            Key=player_key(player_id),
            UpdateExpression=update,
            ConditionExpression=condition,
            ExpressionAttributeNames=names or {},
            ExpressionAttributeValues=values or {},
        )
        return counted, player_of(player_id, item)

    def _update_own(
        self,
        player_id: str,
        connection_id: str,
        *,
        update: str,
        values: Item,
        names: dict[str, str] | None = None,
        condition: str = IS_OWN,
    ) -> Item | None:
        """Update the player's item. Return the new item, or None if the condition failed."""
        named = {"ExpressionAttributeNames": names} if names else {}  # DynamoDB refuses an empty map.
        try:
            with unavailable_on_failure():
                answer = self._client.update_item(
                    TableName=self._table,
                    Key=player_key(player_id),
                    UpdateExpression=update,
                    ConditionExpression=condition,
                    ExpressionAttributeValues={
                        ":connection": {"S": connection_id},
                        ":expires": in_seconds(self._player_seconds, self._clock()),
                        **values,
                    },
                    ReturnValues="ALL_NEW",
                    **named,
                )
        except ClientError:
            return None
        item: Item = answer["Attributes"]
        return item
