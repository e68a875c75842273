"""What happens when messages come down the stream: each is posted to the recipient's live connections.

The Messages table is the truth and a push only saves the client from asking, so nothing that a gateway or
a client does ever fails the batch. It comes again only when DynamoDB would not say who is there, or would
not save who missed something.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from chalicelib.core.delivery import Posts, Recipient, frame_of
from chalicelib.core.ports import (
    POST_SECONDS,
    ConnectionStore,
    Delivery,
    Entry,
    Message,
    Telemetry,
)
from chalicelib.core.replay import Replays

Calls = Iterable[Callable[[], None]]


@dataclass(frozen=True, slots=True)
class Push:
    """`players_at_once` and `connections_at_once` run calls side by side and return when all have ended.

    `clock` is in milliseconds since the epoch, `monotonic` in seconds.
    """

    connections: ConnectionStore
    posts: Posts
    replays: Replays
    players_at_once: Callable[[Calls], None]
    connections_at_once: Callable[[Calls], None]
    clock: Callable[[], int]
    monotonic: Callable[[], float]
    note: Telemetry

    def batch(self, entries: Iterable[Entry], time_left: Callable[[], float]) -> None:
        """Push one batch of the stream. Raises Unavailable when it has to come again.

        May be repeated, whole or in parts: clients drop messages that they have seen.
        """
        by_player: dict[str, list[Entry]] = {}
        for entry in entries:
            by_player.setdefault(entry.destination_player_id, []).append(entry)
        if not by_player:
            return
        asked = self.monotonic()
        players = self.connections.players(by_player.keys())
        look_up_ms = round(1000 * (self.monotonic() - asked), 2)
        self.players_at_once(
            [
                partial(self._push_to, Recipient.of(players[player_id], time_left, look_up_ms), theirs)
                for player_id, theirs in by_player.items()
            ]
        )

    def _push_to(self, recipient: Recipient, entries: list[Entry]) -> None:
        """Everything of a batch for one player, in order."""
        messages: list[Message] = []
        for entry in entries:
            if isinstance(entry, Message):
                messages.append(entry)
            else:
                self._deliver(recipient, messages)
                messages = []
                self.replays.take_turn(recipient, entry)
        self._deliver(recipient, messages)

    def _deliver(self, recipient: Recipient, messages: list[Message]) -> None:
        """Post to all live connections side by side, and save the first message that reached none.

        A message before a connection's start has reached it by replay, or has reached another connection.
        A retried batch has it again, and posting it then would break the order.
        """
        if not messages:
            return
        starts = recipient.live.values()
        reached = {m.id for m in messages if any(m.stream_position <= start for start in starts)}
        recipient.is_failing = False
        begun = self.monotonic()
        lanes = [
            partial(
                self._run_lane,
                recipient,
                connection_id,
                [m for m in messages if m.stream_position > start],
                reached,
                begun,
            )
            for connection_id, start in recipient.live.items()
        ]
        late_lanes = self._late_lanes(recipient, messages, begun)
        try:
            self.connections_at_once([*lanes, *late_lanes])
        finally:
            self._note_missed(recipient, [message.id for message in messages if message.id not in reached])

    def _late_lanes(
        self, recipient: Recipient, messages: list[Message], begun: float
    ) -> list[Callable[[], None]]:
        """Post messages that were stored too late for a replay: it has already passed their ids.

        A message that was stored before the replay's next marker, with an id greater than that marker's,
        belongs to the marker's page.
        """
        newest = max(message.id for message in messages)
        lanes: list[Callable[[], None]] = []
        for connection_id, walk in recipient.walks.items():
            if newest > walk.until:
                recipient.walks[connection_id] = replace(walk, until=newest)
                self.connections.walk(recipient.id, connection_id, recipient.walks[connection_id])
            late = [message for message in messages if message.id <= walk.to]
            if late:
                lanes.append(partial(self._run_lane, recipient, connection_id, late, set(), begun, True))
        return lanes

    def _run_lane(
        self,
        recipient: Recipient,
        connection_id: str,
        messages: list[Message],
        reached: set[str],
        begun: float,
        replayed: bool = False,
    ) -> None:
        """Post to one connection, in order, until one post fails; add the ids to `reached` that came through.

        A player whose connections time out one after the other gets no more time than the first one took.
        """
        if recipient.is_failing and self.monotonic() - begun >= POST_SECONDS:
            self.posts.drop(recipient, connection_id, Delivery.FAILED, closes=False)
            return
        for message in messages:
            delivery = self.posts.post(recipient, connection_id, frame_of(message, replayed))
            if delivery is not Delivery.DELIVERED:
                self.posts.drop(recipient, connection_id, delivery, message=message.id)
                return
            reached.add(message.id)
            self.note(
                "delivered",
                player=recipient.id,
                connection=connection_id,
                message=message.id,
                look_up_ms=recipient.look_up_ms,
                push_latency_ms=self.clock() - message.sent_at,
            )

    def _note_missed(self, recipient: Recipient, missed: list[str]) -> None:
        if missed and recipient.missed_from is None:
            self.connections.note_missed(recipient.id, missed[0])
            recipient.missed_from = missed[0]
        for message_id in missed:
            self.note("missed", player=recipient.id, message=message_id)
