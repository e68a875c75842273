"""Builds the frames that carry a message: to its recipient, and back to its sender."""

from chalicelib.core.model import Message, SentMessage
from chalicelib.core.service_frames import Ack, MessageFrame


def frame_of(message: Message, replayed: bool = False) -> str:
    """Return the message's frame. A room's message keeps the id that all its copies share."""
    return MessageFrame(
        message=message.text,
        message_id=message.room_message_id or message.id,
        position=message.id if message.room_message_id else None,
        room_id=message.room_id,
        src_player_id=message.src_player_id,
        destination_player_id=message.destination_player_id,
        sent_at=message.sent_at,
        replayed=True if replayed else None,
    ).to_json()


def acknowledge(message: SentMessage, ack_id: str | int | None, duplicate: bool) -> Ack:
    return Ack(
        message_id=message.id,
        message=message.text,
        src_player_id=message.src_player_id,
        destination_player_id=message.destination_player_id if isinstance(message, Message) else None,
        room_id=message.room_id,
        sent_at=message.sent_at,
        duplicate=True if duplicate else None,
        ack_id=ack_id,
    )
