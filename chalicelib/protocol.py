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

FRAME_BYTES = 128 * 1024
"""The largest frame that API Gateway takes for a connection, in bytes of UTF-8."""

CLIENT_DATA_PAIRS = 16
CLIENT_DATA_BYTES = 1024

POSITION = r"^(0|[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})$"
"""A `messageId`, or 0 for the beginning."""

RETRYABLE = {
    "invalid_json": False,
    "unknown_action": False,
    "invalid_frame": False,
    "forbidden": False,
    "too_large": False,
    "unknown_connection": True,
    "unavailable": True,
}
"""Every error code that a client can get, and whether sending the same again can help."""


class FrameError(Exception):
    """A frame that is not carried out. `detail` is shown to the client; it never holds message text."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


class InvalidQuery(Exception):
    """A handshake's query that cannot be taken. `detail` may be shown to the client."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def _player_id(value: object, validate: ValidatorFunctionWrapHandler) -> str:
    try:
        return str(validate(value))
    except ValidationError:
        raise PydanticCustomError(
            "player_id", "must be a string of 1 to 128 of A-Z a-z 0-9 . _ - @ | : +"
        ) from None


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


PlayerId = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9._@|:+-]{1,128}$"), WrapValidator(_player_id)
]
"""ASCII only, so that no two ids look alike by accident; without `#`, which separates keys in the tables."""

Position = Annotated[str, StringConstraints(pattern=POSITION), WrapValidator(_position)]

AckId = Annotated[
    Annotated[str, StringConstraints(min_length=1, max_length=64)] | int, WrapValidator(_ack_id)
]


class ClientFrame(BaseModel):
    """What every frame from a client may hold. `route_key` is accepted and ignored."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True, frozen=True)

    ack_id: AckId | None = None
    route_key: Any = None


class SendMessage(ClientFrame):
    action: Literal["sendmessage"]
    destination_player_id: PlayerId
    message: Annotated[str, StringConstraints(min_length=1)]
    player_id: PlayerId | None = None
    client_message_id: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None


class Sync(ClientFrame):
    action: Literal["sync"]
    after: Position | None = None


class Ping(ClientFrame):
    action: Literal["ping"]


Action = SendMessage | Sync | Ping
ACTIONS: dict[str, type[SendMessage] | type[Sync] | type[Ping]] = {
    "sendmessage": SendMessage,
    "sync": Sync,
    "ping": Ping,
}


class ServiceFrame(BaseModel):
    """What every frame to a client holds: a `type`."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, frozen=True)

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, exclude_none=True)


class MessageFrame(ServiceFrame):
    type: Literal["message"] = "message"
    message: str
    message_id: str
    src_player_id: str
    destination_player_id: str
    sent_at: int
    replayed: Literal[True] | None = None


class Ack(ServiceFrame):
    type: Literal["ack"] = "ack"
    status: Literal["Message sent!"] = "Message sent!"
    message_id: str
    message: str
    src_player_id: str
    destination_player_id: str
    sent_at: int
    duplicate: Literal[True] | None = None
    ack_id: str | int | None = None


class Connected(ServiceFrame):
    type: Literal["system"] = "system"
    event: Literal["connected"] = "connected"
    connection_id: str
    player_id: str
    message_id: str
    replayed: int


class Synced(ServiceFrame):
    type: Literal["system"] = "system"
    event: Literal["synced"] = "synced"
    message_id: str
    replayed: int
    more: bool


class Pong(ServiceFrame):
    type: Literal["pong"] = "pong"
    ack_id: str | int | None = None


class Error(ServiceFrame):
    type: Literal["error"] = "error"
    code: str
    detail: str
    retryable: bool
    ack_id: str | int | None = None

    @classmethod
    def of(cls, error: FrameError, ack_id: str | int | None = None) -> "Error":
        return cls(
            code=error.code,
            detail=error.detail,
            retryable=RETRYABLE[error.code],
            ack_id=ack_id,
        )


class ConnectQuery(BaseModel):
    """The query of the handshake: who connects, and what the client wants saved with its connection."""

    model_config = ConfigDict(strict=True, frozen=True)

    player_id: Annotated[PlayerId, Field(alias="playerId")]
    after: Position | None = None
    client_data: Mapping[str, str] = {}


RESERVED_PARAMETERS = frozenset({"playerId", "token", "after"})
"""Query parameters that mean something to the service and so are not saved as the client's own data."""


def parse_query(query: Mapping[str, str]) -> ConnectQuery:
    """Raises InvalidQuery when `playerId` or the client's own data cannot be taken."""
    own = {name: value for name, value in query.items() if name not in RESERVED_PARAMETERS}
    if "" in own:
        raise InvalidQuery("query parameters need a name")
    try:
        size = sum(len(f"{name}{value}".encode()) for name, value in own.items())
    except UnicodeEncodeError:
        raise InvalidQuery("query parameters must be UTF-8") from None
    if len(own) > CLIENT_DATA_PAIRS or size > CLIENT_DATA_BYTES:
        raise InvalidQuery(
            f"at most {CLIENT_DATA_PAIRS} further query parameters, {CLIENT_DATA_BYTES} bytes in all"
        )
    asked = {name: query[name] for name in ("playerId", "after") if name in query}
    try:
        return ConnectQuery.model_validate({**asked, "client_data": own})
    except ValidationError as invalid:
        raise InvalidQuery(_describe(invalid)) from None


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
    try:
        return model.model_validate(frame)
    except ValidationError as invalid:
        raise FrameError("invalid_frame", _describe(invalid)) from None


_ack_ids: TypeAdapter[str | int] = TypeAdapter(AckId, config=ConfigDict(strict=True))


def ack_id_of(frame: Mapping[str, Any]) -> str | int | None:
    """The frame's `ackId` if it has a valid one, so that an error about another key can still echo it."""
    try:
        return _ack_ids.validate_python(frame.get("ackId"))
    except ValidationError:
        return None


def _describe(invalid: ValidationError) -> str:
    """The first error, by key; unknown keys by name, so that a typing error is never silent."""
    error: ErrorDetails = invalid.errors(include_input=False, include_url=False)[0]
    key = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"{key[:64]}: unknown key"
    return f"{key}: {error['msg']}"


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("duplicate key")
    "".join(unique).encode()  # A lone surrogate, which \u can spell, could not be named in a reply.
    return unique


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
