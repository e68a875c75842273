"""The Websockets table: who is connected, by connection and by player. Its attribute names live here.

`connection#<id>` holds whose a connection is and what its client said about itself; it never changes.
`player#<id>` holds a player's registered connections in a string set, and attributes for each of them:
`since:<connection id>`, when it was registered, and once it receives `live:<connection id>` and
`stream:<connection id>`, the sequence number and the stream of the record after which it does.
`walk:<connection id>` says how far a long replay has come. Sets and attributes take changes without being
read first, so connects and disconnects commute.
`rateDue` and `rateCountedAt` are what the player has used of the rate.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import lru_cache
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.dynamodb import Item, in_seconds, unavailable_on_failure
from chalicelib.ports import (
    Connection,
    Endpoint,
    Player,
    StreamPosition,
    TooManyConnections,
    Unavailable,
    Walk,
)
from chalicelib.rate_limit import Allowance, OverRate, RateLimit
from chalicelib.telemetry import timed

CONNECTION_SECONDS = 3 * 60 * 60
"""API Gateway ends a connection after two hours; an hour more is slack for its clean-up."""

KEYS_PER_BATCH_GET = 100
BATCH_GET_ATTEMPTS = 4
CONNECTIONS_KEPT = 10_000
PLAYERS_KEPT = 10_000
COUNT_ATTEMPTS = 10
"""A second is needed when somebody else has counted since; more when that goes on and on."""

_LIVE = "live:"
_SINCE = "since:"
_STREAM = "stream:"
_WALK = "walk:"


class _NotFound(Exception):
    """Raised and not returned, because what is returned would be kept."""


class ConnectionsTable:
    """The connection store in DynamoDB. `player_seconds`: how long a player's item outlives its last connect.

    `clock` is in microseconds since the epoch.
    """

    def __init__(
        self,
        client: Any,
        table: str,
        player_seconds: int,
        rate: RateLimit,
        connections_per_player: int,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._client = client
        self._table = table
        self._player_seconds = player_seconds
        self._rate = rate
        self._connections_per_player = connections_per_player
        self._clock = clock
        self._find_cached = lru_cache(CONNECTIONS_KEPT)(self._read)
        self._last_used: OrderedDict[str, Allowance | None] = OrderedDict()

    @timed("save_connection")
    def register(self, connection: Connection) -> None:
        """The player's item first: whoever is over a limit leaves nothing. Being refused counts too."""
        most = self._connections_per_player
        added, player = self._count(
            connection.player_id,
            "ADD connections :set SET apiId = :api, stage = :stage, #since = :since, expiresAt = :expires,",
            "(attribute_not_exists(connections) OR size(connections) < :most"
            " OR contains(connections, :connection))",
            lambda player: connection.id in player.connections or len(player.connections) < most,
            {
                ":set": {"SS": [connection.id]},
                ":connection": {"S": connection.id},
                ":most": {"N": str(most)},
                ":api": {"S": connection.endpoint.api_id},
                ":stage": {"S": connection.endpoint.stage},
                ":since": {"N": str(connection.connected_at)},
                ":expires": in_seconds(self._player_seconds),
            },
            {"#since": _SINCE + connection.id},
        )
        if not added:
            self._count(connection.player_id, "SET", "attribute_exists(id)", lambda _: True, {})
            raise TooManyConnections(player)
        with unavailable_on_failure():
            self._client.put_item(TableName=self._table, Item=_connection_item(connection))

    def find(self, connection_id: str) -> Connection | None:
        """A warm Lambda reads each connection once: a registered connection never changes."""
        try:
            return self._find_cached(connection_id)
        except _NotFound:
            return None

    @timed("admit")
    def admit(self, player_id: str, connection_id: str, once_a_second: bool = False) -> Player | None:
        own, player = self._count(
            player_id,
            "SET",
            "contains(connections, :connection)",
            lambda player: connection_id in player.connections,
            {":connection": {"S": connection_id}},
            frames=self._rate.second if once_a_second else 1,
        )
        return player if own else None

    @timed("make_live")
    def make_live(
        self, player_id: str, connection_id: str, start: StreamPosition, caught_up: str | None = None
    ) -> bool:
        update = "SET #live = :number, #stream = :stream, expiresAt = :expires"
        values: Item = {":number": {"S": str(start.sequence_number)}, ":stream": {"S": start.stream}}
        names = {
            "#live": _LIVE + connection_id,
            "#stream": _STREAM + connection_id,
            "#walk": _WALK + connection_id,
        }
        if caught_up is not None:
            cleared = self._update_own(
                player_id,
                connection_id,
                f"{update} REMOVE #walk, missedFrom",
                {**values, ":missed": {"S": caught_up}},
                names,
                " AND missedFrom = :missed",
            )
            if cleared is not None:
                return True
        return self._update_own(player_id, connection_id, f"{update} REMOVE #walk", values, names) is not None

    def walk(self, player_id: str, connection_id: str, walk: Walk) -> None:
        positions = {"to": {"S": walk.to}, "turn": {"S": walk.turn}, "until": {"S": walk.until}}
        self._update_own(
            player_id,
            connection_id,
            "SET #walk = :walk, expiresAt = :expires",
            {":walk": {"M": positions}},
            {"#walk": _WALK + connection_id},
        )

    def note_missed(self, player_id: str, message_id: str) -> None:
        with unavailable_on_failure():
            self._client.update_item(
                TableName=self._table,
                Key=_player_key(player_id),
                UpdateExpression="SET missedFrom = if_not_exists(missedFrom, :missed), expiresAt = :expires",
                ExpressionAttributeValues={
                    ":missed": {"S": message_id},
                    ":expires": in_seconds(self._player_seconds),
                },
            )

    def advance_missed(self, player_id: str, old: str, new: str) -> None:
        with suppress(ClientError), unavailable_on_failure():
            self._client.update_item(
                TableName=self._table,
                Key=_player_key(player_id),
                UpdateExpression="SET missedFrom = :new",
                ConditionExpression="missedFrom = :old",
                ExpressionAttributeValues={":new": {"S": new}, ":old": {"S": old}},
            )

    @timed("remove")
    def remove(self, player_id: str, connection_id: str) -> None:
        with unavailable_on_failure():
            self._client.update_item(
                TableName=self._table,
                Key=_player_key(player_id),
                UpdateExpression="DELETE connections :connection REMOVE #live, #stream, #since, #walk",
                ExpressionAttributeNames={
                    "#live": _LIVE + connection_id,
                    "#stream": _STREAM + connection_id,
                    "#since": _SINCE + connection_id,
                    "#walk": _WALK + connection_id,
                },
                ExpressionAttributeValues={":connection": {"SS": [connection_id]}},
            )
            self._client.delete_item(TableName=self._table, Key=_connection_key(connection_id))

    def remove_by_id(self, connection_id: str) -> str | None:
        with unavailable_on_failure():
            item = self._client.get_item(
                TableName=self._table, Key=_connection_key(connection_id), ConsistentRead=True
            ).get("Item")
        if item is None:
            return None
        player_id = str(item["playerId"]["S"])
        self.remove(player_id, connection_id)
        return player_id

    def players(self, player_ids: Collection[str]) -> dict[str, Player]:
        ids = list(player_ids)
        found: dict[str, Player] = {player_id: Player(player_id) for player_id in ids}
        for start in range(0, len(ids), KEYS_PER_BATCH_GET):
            keys = [_player_key(player_id) for player_id in ids[start : start + KEYS_PER_BATCH_GET]]
            for item in self._batch_get(keys):
                player_id = item["id"]["S"].removeprefix("player#")
                found[player_id] = _player(player_id, item)
        return found

    @timed("find_connection")
    def _read(self, connection_id: str) -> Connection:
        with unavailable_on_failure():
            answer = self._client.get_item(
                TableName=self._table, Key=_connection_key(connection_id), ConsistentRead=True
            )
        item = answer.get("Item")
        if item is None:
            raise _NotFound
        return Connection(
            connection_id,
            item["playerId"]["S"],
            Endpoint(item["apiId"]["S"], item["stage"]["S"]),
            int(item["connectedAt"]["N"]),
            {k: v["S"] for k, v in item["clientData"]["M"].items()},
            int(item["tokenExpiresAt"]["N"]) if "tokenExpiresAt" in item else None,
        )

    def _count(
        self,
        player_id: str,
        update: str,
        condition: str,
        holds: Callable[[Player], bool],
        values: Item,
        names: dict[str, str] | None = None,
        frames: int = 1,
    ) -> tuple[bool, Player]:
        """Count one frame of the player, and update the player's item, in one call; raises OverRate.

        Returns whether the condition was met, and the player after or instead of it. `holds` is the
        condition once more: a failed call says what there is, but not which part of its condition failed.

        Expressions have no maximum, so which of two updates it must be is guessed from what was used last
        as far as this process knows; what the call itself finds decides.
        """
        arrived = now = self._clock()
        used = self._last_used.get(player_id)
        for _ in range(COUNT_ATTEMPTS):
            counted, if_due, amounts = _counting(self._rate, used, arrived, now, frames)
            try:
                with unavailable_on_failure():
                    answer = self._client.update_item(
                        TableName=self._table,
                        Key=_player_key(player_id),
                        UpdateExpression=f"{update} {counted}",
                        ConditionExpression=f"{condition} AND {if_due}",
                        ExpressionAttributeValues={
                            **values,
                            **{name: {"N": str(amount)} for name, amount in amounts.items()},
                        },
                        ReturnValues="ALL_NEW",
                        ReturnValuesOnConditionCheckFailure="ALL_OLD",
                        **({"ExpressionAttributeNames": names} if names else {}),
                    )
            except ClientError as failure:
                item: Item = failure.response.get("Item", {})
                player, used = _player(player_id, item), self._remember_used(player_id, item)
                if not holds(player):
                    return False, player
                now = max(now, self._clock())
                if used is not None:  # Whoever was faster was not before this, unless the clocks differ.
                    arrived = max(arrived, min(now, used.counted_at))
                if not self._rate.starts_anew(used, arrived):
                    self._rate.take(used, now, frames)
            else:
                self._remember_used(player_id, answer["Attributes"])
                return True, _player(player_id, answer["Attributes"])
        raise OverRate(-(-self._rate.interval // 1000))  # So many at once are a flood.

    def _remember_used(self, player_id: str, item: Item) -> Allowance | None:
        used = _used(item)
        self._last_used[player_id] = used
        self._last_used.move_to_end(player_id)
        if len(self._last_used) > PLAYERS_KEPT:
            self._last_used.popitem(last=False)
        return used

    def _update_own(
        self,
        player_id: str,
        connection_id: str,
        update: str,
        values: Item,
        names: dict[str, str] | None = None,
        further_condition: str = "",
    ) -> Item | None:
        """Update the player's item if the connection is one of the player's; the item after it, or None."""
        try:
            with unavailable_on_failure():
                answer = self._client.update_item(
                    TableName=self._table,
                    Key=_player_key(player_id),
                    UpdateExpression=update,
                    ConditionExpression=f"contains(connections, :connection){further_condition}",
                    ExpressionAttributeValues={
                        ":connection": {"S": connection_id},
                        ":expires": in_seconds(self._player_seconds),
                        **values,
                    },
                    ReturnValues="ALL_NEW",
                    **({"ExpressionAttributeNames": names} if names else {}),
                )
        except ClientError:
            return None
        item: Item = answer["Attributes"]
        return item

    def _batch_get(self, keys: list[Item]) -> list[Item]:
        items: list[Item] = []
        request = {self._table: {"Keys": keys, "ConsistentRead": True}}
        for _ in range(BATCH_GET_ATTEMPTS):
            with unavailable_on_failure():
                answer = self._client.batch_get_item(RequestItems=request)
            items += answer["Responses"].get(self._table, [])
            request = answer.get("UnprocessedKeys") or {}
            if not request:
                return items
        raise Unavailable("UnprocessedKeys")


def _connection_key(connection_id: str) -> Item:
    return {"id": {"S": f"connection#{connection_id}"}}


def _player_key(player_id: str) -> Item:
    return {"id": {"S": f"player#{player_id}"}}


def _connection_item(connection: Connection) -> Item:
    item: Item = {
        **_connection_key(connection.id),
        "playerId": {"S": connection.player_id},
        "apiId": {"S": connection.endpoint.api_id},
        "stage": {"S": connection.endpoint.stage},
        "connectedAt": {"N": str(connection.connected_at)},
        "clientData": {"M": {k: {"S": v} for k, v in connection.client_data.items()}},
        "expiresAt": in_seconds(CONNECTION_SECONDS),
    }
    if connection.expires_at is not None:
        item["tokenExpiresAt"] = {"N": str(connection.expires_at)}
    return item


def _counting(
    rate: RateLimit, used: Allowance | None, arrived: int, now: int, frames: int
) -> tuple[str, str, dict[str, int]]:
    """RateLimit.take as an update: what it sets, on which condition, and the amounts of both.

    When the frame arrived decides which update it is, so that a second try is not overtaken like the first
    one; whether it is too early is for now to say.
    """
    amounts = {":arrived": arrived, ":now": now}
    if not rate.starts_anew(used, arrived):
        return (
            "rateDue = rateDue + :frames, rateCountedAt = :now",
            "rateDue > :arrived AND rateDue <= :latest AND rateCountedAt <= :ahead",
            amounts
            | {
                ":frames": frames * rate.interval,
                ":latest": rate.latest(now, frames),
                ":ahead": now + rate.tolerance,
            },
        )
    condition = "attribute_not_exists(rateDue) OR rateDue <= :arrived"
    if used is not None and used.due > arrived:  # Counted by a clock that ran ahead.
        condition = "rateCountedAt > :ahead"
        del amounts[":arrived"]
        amounts[":ahead"] = arrived + rate.tolerance
    return (
        "rateDue = :due, rateCountedAt = :now",
        f"({condition})",
        amounts | {":due": arrived + frames * rate.interval},
    )


def _used(item: Item) -> Allowance | None:
    if "rateDue" not in item:
        return None
    return Allowance(int(item["rateDue"]["N"]), int(item["rateCountedAt"]["N"]))


def _player(player_id: str, item: Item) -> Player:
    endpoint = Endpoint(item["apiId"]["S"], item["stage"]["S"]) if "apiId" in item else None
    return Player(
        player_id,
        endpoint,
        frozenset(item.get("connections", {}).get("SS", ())),
        _live(item),
        item.get("missedFrom", {}).get("S"),
        {
            name.removeprefix(_SINCE): int(value["N"])
            for name, value in item.items()
            if name.startswith(_SINCE)
        },
        {
            name.removeprefix(_WALK): Walk(**{key: position["S"] for key, position in value["M"].items()})
            for name, value in item.items()
            if name.startswith(_WALK)
        },
    )


def _live(item: Item) -> dict[str, StreamPosition]:
    """An earlier version stored no stream with the sequence number."""
    live = {}
    for name, value in item.items():
        if name.startswith(_LIVE):
            connection_id = name.removeprefix(_LIVE)
            stream = item.get(_STREAM + connection_id, {}).get("S", "")
            live[connection_id] = StreamPosition(stream, int(value["S"]))
    return live
