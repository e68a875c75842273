"""The wire protocol: its ids, limits and error codes. docs/protocol.md explains them."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

VERSION = "1.0.0"
"""The version of the protocol, and of the project."""

_UUID7 = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

LARGEST_FRAME_BYTES = 128 * 1024
"""API Gateway's limit for one WebSocket message."""

SIGNAL_BYTES = 4096
MAX_PLAYERS_PER_QUERY = 100
MAX_PRESENCE_ROOMS = 16
"""How many rooms can be told of one player's presence."""

MAX_PRESENCE_MEMBERS = 100
"""Rooms with more members get no signals and no presence events."""

ID_CHARACTERS = "A-Za-z0-9._@|:+!'/=-"
PLAYER_ID = f"^[{ID_CHARACTERS}]{{1,128}}$"
ROOM_ID = f"^[{ID_CHARACTERS}]{{1,64}}$"
ROOM_PATTERN = f"[{ID_CHARACTERS}]{{1,64}}\\*?|\\*"
"""A room id, or a prefix of room ids that ends with `*`."""

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
    try:
        size_bytes = len(data.encode())
    except UnicodeEncodeError:
        raise PydanticCustomError("signal_data", "must not contain a lone surrogate") from None
    if not 1 <= size_bytes <= SIGNAL_BYTES:
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

SignalData = Annotated[str, AfterValidator(_signal_data)]
RoomId = Annotated[str, StringConstraints(pattern=ROOM_ID), WrapValidator(_room_id)]

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

ONE_DESTINATION: dict[str, Any] = {
    "oneOf": [
        {"required": [name], "properties": {name: {"type": "string"}}}
        for name in ("destinationPlayerId", "roomId")
    ],
}
"""The JSON Schema of a frame with either key."""
