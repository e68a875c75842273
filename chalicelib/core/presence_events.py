"""Tells a room's members which of its players are online, when pokes ask for it."""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from chalicelib.core.delivery import RESERVE_SECONDS, Posts, Recipient
from chalicelib.core.model import Delivery, PlayerConnections, Poke, Room, Unavailable
from chalicelib.core.ports import POST_SECONDS, Calls, ConnectionStore, Directory, Telemetry
from chalicelib.core.presence import presence_of
from chalicelib.core.protocol import MAX_PRESENCE_MEMBERS
from chalicelib.core.service_frames import PlayerPresence, PresenceFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceEvents:
    """Posts events of presence.

    `run_per_connection` runs calls concurrently, and returns when all have ended.
    """

    connections: ConnectionStore
    directory: Directory
    posts: Posts
    run_per_connection: Callable[[Calls], None]
    note: Telemetry

    def tell(self, room: Room, pokes: Collection[Poke], time_left: Callable[[], float]) -> None:
        """Post one frame about all poked players to the room's live connections. Best effort: never raises.

        Reads the players after the pokes were stored, so the last frame that a client gets is the newest. A
        poked player that isn't a member is only told about itself.
        """
        poked = {poke.player_id for poke in pokes}
        if len(room.members) > MAX_PRESENCE_MEMBERS:
            return
        try:
            players, _ = self.directory.read(room.members | poked)
        except Unavailable:
            self.note("presence_lost", room=room.id)
            return
        news = {each: presence_of(players[each], each in room.members) for each in sorted(poked)}
        posts = []
        for player in players.values():
            is_member = player.id in room.members
            text = _frame(room, list(news.values()) if is_member else [news[player.id]])
            recipient = Recipient.of(player, time_left, 0.0)
            posts += [partial(self._post, recipient, connection_id, text) for connection_id in player.live]
        self.run_per_connection(posts)
        if room.expires_at is None:
            self._stop_telling(room, [players[each] for each in poked])
        self.note("presence_told", room=room.id, players=len(poked))

    def _post(self, recipient: Recipient, connection_id: str, text: str) -> None:
        """Post once. Drop a connection that is gone, or that hangs and so would delay the shard each time."""
        if recipient.time_left() < RESERVE_SECONDS:
            return
        started = self.posts.monotonic()
        delivery = self.posts.gateway.post(recipient.endpoint, connection_id, text)
        hangs = delivery is Delivery.FAILED and self.posts.monotonic() - started >= POST_SECONDS / 2
        if hangs or delivery is Delivery.GONE:
            with suppress(Unavailable):
                self.posts.drop(recipient, connection_id, delivery)

    def _stop_telling(self, room: Room, poked: Collection[PlayerConnections]) -> None:
        """Stop telling a room that has expired, so that it costs the players nothing at their connects."""
        for player in poked:
            if room.id in player.presence_rooms:
                with suppress(Unavailable):
                    self.connections.remove_presence_room(player.id, room.id)


def _frame(room: Room, players: list[PlayerPresence]) -> str:
    return PresenceFrame(room_id=room.id, players=players).to_json()
