"""Posts a batch of stream records to the recipients' live connections, and copies rooms' messages.

A failing client or API Gateway never fails the batch, because every message is stored and can be replayed.
The batch fails, and Lambda redelivers it, only if DynamoDB can't return the players and rooms, can't save
that a player has missed a message, or can't store a copy of a room's message.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from chalicelib.core.delivery import Posts, Recipient
from chalicelib.core.fan_out import FanOut
from chalicelib.core.frames import frame_of
from chalicelib.core.model import Delivery, Entry, Message, PlayerEntry, Poke, RoomMessage
from chalicelib.core.ports import POST_SECONDS, Calls, ConnectionStore, Directory, Telemetry
from chalicelib.core.presence_events import PresenceEvents
from chalicelib.core.replay import Replays


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Pushes batches. `clock` returns milliseconds since the epoch, `monotonic` seconds.

    `run_per_player` and `run_per_connection` run calls concurrently, and return when all have ended. The
    former runs the rooms' calls too.
    """

    connections: ConnectionStore
    directory: Directory
    posts: Posts
    replays: Replays
    fan_out: FanOut
    presence_events: PresenceEvents
    run_per_player: Callable[[Calls], None]
    run_per_connection: Callable[[Calls], None]
    clock: Callable[[], int]
    monotonic: Callable[[], float]
    note: Telemetry

    def batch(self, entries: Iterable[Entry], time_left: Callable[[], float]) -> None:
        """Push one batch. Raises Unavailable if Lambda must redeliver it.

        A batch can be pushed again, in whole or in part, because clients drop duplicates. `time_left` returns
        the seconds left of the invocation.
        """
        by_player: dict[str, list[PlayerEntry]] = {}
        by_room: dict[str, list[RoomMessage]] = {}
        pokes: dict[str, list[Poke]] = {}
        for entry in entries:
            if isinstance(entry, RoomMessage):
                by_room.setdefault(entry.room_id, []).append(entry)
            elif isinstance(entry, Poke):
                pokes.setdefault(entry.room_id, []).append(entry)
            else:
                by_player.setdefault(entry.destination_player_id, []).append(entry)
        if not by_player and not by_room and not pokes:
            return
        asked = self.monotonic()
        players, rooms = self.directory.read(by_player.keys(), by_room.keys() | pokes.keys())
        look_up_ms = round(1000 * (self.monotonic() - asked), 2)
        pushes = [
            partial(self._push_to, Recipient.of(players[player_id], time_left, look_up_ms), theirs)
            for player_id, theirs in by_player.items()
        ]
        copies = [
            partial(self.fan_out.copy, rooms[room_id], messages, time_left)
            for room_id, messages in by_room.items()
        ]
        events = [
            partial(self.presence_events.tell, rooms[room_id], theirs, time_left)
            for room_id, theirs in pokes.items()
        ]
        self.run_per_player([*pushes, *copies, *events])

    def _push_to(self, recipient: Recipient, entries: list[PlayerEntry]) -> None:
        """Push one player's entries of a batch in order."""
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
        """Post to all live connections concurrently, and save the first message that reached none.

        Skips messages that are in the stream before a connection's start. A replay has already posted them,
        so posting them again from a redelivered batch would break the order.
        """
        if not messages:
            return
        starts = recipient.live.values()
        reached = {m.id for m in messages if any(m.stream_position <= start for start in starts)}
        recipient.is_failing = False
        started = self.monotonic()
        lanes = [
            partial(
                self._run_lane,
                recipient,
                connection_id,
                [m for m in messages if m.stream_position > start],
                reached,
                started,
            )
            for connection_id, start in recipient.live.items()
        ]
        late_lanes = self._late_lanes(recipient, messages, started)
        try:
            self.run_per_connection([*lanes, *late_lanes])
        finally:
            self._note_missed(recipient, [message.id for message in messages if message.id not in reached])

    def _late_lanes(
        self, recipient: Recipient, messages: list[Message], started: float
    ) -> list[Callable[[], None]]:
        """Return calls that post messages stored too late for a running replay, which has passed their ids.

        Also extends a replay to messages that are in the stream before its next marker but have greater ids.
        """
        newest = max(message.id for message in messages)
        lanes: list[Callable[[], None]] = []
        for connection_id, progress in recipient.progress.items():
            if newest > progress.until:
                recipient.progress[connection_id] = replace(progress, until=newest)
                self.connections.save_progress(recipient.id, connection_id, recipient.progress[connection_id])
            late = [message for message in messages if message.id <= progress.to]
            if late:
                lanes.append(partial(self._run_lane, recipient, connection_id, late, set(), started, True))
        return lanes

    def _run_lane(
        self,
        recipient: Recipient,
        connection_id: str,
        messages: list[Message],
        reached: set[str],
        started: float,
        replayed: bool = False,
    ) -> None:
        """Post to one connection in order until a post fails, and add the delivered ids to `reached`.

        Drops the connection without posting if another one of the player has just timed out.
        """
        if recipient.is_failing and self.monotonic() - started >= POST_SECONDS:
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
