"""The frames of the wire protocol: their keys, their limits, and strict JSON.

docs/protocol.md says what the frames mean. Nothing here does I/O.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

VERSION = "1.0.0"
"""Of the protocol, and so of the project."""

_UUID7 = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

PLAYER_ID = r"^[A-Za-z0-9._@|:+!'/=-]{1,128}$"
PLAYER_ID_IN_WORDS = "1 to 128 of A-Z a-z 0-9 . _ - @ | : + ! ' / ="
MESSAGE_ID = f"^{_UUID7}$"
POSITION = f"^(0|{_UUID7})$"
"""A `messageId`, or 0 for the beginning."""

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
}
"""Every error code that a client can get, and whether sending the same again can help."""

UNKNOWN_KEYS_NAMED = 3

AFTER_WHICH_IT_IS_CLOSED: frozenset[ErrorCode] = frozenset({"unauthorized", "unknown_connection"})
"""Codes after which a connection is good for nothing: it is closed, so that its client connects anew."""


class FrameError(Exception):
    """A frame that is not carried out. `detail` is shown to the client; it never holds message text.

    `retry_after_ms`: when the same frame would be, if that is known.
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
        raise PydanticCustomError("player_id", f"must be a string of {PLAYER_ID_IN_WORDS}") from None


def _position(value: object, validate: ValidatorFunctionWrapHandler) -> str:
    try:
        return str(validate(value))
    except ValidationError:
        raise PydanticCustomError("position", "must be a messageId, or 0 for the beginning") from None


def _ack_id(value: object, validate: ValidatorFunctionWrapHandler) -> str | int:
    try:
        ack_id: str | int = validate(value)
    except ValidationError:
        raise PydanticCustomError("ack_id", "must be a string of 1 to 64 characters or an integer") from None
    return ack_id


PlayerId = Annotated[str, StringConstraints(pattern=PLAYER_ID), WrapValidator(_player_id)]
"""ASCII only, so that no two ids look alike by accident; without `#`, which separates keys in the tables."""

Position = Annotated[str, StringConstraints(pattern=POSITION), WrapValidator(_position)]

EchoedAckId = Annotated[str, StringConstraints(min_length=1, max_length=64)] | int
AckId = Annotated[EchoedAckId, WrapValidator(_ack_id)]

MessageId = Annotated[str, Field(json_schema_extra={"pattern": MESSAGE_ID})]
KnownPlayerId = Annotated[str, Field(json_schema_extra={"pattern": PLAYER_ID})]
"""These two are the service's own word: docs/asyncapi.yaml says their form, and no frame pays for a check."""


class ClientFrame(BaseModel):
    """What every frame from a client may hold. `route_key` is accepted and ignored."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True, frozen=True)

    ack_id: Annotated[AckId | None, Field(description="Echoed on the reply.")] = None
    route_key: Annotated[Any, Field(description="Accepted and ignored.")] = None


class SendMessage(ClientFrame):
    """Store a message and push it to its recipient."""

    action: Literal["sendmessage"]
    destination_player_id: Annotated[PlayerId, Field(description="Who shall receive it.")]
    message: Annotated[str, StringConstraints(min_length=1)]
    player_id: Annotated[
        PlayerId | None, Field(description="Who sends: if given, the connection's player.")
    ] = None
    client_message_id: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=64)] | None,
        Field(description="Unique for ever, such as a UUID: sent again with it, a message is stored once."),
    ] = None


class Sync(ClientFrame):
    """Ask for one page of what came since a position; it counts for a whole second of the player's rate."""

    action: Literal["sync"]
    after: Annotated[Position | None, Field(description="A `messageId`, or `0` for everything retained.")] = (
        None
    )


class Ping(ClientFrame):
    """Ask whether the connection is alive."""

    action: Literal["ping"]


Action = SendMessage | Sync | Ping
ACTIONS: dict[str, type[Action]] = {
    "sendmessage": SendMessage,
    "sync": Sync,
    "ping": Ping,
}


class ServiceFrame(BaseModel):
    """What every frame to a client holds: a `type`."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, frozen=True)

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, exclude_none=True)


SentAt = Annotated[int, Field(description="Milliseconds since the epoch, by the service's clock.")]
Replayed = Annotated[int, Field(description="How many messages were replayed before this frame.")]


class MessageFrame(ServiceFrame):
    """A message to this player."""

    type: Literal["message"] = "message"
    message: str
    message_id: MessageId
    src_player_id: KnownPlayerId
    destination_player_id: KnownPlayerId
    sent_at: SentAt
    replayed: Annotated[Literal[True] | None, Field(description="Of a message that was missed.")] = None


class Ack(ServiceFrame):
    """The message is stored."""

    type: Literal["ack"] = "ack"
    status: Literal["Message sent!"] = "Message sent!"
    message_id: Annotated[MessageId, Field(description="No position to come back with.")]
    message: str
    src_player_id: KnownPlayerId
    destination_player_id: KnownPlayerId
    sent_at: SentAt
    duplicate: Annotated[
        Literal[True] | None, Field(description="It was stored by an earlier send of its `clientMessageId`.")
    ] = None
    ack_id: EchoedAckId | None = None


class Connected(ServiceFrame):
    """What was missed has been replayed, and the connection receives from now on."""

    type: Literal["system"] = "system"
    event: Literal["connected"] = "connected"
    connection_id: str
    player_id: KnownPlayerId
    message_id: MessageId
    replayed: Replayed


class Synced(ServiceFrame):
    """The page that a `sync` asked for has been sent."""

    type: Literal["system"] = "system"
    event: Literal["synced"] = "synced"
    message_id: MessageId
    replayed: Replayed
    more: Annotated[bool, Field(description="Ask on, with `after` the newest `messageId` received.")]
    ack_id: EchoedAckId | None = None


class Pong(ServiceFrame):
    """The connection is alive."""

    type: Literal["pong"] = "pong"
    ack_id: EchoedAckId | None = None


class Error(ServiceFrame):
    """A frame was not carried out."""

    type: Literal["error"] = "error"
    code: ErrorCode
    detail: Annotated[str, Field(description="For people; it may be worded differently at any time.")]
    retryable: Annotated[bool, Field(description="Whether sending the same again can help.")]
    retry_after_ms: Annotated[
        int | None, Field(description="With `rate_limited`: when the same frame would be carried out.")
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


def parse_object(body: str) -> dict[str, Any]:
    """One JSON object, or FrameError `invalid_json`: NaN, Infinity and duplicate keys are no JSON here."""
    try:
        value = json.loads(body, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise FrameError("invalid_json", "a frame is one JSON object, without duplicate keys") from None
    if not isinstance(value, dict):
        raise FrameError("invalid_json", "a frame is one JSON object")
    return value


def parse_frame(frame: dict[str, Any]) -> Action:
    """Raises FrameError `unknown_action` or `invalid_frame`."""
    action = frame.get("action")
    model = ACTIONS.get(action) if isinstance(action, str) else None
    if model is None:
        raise FrameError("unknown_action", f"action must be one of: {', '.join(ACTIONS)}")
    known = {field.alias for field in model.model_fields.values()}
    if unknown := [key for key in frame if key not in known]:
        raise FrameError("invalid_frame", _name_unknown(unknown))
    try:
        return model.model_validate(frame)
    except ValidationError as invalid:
        raise FrameError("invalid_frame", describe(invalid)) from None


ACK_IDS: TypeAdapter[str | int] = TypeAdapter(AckId, config=ConfigDict(strict=True))


def read_ack_id(body: str) -> str | int | None:
    """Return the `ackId` of a frame that is refused, if it has a valid one.

    Nothing else of the frame is checked, so this is much cheaper than to parse the frame.
    """
    try:
        frame = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return ack_id_of(frame) if isinstance(frame, dict) else None


def ack_id_of(frame: Mapping[str, Any]) -> str | int | None:
    """The frame's `ackId` if it has a valid one, so that an error about another key can still echo it."""
    try:
        return ACK_IDS.validate_python(frame.get("ackId"))
    except ValidationError:
        return None


def describe(invalid: ValidationError) -> str:
    """The first error, by key."""
    error: ErrorDetails = invalid.errors(include_input=False, include_url=False)[0]
    return f"{error['loc'][0]}: {error['msg']}"


def _name_unknown(keys: list[str]) -> str:
    """Name the first of the unknown keys, so that a typing error is never silent."""
    named = ", ".join(key[:64] for key in keys[:UNKNOWN_KEYS_NAMED])
    if len(keys) == 1:
        return f"{named}: unknown key"
    more = len(keys) - UNKNOWN_KEYS_NAMED
    return f"{named} and {more} more: unknown keys" if more > 0 else f"{named}: unknown keys"


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("duplicate key")
    "".join(unique).encode()  # A lone surrogate, which \u can spell, could not be named in a reply.
    return unique


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
