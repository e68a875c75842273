"""The items of connections in the Websockets table, and their conversion to and from values.

`connection#<id>` holds a connection's player, endpoint, client data and permissions. It never changes.

`player#<id>` holds the player's connection ids in a string set, and these attributes per connection:

- `since:<connection id>`: when the connection was registered.
- `live:<connection id>` and `stream:<connection id>`: the sequence number and the stream label of the record
  after which it receives messages. Only a live connection has them.
- `walk:<connection id>`: the progress of a replay with more than one page.

`seenAt` is when the player last sent a frame or connected, in milliseconds since the epoch. `rooms` holds the
rooms that are told of the player's presence.

The backend writes `bannedUntil`: the player can't connect until then, in milliseconds since the epoch.

A connect or disconnect changes only its own connection's set member and attributes, so concurrent ones need
no lock. `rate_counter` adds further attributes to the same item.
"""

from chalicelib.aws.dynamodb import Item, in_seconds
from chalicelib.core.model import (
    Connection,
    Endpoint,
    PlayerConnections,
    ReplayProgress,
    RoomPermissions,
    StreamPosition,
)

CONNECTION_SECONDS = 3 * 60 * 60
"""How long a connection's item is kept. API Gateway closes a connection after two hours."""

LIVE = "live:"
SINCE = "since:"
STREAM = "stream:"
PROGRESS = "walk:"
"""Prefixes of a player's attributes. The connection id follows."""


def connection_key(connection_id: str) -> Item:
    return {"id": {"S": f"connection#{connection_id}"}}


def player_key(player_id: str) -> Item:
    return {"id": {"S": f"player#{player_id}"}}


def connection_item(connection: Connection, now_ms: int) -> Item:
    item: Item = {
        **connection_key(connection.id),
        "playerId": {"S": connection.player_id},
        "apiId": {"S": connection.endpoint.api_id},
        "stage": {"S": connection.endpoint.stage},
        "connectedAt": {"N": str(connection.connected_at)},
        "clientData": {"M": {k: {"S": v} for k, v in connection.client_data.items()}},
        "rooms": {"M": {room: {"S": permission} for room, permission in connection.rooms.items()}},
        "expiresAt": in_seconds(CONNECTION_SECONDS, now_ms),
    }
    if connection.expires_at is not None:
        item["tokenExpiresAt"] = {"N": str(connection.expires_at)}
    return item


def player_of(player_id: str, item: Item) -> PlayerConnections:
    endpoint = Endpoint(item["apiId"]["S"], item["stage"]["S"]) if "apiId" in item else None
    return PlayerConnections(
        id=player_id,
        endpoint=endpoint,
        connections=frozenset(item.get("connections", {}).get("SS", ())),
        live=_live(item),
        missed_from=item.get("missedFrom", {}).get("S"),
        registered_at={
            name.removeprefix(SINCE): int(value["N"])
            for name, value in item.items()
            if name.startswith(SINCE)
        },
        progress={
            name.removeprefix(PROGRESS): ReplayProgress(
                **{key: position["S"] for key, position in value["M"].items()}
            )
            for name, value in item.items()
            if name.startswith(PROGRESS)
        },
        banned_until=int(item["bannedUntil"]["N"]) if "bannedUntil" in item else None,
        last_seen_at=_last_seen_at(item),
        presence_rooms=frozenset(item.get("rooms", {}).get("SS", ())),
    )


def _last_seen_at(item: Item) -> int | None:
    """Return when the player last sent a frame. Version 1.0.0 only stored when it connected."""
    if "seenAt" in item:
        return int(item["seenAt"]["N"])
    return max((int(value["N"]) for name, value in item.items() if name.startswith(SINCE)), default=None)


def _live(item: Item) -> dict[str, StreamPosition]:
    """Return the stream positions by connection. Version 1.0.0 stored no stream label."""
    live = {}
    for name, value in item.items():
        if name.startswith(LIVE):
            connection_id = name.removeprefix(LIVE)
            stream = item.get(STREAM + connection_id, {}).get("S", "")
            live[connection_id] = StreamPosition(stream, int(value["S"]))
    return live


def connection_of(connection_id: str, item: Item) -> Connection:
    return Connection(
        id=connection_id,
        player_id=item["playerId"]["S"],
        endpoint=Endpoint(item["apiId"]["S"], item["stage"]["S"]),
        connected_at=int(item["connectedAt"]["N"]),
        client_data={k: v["S"] for k, v in item["clientData"]["M"].items()},
        expires_at=int(item["tokenExpiresAt"]["N"]) if "tokenExpiresAt" in item else None,
        rooms=_permissions(item),
    )


def _permissions(item: Item) -> RoomPermissions:
    """Return the permissions. Version 1.0.0 stored none."""
    return {room: permission["S"] for room, permission in item.get("rooms", {"M": {}})["M"].items()}
