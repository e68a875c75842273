"""Handles the frames of connected clients: counts each one, carries it out, and posts the reply."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from chalicelib.core.client_frames import Action, Join, Leave, Members, SendMessage, Signal, Sync
from chalicelib.core.client_frames import Presence as AskPresence
from chalicelib.core.message_id import timestamp_of
from chalicelib.core.model import (
    Connection,
    Delivery,
    Endpoint,
    PlayerConnections,
    ReplayMarker,
    Unavailable,
    has_expired,
)
from chalicelib.core.parsing import parse_frame, parse_object, read_ack_id
from chalicelib.core.ports import ConnectionStore, Gateway, MessageStore, Telemetry
from chalicelib.core.presence import Presence
from chalicelib.core.protocol import CLOSING_ERRORS, FrameError
from chalicelib.core.rate_limit import RateLimit, RateLimited
from chalicelib.core.rooms import Rooms
from chalicelib.core.sending import Sending
from chalicelib.core.service_frames import Error, Pong, ServiceFrame
from chalicelib.core.signals import Signals

LIVE_WITHIN_MS = 60_000
"""A connection is stuck if it isn't live and its replay has made no progress for this long.

Its client must reconnect.
"""

REFUSALS_UNTIL_CLOSED = 100
"""A connection is closed after this many consecutive rate-limited frames in one process.

Clients that wait for `retryAfterMs` are refused once or a few times.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Messenger:
    """Handles frames. `clock` returns milliseconds since the epoch."""

    connections: ConnectionStore
    messages: MessageStore
    sending: Sending
    rooms: Rooms
    signals: Signals
    presence: Presence
    rate: RateLimit
    gateway: Gateway
    new_message_id: Callable[[], str]
    clock: Callable[[], int]
    note: Telemetry

    def receive(self, connection_id: str, endpoint: Endpoint, body: str) -> None:
        """Handle one frame from a client, and post the reply: an `error` if the frame is refused."""
        reply: ServiceFrame | None
        try:
            connection = self._identify(connection_id)
            reply = self._handle(connection, body)
        except FrameError as refused:
            self.note("refused", connection=connection_id, code=refused.code)
            reply = Error.of(refused, read_ack_id(body))
        except RateLimited as over:
            self._refuse_for_rate(connection_id, endpoint, body, over)
            return
        except Unavailable:
            self.note("refused", connection=connection_id, code="unavailable")
            reply = Error.of(FrameError("unavailable", "not confirmed; retry"), read_ack_id(body))
        if reply is not None:
            self._reply(connection_id, endpoint, reply)
        if isinstance(reply, Error) and reply.code in CLOSING_ERRORS:
            self.gateway.close(endpoint, connection_id)

    def _refuse_for_rate(self, connection_id: str, endpoint: Endpoint, body: str, over: RateLimited) -> None:
        """Reply with the time until the next window. Log the first refusal in a row; close after the last."""
        if over.in_a_row == 1:
            self.note("refused", connection=connection_id, code="rate_limited")
        error = FrameError("rate_limited", "over the player's rate limit", over.retry_after_ms)
        self._post(connection_id, endpoint, Error.of(error, read_ack_id(body)))
        if over.in_a_row % REFUSALS_UNTIL_CLOSED == 0:
            with suppress(Unavailable):
                self.presence.remove_by_id(connection_id)
            self.gateway.close(endpoint, connection_id)
            self.note("flooded", connection=connection_id)

    def _reply(self, connection_id: str, endpoint: Endpoint, reply: ServiceFrame) -> None:
        delivery = self._post(connection_id, endpoint, reply)
        if delivery is not Delivery.DELIVERED:
            self.note("unanswered", connection=connection_id, because=delivery.value)

    def _post(self, connection_id: str, endpoint: Endpoint, reply: ServiceFrame) -> Delivery:
        """Post a reply, and retry once: a frozen Lambda's kept-alive connection might have been reset."""
        delivery = self.gateway.post(endpoint, connection_id, reply.to_json())
        if delivery is Delivery.FAILED:
            delivery = self.gateway.post(endpoint, connection_id, reply.to_json())
        return delivery

    def _identify(self, connection_id: str) -> Connection:
        """Return the connection. Raises FrameError and Unavailable."""
        connection = self.connections.find(connection_id)
        if connection is None:
            raise FrameError("unknown_connection", "unknown connection; reconnect")
        if has_expired(connection, self.clock()):
            self.presence.remove(connection.player_id, connection_id)
            raise FrameError("unauthorized", "the token has expired; reconnect with a new one")
        return connection

    def _handle(self, connection: Connection, body: str) -> ServiceFrame | None:
        """Count the frame against the rate limit, and carry it out. Returns the reply.

        An invalid frame counts too. A frame of a player who is known to be over the limit isn't parsed.
        Raises FrameError, RateLimited and Unavailable.
        """
        size_bytes = len(body.encode(errors="replace"))
        cost = self.rate.cost_of_frame(size_bytes)
        self.connections.check_rate(connection.player_id, connection.id, cost)
        try:
            frame = parse_frame(parse_object(body))
        except FrameError:
            self._count(connection, cost)
            raise
        if isinstance(frame, Signal):
            room = self.signals.room_of(frame)
            try:
                self._count(connection, self.signals.cost_of(room, size_bytes))
            except RateLimited:
                self._count(connection, cost)  # It has cost a read of the room.
                raise
            self.signals.send(connection, frame, room)
            return None
        player = self._count(connection, self._cost_of(frame, size_bytes))
        return self._carry_out(connection, player, frame)

    def _cost_of(self, frame: Action, size_bytes: int) -> int:
        cost = self.rate.cost_of_frame(size_bytes)
        if isinstance(frame, Sync | Members | AskPresence):
            return max(cost, self.rate.cost_of_second)
        if isinstance(frame, Join) and frame.presence:
            return max(cost, self.rate.cost_of_presence)
        if isinstance(frame, Join | Leave) or (isinstance(frame, SendMessage) and frame.room_id is not None):
            return self.rate.cost_of_room_frame(size_bytes)
        return cost

    def _count(self, connection: Connection, cost: int) -> PlayerConnections:
        player = self.connections.admit(connection.player_id, connection.id, cost)
        if player is None or self._is_stuck(connection, player):
            raise FrameError("unknown_connection", "unknown connection; reconnect")
        return player

    def _is_stuck(self, connection: Connection, player: PlayerConnections) -> bool:
        """Return whether the connection isn't live and its replay has stopped for LIVE_WITHIN_MS."""
        progress = player.progress.get(connection.id)
        last_turn_at = connection.connected_at if progress is None else timestamp_of(progress.turn)
        return connection.id not in player.live and self.clock() - last_turn_at >= LIVE_WITHIN_MS

    def _carry_out(
        self, connection: Connection, player: PlayerConnections, frame: Action
    ) -> ServiceFrame | None:
        """Handle a valid frame. Returns the reply, or None if `push_messages` will send it."""
        if isinstance(frame, SendMessage):
            return self.sending.send(connection, frame)
        if isinstance(frame, Join):
            return self.rooms.join(connection, player, frame)
        if isinstance(frame, Leave):
            return self.rooms.leave(connection, player, frame)
        if isinstance(frame, Members):
            return self.rooms.members(connection, frame)
        if isinstance(frame, AskPresence):
            return self.rooms.online(connection, frame)
        if isinstance(frame, Sync):
            self._sync(connection, frame)
            return None
        self.note("pinged", player=connection.player_id, connection=connection.id)
        return Pong(ack_id=frame.ack_id)

    def _sync(self, connection: Connection, frame: Sync) -> None:
        """Store a marker that asks for a page, so that the page arrives in order with pushed messages."""
        player_id = connection.player_id
        self.messages.put(
            ReplayMarker(
                self.new_message_id(),
                player_id,
                connection.id,
                after=frame.after,
                sync=True,
                ack_id=frame.ack_id,
            )
        )
        self.note("syncing", player=player_id, connection=connection.id)
