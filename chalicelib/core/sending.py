"""Stores messages to players and to rooms, each `clientMessageId` once."""

from collections.abc import Callable
from dataclasses import dataclass

from chalicelib.core.client_frames import SendMessage
from chalicelib.core.frames import acknowledge, frame_of
from chalicelib.core.model import Connection, Message, RoomMessage, Send, SentMessage, Unavailable
from chalicelib.core.permissions import may_join
from chalicelib.core.ports import IdempotencyStore, MessageStore, RoomStore, Telemetry
from chalicelib.core.protocol import LARGEST_FRAME_BYTES, FrameError
from chalicelib.core.rate_limit import RateLimited
from chalicelib.core.service_frames import Ack

LONGEST_PLAYER_ID = "x" * 128
"""Stands for the members when a message's size is checked: their frames differ in this id alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """Stores messages. `clock` returns milliseconds since the epoch."""

    messages: MessageStore
    rooms: RoomStore
    sends: IdempotencyStore
    new_message_id: Callable[[], str]
    clock: Callable[[], int]
    note: Telemetry
    max_message_bytes: int
    max_room_message_bytes: int

    def send(self, sender: Connection, frame: SendMessage) -> Ack:
        """Store the frame's message once. Return the ack. Raises FrameError and Unavailable."""
        if frame.player_id not in (None, sender.player_id):
            raise FrameError("forbidden", "playerId differs from the connection's player")
        message: SentMessage
        if frame.room_id is not None:
            message = self._room_message(sender, frame, frame.room_id)
            try:
                self._count(sender, frame.room_id)
            except FrameError:
                earlier = self._stored_earlier(sender, frame)
                if earlier is None:
                    raise
                return acknowledge(earlier, frame.ack_id, duplicate=True)
        else:
            message = self._message(sender, frame, frame.destination_player_id or "")
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
            message=stands.id,
            **_destination(stands),
        )
        return acknowledge(stands, frame.ack_id, duplicate is not None)

    def _message(self, sender: Connection, frame: SendMessage, destination_player_id: str) -> Message:
        message = Message(
            id=self.new_message_id(),
            destination_player_id=destination_player_id,
            src_player_id=sender.player_id,
            text=frame.message,
            sent_at=self.clock(),
        )
        longest_ack = acknowledge(message, frame.ack_id, duplicate=True)
        _check_size(longest_ack.to_json(), self.max_message_bytes)
        return message

    def _room_message(self, sender: Connection, frame: SendMessage, room_id: str) -> RoomMessage:
        message = RoomMessage(
            id=self.new_message_id(),
            room_id=room_id,
            src_player_id=sender.player_id,
            text=frame.message,
            sent_at=self.clock(),
        )
        longest_copy = message.copy_for(LONGEST_PLAYER_ID, message.id)
        _check_size(frame_of(longest_copy, replayed=True), self.max_room_message_bytes)
        longest_ack = acknowledge(message, frame.ack_id, duplicate=True)
        _check_size(longest_ack.to_json(), LARGEST_FRAME_BYTES)
        return message

    def _count(self, sender: Connection, room_id: str) -> None:
        """Count a message against the room's rate. Raises FrameError if the sender can't send to it now."""
        if may_join(sender, room_id) == "read":
            raise FrameError("forbidden", "this connection can only read the room")
        try:
            is_counted, room = self.rooms.count_message(room_id, sender.player_id)
        except RateLimited as over:
            raise FrameError("rate_limited", "over the room's rate limit", over.retry_after_ms) from None
        if not is_counted:
            if sender.player_id not in room.members:
                raise FrameError("not_a_member", "join the room first")
            raise FrameError("forbidden", "this player is muted in the room")

    def _stored_earlier(self, sender: Connection, frame: SendMessage) -> SentMessage | None:
        """Return the message that an earlier send with this `clientMessageId` has stored.

        If it isn't stored, withdraw it, so that the refusal of this send is final.
        """
        if frame.client_message_id is None:
            return None
        earlier = self.sends.find(sender.player_id, frame.client_message_id)
        return None if earlier is None else self.messages.withdraw(earlier)

    def _store_once(self, message: SentMessage, client_message_id: str) -> SentMessage | None:
        """Store the message, or return the message already stored with this `clientMessageId`.

        A send claims the `clientMessageId`, and then stores its message. If an earlier send claimed it but
        its message isn't stored, that send has crashed or is still running. So this send withdraws the
        earlier message, which then can't be stored later, and replaces the claim. Raises Unavailable.
        """
        sender = message.src_player_id
        send = Send(message.destination, message.id)
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


def _check_size(frame: str, limit: int) -> None:
    if len(frame.encode()) > limit:
        raise FrameError("too_large", f"a frame with its message must not exceed {limit} bytes")


def _destination(message: SentMessage) -> dict[str, str]:
    if isinstance(message, Message):
        return {"to": message.destination_player_id}
    return {"room": message.room_id}
