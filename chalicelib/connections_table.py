"""The Websockets table: who is connected, by connection and by player. Its attribute names live here.

`connection#<id>` holds whose a connection is and what its client said about itself; it never changes.
`player#<id>` holds a player's registered connections in a string set, and for each of them that receives
an attribute `live:<connection id>`: the place in the stream from which it does. Sets and attributes take
changes without being read first, so connects and disconnects commute.
"""

from collections.abc import Collection
from functools import lru_cache
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.dynamodb import Item, in_seconds, unavailable_on_failure
from chalicelib.ports import Connection, Endpoint, Player, Unavailable

CONNECTION_SECONDS = 3 * 60 * 60
"""API Gateway ends a connection after two hours; an hour more is slack for its clean-up."""

KEYS_PER_BATCH_GET = 100
BATCH_GET_ATTEMPTS = 4
CONNECTIONS_KEPT = 10_000
_LIVE = "live:"


class _NotFound(Exception):
    """Raised and not returned, because what is returned would be kept."""


class ConnectionsTable:
    """The connection store in DynamoDB. `player_seconds`: how long a player's item outlives its last use."""

    def __init__(self, client: Any, table: str, player_seconds: int) -> None:
        self._client = client
        self._table = table
        self._player_seconds = player_seconds
        self._find_cached = lru_cache(CONNECTIONS_KEPT)(self._read)

    def register(self, connection: Connection) -> None:
        item: Item = {
            "id": {"S": f"connection#{connection.id}"},
            "playerId": {"S": connection.player_id},
            "apiId": {"S": connection.endpoint.api_id},
            "stage": {"S": connection.endpoint.stage},
            "connectedAt": {"N": str(connection.connected_at)},
            "clientData": {"M": {k: {"S": v} for k, v in connection.client_data.items()}},
            "expiresAt": in_seconds(CONNECTION_SECONDS),
        }
        with unavailable_on_failure():
            self._client.put_item(TableName=self._table, Item=item)
            self._client.update_item(
                TableName=self._table,
                Key=_player_key(connection.player_id),
                UpdateExpression="ADD connections :connection "
                "SET apiId = :api, stage = :stage, expiresAt = :expires",
                ExpressionAttributeValues={
                    ":connection": {"SS": [connection.id]},
                    ":api": item["apiId"],
                    ":stage": item["stage"],
                    ":expires": in_seconds(self._player_seconds),
                },
            )

    def find(self, connection_id: str) -> Connection | None:
        """A warm Lambda reads each connection once: a registered connection never changes."""
        try:
            return self._find_cached(connection_id)
        except _NotFound:
            return None

    def admit(self, player_id: str, connection_id: str) -> Player | None:
        item = self._update_own(player_id, connection_id, "SET expiresAt = :expires", {})
        return None if item is None else _player(player_id, item)

    def make_live(self, player_id: str, connection_id: str, place: int, caught_up: str | None = None) -> bool:
        update = "SET #live = :place, expiresAt = :expires"
        values: Item = {":place": {"S": str(place)}}
        names = {"#live": _LIVE + connection_id}
        if caught_up is not None:
            cleared = self._update_own(
                player_id,
                connection_id,
                f"{update} REMOVE missedFrom",
                {**values, ":missed": {"S": caught_up}},
                names,
                " AND missedFrom = :missed",
            )
            if cleared is not None:
                return True
        return self._update_own(player_id, connection_id, update, values, names) is not None

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

    def remove(self, player_id: str, connection_id: str) -> None:
        with unavailable_on_failure():
            self._client.update_item(
                TableName=self._table,
                Key=_player_key(player_id),
                UpdateExpression="DELETE connections :connection REMOVE #live",
                ExpressionAttributeNames={"#live": _LIVE + connection_id},
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
        )

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


def _player(player_id: str, item: Item) -> Player:
    endpoint = Endpoint(item["apiId"]["S"], item["stage"]["S"]) if "apiId" in item else None
    return Player(
        player_id,
        endpoint,
        frozenset(item.get("connections", {}).get("SS", ())),
        {name.removeprefix(_LIVE): int(value["S"]) for name, value in item.items() if name.startswith(_LIVE)},
        item.get("missedFrom", {}).get("S"),
    )
