"""Posts signals: data that is not stored, and reaches the connections that are live now at most once."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from chalicelib.core.client_frames import Signal
from chalicelib.core.model import Connection, Delivery, PlayerConnections, Room, Unavailable
from chalicelib.core.permissions import may_join
from chalicelib.core.ports import Calls, Directory, Gateway, RoomStore, Telemetry
from chalicelib.core.presence import Presence
from chalicelib.core.protocol import MAX_PRESENCE_MEMBERS, FrameError
from chalicelib.core.rate_limit import RateLimit
from chalicelib.core.service_frames import SignalFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """Posts signals. `run_per_connection` runs calls concurrently, and returns when all have ended."""

    directory: Directory
    rooms: RoomStore
    gateway: Gateway
    presence: Presence
    rate: RateLimit
    run_per_connection: Callable[[Calls], None]
    note: Telemetry

    def cost_of(self, room: Room | None, size_bytes: int) -> int:
        if room is None:
            return self.rate.cost_of_frame(size_bytes)
        return self.rate.cost_of_room_signal(size_bytes, len(room.members))

    def room_of(self, frame: Signal) -> Room | None:
        """Return the room, or None for a signal to a player. Raises Unavailable.

        The read is eventually consistent: a signal promises no more.
        """
        return None if frame.room_id is None else self.rooms.find(frame.room_id, consistent=False)

    def send(self, connection: Connection, frame: Signal, room: Room | None) -> None:
        """Post the signal to all live connections but the sender's. Raises FrameError and Unavailable."""
        if room is not None:
            _check(connection, room)
        recipients = [frame.destination_player_id or ""] if room is None else room.members
        players, _ = self.directory.read(recipients, consistent=False)
        text = SignalFrame(
            data=frame.data, src_player_id=connection.player_id, room_id=frame.room_id
        ).to_json()
        posts = [
            partial(self._post, player, connection_id, text)
            for player in players.values()
            for connection_id in player.live
            if connection_id != connection.id
        ]
        self.run_per_connection(posts)
        self.note("signalled", player=connection.player_id, connection=connection.id, posts=len(posts))

    def _post(self, player: PlayerConnections, connection_id: str, text: str) -> None:
        if player.endpoint is None:
            return
        if self.gateway.post(player.endpoint, connection_id, text) is Delivery.GONE:
            with suppress(Unavailable):
                self.presence.remove(player.id, connection_id)


def _check(connection: Connection, room: Room) -> None:
    if connection.player_id not in room.members:
        raise FrameError("not_a_member", "join the room first")
    if connection.player_id in room.muted or may_join(connection, room.id) == "read":
        raise FrameError("forbidden", "this player cannot send to the room")
    if len(room.members) > MAX_PRESENCE_MEMBERS:
        raise FrameError("forbidden", f"signals are for rooms of at most {MAX_PRESENCE_MEMBERS} members")
