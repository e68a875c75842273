"""Reads players and rooms from the Websockets table, many with one call."""

from collections.abc import Collection
from typing import Any

from chalicelib.aws.connection_items import player_key, player_of
from chalicelib.aws.dynamodb import Item, unavailable_on_failure
from chalicelib.aws.rooms import room_key, room_of
from chalicelib.core.model import ROOM, PlayerConnections, Room, Unavailable

KEYS_PER_CALL = 100
"""DynamoDB's limit for BatchGetItem."""

ATTEMPTS = 4


class DirectoryTable:
    """The Directory in DynamoDB."""

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    def read(
        self, player_ids: Collection[str], room_ids: Collection[str] = (), *, consistent: bool = True
    ) -> tuple[dict[str, PlayerConnections], dict[str, Room]]:
        players = {player_id: PlayerConnections(player_id) for player_id in player_ids}
        rooms = {room_id: Room(room_id) for room_id in room_ids}
        keys = [*map(player_key, players), *map(room_key, rooms)]
        for start in range(0, len(keys), KEYS_PER_CALL):
            for item in self._batch_get(keys[start : start + KEYS_PER_CALL], consistent):
                item_id = item["id"]["S"]
                if item_id.startswith(ROOM):
                    room_id = item_id.removeprefix(ROOM)
                    rooms[room_id] = room_of(room_id, item)
                else:
                    player_id = item_id.removeprefix("player#")
                    players[player_id] = player_of(player_id, item)
        return players, rooms

    def _batch_get(self, keys: list[Item], consistent: bool) -> list[Item]:
        items: list[Item] = []
        request = {self._table: {"Keys": keys, "ConsistentRead": consistent}}
        for _ in range(ATTEMPTS):
            with unavailable_on_failure():
                answer = self._client.batch_get_item(RequestItems=request)
            items += answer["Responses"].get(self._table, [])
            request = answer.get("UnprocessedKeys") or {}
            if not request:
                return items
        raise Unavailable("UnprocessedKeys")
