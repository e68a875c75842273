"""The world: the real use cases on tables, a stream and a gateway that fail in the ways AWS does.

`Faults` says how often they fail. All random draws come from one seed, so a schedule can be repeated.
"""

import json
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from chalicelib.aws.directory import DirectoryTable
from chalicelib.aws.messages import MessagesTable
from chalicelib.bootstrap import limits_of, stores_of
from chalicelib.core.access import Access
from chalicelib.core.handshake import HandshakeRejected
from chalicelib.core.message_id import MessageIds, timestamp_of
from chalicelib.core.model import (
    UNKNOWN_POSITION,
    Delivery,
    Endpoint,
    Entry,
    PlayerConnections,
    ReplayMarker,
    StreamPosition,
    Unavailable,
)
from chalicelib.core.ports import COPIES_PER_CALL, POST_SECONDS, Calls
from chalicelib.core.rate_limit import RateLimit
from chalicelib.core.service import Runtime, assemble
from chalicelib.settings import Settings
from tests.simulation.dynamodb import MESSAGES, WEBSOCKETS, Tables
from tests.simulation.memberships import Kind, Memberships, Request
from tests.simulation.presence_log import PresenceLog
from tests.simulation.schedule import Crash, Schedule

ENDPOINT = Endpoint("api", "dev")
SHARDS = 2
CONNECT_SECONDS, MESSAGE_SECONDS, PUSH_SECONDS = 29.0, 10.0, 30.0
RETENTION_SECONDS = (7 * 24 * 60 * 60, 60)
"""A week in most schedules. In the others, messages expire before some clients connect."""


@dataclass(slots=True)
class Faults:
    """The percentage of AWS calls that fail. `only` adds faults at chosen calls, by the calls' numbers.

    `mild`: the only faults are those of MILD, after which no event of presence is lost.
    """

    percent: float = 0.0
    only: dict[int, str] = field(default_factory=dict)
    mild: bool = False

    MILD = ("twice",)
    POST = ("before", "after", "refused", "hang", "hang after", "crash before", "crash after")


@dataclass(eq=False, slots=True)
class Socket:
    """A client's connection. `arriving` has the frames that were posted but not yet read by the client.

    `open` is the gateway's view: a socket that was `cut` stays open there for a while.
    """

    id: str
    player_id: str
    opened: bool = False
    open: bool = False
    cut: bool = False
    refused: bool = False
    greeted: bool = False
    connected_at: float = 0
    replayed_at: float = 0
    arriving: deque[dict[str, Any]] = field(default_factory=deque)
    posted_ids: set[str] = field(default_factory=set)
    newest_position: StreamPosition = UNKNOWN_POSITION


@dataclass(eq=False, slots=True)
class Shard:
    """A shard of the stream. Its mapping pushes one batch at a time; the next begins at index `position`.

    `stalled_until`: the mapping reads nothing before this time. `children`: what the shard was split into.
    They are read when all records of this one have been pushed.
    """

    records: list[Entry] = field(default_factory=list)
    position: int = 0
    busy: bool = False
    largest: int = 10
    stalled_until: float = 0.0
    parent: "Shard | None" = None
    children: "tuple[Shard, Shard] | None" = None

    @property
    def has_ended(self) -> bool:
        """Return whether a split has closed the shard, and all its records have been pushed."""
        is_read = self.children is not None and not self.busy and self.position == len(self.records)
        return is_read and (self.parent is None or self.parent.has_ended)


class World:
    """`copies_per_call` and `most_members` are limits of the rooms."""

    def __init__(
        self,
        seed: int,
        faults: Faults,
        copies_per_call: int = COPIES_PER_CALL,
        most_members: int = 250,
    ) -> None:
        self.random = Random(seed)
        self.faults = faults
        self.schedule = Schedule(self.random)
        self.calls = 0
        self.faulted: Counter[str] = Counter()
        self.sockets: dict[str, Socket] = {}
        self.shards = [Shard() for _ in range(SHARDS)]
        self.lost_markers: set[str] = set()
        self.needlessly_closed: list[str] = []
        self.out_of_order: list[str] = []
        self.expired: list[str] = []
        self.misplaced: list[str] = []
        self.memberships = Memberships(most_members)
        self.presence: PresenceLog | None = None
        self.backoff_seconds = 0.0
        self.copied: dict[str, float] = {}
        self._repeats = self.random.choice((0.0, 0.1, 0.4))
        self._nanoseconds = 0
        self._players: dict[str, tuple[object, PlayerConnections]] = {}
        self.retention_seconds = retention = self.random.choice(RETENTION_SECONDS[:1] * 3 + RETENTION_SECONDS)
        self.tables = Tables(self, slow_puts=self.random.choice((0.0, 0.4)))
        rate, most = RateLimit(1000, 10_000), 100
        if self.random.random() < 0.3:
            rate, most = RateLimit(2, 5), 3
        client, reliable, clock = self.tables.client, self.tables.reliable, self._milliseconds
        settings = replace(
            Settings.from_environment(
                {"WEBSOCKETS_TABLE": WEBSOCKETS, "MESSAGES_TABLE": MESSAGES, "AUTH_MODE": "open"}
            ),
            messages_per_second=rate.per_second,
            message_burst=rate.burst,
            connections_per_player=most,
            message_retention_seconds=retention,
            room_members=most_members,
        )
        self.stores = stores_of(client, settings, clock)
        self._directory = DirectoryTable(reliable, WEBSOCKETS)
        self.messages = MessagesTable(reliable, MESSAGES, retention, clock)
        self.new_message_id = MessageIds(self._time_ns)
        runtime = Runtime(
            new_message_id=self.new_message_id,
            clock=clock,
            monotonic=lambda: self.schedule.now,
            sleep=self.schedule.pause,
            jitter=self.random.random,
            run_per_player=self._run_shuffled,
            run_per_connection=self._run_shuffled,
            run_per_chunk=self._run_shuffled,
            note=self._note,
        )
        limits = replace(
            limits_of(settings),
            page_messages=self.random.choice((1, 2, 5)),
            copies_per_call=copies_per_call,
        )
        self.service = assemble(Access(is_open=True), self.stores, Posting(self), runtime, limits)

    # Clients' actions

    def connect(self, player_id: str, after: str | None) -> Socket:
        socket = Socket(f"c{len(self.sockets)}", player_id)
        self.sockets[socket.id] = socket
        query = {"playerId": [player_id]} | ({"after": [after]} if after is not None else {})

        def opened(error: BaseException | None) -> None:
            self._raise_bug(error)
            if error is None and not socket.cut:
                socket.opened = socket.open = True
                socket.connected_at = self.schedule.now
            else:
                socket.refused = True

        self.schedule.start(
            "connect",
            lambda: self._handshake(socket, query),
            CONNECT_SECONDS,
            opened,
        )
        return socket

    def _handshake(self, socket: Socket, query: dict[str, list[str]]) -> None:
        self.service.registration.connect(socket.id, ENDPOINT, query, {})

    def send(self, socket: Socket, frame: dict[str, Any]) -> None:
        body = json.dumps(frame)
        if socket.open and not socket.cut:
            self.schedule.start(
                "signal" if frame["action"] == "signal" else "message",
                lambda: self.service.messenger.receive(socket.id, ENDPOINT, body),
                MESSAGE_SECONDS,
                self._raise_bug,
            )

    def request_membership(self, kind: Kind, room_id: str, player_id: str) -> Request:
        """Record that somebody now requests to change the player's membership."""
        return self.memberships.request(kind, room_id, player_id, self.schedule.moment())

    def close(self, socket: Socket) -> None:
        """Close the socket, by either side. In most cases the gateway calls `$disconnect`, perhaps late."""
        if not socket.open:
            return
        socket.open = False
        if self.random.random() < 0.8:
            self.schedule.later(
                self.random.choice((0, 0.01, 1, 40)),
                lambda: self.schedule.start(
                    "disconnect",
                    lambda: self.service.registration.disconnect(socket.id),
                    CONNECT_SECONDS,
                    self._raise_bug,
                ),
            )

    def cut_off(self, socket: Socket) -> None:
        """Let the client vanish. Frames in flight are lost, and the gateway notices it later."""
        socket.cut = True
        socket.arriving.clear()
        self.schedule.later(self.random.choice((0, 0.5, 30)), lambda: self.close(socket))

    # The stream mapping

    def poll(self, shard: Shard) -> bool:
        """Push the shard's next records. Return False if it is busy, stalled, or has no records to push."""
        if shard.busy or shard.position >= len(shard.records) or self.schedule.now < shard.stalled_until:
            return False
        if shard.parent is not None and not shard.parent.has_ended:
            return False
        size = self.random.randint(1, shard.largest)
        batch = shard.records[shard.position : shard.position + size]
        shard.busy = True

        def finished(error: BaseException | None) -> None:
            self._raise_bug(error)
            shard.busy = False
            if error is not None:
                shard.largest = max(1, len(batch) // 2)
                if self.backoff_seconds and self.faults.percent and self.random.random() < 0.5:
                    self.stall(shard, self.backoff_seconds)
                return
            shard.largest = 10
            shard.position += len(batch)
            if self.faults.percent and self.random.random() < self._repeats:
                shard.position -= self.random.randint(0, min(shard.position, 3))

        self.schedule.start(
            "push",
            lambda: self.service.push.batch(batch, self.schedule.time_left),
            PUSH_SECONDS,
            finished,
        )
        return True

    def stall(self, shard: Shard, seconds: float) -> None:
        self.faulted["shard: stalled"] += 1
        shard.stalled_until = self.schedule.now + seconds

    def split(self, shard: Shard) -> None:
        """Close the shard, and distribute its partitions among two new ones."""
        if shard.children is None:
            self.faulted["shard: split"] += 1
            shard.children = Shard(parent=shard), Shard(parent=shard)
            self.shards += shard.children

    def end_stalls(self) -> None:
        for shard in self.shards:
            shard.stalled_until = 0.0

    def shard_of(self, destination: str) -> Shard:
        """Return the open shard of the destination's partition."""
        return self._lineage_of(destination)[-1]

    def _lineage_of(self, destination: str) -> list[Shard]:
        """Return the shards that have the partition's records, from the first one on."""
        number, bucket = divmod(sum(destination.encode()), SHARDS)
        shards = [self.shards[bucket]]
        while shards[-1].children is not None:
            number, side = divmod(number, 2)
            shards.append(shards[-1].children[side])
        return shards

    def not_pushed(self, destination: str) -> list[Entry]:
        """Return the records that the destination's shards have not pushed."""
        return [each for shard in self._lineage_of(destination) for each in shard.records[shard.position :]]

    def has_pending_work(self, socket: Socket) -> bool:
        """Return whether the shard is busy, or one of the socket's markers will be delivered.

        A connection whose marker was in a deleted table counts too. It can be greeted and never go live.
        Its pings reveal that after a minute.
        """
        markers = (each for each in self.not_pushed(socket.player_id) if isinstance(each, ReplayMarker))
        return (
            any(shard.busy for shard in self._lineage_of(socket.player_id))
            or socket.id in self.lost_markers
            or any(marker.connection_id == socket.id for marker in markers)
        )

    def must_be_registered(self, socket: Socket) -> bool:
        """Return whether the service must know the connection, because nothing has disturbed its replay."""
        if not self.faulted:
            return self.schedule.now - max(socket.connected_at, socket.replayed_at) < 30
        progress = self.player(socket.player_id).progress.get(socket.id)
        if progress is None or self.faults.percent:
            return False
        return 5 < self.schedule.now - timestamp_of(progress.turn) / 1000 < 30

    def recreate_messages_table(self) -> None:
        """Act as an operator who deletes the Messages table and creates it again, with a new mapping.

        The old table's messages are lost. So are its markers: connections that wait for one never go live.
        """
        self.faulted["table: recreated"] += 1
        self.lost_markers = {
            socket.id
            for socket in self.sockets.values()
            if socket.id not in self.player(socket.player_id).live
        }
        self.tables.recreate_messages()
        self.shards = [Shard() for _ in range(SHARDS)]

    # AWS

    def player(self, player_id: str) -> PlayerConnections:
        """Return the player's connections as they are in the table."""
        item = self.tables.websockets_item(f"player#{player_id}")
        known = self._players.get(player_id)
        if known is None or known[0] is not item:
            known = item, self._directory.read([player_id])[0][player_id]
            self._players[player_id] = known
        return known[1]

    def draw(self, name: str, kinds: tuple[str, ...]) -> str | None:
        self.calls += 1
        fault = self.faults.only.get(self.calls)
        if fault is None and self.faults.percent and self.random.random() * 100 < self.faults.percent:
            fault = self.random.choice(kinds)
            if self.faults.mild and fault not in Faults.MILD:
                return None
        if fault in kinds:
            self.faulted[f"{name}: {fault}"] += 1
            return fault
        return None

    def has_expired(self, message_id: str, seconds_ago: float = 0) -> bool:
        """Return whether a message with this id, put as late as possible, expired over `seconds_ago` ago."""
        age = self.schedule.now - timestamp_of(message_id) / 1000
        return age - MESSAGE_SECONDS - self.retention_seconds > seconds_ago

    def _run_shuffled(self, calls: Calls) -> None:
        several = list(calls)
        self.random.shuffle(several)
        first: Exception | None = None
        for call in several:
            try:
                call()
            except Exception as error:
                first = first or error
        if first is not None:
            raise first

    def _raise_bug(self, error: BaseException | None) -> None:
        """Raise the error unless it is a crash, a rejected handshake or an unavailable service."""
        if error is not None and not isinstance(error, (Crash, Unavailable, HandshakeRejected)):
            raise error

    def _note(self, outcome: str, /, **about: str | int | float) -> None:
        """Record when a room's message was first copied to all members."""
        if outcome == "fanned_out":
            self.copied.setdefault(str(about["message"]), self.schedule.moment())

    def _time_ns(self) -> int:
        self._nanoseconds += 1000
        return round(self.schedule.now * 1_000_000_000) + self._nanoseconds

    def _milliseconds(self) -> int:
        return round(self.schedule.now * 1000)


class Posting:
    """The management API. Posts to a socket that isn't open return GONE; others can have a fault."""

    def __init__(self, world: World) -> None:
        self._world = world

    def post(self, endpoint: Endpoint, connection_id: str, frame: str) -> Delivery:
        world = self._world
        world.schedule.pause()
        fault = world.draw("post", Faults.POST)
        if fault == "crash before":
            world.schedule.crash()
        if fault in ("before", "refused"):
            return Delivery.FAILED if fault == "before" else Delivery.REFUSED
        if fault == "hang":
            world.schedule.pause(POST_SECONDS)
            return Delivery.FAILED
        socket = world.sockets[connection_id]
        if not socket.open:
            return Delivery.GONE
        self._arrive(socket, json.loads(frame))
        world.schedule.pause(POST_SECONDS if fault == "hang after" else 0)
        if fault == "crash after":
            world.schedule.crash()
        return Delivery.FAILED if fault in ("after", "hang after") else Delivery.DELIVERED

    def close(self, endpoint: Endpoint, connection_id: str) -> None:
        world = self._world
        world.schedule.pause()
        if world.draw("close", ("before", "crash before")) is None:
            world.close(world.sockets[connection_id])

    def is_gone(self, endpoint: Endpoint, connection_id: str) -> bool:
        world = self._world
        world.schedule.pause()
        return world.draw("info", ("before",)) is None and not world.sockets[connection_id].open

    def _arrive(self, socket: Socket, frame: dict[str, Any]) -> None:
        if not socket.cut:
            socket.arriving.append(frame)
        if self._world.presence is not None:
            self._world.presence.check_post(socket.id, socket.player_id, frame)
        if frame["type"] == "message":
            self._check_order(socket, frame)
        if frame.get("event") == "connected":
            socket.greeted = True
        if frame["type"] == "message" and "replayed" in frame:
            self._check_age(socket, frame)
        if "replayed" in frame:
            socket.replayed_at = self._world.schedule.now
        if frame.get("code") == "unknown_connection" and self._world.must_be_registered(socket):
            self._world.needlessly_closed.append(socket.id)

    def _check_age(self, socket: Socket, frame: dict[str, Any]) -> None:
        """Record a violation if a replayed message expired long ago.

        One invocation reads a page and posts it, so a page's message was valid a short time ago. A message
        from the stream can have expired, because a redelivered batch can be old.
        """
        from_stream = any(each.id == position_of(frame) for each in self._world.not_pushed(socket.player_id))
        if self._world.has_expired(position_of(frame), PUSH_SECONDS) and not from_stream:
            self._world.expired.append(f"{frame['message']} replayed to {socket.id}")

    def _check_order(self, socket: Socket, frame: dict[str, Any]) -> None:
        """Record a violation if a new push was stored before an earlier push to the same connection."""
        message_id = frame["messageId"]
        if message_id not in socket.posted_ids and "replayed" not in frame:
            key = frame["destinationPlayerId"], position_of(frame)
            stored = self._world.tables.history.get(key)
            if stored is None:
                self._world.misplaced.append(f"{frame['message']} on {socket.id}")
                return
            position = stored.entry.stream_position
            is_of_a_deleted_table = position.stream < socket.newest_position.stream
            if position < socket.newest_position and not is_of_a_deleted_table:
                self._world.out_of_order.append(f"{frame['message']} on {socket.id}")
            socket.newest_position = max(socket.newest_position, position)
        socket.posted_ids.add(message_id)


def position_of(frame: dict[str, Any]) -> str:
    """Return the place of a frame among those of its player. Only copies of rooms' messages name it."""
    position: str = frame.get("position", frame["messageId"])
    return position
