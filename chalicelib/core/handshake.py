"""Parses the handshake: query parameters, origin, and tokens from any of the three ways to send them.

docs/protocol.md explains the parameters.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chalicelib.core.parsing import describe
from chalicelib.core.protocol import Cursor, PlayerId

CLIENT_DATA_PAIRS = 16
CLIENT_DATA_BYTES = 1024

RESERVED_PARAMETERS = frozenset({"playerId", "token", "after"})
"""Query parameters that the service uses. All others are stored as the client's own data."""

BEARER_PROTOCOL = "bearer."
_SUBPROTOCOL = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

Multi = Mapping[str, Sequence[str]]
"""All values of each parameter or header, as in API Gateway's event."""


class HandshakeRejected(Exception):
    """Raised to refuse a handshake with this HTTP status. The client receives `detail`."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """A parsed handshake.

    `tokens` can hold several, which `Access` refuses. `subprotocol` is the one to accept, or None if the
    client offered none.
    """

    player_id: str | None
    after: str | None
    client_data: Mapping[str, str]
    tokens: tuple[str, ...]
    origin: str | None
    subprotocol: str | None


class ConnectQuery(BaseModel):
    """The query parameters that the service uses, except `token`."""

    model_config = ConfigDict(strict=True, frozen=True)

    player_id: Annotated[
        PlayerId | None,
        Field(
            alias="playerId",
            description="The player that connects. Required on an open stage; otherwise the token's player.",
        ),
    ] = None
    after: Annotated[
        Cursor | None,
        Field(description="Your position: newer messages are replayed. `0` replays all stored messages."),
    ] = None


def parse_handshake(query: Multi, headers: Multi) -> Handshake:
    """Return the parsed handshake. Raises HandshakeRejected with status 400."""
    parameters = _single(query)
    by_name: dict[str, list[str]] = {}
    for name, values in headers.items():
        by_name.setdefault(name.lower(), []).extend(values)
    subprotocols = _listed(by_name.get("sec-websocket-protocol", ()))
    asked = {name: parameters[name] for name in ("playerId", "after") if name in parameters}
    try:
        wanted = ConnectQuery.model_validate(asked)
    except ValidationError as invalid:
        raise HandshakeRejected(400, describe(invalid)) from None
    return Handshake(
        player_id=wanted.player_id,
        after=wanted.after,
        client_data=_client_data(parameters),
        tokens=_tokens(by_name.get("authorization", ()), subprotocols, parameters),
        origin=next(iter(by_name.get("origin", ())), None),
        subprotocol=_accepted(subprotocols),
    )


def _single(query: Multi) -> dict[str, str]:
    repeated = next((name for name, values in query.items() if len(values) != 1), None)
    if repeated is not None:
        known = repeated if repeated in RESERVED_PARAMETERS else "a query parameter"
        raise HandshakeRejected(400, f"{known}: sent more than once")
    return {name: values[0] for name, values in query.items()}


def _client_data(parameters: Mapping[str, str]) -> dict[str, str]:
    own = {name: value for name, value in parameters.items() if name not in RESERVED_PARAMETERS}
    if "" in own:
        raise HandshakeRejected(400, "query parameters need a name")
    try:
        size = sum(len(f"{name}{value}".encode()) for name, value in own.items())
    except UnicodeEncodeError:
        raise HandshakeRejected(400, "query parameters must be UTF-8") from None
    if len(own) > CLIENT_DATA_PAIRS or size > CLIENT_DATA_BYTES:
        raise HandshakeRejected(
            400,
            f"at most {CLIENT_DATA_PAIRS} further query parameters are allowed, "
            f"with {CLIENT_DATA_BYTES} bytes in total",
        )
    return own


def _listed(values: Iterable[str]) -> list[str]:
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def _tokens(
    authorization: Iterable[str], subprotocols: Iterable[str], parameters: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the tokens of the first source that has any: Authorization header, subprotocol, query.

    Authorization schemes other than Bearer are ignored.
    """
    schemes = [value.partition(" ") for value in authorization]
    bearers = [token.strip() for scheme, _, token in schemes if scheme.lower() == "bearer"]
    offered = [
        name.removeprefix(BEARER_PROTOCOL) for name in subprotocols if name.startswith(BEARER_PROTOCOL)
    ]
    asked = [parameters["token"]] if "token" in parameters else []
    return tuple(bearers or offered or asked)


def _accepted(subprotocols: Sequence[str]) -> str | None:
    """Return the first offered subprotocol that isn't a token. Raises HandshakeRejected if there is none.

    A browser closes the connection unless one of its subprotocols is accepted, and a token must not be
    echoed.
    """
    ordinary = [name for name in subprotocols if not name.startswith(BEARER_PROTOCOL)]
    if subprotocols and (not ordinary or not _SUBPROTOCOL.fullmatch(ordinary[0])):
        raise HandshakeRejected(400, f"offer a subprotocol other than {BEARER_PROTOCOL}<token> first")
    return ordinary[0] if ordinary else None
