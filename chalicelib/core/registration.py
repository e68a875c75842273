"""Registers connections at their `$connect`, and removes them at their `$disconnect`."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from chalicelib.core.access import Access
from chalicelib.core.handshake import HandshakeRejected, Multi, parse_handshake
from chalicelib.core.model import (
    Banned,
    Connection,
    Endpoint,
    PlayerConnections,
    ReplayMarker,
    TooManyConnections,
    Unavailable,
    has_expired,
)
from chalicelib.core.ports import ConnectionStore, Gateway, MessageStore, Telemetry
from chalicelib.core.presence import Presence
from chalicelib.core.rate_limit import RateLimited

HANDSHAKE_MS = 60_000
"""How long after its registration API Gateway can answer 410 for a connection whose `$connect` still runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """Registers and removes connections. `clock` returns milliseconds since the epoch."""

    access: Access
    connections: ConnectionStore
    presence: Presence
    messages: MessageStore
    gateway: Gateway
    new_message_id: Callable[[], str]
    clock: Callable[[], int]
    note: Telemetry

    def connect(self, connection_id: str, endpoint: Endpoint, query: Multi, headers: Multi) -> str | None:
        """Register the connection and store its marker. Returns the subprotocol to accept, if any.

        Raises HandshakeRejected after cleaning up. API Gateway opens the connection only after this returns,
        so `push_messages` makes it live, when the marker arrives in order with the player's messages.
        """
        try:
            handshake = parse_handshake(query, headers)
            identity = self.access.identify(handshake)
            connection = Connection(
                id=connection_id,
                player_id=identity.player_id,
                endpoint=endpoint,
                connected_at=self.clock(),
                client_data=handshake.client_data,
                expires_at=identity.expires_at,
                rooms=identity.rooms,
            )
            self._register(connection, handshake.after)
        except HandshakeRejected as refused:
            self.note("refused", connection=connection_id, code=str(refused.status), reason=refused.detail)
            raise
        except RateLimited as over:
            if over.in_a_row == 1:
                self.note("refused", connection=connection_id, code="429", reason="over the rate limit")
            raise HandshakeRejected(429, f"over the rate limit; retry in {over.retry_after_ms} ms") from None
        except Unavailable as unavailable:
            self.note("refused", connection=connection_id, code="429", reason=str(unavailable))
            raise HandshakeRejected(429, "temporarily unavailable; retry") from None
        self.note("connected", player=identity.player_id, connection=connection_id)
        return handshake.subprotocol

    def _register(self, connection: Connection, after: str | None) -> None:
        """Save the connection and its marker. Raises HandshakeRejected, RateLimited and Unavailable.

        Cleans up after a failure (best effort). The marker's id is made last, because replay measures from
        that time how long the connection has waited.
        """
        try:
            try:
                self.connections.register(connection, after is not None)
            except TooManyConnections as full:
                self._remove_gone(full.player)
                self.connections.register(connection, after is not None)
            marker_id = self.new_message_id()
            self.messages.put(ReplayMarker(marker_id, connection.player_id, connection.id, after=after))
        except Banned as banned:
            raise HandshakeRejected(403, f"this player is banned until {banned.until}") from None
        except TooManyConnections:
            raise HandshakeRejected(429, "this player has too many connections") from None
        except Unavailable:
            with suppress(Unavailable):
                self.presence.remove(connection.player_id, connection.id)
            raise

    def _remove_gone(self, player: PlayerConnections) -> None:
        """Remove the player's connections that are gone, and those whose token has expired."""
        for connection_id in sorted(player.connections):
            connection = self.connections.find(connection_id)
            expired = connection is not None and has_expired(connection, self.clock())
            if expired or self._is_gone(player, connection_id):
                self.presence.remove(player.id, connection_id)
                self.note("made_room", player=player.id, instead_of=connection_id)
            if expired and connection is not None:
                self.gateway.close(connection.endpoint, connection_id)

    def _is_gone(self, player: PlayerConnections, connection_id: str) -> bool:
        """Return whether API Gateway no longer has the connection.

        A new connection that was never live isn't checked, because its `$connect` might still be running.
        """
        is_young = player.registered_at.get(connection_id, 0) > self.clock() - HANDSHAKE_MS
        return (
            player.endpoint is not None
            and not (is_young and connection_id not in player.live)
            and self.gateway.is_gone(player.endpoint, connection_id)
        )

    def disconnect(self, connection_id: str) -> None:
        """Remove this connection and no other, even if API Gateway's event is late or repeated."""
        try:
            player_id = self.presence.remove_by_id(connection_id)
        except Unavailable:
            self.note("disconnect_failed", connection=connection_id)
            return
        if player_id is not None:
            self.note("disconnected", player=player_id, connection=connection_id)
