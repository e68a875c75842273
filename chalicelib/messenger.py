"""What happens when a client connects, sends a frame, or disconnects."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from chalicelib.ports import (
    Connection,
    ConnectionStore,
    Endpoint,
    Gateway,
    Message,
    MessageStore,
    ReplayMarker,
    Telemetry,
    Unavailable,
)
from chalicelib.protocol import (
    FRAME_BYTES,
    Ack,
    Error,
    FrameError,
    InvalidQuery,
    Ping,
    Pong,
    SendMessage,
    ServiceFrame,
    ack_id_of,
    parse_frame,
    parse_object,
    parse_query,
)


class Refused(Exception):
    """The handshake is refused with this HTTP status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Messenger:
    """The use cases of a connection. `clock` gives milliseconds since the epoch."""

    connections: ConnectionStore
    messages: MessageStore
    gateway: Gateway
    new_message_id: Callable[[], str]
    clock: Callable[[], int]
    note: Telemetry

    def connect(self, connection_id: str, endpoint: Endpoint, query: Mapping[str, str]) -> None:
        """Register the connection and ask for it to go live; raises Refused and leaves nothing behind.

        Nothing can be posted to it before this has returned, so it is the stream that makes it live:
        the marker arrives there in order with the player's messages.
        """
        try:
            wanted = parse_query(query)
        except InvalidQuery as malformed:
            self.note("refused", connection=connection_id, status=400)
            raise Refused(400, malformed.detail) from None
        player_id = wanted.player_id
        connection = Connection(connection_id, player_id, endpoint, self.clock(), wanted.client_data)
        try:
            self.connections.register(connection)
            self.messages.put(ReplayMarker(self.new_message_id(), player_id, connection_id))
        except Unavailable:
            with suppress(Unavailable):
                self.connections.remove(player_id, connection_id)
            self.note("refused", player=player_id, connection=connection_id, status=503)
            raise Refused(503, "try again") from None
        self.note("connected", player=player_id, connection=connection_id)

    def receive(self, connection_id: str, endpoint: Endpoint, body: str) -> None:
        """Carry out one frame and answer it with one frame, whatever it holds."""
        ack_id = None
        try:
            keys = parse_object(body)
            ack_id = ack_id_of(keys)
            reply = self._carry_out(connection_id, parse_frame(keys))
        except FrameError as refused:
            self.note("refused", connection=connection_id, code=refused.code)
            reply = Error.of(refused, ack_id)
        except Unavailable:
            self.note("refused", connection=connection_id, code="unavailable")
            reply = Error.of(FrameError("unavailable", "not confirmed; send it again"), ack_id)
        self.gateway.post(endpoint, connection_id, reply.to_json())
        if isinstance(reply, Error) and reply.code == "unknown_connection":
            self.gateway.close(endpoint, connection_id)

    def disconnect(self, connection_id: str) -> None:
        """Forget exactly this connection. A late or repeated call touches no other."""
        try:
            player_id = self.connections.remove_by_id(connection_id)
        except Unavailable:
            self.note("disconnect_failed", connection=connection_id)
            return
        if player_id is not None:
            self.note("disconnected", player=player_id, connection=connection_id)

    def _carry_out(self, connection_id: str, frame: SendMessage | Ping) -> ServiceFrame:
        connection = self.connections.find(connection_id)
        if connection is None or not self.connections.admit(connection.player_id, connection_id):
            raise FrameError("unknown_connection", "this connection is not known; connect again")
        if isinstance(frame, Ping):
            self.note("pinged", player=connection.player_id, connection=connection_id)
            return Pong(ack_id=frame.ack_id)
        return self._send(connection, frame)

    def _send(self, sender: Connection, frame: SendMessage) -> Ack:
        if frame.player_id not in (None, sender.player_id):
            raise FrameError("forbidden", "playerId is not this connection's player")
        message = Message(
            self.new_message_id(),
            frame.destination_player_id,
            sender.player_id,
            frame.message,
            self.clock(),
        )
        ack = _acknowledge(message, frame.ack_id)
        self.messages.put(message)
        self.note(
            "stored",
            player=sender.player_id,
            connection=sender.id,
            to=message.destination_player_id,
            message=message.id,
        )
        return ack


def _acknowledge(message: Message, ack_id: str | int | None) -> Ack:
    """The ack, if it can be posted: it is the longest frame that the message will ever travel in."""
    ack = Ack(
        message_id=message.id,
        message=message.text,
        src_player_id=message.src_player_id,
        destination_player_id=message.destination_player_id,
        sent_at=message.sent_at,
        ack_id=ack_id,
    )
    if len(ack.to_json().encode()) > FRAME_BYTES:
        raise FrameError("too_large", f"a message and its envelope may take {FRAME_BYTES} bytes")
    return ack
