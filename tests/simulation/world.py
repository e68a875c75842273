"""The world: the real use cases over tables, a stream and a gateway that fail as AWS does.

`Faults` says how often. Everything is drawn from one seed, so a schedule can be repeated.
"""

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from chalicelib.core.access import Access
from chalicelib.core.delivery import Posts
from chalicelib.core.handshake import HandshakeRejected
from chalicelib.core.message_id import MessageIds
from chalicelib.core.messenger import Messenger
from chalicelib.core.model import (
    UNKNOWN_POSITION,
    Connection,
    Delivery,
    Endpoint,
    Entry,
    ReplayMarker,
    StreamPosition,
    TooManyConnections,
    Unavailable,
)
from chalicelib.core.ports import POST_SECONDS
from chalicelib.core.push import Calls, Push
from chalicelib.core.rate_limit import RateLimit, RateLimited
from chalicelib.core.replay import Replays
from chalicelib.settings import LARGEST_FRAME_BYTES
from tests.simulation.schedule import Crash, Schedule
from tests.support.fakes import InMemoryConnections, InMemoryIdempotency, InMemoryMessages

HERE = Endpoint("api", "dev")
SHARDS = 2
CONNECT_SECONDS, MESSAGE_SECONDS, PUSH_SECONDS = 29.0, 10.0, 30.0
SLOW_SECONDS = 5.0
LATE_SECONDS = 3.0
"""How long after its function was given up a write may still take effect."""

FIRST_SEQUENCE_NUMBER = 1_000_000


@dataclass(slots=True)
class Faults:
    """Of a hundred calls to AWS, how many fail; `only` narrows them to one call: (its number, its fault)."""

    percent: float = 0.0
    only: dict[int, str] = field(default_factory=dict)

    WRITE = ("before", "after", "late", "crash before", "crash after")
    READ = ("before", "crash before")
    POST = ("before", "after", "refused", "hang", "hang after", "crash before", "crash after")


@dataclass(eq=False, slots=True)
class Socket:
    """A client's connection. `arriving`: frames posted and not yet read by the client.

    `open` is what the gateway believes; a socket that was `cut` is believed open for a while.
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
    had: set[str] = field(default_factory=set)
    newest_position: StreamPosition = UNKNOWN_POSITION


@dataclass(eq=False, slots=True)
class Shard:
    """A shard of the stream and its mapping: one batch at a time, from `position`."""

    records: list[Entry] = field(default_factory=list)
    position: int = 0
    busy: bool = False
    largest: int = 10


class World:
    def __init__(self, seed: int, faults: Faults) -> None:
        self.random = Random(seed)
        self.faults = faults
        self.schedule = Schedule(self.random)
        self.calls = 0
        self.faulted: Counter[str] = Counter()
        self.sockets: dict[str, Socket] = {}
        self.shards = [Shard() for _ in range(SHARDS)]
        self.cut_short: set[str] = set()
        self.dropped_for_nothing: list[str] = []
        self.out_of_order: list[str] = []
        self._slow_puts = self.random.choice((0.0, 0.4))
        self._repeats = self.random.choice((0.0, 0.1, 0.4))
        self._nanoseconds = 0
        self.connections = RememberingConnections()
        self.connections.clock = self._milliseconds
        if self.random.random() < 0.3:
            self.connections.rate, self.connections.connections_per_player = RateLimit(2, 5), 3
        self.messages = StreamedMessages(self)
        self.sends = InMemoryIdempotency()
        self.new_message_id = new_message_id = MessageIds(self._time_ns)
        connections: Any = Aws(self, self.connections, reads=("find", "players"))
        messages: Any = Aws(self, self.messages, reads=("page",))
        sends: Any = Aws(self, self.sends, reads=())
        gateway = Posting(self)
        self.messenger = Messenger(
            access=Access(is_open=True),
            connections=connections,
            messages=messages,
            sends=sends,
            gateway=gateway,
            new_message_id=new_message_id,
            clock=self._milliseconds,
            note=self._note,
            max_message_bytes=LARGEST_FRAME_BYTES,
        )
        monotonic = lambda: self.schedule.now  # noqa: E731
        posts = Posts(
            gateway=gateway,
            connections=connections,
            monotonic=monotonic,
            sleep=self.schedule.pause,
            jitter=self.random.random,
            note=self._note,
        )
        replays = Replays(
            connections=connections,
            messages=messages,
            posts=posts,
            new_message_id=new_message_id,
            clock=self._milliseconds,
            note=self._note,
            page_size=self.random.choice((1, 2, 5)),
        )
        self.push = Push(
            connections=connections,
            posts=posts,
            replays=replays,
            run_per_player=self._in_any_order,
            run_per_connection=self._in_any_order,
            clock=self._milliseconds,
            monotonic=monotonic,
            note=self._note,
        )

    # What clients do

    def connect(self, player_id: str, after: str | None) -> Socket:
        socket = Socket(f"c{len(self.sockets)}", player_id)
        self.sockets[socket.id] = socket
        query = {"playerId": [player_id]} | ({"after": [after]} if after is not None else {})

        def opened(error: BaseException | None) -> None:
            self._expected(error)
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
        self.messenger.connect(socket.id, HERE, query, {})

    def send(self, socket: Socket, frame: dict[str, Any]) -> None:
        body = json.dumps(frame)
        if socket.open and not socket.cut:
            self.schedule.start(
                "message",
                lambda: self.messenger.receive(socket.id, HERE, body),
                MESSAGE_SECONDS,
                self._expected,
            )

    def close(self, socket: Socket) -> None:
        """Either side has closed: the gateway knows, and mostly tells `$disconnect`, sooner or later."""
        if not socket.open:
            return
        socket.open = False
        if self.random.random() < 0.8:
            self.schedule.later(
                self.random.choice((0, 0.01, 1, 40)),
                lambda: self.schedule.start(
                    "disconnect",
                    lambda: self.messenger.disconnect(socket.id),
                    CONNECT_SECONDS,
                    self._expected,
                ),
            )

    def cut_off(self, socket: Socket) -> None:
        """The client is gone without a word: what was on its way to it is lost; the gateway sees it late."""
        socket.cut = True
        socket.arriving.clear()
        self.schedule.later(self.random.choice((0, 0.5, 30)), lambda: self.close(socket))

    # The stream mapping

    def poll(self, shard: Shard) -> bool:
        """Give a shard's next records to the push function, unless it is at work."""
        if shard.busy or shard.position >= len(shard.records):
            return False
        size = self.random.randint(1, shard.largest)
        batch = shard.records[shard.position : shard.position + size]
        shard.busy = True

        def finished(error: BaseException | None) -> None:
            self._expected(error)
            shard.busy = False
            if error is not None:
                shard.largest = max(1, len(batch) // 2)
                return
            shard.largest = 10
            shard.position += len(batch)
            if self.faults.percent and self.random.random() < self._repeats:
                shard.position -= self.random.randint(0, min(shard.position, 3))

        self.schedule.start(
            "push",
            lambda: self.push.batch(batch, self.schedule.time_left),
            PUSH_SECONDS,
            finished,
        )
        return True

    def shard_of(self, player_id: str) -> Shard:
        return self.shards[sum(player_id.encode()) % SHARDS]

    def is_about_to_work_for(self, socket: Socket) -> bool:
        """Whether the shard is at work, or a batch with one of the connection's markers comes again.

        A connection whose marker was in a deleted table might be greeted and never go live. Its pings tell it
        so, after a minute.
        """
        shard = self.shard_of(socket.player_id)
        markers = (each for each in shard.records[shard.position :] if isinstance(each, ReplayMarker))
        return (
            shard.busy
            or socket.id in self.cut_short
            or any(marker.connection_id == socket.id for marker in markers)
        )

    def recreate_messages_table(self) -> None:
        """An operator deletes the Messages table and creates it again, and the mapping of the new stream.

        The old table's messages are lost. So are its markers: connections that wait for one never go live.
        """
        self.faulted["table: recreated"] += 1
        self.cut_short = {
            socket.id
            for socket in self.sockets.values()
            if socket.id not in self.connections.player(socket.player_id).live
        }
        self.messages.recreate()
        self.shards = [Shard() for _ in range(SHARDS)]

    # AWS

    def call(self, name: str, kinds: tuple[str, ...], effect: Callable[[], Any]) -> Any:
        """One call to AWS: others go on before it, it has its effect or its fault, others go on after it."""
        slow = name.startswith("put") and self.random.random() < self._slow_puts
        if slow:
            self.faulted[f"{name}: slow"] += 1
        self.schedule.pause(self.random.random() * SLOW_SECONDS if slow else 0)
        fault = self.draw(name, kinds)
        if fault == "before":
            raise Unavailable(name)
        if fault == "crash before":
            self.schedule.crash()
        if fault == "late":
            self.schedule.later(self.random.random() * LATE_SECONDS, lambda: _late(effect))
            raise Unavailable(name)
        result = effect()
        self.schedule.pause()
        if fault == "after":
            raise Unavailable(name)
        if fault == "crash after":
            self.schedule.crash()
        return result

    def draw(self, name: str, kinds: tuple[str, ...]) -> str | None:
        self.calls += 1
        fault = self.faults.only.get(self.calls)
        if fault is None and self.faults.percent and self.random.random() * 100 < self.faults.percent:
            fault = self.random.choice(kinds)
        if fault in kinds:
            self.faulted[f"{name}: {fault}"] += 1
            return fault
        return None

    def _in_any_order(self, calls: Calls) -> None:
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

    def _expected(self, error: BaseException | None) -> None:
        """Functions may crash, and ask for a batch again; whatever else they raise is a bug."""
        if error is not None and not isinstance(error, (Crash, Unavailable, HandshakeRejected)):
            raise error

    def _note(self, outcome: str, /, **about: str | int | float) -> None:
        pass

    def _time_ns(self) -> int:
        self._nanoseconds += 1000
        return round(self.schedule.now * 1_000_000_000) + self._nanoseconds

    def _milliseconds(self) -> int:
        return round(self.schedule.now * 1000)


def _late(effect: Callable[[], Any]) -> None:
    """Nobody is there any more to be told that the condition of a write was not met."""
    with suppress(RateLimited, TooManyConnections):
        effect()


class RememberingConnections(InMemoryConnections):
    """As in a warm Lambda: a connection that was found once is found for ever."""

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[str, Connection] = {}

    def find(self, connection_id: str) -> Connection | None:
        found = self._found.get(connection_id) or super().find(connection_id)
        if found is not None:
            self._found[connection_id] = found
        return found


class StreamedMessages(InMemoryMessages):
    """Every new item is a record of the stream, at the next position.

    `history` has every item ever stored, also those of a table that was deleted, in the order of the puts.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._table = 1
        self._sequence_number = FIRST_SEQUENCE_NUMBER
        self.history: dict[str, Entry] = {}

    def put(self, entry: Entry) -> None:
        before = len(self.stored)
        super().put(entry)
        if len(self.stored) > before:
            self._sequence_number += 1
            position = StreamPosition(f"stream {self._table}", self._sequence_number)
            placed = replace(entry, stream_position=position)
            self.history[entry.id] = placed
            self._world.shard_of(entry.destination_player_id).records.append(placed)

    def recreate(self) -> None:
        """Delete the table and create it again. The sequence numbers of its stream start lower."""
        self._table += 1
        self._sequence_number = FIRST_SEQUENCE_NUMBER // self._table
        self.stored, self.withdrawn = [], set()


class Aws:
    """A store whose every call may fail, and lets others go on before and after it."""

    def __init__(self, world: World, store: object, reads: Iterable[str]) -> None:
        self._world = world
        self._store = store
        self._reads = frozenset(reads)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)
        kinds = Faults.READ if name in self._reads else Faults.WRITE

        def call(*args: Any) -> Any:
            return self._world.call(name, kinds, lambda: method(*args))

        setattr(self, name, call)
        return call


class Posting:
    """The management API: 410 for what is not open, or not yet, and every other answer by fault."""

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
        if frame["type"] == "message":
            self._check_order(socket, frame)
        if frame.get("event") == "connected":
            socket.greeted = True
        if "replayed" in frame:
            socket.replayed_at = self._world.schedule.now
        age = self._world.schedule.now - max(socket.connected_at, socket.replayed_at)
        if frame.get("code") == "unknown_connection" and age < 30 and not self._world.faulted:
            self._world.dropped_for_nothing.append(socket.id)

    def _check_order(self, socket: Socket, frame: dict[str, Any]) -> None:
        """What is pushed to a connection and new to it was stored after all that was pushed to it before."""
        message_id = frame["messageId"]
        if message_id not in socket.had and "replayed" not in frame:
            position = self._world.messages.history[message_id].stream_position
            is_of_a_deleted_table = position.stream < socket.newest_position.stream
            if position < socket.newest_position and not is_of_a_deleted_table:
                self._world.out_of_order.append(f"{frame['message']} on {socket.id}")
            socket.newest_position = max(socket.newest_position, position)
        socket.had.add(message_id)
