"""Tells a room's members which of its players are online, when pokes ask for it."""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from chalicelib.core.delivery import Posts, Recipient
from chalicelib.core.model import Delivery, Poke, Room, Unavailable
from chalicelib.core.ports import Calls, Directory, Telemetry
from chalicelib.core.presence import presence_of
from chalicelib.core.protocol import MAX_PRESENCE_MEMBERS
from chalicelib.core.service_frames import PresenceFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceEvents:
    """Tells a room's members which of the poked players are online.

    `run_per_connection` runs calls concurrently, and returns when all have ended.
    """

    directory: Directory
    posts: Posts
    run_per_connection: Callable[[Calls], None]
    note: Telemetry

    def tell(self, room: Room, pokes: Collection[Poke], time_left: Callable[[], float]) -> None:
        """Post one frame about all poked players to all live connections of members and poked players.

        Reads the players after the pokes were stored, so the last frame that a client gets is the newest.
        """
        if len(room.members) > MAX_PRESENCE_MEMBERS:
            return
        poked = {poke.player_id for poke in pokes}
        try:
            players, _ = self.directory.read(room.members | poked)
        except Unavailable:
            self.note("presence_lost", room=room.id)
            return
        frame = PresenceFrame(
            room_id=room.id,
            players=[presence_of(players[each], each in room.members) for each in sorted(poked)],
        ).to_json()
        recipients = [Recipient.of(player, time_left, 0.0) for player in players.values()]
        self.run_per_connection(
            [
                partial(self._post, recipient, connection_id, frame)
                for recipient in recipients
                for connection_id in recipient.live
            ]
        )
        self.note("presence_told", room=room.id, players=len(poked))

    def _post(self, recipient: Recipient, connection_id: str, frame: str) -> None:
        """Post to one connection. One that fails is dropped, as for a message: it would delay every event."""
        delivery = self.posts.post(recipient, connection_id, frame)
        if delivery is not Delivery.DELIVERED:
            with suppress(Unavailable):
                self.posts.drop(recipient, connection_id, delivery)
