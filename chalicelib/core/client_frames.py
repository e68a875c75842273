"""The frames from a client: their keys and limits."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from chalicelib.core.protocol import (
    MAX_PLAYERS_PER_QUERY,
    ONE_DESTINATION,
    AckId,
    Cursor,
    PlayerId,
    RoomId,
    SignalData,
)


class ClientFrame(BaseModel):
    """The keys that every frame from a client can have."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True, frozen=True)

    ack_id: Annotated[AckId | None, Field(description="Echoed on the reply.")] = None
    route_key: Annotated[Any, Field(description="Accepted and ignored.")] = None


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
    data: Annotated[SignalData, Field(description="1 to 4,096 bytes of UTF-8.")]

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
