"""What the use cases are about, and what they need of the world: values, and ports to be filled in.

The tables, the gateway and the telemetry are known to the use cases by these shapes alone.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Unavailable(Exception):
    """The store could not be reached, or would not say whether it did what it was asked."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The API and stage that a connection came in by, and is posted to."""

    api_id: str
    stage: str


@dataclass(frozen=True, slots=True)
class Connection:
    """A registered connection. It never changes, so whoever has read it may keep it.

    `connected_at` is in milliseconds since the epoch.
    """

    id: str
    player_id: str
    endpoint: Endpoint
    connected_at: int
    client_data: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Player:
    """A player's connections: all that are registered, and those of them that receive."""

    id: str
    endpoint: Endpoint | None = None
    connections: frozenset[str] = frozenset()
    live: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Message:
    """`sent_at` is in milliseconds since the epoch."""

    id: str
    destination_player_id: str
    src_player_id: str
    text: str
    sent_at: int


@dataclass(frozen=True, slots=True)
class ReplayMarker:
    """Stands among a player's messages where a connection asked to receive: it goes live there."""

    id: str
    destination_player_id: str
    connection_id: str


Entry = Message | ReplayMarker


class Delivery(Enum):
    """What became of a post to a connection."""

    DELIVERED = "delivered"
    GONE = "gone"
    """The connection is no more, or not yet: the gateway answers both alike."""
    FAILED = "failed"
    """Throttled, refused or not answered: the client may or may not have it."""


class ConnectionStore(Protocol):
    """Every method raises Unavailable; every one may be repeated without harm."""

    def register(self, connection: Connection) -> None:
        """Save it, and make it one of its player's connections. It receives nothing yet."""

    def find(self, connection_id: str) -> Connection | None: ...

    def admit(self, player_id: str, connection_id: str) -> Player | None:
        """Ask for one frame's way in. None when the connection is not one of the player's."""

    def make_live(self, player_id: str, connection_id: str) -> bool:
        """Let it receive from now on. False when it is not one of the player's connections."""

    def remove(self, player_id: str, connection_id: str) -> None:
        """Forget exactly this connection."""

    def remove_by_id(self, connection_id: str) -> str | None:
        """Forget exactly this connection, whosever it is: the player's id, or None when it is not known."""

    def players(self, player_ids: Collection[str]) -> dict[str, Player]:
        """Every one of them, up to date; one without an item has no connections."""


class MessageStore(Protocol):
    def put(self, entry: Entry) -> None:
        """Store it for good. Repeating it changes nothing. Raises Unavailable."""


class Gateway(Protocol):
    """Never raises for a connection's sake: what happened is the answer."""

    def post(self, endpoint: Endpoint, connection_id: str, frame: str) -> Delivery: ...

    def close(self, endpoint: Endpoint, connection_id: str) -> None: ...


class Telemetry(Protocol):
    def __call__(self, step: str, /, **ids: str | int) -> None:
        """Note a step of the sequence by the ids it is about; never text, tokens or whole events."""
