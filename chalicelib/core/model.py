"""The values that the use cases work with, and the exceptions that they raise."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from typing import Literal, NamedTuple


class Unavailable(Exception):
    """Raised when a dependency fails or times out. The operation might still have taken effect."""


class TooManyConnections(Exception):
    """Raised when the player already has the maximum number of connections."""

    def __init__(self, player: "PlayerConnections") -> None:
        super().__init__()
        self.player = player


class Banned(Exception):
    """Raised when a banned player connects. `until` is in milliseconds since the epoch."""

    def __init__(self, until: int) -> None:
        super().__init__(until)
        self.until = until


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


Permission = Literal["send", "read"]

RoomPermissions = Mapping[str, Permission]
"""Permissions by room id, or by a prefix of room ids that ends with `*`."""

EVERY_ROOM: RoomPermissions = {"*": "send"}


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated player. `expires_at`: when the token expires, in seconds since the epoch, or None."""

    player_id: str
    expires_at: int | None = None
    rooms: RoomPermissions = field(default_factory=dict)


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
    rooms: RoomPermissions = field(default_factory=dict)


def has_expired(connection: Connection, now_ms: int) -> bool:
    """Return whether the connection's token has expired."""
    return connection.expires_at is not None and now_ms >= 1000 * connection.expires_at


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
    The player can't connect before `banned_until`. It was active at about `last_seen_at`. Both are in
    milliseconds since the epoch. `presence_rooms` are told when the player comes online or goes offline.
    """

    id: str
    endpoint: Endpoint | None = None
    connections: frozenset[str] = frozenset()
    live: Mapping[str, StreamPosition] = field(default_factory=dict)
    _: KW_ONLY
    missed_from: str | None = None
    registered_at: Mapping[str, int] = field(default_factory=dict)
    progress: Mapping[str, ReplayProgress] = field(default_factory=dict)
    banned_until: int | None = None
    last_seen_at: int | None = field(default=None, compare=False)
    presence_rooms: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Room:
    """A room's members, and the players that can't send to it (`muted`) or join it (`banned`).

    `expires_at` is in seconds since the epoch.
    """

    id: str
    members: frozenset[str] = frozenset()
    muted: frozenset[str] = frozenset()
    banned: frozenset[str] = frozenset()
    expires_at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Message:
    """A message to a player. `sent_at` is in milliseconds since the epoch.

    A copy of a room's message has the `room_id` and the `room_message_id`. Its own id is its place among the
    member's messages. `stream_position` is known only if the message was read from the stream.
    """

    id: str
    destination_player_id: str
    src_player_id: str
    text: str
    sent_at: int
    _: KW_ONLY
    room_id: str | None = None
    room_message_id: str | None = None
    stream_position: StreamPosition = field(default=UNKNOWN_POSITION, compare=False)

    @property
    def destination(self) -> str:
        return self.destination_player_id


ROOM = "room#"
"""The prefix of a room's destination. Player ids don't contain `#`."""


@dataclass(frozen=True, slots=True)
class RoomMessage:
    """A message to a room. The push function copies it to the members.

    A message that the backend stored again has the first one's id in `room_message_id`.
    """

    id: str
    room_id: str
    src_player_id: str
    text: str
    sent_at: int
    _: KW_ONLY
    room_message_id: str | None = None
    stream_position: StreamPosition = field(default=UNKNOWN_POSITION, compare=False)

    @property
    def destination(self) -> str:
        return ROOM + self.room_id

    def copy_for(self, member: str, new_id: str) -> Message:
        return Message(
            new_id,
            member,
            self.src_player_id,
            self.text,
            self.sent_at,
            room_id=self.room_id,
            room_message_id=self.room_message_id or self.id,
        )


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

    @property
    def destination(self) -> str:
        return self.destination_player_id


@dataclass(frozen=True, slots=True)
class Poke:
    """An item among a room's messages that makes push tell the members whether a player is online."""

    id: str
    room_id: str
    player_id: str
    stream_position: StreamPosition = field(default=UNKNOWN_POSITION, compare=False)

    @property
    def destination(self) -> str:
        return ROOM + self.room_id


SentMessage = Message | RoomMessage
PlayerEntry = Message | ReplayMarker
RoomEntry = RoomMessage | Poke
Entry = PlayerEntry | RoomEntry


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a player's messages, ordered by id. `more`: there might be further messages after `end`."""

    messages: tuple[Message, ...]
    more: bool
    end: str


@dataclass(frozen=True, slots=True)
class Send:
    """The key of the message that a `clientMessageId` claims. The message isn't necessarily stored.

    `destination` is a player id, or ROOM and a room id.
    """

    destination: str
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
