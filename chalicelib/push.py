"""What happens when messages come down the stream: each is posted to the recipient's live connections.

The Messages table is the truth and a push only saves the client from asking, so nothing that happens to
one recipient ever fails the batch. Only when the players cannot be read at all does the batch come again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from chalicelib.ports import (
    ConnectionStore,
    Delivery,
    Endpoint,
    Entry,
    Gateway,
    Message,
    Player,
    ReplayMarker,
    Telemetry,
    Unavailable,
)
from chalicelib.protocol import Connected, MessageFrame

NOT_YET_CONNECTED_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between attempts to greet a connection whose `$connect` may not have returned yet.

They add up to less than the two seconds by which one recipient may delay the others.
"""


@dataclass(frozen=True, slots=True)
class Lane:
    """What one connection is to get of a batch, in order."""

    player_id: str
    connection_id: str
    endpoint: Endpoint
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Push:
    """`side_by_side` runs the calls at the same time and returns when all of them have."""

    connections: ConnectionStore
    gateway: Gateway
    side_by_side: Callable[[Iterable[Callable[[], None]]], None]
    sleep: Callable[[float], None]
    note: Telemetry

    def batch(self, entries: Iterable[Entry]) -> None:
        """Push one batch of the stream. Raises Unavailable when it has to come again.

        May be repeated: clients drop messages that they have seen.
        """
        by_player: dict[str, list[Entry]] = {}
        for entry in entries:
            by_player.setdefault(entry.destination_player_id, []).append(entry)
        if not by_player:
            return
        players = self.connections.players(by_player.keys())
        lanes = [
            lane for player_id, theirs in by_player.items() for lane in lanes_of(players[player_id], theirs)
        ]
        self.side_by_side([partial(self._run, lane) for lane in lanes])

    def _run(self, lane: Lane) -> None:
        for entry in lane.entries:
            if isinstance(entry, ReplayMarker):
                carry_on = self._go_live(lane, entry)
            else:
                carry_on = self._deliver(lane, entry)
            if not carry_on:
                return

    def _go_live(self, lane: Lane, marker: ReplayMarker) -> bool:
        """Let the connection receive, and greet it. What the player missed will be replayed before that."""
        try:
            if not self.connections.make_live(lane.player_id, lane.connection_id):
                return False
        except Unavailable:
            self._drop(lane, Delivery.FAILED)
            return False
        greeting = Connected(
            connection_id=lane.connection_id,
            player_id=lane.player_id,
            message_id=marker.id,
            replayed=0,
        ).to_json()
        delivery = self._post(lane, greeting)
        for pause in NOT_YET_CONNECTED_PAUSES:
            if delivery is not Delivery.GONE:
                break
            self.sleep(pause)
            delivery = self._post(lane, greeting)
        if delivery is not Delivery.DELIVERED:
            self._drop(lane, delivery)
            return False
        self.note("live", player=lane.player_id, connection=lane.connection_id)
        return True

    def _deliver(self, lane: Lane, message: Message) -> bool:
        frame = MessageFrame(
            message=message.text,
            message_id=message.id,
            src_player_id=message.src_player_id,
            destination_player_id=message.destination_player_id,
            sent_at=message.sent_at,
        ).to_json()
        delivery = self._post(lane, frame)
        self.note(
            delivery.value,
            player=lane.player_id,
            connection=lane.connection_id,
            message=message.id,
        )
        if delivery is not Delivery.DELIVERED:
            self._drop(lane, delivery)
        return delivery is Delivery.DELIVERED

    def _post(self, lane: Lane, frame: str) -> Delivery:
        return self.gateway.post(lane.endpoint, lane.connection_id, frame)

    def _drop(self, lane: Lane, delivery: Delivery) -> None:
        """Forget the connection, and end it unless it is gone: first the one, then the other.

        A message that came through to it after one that did not would hide the hole from its client.
        """
        try:
            self.connections.remove(lane.player_id, lane.connection_id)
        except Unavailable:
            self.note("removal_failed", player=lane.player_id, connection=lane.connection_id)
        if delivery is not Delivery.GONE:
            self.gateway.close(lane.endpoint, lane.connection_id)
        self.note("removed", player=lane.player_id, connection=lane.connection_id)


def lanes_of(player: Player, entries: Iterable[Entry]) -> list[Lane]:
    """A lane for each connection that receives any of it: a live one all, another what follows its marker."""
    if player.endpoint is None:
        return []
    wanted: dict[str, list[Entry]] = {connection_id: [] for connection_id in sorted(player.live)}
    for entry in entries:
        if isinstance(entry, Message):
            for lane in wanted.values():
                lane.append(entry)
        else:
            wanted.setdefault(entry.connection_id, []).append(entry)
    return [
        Lane(player.id, connection_id, player.endpoint, tuple(lane))
        for connection_id, lane in wanted.items()
        if lane
    ]
