"""The frames to a client. Each kind has its own `type`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from chalicelib.core.protocol import (
    ONE_DESTINATION,
    RETRYABLE,
    EchoedAckId,
    ErrorCode,
    FrameError,
    KnownPlayerId,
    KnownRoomId,
    MessageId,
    Sender,
)

ROOM_WITH_POSITION: dict[str, Any] = {
    "dependencies": {"roomId": ["position"], "position": ["roomId"]},
}


class ServiceFrame(BaseModel):
    """A frame to a client. Each kind has its own `type`."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, frozen=True)

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, exclude_none=True)


SentAt = Annotated[int, Field(description="Milliseconds since the epoch, by the service's clock.")]
Replayed = Annotated[int, Field(description="How many messages were replayed before this frame.")]


class MessageFrame(ServiceFrame):
    """A message to this player, or to a room that this player belongs to."""

    model_config = ConfigDict(json_schema_extra=ROOM_WITH_POSITION)

    type: Literal["message"] = "message"
    message: str
    message_id: MessageId
    position: Annotated[
        MessageId | None, Field(description="With a room's message: the position, instead of `messageId`.")
    ] = None
    room_id: KnownRoomId | None = None
    src_player_id: Sender
    destination_player_id: KnownPlayerId
    sent_at: SentAt
    replayed: Annotated[Literal[True] | None, Field(description="True if this is a replay.")] = None


class Ack(ServiceFrame):
    """The message is stored."""

    model_config = ConfigDict(json_schema_extra=ONE_DESTINATION)

    type: Literal["ack"] = "ack"
    status: Literal["Message sent!"] = "Message sent!"
    message_id: Annotated[MessageId, Field(description="The message's id. Not a position to reconnect with.")]
    message: str
    src_player_id: KnownPlayerId
    destination_player_id: KnownPlayerId | None = None
    room_id: KnownRoomId | None = None
    sent_at: SentAt
    duplicate: Annotated[
        Literal[True] | None,
        Field(description="True if an earlier send with this `clientMessageId` stored the message."),
    ] = None
    ack_id: EchoedAckId | None = None


class Connected(ServiceFrame):
    """The missed messages were replayed, and the connection is now live."""

    type: Literal["system"] = "system"
    event: Literal["connected"] = "connected"
    connection_id: str
    player_id: KnownPlayerId
    message_id: MessageId
    replayed: Replayed


class Synced(ServiceFrame):
    """The page that a `sync` requested has been sent."""

    type: Literal["system"] = "system"
    event: Literal["synced"] = "synced"
    message_id: MessageId
    replayed: Replayed
    more: Annotated[bool, Field(description="If true, send another `sync`, with your position as `after`.")]
    ack_id: EchoedAckId | None = None


class Joined(ServiceFrame):
    """This player is a member of the room."""

    type: Literal["joined"] = "joined"
    room_id: KnownRoomId
    members: Annotated[int, Field(description="How many members the room has.")]
    ack_id: EchoedAckId | None = None


class Left(ServiceFrame):
    """This player isn't a member of the room."""

    type: Literal["left"] = "left"
    room_id: KnownRoomId
    ack_id: EchoedAckId | None = None


class RoomMembers(ServiceFrame):
    """The members of a room, in alphabetical order."""

    type: Literal["members"] = "members"
    room_id: KnownRoomId
    members: list[KnownPlayerId]
    online: Annotated[
        dict[str, int] | None,
        Field(description="`lastSeenAt` of the members that are online. Omitted for more than 100 members."),
    ] = None
    ack_id: EchoedAckId | None = None


class SignalFrame(ServiceFrame):
    """Data from another connection. It is not stored, and not a position."""

    type: Literal["signal"] = "signal"
    data: str
    src_player_id: Sender
    room_id: KnownRoomId | None = None


class PlayerPresence(BaseModel):
    """Whether a player is online, which means that it has at least one live connection."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, frozen=True)

    player_id: KnownPlayerId
    member: Annotated[bool | None, Field(description="Whether the player is a member. With a room only.")] = (
        None
    )
    online: bool
    last_seen_at: Annotated[
        int | None, Field(description="When the player last sent a frame, in milliseconds since the epoch.")
    ] = None


class PresenceFrame(ServiceFrame):
    """The answer to `presence`, or, with `roomId`, news of a room's members."""

    type: Literal["presence"] = "presence"
    room_id: KnownRoomId | None = None
    players: list[PlayerPresence]
    ack_id: EchoedAckId | None = None


class Closing(ServiceFrame):
    """The backend is about to close the connection."""

    type: Literal["closing"] = "closing"
    reason: Literal["kicked", "banned"]
    until: Annotated[int | None, Field(description="When the ban ends, in milliseconds since the epoch.")] = (
        None
    )


class Pong(ServiceFrame):
    """The connection is alive."""

    type: Literal["pong"] = "pong"
    ack_id: EchoedAckId | None = None


class Error(ServiceFrame):
    """A frame was refused, or the service can't tell whether it took effect (`unavailable`)."""

    type: Literal["error"] = "error"
    code: ErrorCode
    detail: Annotated[str, Field(description="For people. The wording can change at any time.")]
    retryable: Annotated[bool, Field(description="Whether a retry of the same frame can succeed.")]
    retry_after_ms: Annotated[
        int | None, Field(description="With `rate_limited`: milliseconds until a retry would be accepted.")
    ] = None
    ack_id: EchoedAckId | None = None

    @classmethod
    def of(cls, error: FrameError, ack_id: str | int | None = None) -> "Error":
        return cls(
            code=error.code,
            detail=error.detail,
            retryable=RETRYABLE[error.code],
            retry_after_ms=error.retry_after_ms,
            ack_id=ack_id,
        )
