"""The frames of the wire protocol: their keys and limits. docs/protocol.md explains them."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

VERSION = "1.0.0"
"""The version of the protocol, and of the project."""

_UUID7 = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

LARGEST_FRAME_BYTES = 128 * 1024
"""API Gateway's limit for one WebSocket message."""

ID_CHARACTERS = "A-Za-z0-9._@|:+!'/=-"
PLAYER_ID = f"^[{ID_CHARACTERS}]{{1,128}}$"
ROOM_ID = f"^[{ID_CHARACTERS}]{{1,64}}$"
SENDER = f"^(#[{ID_CHARACTERS}]{{1,64}}|[{ID_CHARACTERS}]{{1,128}})$"
"""A player id, or the name of a sender that writes to the tables itself. Such a name begins with `#`."""

ID_CHARACTERS_IN_WORDS = "A-Z a-z 0-9 . _ - @ | : + ! ' / ="
MESSAGE_ID = f"^{_UUID7}$"
CURSOR = f"^(0|{_UUID7})$"
"""A `messageId`, or 0 for all stored messages."""

ErrorCode = Literal[
    "invalid_json",
    "unknown_action",
    "invalid_frame",
    "forbidden",
    "too_large",
    "rate_limited",
    "unauthorized",
    "unknown_connection",
    "unavailable",
    "not_a_member",
    "room_full",
]

RETRYABLE: dict[ErrorCode, bool] = {
    "invalid_json": False,
    "unknown_action": False,
    "invalid_frame": False,
    "forbidden": False,
    "too_large": False,
    "rate_limited": True,
    "unauthorized": True,
    "unknown_connection": True,
    "unavailable": True,
    "not_a_member": False,
    "room_full": False,
}
"""All error codes, and whether a retry of the same frame can succeed."""

CLOSING_ERRORS: frozenset[ErrorCode] = frozenset({"unauthorized", "unknown_connection"})
"""The service closes a connection after an error with one of these codes, and its client must reconnect."""


class FrameError(Exception):
    """Raised to refuse a frame. The client receives `detail`, which never contains message text.

    `retry_after_ms`: when a retry would be accepted, if that is known.
    """

    def __init__(self, code: ErrorCode, detail: str, retry_after_ms: int | None = None) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.retry_after_ms = retry_after_ms


def _player_id(value: object, validate: ValidatorFunctionWrapHandler) -> str:
    try:
        return str(validate(value))
    except ValidationError:
        raise PydanticCustomError(
            "player_id", f"must be a string of 1 to 128 of {ID_CHARACTERS_IN_WORDS}"
        ) from None


def _room_id(value: object, validate: ValidatorFunctionWrapHandler) -> str:
    try:
        return str(validate(value))
    except ValidationError:
        raise PydanticCustomError(
            "room_id", f"must be a string of 1 to 64 of {ID_CHARACTERS_IN_WORDS}"
        ) from None


def _signal_data(data: str) -> str:
    if not 1 <= len(data.encode()) <= SIGNAL_BYTES:
        raise PydanticCustomError("signal_data", f"must have 1 to {SIGNAL_BYTES} bytes of UTF-8")
    return data


def _cursor(value: object, validate: ValidatorFunctionWrapHandler) -> str:
    try:
        return str(validate(value))
    except ValidationError:
        raise PydanticCustomError("position", "must be a messageId, or 0 for all stored messages") from None


def _ack_id(value: object, validate: ValidatorFunctionWrapHandler) -> str | int:
    try:
        ack_id: str | int = validate(value)
    except ValidationError:
        raise PydanticCustomError("ack_id", "must be a string of 1 to 64 characters or an integer") from None
    return ack_id


PlayerId = Annotated[str, StringConstraints(pattern=PLAYER_ID), WrapValidator(_player_id)]
"""ASCII only, so that different ids look different. Without `#`, the separator in the tables' keys."""

RoomId = Annotated[str, StringConstraints(pattern=ROOM_ID), WrapValidator(_room_id)]
RoomPattern = Annotated[str, StringConstraints(pattern=f"^[{ID_CHARACTERS}]{{0,64}}\\*?$")]
"""A room id, or a prefix of room ids that ends with `*`."""

Cursor = Annotated[str, StringConstraints(pattern=CURSOR), WrapValidator(_cursor)]

EchoedAckId = Annotated[str, StringConstraints(min_length=1, max_length=64)] | int
AckId = Annotated[EchoedAckId, WrapValidator(_ack_id)]
ACK_IDS: TypeAdapter[str | int] = TypeAdapter(AckId, config=ConfigDict(strict=True))

MessageId = Annotated[str, Field(json_schema_extra={"pattern": MESSAGE_ID})]
KnownPlayerId = Annotated[str, Field(json_schema_extra={"pattern": PLAYER_ID})]
KnownRoomId = Annotated[str, Field(json_schema_extra={"pattern": ROOM_ID})]
Sender = Annotated[
    str,
    Field(
        json_schema_extra={"pattern": SENDER},
        description="A player, or a program with access to the tables, whose name begins with `#`.",
    ),
]
"""The service sets these itself, so it doesn't validate them. The patterns are for docs/asyncapi.yaml."""


class ClientFrame(BaseModel):
    """The keys that every frame from a client can have."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True, frozen=True)

    ack_id: Annotated[AckId | None, Field(description="Echoed on the reply.")] = None
    route_key: Annotated[Any, Field(description="Accepted and ignored.")] = None


SIGNAL_BYTES = 4096
MAX_PLAYERS_PER_QUERY = 100
MAX_PRESENCE_ROOMS = 16
"""How many rooms can be told of one player's presence."""

MAX_PRESENCE_MEMBERS = 100
"""Rooms with more members get no signals and no presence events."""

ROOM_WITH_POSITION: dict[str, Any] = {
    "dependencies": {"roomId": ["position"], "position": ["roomId"]},
}
ONE_DESTINATION: dict[str, Any] = {
    "oneOf": [
        {"required": [name], "properties": {name: {"type": "string"}}}
        for name in ("destinationPlayerId", "roomId")
    ],
}


def require_one_destination(player_id: str | None, room_id: str | None) -> None:
    """Raise an error unless exactly one of them is given."""
    if player_id is None and room_id is None:
        raise PydanticCustomError("destination", "destinationPlayerId: Field required, or roomId")
    if player_id is not None and room_id is not None:
        raise PydanticCustomError("destination", "roomId: cannot be sent with destinationPlayerId")


class SendMessage(ClientFrame):
    """Store a message and push it to its recipient, or to the members of a room."""

    model_config = ConfigDict(json_schema_extra=ONE_DESTINATION)

    action: Literal["sendmessage"]
    destination_player_id: Annotated[PlayerId | None, Field(description="The recipient.")] = None
    room_id: Annotated[RoomId | None, Field(description="The room, instead of a recipient.")] = None
    message: Annotated[str, StringConstraints(min_length=1)]
    player_id: Annotated[
        PlayerId | None, Field(description="The sender. If given, it must be the connection's player.")
    ] = None
    client_message_id: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=64)] | None,
        Field(description="A unique id, such as a UUID. Retries with the same id store the message once."),
    ] = None

    @model_validator(mode="after")
    def _has_one_destination(self) -> "SendMessage":
        require_one_destination(self.destination_player_id, self.room_id)
        return self


class Sync(ClientFrame):
    """Request one page of messages after a position. It costs one second of the player's rate limit."""

    action: Literal["sync"]
    after: Annotated[Cursor | None, Field(description="A `messageId`, or `0` for all stored messages.")] = (
        None
    )


class Join(ClientFrame):
    """Become a member of a room. Can be repeated."""

    action: Literal["join"]
    room_id: RoomId
    presence: Annotated[
        bool | None,
        Field(description="True: tell the members when this player comes online or goes offline."),
    ] = None


class Leave(ClientFrame):
    """Stop being a member of a room. Can be repeated."""

    action: Literal["leave"]
    room_id: RoomId


class Members(ClientFrame):
    """Request a room's members. Only for members. It costs one second of the player's rate limit."""

    action: Literal["members"]
    room_id: RoomId


class Signal(ClientFrame):
    """Send data to the connections that a player or a room's members have now. It is not stored."""

    model_config = ConfigDict(json_schema_extra=ONE_DESTINATION)

    action: Literal["signal"]
    destination_player_id: Annotated[PlayerId | None, Field(description="The recipient.")] = None
    room_id: Annotated[RoomId | None, Field(description="The room, instead of a recipient.")] = None
    data: Annotated[str, AfterValidator(_signal_data), Field(description="1 to 4,096 bytes of UTF-8.")]

    @model_validator(mode="after")
    def _has_one_destination(self) -> "Signal":
        require_one_destination(self.destination_player_id, self.room_id)
        return self


class Presence(ClientFrame):
    """Ask which players are online. It costs one second of the player's rate limit."""

    action: Literal["presence"]
    player_ids: Annotated[list[PlayerId], Field(min_length=1, max_length=MAX_PLAYERS_PER_QUERY)]


class Ping(ClientFrame):
    """Check that the connection is alive."""

    action: Literal["ping"]


Action = SendMessage | Sync | Ping | Join | Leave | Members | Signal | Presence
ACTIONS: dict[str, type[Action]] = {
    "sendmessage": SendMessage,
    "sync": Sync,
    "ping": Ping,
    "join": Join,
    "leave": Leave,
    "members": Members,
    "signal": Signal,
    "presence": Presence,
}


class ServiceFrame(BaseModel):
    """A frame to a client. Each kind has its own `type`."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, frozen=True)

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, exclude_none=True)


SentAt = Annotated[int, Field(description="Milliseconds since the epoch, by the service's clock.")]
Replayed = Annotated[int, Field(description="How many messages were replayed before this frame.")]


class MessageFrame(ServiceFrame):
    """A message to this player, or to a room of which this player is a member."""

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
    """This player is no member of the room."""

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
