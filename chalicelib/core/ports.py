"""The values that the use cases work with, and the ports that adapters in chalicelib.aws implement."""

from collections.abc import Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol


class Unavailable(Exception):
    """Raised when a dependency fails or times out. The operation might still have taken effect."""


class TooManyConnections(Exception):
    """Raised when the player already has the maximum number of connections."""

    def __init__(self, player: "PlayerConnections") -> None:
        super().__init__()
        self.player = player


class TokenRefused(Exception):
    """Raised for an invalid token. The client receives `reason`, which contains nothing from the token."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The API and stage of a connection, which posts to it must use."""

    api_id: str
    stage: str


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated player. `expires_at`: when the token expires, in seconds since the epoch, or None."""

    player_id: str
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """A registered connection. It never changes, so it can be cached.

    `connected_at` is in milliseconds since the epoch. `expires_at`, when its token expires, is in seconds.
    """

    id: str
    player_id: str
    endpoint: Endpoint
    connected_at: int
    client_data: Mapping[str, str]
    expires_at: int | None = None


class StreamPosition(NamedTuple):
    """The position of a record in the Messages table's stream. Later records compare greater.

    `stream` is the stream's label, which is its creation time. It comes first because a table that is
    created again has a new stream, whose sequence numbers aren't comparable with the old one's. Version
    1.0.0 stored no label; its positions have an empty label and compare smaller than all others.
    """

    stream: str
    sequence_number: int


UNKNOWN_POSITION = StreamPosition("", 0)


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """The progress of a replay to a connection that isn't live yet. All three values are message ids.

    The replay has posted every message up to `to` that the stream has delivered so far. It continues at the
    marker with the id `turn`, and then posts the messages up to `until`.
    """

    to: str
    turn: str
    until: str


@dataclass(frozen=True, slots=True)
class PlayerConnections:
    """A player's connections. `connections` holds all registered ones.

    The mappings are by connection id. `live` holds the stream position after which a connection receives
    messages, and `registered_at` when it was registered, in milliseconds since the epoch. `progress` holds
    replays of more than one page. `missed_from` is the first message that reached no connection, if any.
    """

    id: str
    endpoint: Endpoint | None = None
    connections: frozenset[str] = frozenset()
    live: Mapping[str, StreamPosition] = field(default_factory=dict)
    _: KW_ONLY
    missed_from: str | None = None
    registered_at: Mapping[str, int] = field(default_factory=dict)
    progress: Mapping[str, ReplayProgress] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """A message. `sent_at` is in milliseconds since the epoch.

    `stream_position` is known only if the message was read from the stream.
    """

    id: str
    destination_player_id: str
    src_player_id: str
    text: str
    sent_at: int
    stream_position: StreamPosition = field(default=UNKNOWN_POSITION, compare=False)


@dataclass(frozen=True, slots=True)
class ReplayMarker:
    """An item among a player's messages that asks for a page of replay to one connection.

    `after` is the cursor: the replay begins after this message id. After a full page, replay stores a next
    marker. There `after` is the last replayed message, `first_cursor` where the replay began, `replayed` the
    number of messages so far, and `asked_at` the time of the page's query in milliseconds since the epoch.
    A connection that isn't live goes live at the marker that leaves nothing to replay.

    `sync` marks a `sync` request of a live connection, with its `ack_id`: it gets one page. `has_progress`
    means that the player's `ReplayProgress` has the cursor; version 1.0.0 doesn't know it. `tries` counts
    consecutive failed posts.
    """

    id: str
    destination_player_id: str
    connection_id: str
    _: KW_ONLY
    after: str | None = None
    first_cursor: str | None = None
    replayed: int = 0
    sync: bool = False
    asked_at: int | None = None
    ack_id: str | int | None = None
    has_progress: bool = False
    tries: int = 0
    stream_position: StreamPosition = field(default=UNKNOWN_POSITION, compare=False)


Entry = Message | ReplayMarker


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a player's messages, ordered by id. `more`: there might be further messages after `end`."""

    messages: tuple[Message, ...]
    more: bool
    end: str


@dataclass(frozen=True, slots=True)
class Send:
    """The key of the message that a `clientMessageId` claims. The message isn't necessarily stored."""

    destination_player_id: str
    message_id: str


class Delivery(Enum):
    """The result of a post to a connection."""

    DELIVERED = "delivered"
    GONE = "gone"
    """The connection is closed, or isn't open yet: API Gateway answers 410 to both."""
    FAILED = "failed"
    """Throttled, failed or timed out. The client might have received the frame, and a retry can succeed."""
    REFUSED = "refused"
    """Rejected. A retry would be rejected too."""


class ConnectionStore(Protocol):
    """The registered connections. Every method is idempotent and can raise Unavailable."""

    def register(self, connection: Connection, replays: bool = False) -> None:
        """Save the connection as one of its player's. It isn't live yet.

        Costs one unit of the player's rate limit, or as much as a `sync` if it `replays` or the player has
        missed messages. Raises RateLimited and TooManyConnections, and then saves nothing.
        """

    def find(self, connection_id: str) -> Connection | None:
        """Return the connection, or None if it isn't registered."""

    def admit(self, player_id: str, connection_id: str, size_bytes: int) -> PlayerConnections | None:
        """Count a frame. Return the player, or None if the connection isn't the player's.

        Raises RateLimited.
        """

    def charge_replay(self, player_id: str, connection_id: str) -> None:
        """Count a replay, in addition to the frame that requested it. Raises RateLimited."""

    def make_live(
        self, player_id: str, connection_id: str, start: StreamPosition, caught_up: str | None = None
    ) -> bool:
        """Make the connection live for records after `start`. Return False if it isn't the player's.

        `caught_up` is the `missed_from` that this connection's replay has covered. It is cleared unless it
        has changed since.
        """

    def save_progress(self, player_id: str, connection_id: str, progress: ReplayProgress) -> None:
        """Save the replay's progress if the connection is still the player's."""

    def note_missed(self, player_id: str, message_id: str) -> None:
        """Save the id of the first message that reached no connection, unless one is saved already."""

    def advance_missed(self, player_id: str, old: str, new: str) -> None:
        """Replace `missed_from` with a later message id, if it is still `old`."""

    def remove(self, player_id: str, connection_id: str) -> None:
        """Delete this connection and no other."""

    def remove_by_id(self, connection_id: str) -> str | None:
        """Delete this connection and no other. Return its player's id, or None if it isn't registered."""

    def players(self, player_ids: Collection[str]) -> dict[str, PlayerConnections]:
        """Return all the players, strongly consistent. A player without an item has no connections."""


class MessageStore(Protocol):
    """The stored messages and markers. Every method is idempotent and can raise Unavailable."""

    def put(self, entry: Entry) -> None:
        """Store the message or marker."""

    def put_unless_withdrawn(self, message: Message) -> bool:
        """Store the message. Return False if it was withdrawn, and so can't be stored any more."""

    def withdraw(self, send: Send) -> Message | None:
        """Return the message if it is stored; otherwise withdraw it, so that it never can be."""

    def page(self, player_id: str, after: str, until: str | None, limit: int) -> Page:
        """Return at most `limit` of the player's messages with ids above `after` and not above `until`.

        The page leaves out expired messages. It can be short or empty even if there are more messages.
        """


class IdempotencyStore(Protocol):
    """The message of each `clientMessageId`. Every method is idempotent and can raise Unavailable."""

    def claim(self, player_id: str, client_message_id: str, send: Send) -> Send:
        """Claim the id for this send. Return the send that holds the claim: this one, or an earlier one."""

    def replace(self, player_id: str, client_message_id: str, old: Send, new: Send) -> bool:
        """Transfer the claim to the new send. Return False if the old one doesn't hold it any more."""


POST_SECONDS = 0.75
"""The timeout of a post, and of closing a connection. AWS normally answers within tens of milliseconds.

The time to open a TCP and TLS connection to API Gateway doesn't count: it isn't the recipient's fault.
"""


class Gateway(Protocol):
    """API Gateway's `@connections`. No method raises, and each returns within POST_SECONDS.

    A call that must open a connection to API Gateway first can take longer.
    """

    def post(self, endpoint: Endpoint, connection_id: str, frame: str) -> Delivery:
        """Send the frame to the client, and return the result."""

    def close(self, endpoint: Endpoint, connection_id: str) -> None:
        """Close the client's connection (best effort)."""

    def is_gone(self, endpoint: Endpoint, connection_id: str) -> bool:
        """Return whether API Gateway answers 410 for the connection; False if it doesn't answer."""


class Tokens(Protocol):
    def identify(self, token: str) -> Identity:
        """Return the token's player. Raises TokenRefused, and Unavailable if the keys can't be read."""


class Telemetry(Protocol):
    def __call__(self, outcome: str, /, **about: str | int | float) -> None:
        """Log an outcome with ids and numbers. Never pass message texts, tokens or whole events."""
