"""The use cases of a room: a player joins it, leaves it, and asks for its members."""

from dataclasses import dataclass

from chalicelib.core.model import Connection
from chalicelib.core.permissions import may_join
from chalicelib.core.ports import RoomStore, Telemetry
from chalicelib.core.protocol import (
    LARGEST_FRAME_BYTES,
    FrameError,
    Join,
    Joined,
    Leave,
    Left,
    Members,
    RoomMembers,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """Handles what a player does with a room, except sending. Methods raise FrameError and Unavailable."""

    rooms: RoomStore
    note: Telemetry

    def join(self, connection: Connection, frame: Join) -> Joined:
        if may_join(connection, frame.room_id) is None:
            raise FrameError("forbidden", "the connection's token doesn't permit this room")
        is_member, room = self.rooms.join(frame.room_id, connection.player_id)
        if not is_member and connection.player_id in room.banned:
            raise FrameError("forbidden", "this player is banned from the room")
        if not is_member:
            raise FrameError("room_full", f"the room has {len(room.members)} members, and no place left")
        self._note("joined", connection, frame.room_id)
        return Joined(room_id=frame.room_id, members=len(room.members), ack_id=frame.ack_id)

    def leave(self, connection: Connection, frame: Leave) -> Left:
        self.rooms.leave(frame.room_id, connection.player_id)
        self._note("left", connection, frame.room_id)
        return Left(room_id=frame.room_id, ack_id=frame.ack_id)

    def members(self, connection: Connection, frame: Members) -> RoomMembers:
        room = self.rooms.find(frame.room_id)
        if connection.player_id not in room.members:
            raise FrameError("not_a_member", "join the room first")
        reply = RoomMembers(room_id=room.id, members=sorted(room.members), ack_id=frame.ack_id)
        if len(reply.to_json().encode()) > LARGEST_FRAME_BYTES:
            raise FrameError("too_large", f"the members' ids don't fit into {LARGEST_FRAME_BYTES} bytes")
        self._note("room_members", connection, frame.room_id)
        return reply

    def _note(self, outcome: str, connection: Connection, room_id: str) -> None:
        self.note(outcome, player=connection.player_id, connection=connection.id, room=room_id)
