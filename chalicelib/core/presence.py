"""Makes connections live and removes them, and notices when that brings a player online or offline.

A player is online while it has a live connection. Presence is best effort: a crash can lose a poke.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from chalicelib.core.model import PlayerConnections, Poke, StreamPosition, Unavailable
from chalicelib.core.ports import ConnectionStore, MessageStore
from chalicelib.core.service_frames import PlayerPresence


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Pokes a player's rooms when its first connection goes live, and when its last one is removed."""

    connections: ConnectionStore
    messages: MessageStore
    new_message_id: Callable[[], str]

    def make_live(
        self, player_id: str, connection_id: str, start: StreamPosition, caught_up: str | None
    ) -> bool:
        """Return False if the connection isn't the player's. Raises Unavailable."""
        player = self.connections.make_live(player_id, connection_id, start, caught_up)
        if player is not None and player.live.keys() <= {connection_id}:
            self.poke(player_id, player.presence_rooms)
        return player is not None

    def remove(self, player_id: str, connection_id: str) -> None:
        """Remove the connection. Raises Unavailable."""
        self._went(self.connections.remove(player_id, connection_id), connection_id)

    def remove_by_id(self, connection_id: str) -> str | None:
        """Return the player's id, or None if the connection isn't registered. Raises Unavailable."""
        before = self.connections.remove_by_id(connection_id)
        if before is None:
            return None
        self._went(before, connection_id)
        return before.id

    def _went(self, before: PlayerConnections, connection_id: str) -> None:
        """Poke if the player has gone offline. A removal that boto3 repeats finds the connection gone."""
        was_connecting = connection_id in before.connections and connection_id not in before.live
        if not was_connecting and before.live.keys() <= {connection_id}:
            self.poke(before.id, before.presence_rooms)

    def poke(self, player_id: str, room_ids: Iterable[str]) -> None:
        """Make push tell the rooms whether the player is online and a member (best effort)."""
        pokes = [Poke(self.new_message_id(), room_id, player_id) for room_id in sorted(room_ids)]
        if pokes:
            with suppress(Unavailable):
                self.messages.put_pokes(pokes)


def presence_of(player: PlayerConnections, member: bool | None = None) -> PlayerPresence:
    return PlayerPresence(
        player_id=player.id, member=member, online=bool(player.live), last_seen_at=player.last_seen_at
    )
