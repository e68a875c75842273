"""The ports: what the use cases need of the outside. Adapters in chalicelib.aws implement them."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from chalicelib.core.model import (
    Connection,
    Delivery,
    Endpoint,
    Entry,
    Identity,
    Message,
    Page,
    PlayerConnections,
    Poke,
    ReplayProgress,
    Room,
    Send,
    SentMessage,
    StreamPosition,
)

Calls = Iterable[Callable[[], None]]


class ConnectionStore(Protocol):
    """The registered connections. Every method is idempotent and can raise Unavailable."""

    def register(self, connection: Connection, replays: bool = False) -> None:
        """Save the connection as one of its player's. It isn't live yet.

        Costs one unit of the player's rate limit, or as much as a `sync` if it `replays` or the player has
        missed messages. Raises RateLimited, TooManyConnections and Banned, and then saves nothing.
        """

    def find(self, connection_id: str) -> Connection | None:
        """Return the connection, or None if it isn't registered."""

    def check_rate(self, player_id: str, connection_id: str, cost: int) -> None:
        """Raise RateLimited if this process already knows that the player can't pay the cost.

        It makes no call to the store.
        """

    def admit(self, player_id: str, connection_id: str, cost: int) -> PlayerConnections | None:
        """Count a frame's cost. Return the player, or None if the connection isn't the player's.

        Raises RateLimited.
        """

    def charge_replay(self, player_id: str, connection_id: str) -> None:
        """Count a replay that no frame has requested. Raises RateLimited."""

    def make_live(
        self, player_id: str, connection_id: str, start: StreamPosition, caught_up: str | None = None
    ) -> PlayerConnections | None:
        """Make the connection live for records after `start`. Return None if it isn't the player's.

        `caught_up` is the `missed_from` that this connection's replay has covered. It is cleared unless it
        has changed since.
        """

    def save_progress(self, player_id: str, connection_id: str, progress: ReplayProgress) -> None:
        """Save the replay's progress if the connection is still the player's."""

    def note_missed(self, player_id: str, message_id: str) -> None:
        """Save the id of the first message that reached no connection, unless one is saved already."""

    def advance_missed(self, player_id: str, old: str, new: str) -> None:
        """Replace `missed_from` with a later message id, if it is still `old`."""

    def add_presence_room(self, player_id: str, connection_id: str, room_id: str) -> bool:
        """Tell the room of the player's presence from now on.

        Return False if the player has MAX_PRESENCE_ROOMS others, or the connection isn't the player's.
        """

    def remove_presence_room(self, player_id: str, room_id: str) -> None:
        """Stop telling the room of the player's presence."""

    def remove(self, player_id: str, connection_id: str) -> PlayerConnections:
        """Delete this connection and no other. Return the player as it was before."""

    def remove_by_id(self, connection_id: str) -> PlayerConnections | None:
        """Delete this connection and no other.

        Return its player as it was before, or None if the connection isn't registered.
        """


class Directory(Protocol):
    """Reads players and rooms, many at a time."""

    def read(
        self, player_ids: Collection[str], room_ids: Collection[str] = (), *, consistent: bool = True
    ) -> tuple[dict[str, PlayerConnections], dict[str, Room]]:
        """Return all of these players and rooms by their ids. Raises Unavailable.

        A player without an item has no connections, and a room without an item has no members.
        """


class RoomStore(Protocol):
    """The rooms. Every method can raise Unavailable."""

    def join(self, room_id: str, player_id: str, *, muted: bool = False) -> tuple[bool, Room]:
        """Make the player a member unless the room is full or has banned the player. Idempotent.

        Return whether the player is a member now, and the room as it was before. A join that isn't `muted`
        doesn't unmute.
        """

    def leave(self, room_id: str, player_id: str) -> None:
        """End the player's membership. Idempotent."""

    def count_message(self, room_id: str, player_id: str) -> tuple[bool, Room]:
        """Count a message against the room's rate if the player is a member and isn't muted.

        Return whether it was counted, and the room. Raises RateLimited.
        """

    def renew(self, room_id: str) -> None:
        """Keep the room as if a message had just been sent, if it exists."""

    def find(self, room_id: str, *, consistent: bool = True) -> Room:
        """Return the room. A room that isn't stored has no members."""


class MessageStore(Protocol):
    """The stored messages and markers. Every method is idempotent and can raise Unavailable."""

    def put(self, entry: Entry) -> None:
        """Store the message or marker."""

    def put_copies(self, copies: Sequence[Message]) -> list[Message]:
        """Store at most COPIES_PER_CALL messages with one call. Return those that weren't stored."""

    def put_pokes(self, pokes: Sequence[Poke]) -> None:
        """Store at most COPIES_PER_CALL pokes with one call. Some might not be stored."""

    def put_unless_withdrawn(self, message: SentMessage) -> bool:
        """Store the message. Return False if it was withdrawn, and so can't be stored any more."""

    def withdraw(self, send: Send) -> SentMessage | None:
        """Return the message if it is stored; otherwise withdraw it, so that it never can be."""

    def page(self, player_id: str, after: str, until: str | None, limit: int) -> Page:
        """Return at most `limit` of the player's messages with ids above `after` and not above `until`.

        The page leaves out expired messages. It can be short or empty even if there are more messages.
        """


COPIES_PER_CALL = 25
"""DynamoDB's limit for BatchWriteItem."""


class IdempotencyStore(Protocol):
    """The message of each `clientMessageId`. Every method is idempotent and can raise Unavailable."""

    def find(self, player_id: str, client_message_id: str) -> Send | None:
        """Return the send that holds the claim, if there is one."""

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
