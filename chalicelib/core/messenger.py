"""The use cases of a connection: a client connects, sends a frame, or disconnects."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from chalicelib.core.access import Access
from chalicelib.core.handshake import HandshakeRejected, Multi, parse_handshake
from chalicelib.core.message_id import timestamp_of
from chalicelib.core.model import (
    Connection,
    Delivery,
    Endpoint,
    Message,
    PlayerConnections,
    ReplayMarker,
    Send,
    TooManyConnections,
    Unavailable,
)
from chalicelib.core.parsing import parse_frame, parse_object, read_ack_id
from chalicelib.core.ports import ConnectionStore, Gateway, IdempotencyStore, MessageStore, Telemetry
from chalicelib.core.protocol import (
    CLOSING_ERRORS,
    Ack,
    Action,
    Error,
    FrameError,
    Pong,
    SendMessage,
    ServiceFrame,
    Sync,
)
from chalicelib.core.rate_limit import RateLimited

LIVE_WITHIN_MS = 60_000
"""A connection is stuck if it isn't live and its replay has made no progress for this long.

Its client must reconnect.
"""

HANDSHAKE_MS = 60_000
"""How long after its registration API Gateway can answer 410 for a connection whose `$connect` still runs."""

REFUSALS_UNTIL_CLOSED = 100
"""A connection is closed after this many consecutive rate-limited frames in one process.

Clients that wait for `retryAfterMs` are refused once or a few times.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Messenger:
    """Handles connects, frames and disconnects. `clock` returns milliseconds since the epoch."""

    access: Access
    connections: ConnectionStore
    messages: MessageStore
    sends: IdempotencyStore
    gateway: Gateway
    new_message_id: Callable[[], str]
    clock: Callable[[], int]
    note: Telemetry
    max_message_bytes: int

    def connect(self, connection_id: str, endpoint: Endpoint, query: Multi, headers: Multi) -> str | None:
        """Register the connection and store its marker. Returns the subprotocol to accept, if any.

        Raises HandshakeRejected after cleaning up. API Gateway opens the connection only after this returns,
        so `push_messages` makes it live, when the marker arrives in order with the player's messages.
        """
        try:
            handshake = parse_handshake(query, headers)
            identity = self.access.identify(handshake)
            connection = Connection(
                id=connection_id,
                player_id=identity.player_id,
                endpoint=endpoint,
                connected_at=self.clock(),
                client_data=handshake.client_data,
                expires_at=identity.expires_at,
            )
            self._register(connection, handshake.after)
        except HandshakeRejected as refused:
            self.note("refused", connection=connection_id, code=str(refused.status), reason=refused.detail)
            raise
        except RateLimited as over:
            if over.in_a_row == 1:
                self.note("refused", connection=connection_id, code="429", reason="over the rate limit")
            raise HandshakeRejected(429, f"over the rate limit; retry in {over.retry_after_ms} ms") from None
        except Unavailable as unavailable:
            self.note("refused", connection=connection_id, code="429", reason=str(unavailable))
            raise HandshakeRejected(429, "temporarily unavailable; retry") from None
        self.note("connected", player=identity.player_id, connection=connection_id)
        return handshake.subprotocol

    def _register(self, connection: Connection, after: str | None) -> None:
        """Save the connection and its marker. Raises HandshakeRejected, RateLimited and Unavailable.

        Cleans up after a failure (best effort). The marker's id is made last, because replay measures from
        that time how long the connection has waited.
        """
        try:
            try:
                self.connections.register(connection, after is not None)
            except TooManyConnections as full:
                self._remove_gone(full.player)
                self.connections.register(connection, after is not None)
            marker_id = self.new_message_id()
            self.messages.put(ReplayMarker(marker_id, connection.player_id, connection.id, after=after))
        except TooManyConnections:
            raise HandshakeRejected(429, "this player has too many connections") from None
        except Unavailable:
            with suppress(Unavailable):
                self.connections.remove(connection.player_id, connection.id)
            raise

    def _remove_gone(self, player: PlayerConnections) -> None:
        """Remove the player's connections that are gone, and those whose token has expired."""
        for connection_id in player.connections:
            connection = self.connections.find(connection_id)
            expired = connection is not None and self._has_expired(connection)
            if expired or self._is_gone(player, connection_id):
                self.connections.remove(player.id, connection_id)
                self.note("made_room", player=player.id, instead_of=connection_id)
            if expired and connection is not None:
                self.gateway.close(connection.endpoint, connection_id)

    def _is_gone(self, player: PlayerConnections, connection_id: str) -> bool:
        """Return whether API Gateway no longer has the connection.

        A new connection that was never live isn't checked, because its `$connect` might still be running.
        """
        is_young = player.registered_at.get(connection_id, 0) > self.clock() - HANDSHAKE_MS
        return (
            player.endpoint is not None
            and not (is_young and connection_id not in player.live)
            and self.gateway.is_gone(player.endpoint, connection_id)
        )

    def receive(self, connection_id: str, endpoint: Endpoint, body: str) -> None:
        """Handle one frame from a client, and post the reply: an `error` if the frame is refused."""
        reply: ServiceFrame | None
        try:
            connection = self._admit(connection_id, len(body.encode(errors="replace")))
            reply = self._carry_out(connection, parse_frame(parse_object(body)))
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
                self.connections.remove_by_id(connection_id)
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

    def disconnect(self, connection_id: str) -> None:
        """Remove this connection and no other, even if API Gateway's event is late or repeated."""
        try:
            player_id = self.connections.remove_by_id(connection_id)
        except Unavailable:
            self.note("disconnect_failed", connection=connection_id)
            return
        if player_id is not None:
            self.note("disconnected", player=player_id, connection=connection_id)

    def _admit(self, connection_id: str, size_bytes: int) -> Connection:
        """Return the connection that sent the frame. Raises FrameError, RateLimited and Unavailable.

        Every frame counts against the rate limit, valid or not, so it is counted before it is parsed.
        """
        connection = self.connections.find(connection_id)
        if connection is None:
            raise FrameError("unknown_connection", "unknown connection; reconnect")
        if self._has_expired(connection):
            self.connections.remove(connection.player_id, connection_id)
            raise FrameError("unauthorized", "the token has expired; reconnect with a new one")
        player = self.connections.admit(connection.player_id, connection_id, size_bytes)
        if player is None or self._is_stuck(connection, player):
            raise FrameError("unknown_connection", "unknown connection; reconnect")
        return connection

    def _is_stuck(self, connection: Connection, player: PlayerConnections) -> bool:
        """Return whether the connection isn't live and its replay has stopped for LIVE_WITHIN_MS."""
        progress = player.progress.get(connection.id)
        last_turn_at = connection.connected_at if progress is None else timestamp_of(progress.turn)
        return connection.id not in player.live and self.clock() - last_turn_at >= LIVE_WITHIN_MS

    def _has_expired(self, connection: Connection) -> bool:
        return connection.expires_at is not None and self.clock() >= 1000 * connection.expires_at

    def _carry_out(self, connection: Connection, frame: Action) -> ServiceFrame | None:
        """Handle a valid frame. Returns the reply, or None if `push_messages` will send it."""
        if isinstance(frame, SendMessage):
            return self._send(connection, frame)
        if isinstance(frame, Sync):
            self._sync(connection, frame)
            return None
        self.note("pinged", player=connection.player_id, connection=connection.id)
        return Pong(ack_id=frame.ack_id)

    def _sync(self, connection: Connection, frame: Sync) -> None:
        """Store a marker that asks for a page, so that the page arrives in order with pushed messages."""
        player_id = connection.player_id
        self.connections.charge_replay(player_id, connection.id)
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

    def _send(self, sender: Connection, frame: SendMessage) -> Ack:
        if frame.player_id not in (None, sender.player_id):
            raise FrameError("forbidden", "playerId differs from the connection's player")
        message = Message(
            id=self.new_message_id(),
            destination_player_id=frame.destination_player_id,
            src_player_id=sender.player_id,
            text=frame.message,
            sent_at=self.clock(),
        )
        self._check_size(_acknowledge(message, frame.ack_id, duplicate=True))
        duplicate = None
        if frame.client_message_id is None:
            self.messages.put(message)
        else:
            duplicate = self._store_once(message, frame.client_message_id)
        stands = message if duplicate is None else duplicate
        self.note(
            "stored" if duplicate is None else "duplicate",
            player=sender.player_id,
            connection=sender.id,
            to=stands.destination_player_id,
            message=stands.id,
        )
        return _acknowledge(stands, frame.ack_id, duplicate is not None)

    def _check_size(self, ack: Ack) -> None:
        """Raise FrameError `too_large` unless the message fits into every frame that will carry it.

        The longest of these frames is the ack of a duplicate.
        """
        if len(ack.to_json().encode()) > self.max_message_bytes:
            raise FrameError(
                "too_large", f"a frame with its message must not exceed {self.max_message_bytes} bytes"
            )

    def _store_once(self, message: Message, client_message_id: str) -> Message | None:
        """Store the message, or return the message already stored with this `clientMessageId`.

        A send claims the `clientMessageId`, and then stores its message. If an earlier send claimed it but
        its message isn't stored, that send has crashed or is still running. So this send withdraws the
        earlier message, which then can't be stored later, and replaces the claim. Raises Unavailable.
        """
        sender = message.src_player_id
        send = Send(message.destination_player_id, message.id)
        first = self.sends.claim(sender, client_message_id, send)
        if first != send:
            stored = self.messages.withdraw(first)
            if stored is not None:
                return stored
            if not self.sends.replace(sender, client_message_id, first, send):
                raise Unavailable("another send replaced the claim of this clientMessageId")
        if not self.messages.put_unless_withdrawn(message):
            raise Unavailable("another send with this clientMessageId withdrew the message")
        return None


def _acknowledge(message: Message, ack_id: str | int | None, duplicate: bool) -> Ack:
    return Ack(
        message_id=message.id,
        message=message.text,
        src_player_id=message.src_player_id,
        destination_player_id=message.destination_player_id,
        sent_at=message.sent_at,
        duplicate=True if duplicate else None,
        ack_id=ack_id,
    )
