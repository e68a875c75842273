"""The use cases of a room: a player joins it, leaves it, and asks who is there."""

from dataclasses import dataclass

from chalicelib.core.client_frames import Join, Leave, Members
from chalicelib.core.client_frames import Presence as AskPresence
from chalicelib.core.model import Connection, PlayerConnections, Room
from chalicelib.core.permissions import may_join, may_see
from chalicelib.core.ports import ConnectionStore, Directory, RoomStore, Telemetry
from chalicelib.core.presence import Presence, presence_of
from chalicelib.core.protocol import LARGEST_FRAME_BYTES, MAX_PRESENCE_MEMBERS, MAX_PRESENCE_ROOMS, FrameError
from chalicelib.core.service_frames import Joined, Left, PresenceFrame, RoomMembers


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """Handles what a player does with a room, except sending. Methods raise FrameError and Unavailable."""

    rooms: RoomStore
    connections: ConnectionStore
    directory: Directory
    presence: Presence
    note: Telemetry

    def join(self, connection: Connection, player: PlayerConnections, frame: Join) -> Joined:
        permission = may_join(connection, frame.room_id)
        if permission is None:
            raise FrameError("forbidden", "the connection's token doesn't permit this room")
        if frame.presence and len(player.presence_rooms | {frame.room_id}) > MAX_PRESENCE_ROOMS:
            raise _too_many_presence_rooms()
        is_muted = permission == "read"
        is_member, before = self.rooms.join(frame.room_id, connection.player_id, muted=is_muted)
        if not is_member and connection.player_id in before.banned:
            raise FrameError("forbidden", "this player is banned from the room")
        if not is_member:
            raise FrameError("room_full", f"the room has {len(before.members)} members, and no place left")
        self._tell_of(connection, player, before, frame)
        self._note("joined", connection, frame.room_id)
        members = len(before.members | {player.id})
        return Joined(room_id=frame.room_id, members=members, ack_id=frame.ack_id)

    def _tell_of(self, connection: Connection, player: PlayerConnections, before: Room, frame: Join) -> None:
        """Tell the room of the player if it asks for that or did before, but not of a repeated join."""
        is_told = frame.room_id in player.presence_rooms
        if frame.presence and not is_told:
            if not self.connections.add_presence_room(player.id, connection.id, frame.room_id):
                raise _too_many_presence_rooms()
        elif not is_told or player.id in before.members:
            return
        self.presence.poke(player.id, [frame.room_id])

    def leave(self, connection: Connection, player: PlayerConnections, frame: Leave) -> Left:
        self.rooms.leave(frame.room_id, connection.player_id)
        if frame.room_id in player.presence_rooms:
            self.connections.remove_presence_room(player.id, frame.room_id)
            self.presence.poke(player.id, [frame.room_id])
        self._note("left", connection, frame.room_id)
        return Left(room_id=frame.room_id, ack_id=frame.ack_id)

    def members(self, connection: Connection, frame: Members) -> RoomMembers:
        room = self.rooms.find(frame.room_id)
        if connection.player_id not in room.members:
            raise FrameError("not_a_member", "join the room first")
        reply = RoomMembers(
            room_id=room.id, members=sorted(room.members), online=self._online(room), ack_id=frame.ack_id
        )
        if len(reply.to_json().encode()) > LARGEST_FRAME_BYTES:
            raise FrameError("too_large", f"the members' ids don't fit into {LARGEST_FRAME_BYTES} bytes")
        self._note("room_members", connection, frame.room_id)
        return reply

    def _online(self, room: Room) -> dict[str, int] | None:
        """Return when the members that are online were last seen, or None if the room is too large.

        The read is consistent, so the reply is newer than every event that the client had when it asked.
        """
        if len(room.members) > MAX_PRESENCE_MEMBERS:
            return None
        players, _ = self.directory.read(sorted(room.members))
        return {each.id: each.last_seen_at or 0 for each in players.values() if each.live}

    def online(self, connection: Connection, frame: AskPresence) -> PresenceFrame:
        visible = [each for each in frame.player_ids if may_see(connection, each)]
        players, _ = self.directory.read(visible, consistent=False)
        self.note("presence", player=connection.player_id, connection=connection.id, players=len(players))
        return PresenceFrame(players=[presence_of(each) for each in players.values()], ack_id=frame.ack_id)

    def _note(self, outcome: str, connection: Connection, room_id: str) -> None:
        self.note(outcome, player=connection.player_id, connection=connection.id, room=room_id)


def _too_many_presence_rooms() -> FrameError:
    return FrameError(
        "forbidden", f"at most {MAX_PRESENCE_ROOMS} rooms can be told of a player's presence: leave one"
    )
