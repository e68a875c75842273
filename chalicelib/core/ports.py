"""What the use cases are about, and what they need of the world: values, and ports to be filled in.

The tables, the gateway and the telemetry are known to the use cases by these shapes alone.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol


class Unavailable(Exception):
    """What is needed could not be reached, or would not say whether it did what it was asked."""


class TooManyConnections(Exception):
    """The player has as many as a player may."""

    def __init__(self, player: "PlayerConnections") -> None:
        super().__init__()
        self.player = player


class TokenRefused(Exception):
    """A token proves nothing. `reason` may be shown to whoever sent it; it holds nothing of the token."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The API and stage that a connection came in by, and is posted to."""

    api_id: str
    stage: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is. `expires_at`: when that ends, in seconds since the epoch, if it ends."""

    player_id: str
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """A registered connection. It never changes, so whoever has read it may keep it.

    `connected_at` is in milliseconds since the epoch; `expires_at` in seconds, when its token ends.
    """

    id: str
    player_id: str
    endpoint: Endpoint
    connected_at: int
    client_data: Mapping[str, str]
    expires_at: int | None = None


class StreamPosition(NamedTuple):
    """Where a record is in the stream of the Messages table. Later records have greater positions.

    `stream` is the label of the stream, the time of its creation: sequence numbers of one stream say nothing
    about those of another, and a table that is created again has a new stream. An earlier version stored
    positions without the label: they have the empty one, and are smaller than all others.
    """

    stream: str
    sequence_number: int


UNKNOWN_POSITION = StreamPosition("", 0)


@dataclass(frozen=True, slots=True)
class Walk:
    """How far the replay to a connection has come that isn't live yet. All three are message ids.

    The connection was sent every message up to `to` that the stream has brought by now. The replay continues
    at the marker `turn`, and then sends the messages up to `until`.
    """

    to: str
    turn: str
    until: str


@dataclass(frozen=True, slots=True)
class PlayerConnections:
    """A player's connections: all that are registered, and those of them that receive.

    `live` has the position in the stream after which each of them receives, `since` when each was registered,
    in milliseconds since the epoch. `missed_from` is the first message that reached none of them, if any.
    `walks` has the replays that take more than one page.
    """

    id: str
    endpoint: Endpoint | None = None
    connections: frozenset[str] = frozenset()
    live: Mapping[str, StreamPosition] = field(default_factory=dict)
    missed_from: str | None = None
    since: Mapping[str, int] = field(default_factory=dict)
    walks: Mapping[str, Walk] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """`sent_at` is in milliseconds since the epoch; `stream_position` is known if it was read there."""

    id: str
    destination_player_id: str
    src_player_id: str
    text: str
    sent_at: int
    stream_position: StreamPosition = field(default=UNKNOWN_POSITION, compare=False)


@dataclass(frozen=True, slots=True)
class ReplayMarker:
    """Stands among a player's messages where a connection asked for what it missed.

    A connection that is not live yet goes live at the marker at which nothing is left to replay. After a
    full page there is a next marker, with `after` the last message replayed, `began` where the first of
    these markers began, `replayed` how many there were, and `asked_at` when the page before was asked for,
    in milliseconds since the epoch. `sync`: one page, for a live connection, which gave this `ack_id`.
    `walked`: the player's walk says where this replay continues, which version 1.0.0 doesn't know.
    `tries`: how many posts in a row have failed.
    """

    id: str
    destination_player_id: str
    connection_id: str
    after: str | None = None
    began: str | None = None
    replayed: int = 0
    sync: bool = False
    asked_at: int | None = None
    ack_id: str | int | None = None
    walked: bool = False
    tries: int = 0
    stream_position: StreamPosition = field(default=UNKNOWN_POSITION, compare=False)


Entry = Message | ReplayMarker


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a player's messages in the order of their ids.

    `more`: whether there might be further ones, after `end`.
    """

    messages: tuple[Message, ...]
    more: bool
    end: str


@dataclass(frozen=True, slots=True)
class Send:
    """Where the message of a `clientMessageId` is stored, if it is."""

    destination_player_id: str
    message_id: str


class Delivery(Enum):
    """What became of a post to a connection."""

    DELIVERED = "delivered"
    GONE = "gone"
    """The connection is no more, or not yet: the gateway answers both alike."""
    FAILED = "failed"
    """Throttled, broken or not answered: the client may or may not have it; again may help."""
    REFUSED = "refused"
    """Not taken, and it would not be taken again."""


class ConnectionStore(Protocol):
    """Every method raises Unavailable; every one may be repeated without harm."""

    def register(self, connection: Connection, replays: bool = False) -> None:
        """Save it, and make it one of its player's connections. It receives nothing yet.

        Counts against the player's rate, and as much as a `sync` if it `replays` or the player has missed
        something. Raises RateLimited and TooManyConnections, and has saved nothing.
        """

    def find(self, connection_id: str) -> Connection | None: ...

    def admit(self, player_id: str, connection_id: str, size_bytes: int) -> PlayerConnections | None:
        """Count one frame; raises RateLimited. None when the connection is not one of the player's."""

    def charge_replay(self, player_id: str, connection_id: str) -> None:
        """Count a replay, beside the frame that asks for it; raises RateLimited."""

    def make_live(
        self, player_id: str, connection_id: str, start: StreamPosition, caught_up: str | None = None
    ) -> bool:
        """Let it receive every record after `start`. False when it is not one of the player's connections.

        `caught_up`: the `missed_from` that the connection has been sent everything from; it is cleared
        if it is still the same.
        """

    def walk(self, player_id: str, connection_id: str, walk: Walk) -> None:
        """Save how far the replay has come, if the connection is still one of the player's."""

    def note_missed(self, player_id: str, message_id: str) -> None:
        """Remember the first message that reached none of the player's connections."""

    def advance_missed(self, player_id: str, old: str, new: str) -> None:
        """What was missed begins later than was noted, if that is still what is noted."""

    def remove(self, player_id: str, connection_id: str) -> None:
        """Forget exactly this connection."""

    def remove_by_id(self, connection_id: str) -> str | None:
        """Forget exactly this connection, whosever it is: the player's id, or None when it is not known."""

    def players(self, player_ids: Collection[str]) -> dict[str, PlayerConnections]:
        """Every one of them, up to date; one without an item has no connections."""


class MessageStore(Protocol):
    """Every method raises Unavailable; every one may be repeated without harm."""

    def put(self, entry: Entry) -> None:
        """Store it for good."""

    def put_unless_withdrawn(self, message: Message) -> bool:
        """Store it for good; False when it was withdrawn before that, and then it never is."""

    def withdraw(self, send: Send) -> Message | None:
        """See to it that a message that is not stored by now never is; the message if it is stored."""

    def page(self, player_id: str, after: str, until: str | None, limit: int) -> Page:
        """Return at most `limit` of the player's messages after `after`, up to and with `until`.

        Expired ones are left out. A page can have fewer messages, or none, though there are more.
        """


class IdempotencyStore(Protocol):
    """Which message a player's `clientMessageId` became. Every method raises Unavailable."""

    def claim(self, player_id: str, client_message_id: str, send: Send) -> Send:
        """The first send that claimed the id: this one, or one before it."""

    def replace(self, player_id: str, client_message_id: str, old: Send, new: Send) -> bool:
        """Let the new send stand in place of the old one; False when that does not stand any more."""


POST_SECONDS = 0.75
"""After which a post or a closing is taken for failed: AWS answers within some tens of milliseconds.

It begins when the connection to the gateway is open. Opening one is no recipient's failure.
"""


class Gateway(Protocol):
    """Never raises for a connection's sake: what happened is the answer, within POST_SECONDS.

    Where a new connection to the gateway has to be opened for it, that comes on top.
    """

    def post(self, endpoint: Endpoint, connection_id: str, frame: str) -> Delivery: ...

    def close(self, endpoint: Endpoint, connection_id: str) -> None: ...

    def is_gone(self, endpoint: Endpoint, connection_id: str) -> bool:
        """Whether it says that there is no such connection, or not yet; False when it says nothing."""


class Tokens(Protocol):
    def identify(self, token: str) -> Identity:
        """Raises TokenRefused, and Unavailable when what proves tokens cannot be had."""


class Telemetry(Protocol):
    def __call__(self, outcome: str, /, **about: str | int | float) -> None:
        """Say what came of something, by ids and numbers; never text, tokens or whole events."""
