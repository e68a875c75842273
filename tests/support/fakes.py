"""In-memory stores and a gateway that keep the contracts of the ports. Tests can make them fail."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from chalicelib.core.model import (
    Banned,
    Connection,
    Delivery,
    Endpoint,
    Entry,
    Message,
    Page,
    PlayerConnections,
    Poke,
    ReplayProgress,
    Room,
    Send,
    SentMessage,
    StreamPosition,
    TooManyConnections,
    Unavailable,
)
from chalicelib.core.protocol import MAX_PRESENCE_ROOMS
from chalicelib.core.rate_limit import RateLimit, RateLimited

V = TypeVar("V")


@dataclass
class InMemoryConnections:
    """`failing` names the methods that raise Unavailable. `clock` returns milliseconds."""

    failing: set[str] = field(default_factory=set)
    registered: dict[str, Connection] = field(default_factory=dict)
    by_player: dict[str, PlayerConnections] = field(default_factory=dict)
    rate: RateLimit = field(default_factory=lambda: RateLimit(1000, 10_000))
    connections_per_player: int = 100
    clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    used: Counter[tuple[str, int]] = field(default_factory=Counter)
    refusals: Counter[tuple[str, int]] = field(default_factory=Counter)

    def register(self, connection: Connection, replays: bool = False) -> None:
        self._fail("register")
        player = self.player(connection.player_id)
        connections = player.connections | {connection.id}
        replays = replays or player.missed_from is not None
        cost = self.rate.cost_of_connect(replays, len(player.presence_rooms))
        if player.banned_until is not None and player.banned_until > self.clock():
            raise Banned(player.banned_until)
        self._check(player.id, player.id, cost)
        if len(connections) > self.connections_per_player:
            self._use(player.id, 1)
            raise TooManyConnections(player)
        self._use(player.id, cost)
        self.registered[connection.id] = connection
        self.by_player[player.id] = replace(
            player,
            endpoint=connection.endpoint,
            connections=connections,
            registered_at={**player.registered_at, connection.id: connection.connected_at},
            last_seen_at=self.clock(),
        )

    def find(self, connection_id: str) -> Connection | None:
        self._fail("find")
        return self.registered.get(connection_id)

    def check_rate(self, player_id: str, connection_id: str, cost: int) -> None:
        """The fake knows every use, as a process that has made all of them."""
        self._check(player_id, connection_id, cost)

    def admit(self, player_id: str, connection_id: str, cost: int) -> PlayerConnections | None:
        self._fail("admit")
        if self._count_own(player_id, connection_id, cost) is None:
            return None
        self.by_player[player_id] = replace(self.player(player_id), last_seen_at=self.clock())
        return self.player(player_id)

    def charge_replay(self, player_id: str, connection_id: str) -> None:
        self._fail("charge_replay")
        self._count_own(player_id, connection_id, self.rate.cost_of_replay)

    def make_live(
        self, player_id: str, connection_id: str, start: StreamPosition, caught_up: str | None = None
    ) -> PlayerConnections | None:
        self._fail("make_live")
        player = self.player(player_id)
        if connection_id not in player.connections:
            return None
        missed = None if player.missed_from == caught_up else player.missed_from
        live = {**player.live, connection_id: start}
        walks = _without(player.progress, connection_id)
        self.by_player[player_id] = replace(player, live=live, missed_from=missed, progress=walks)
        return self.by_player[player_id]

    def add_presence_room(self, player_id: str, connection_id: str, room_id: str) -> bool:
        self._fail("add_presence_room")
        player = self.player(player_id)
        rooms = player.presence_rooms | {room_id}
        if connection_id not in player.connections or len(rooms) > MAX_PRESENCE_ROOMS:
            return False
        self.by_player[player_id] = replace(player, presence_rooms=rooms)
        return True

    def remove_presence_room(self, player_id: str, room_id: str) -> None:
        self._fail("remove_presence_room")
        player = self.player(player_id)
        self.by_player[player_id] = replace(player, presence_rooms=player.presence_rooms - {room_id})

    def save_progress(self, player_id: str, connection_id: str, progress: ReplayProgress) -> None:
        self._fail("save_progress")
        player = self.player(player_id)
        if connection_id in player.connections:
            self.by_player[player_id] = replace(player, progress={**player.progress, connection_id: progress})

    def note_missed(self, player_id: str, message_id: str) -> None:
        self._fail("note_missed")
        player = self.player(player_id)
        self.by_player[player_id] = replace(player, missed_from=player.missed_from or message_id)

    def advance_missed(self, player_id: str, old: str, new: str) -> None:
        self._fail("advance_missed")
        player = self.player(player_id)
        if player.missed_from == old:
            self.by_player[player_id] = replace(player, missed_from=new)

    def remove(self, player_id: str, connection_id: str) -> PlayerConnections:
        self._fail("remove")
        player = self.player(player_id)
        self.by_player[player_id] = replace(
            player,
            connections=player.connections - {connection_id},
            live=_without(player.live, connection_id),
            registered_at=_without(player.registered_at, connection_id),
            progress=_without(player.progress, connection_id),
        )
        self.registered.pop(connection_id, None)
        return player

    def remove_by_id(self, connection_id: str) -> PlayerConnections | None:
        self._fail("remove_by_id")
        connection = self.registered.get(connection_id)
        if connection is None:
            return None
        return self.remove(connection.player_id, connection_id)

    def player(self, player_id: str) -> PlayerConnections:
        return self.by_player.get(player_id, PlayerConnections(player_id))

    def _count_own(self, player_id: str, connection_id: str, cost: int) -> PlayerConnections | None:
        player = self.player(player_id)
        if connection_id not in player.connections:
            return None
        self._check(player_id, connection_id, cost)
        self._use(player_id, cost)
        return player

    def _check(self, player_id: str, sender: str, cost: int) -> None:
        now = self.clock()
        window = self.rate.window_at(now)
        if self.used[player_id, window] + cost <= self.rate.burst:
            self.refusals.pop((sender, window), None)
            return
        self.refusals[sender, window] += 1
        raise RateLimited(window + self.rate.window_ms - now, self.refusals[sender, window])

    def _use(self, player_id: str, cost: int) -> None:
        self.used[player_id, self.rate.window_at(self.clock())] += cost

    def _fail(self, method: str) -> None:
        if method in self.failing:
            raise Unavailable(method)


@dataclass
class InMemoryRooms:
    """`failing` names the methods that raise Unavailable. `clock` returns milliseconds."""

    failing: set[str] = field(default_factory=set)
    by_id: dict[str, Room] = field(default_factory=dict)
    members_per_room: int = 250
    renewed: list[str] = field(default_factory=list)
    rate: RateLimit = field(default_factory=lambda: RateLimit(1000, 3000))
    clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    used: Counter[tuple[str, int]] = field(default_factory=Counter)

    def join(self, room_id: str, player_id: str, *, muted: bool = False) -> tuple[bool, Room]:
        self._fail("join")
        room = self.find(room_id)
        members = room.members | {player_id}
        if player_id in room.banned or len(members) > max(self.members_per_room, len(room.members)):
            return False, room
        unheard = room.muted | {player_id} if muted else room.muted
        self.by_id[room_id] = replace(room, members=members, muted=unheard)
        return True, room

    def leave(self, room_id: str, player_id: str) -> None:
        self._fail("leave")
        room = self.find(room_id)
        if player_id in room.members:
            self.by_id[room_id] = replace(room, members=room.members - {player_id})

    def count_message(self, room_id: str, player_id: str) -> tuple[bool, Room]:
        self._fail("count_message")
        room, now = self.find(room_id), self.clock()
        window = self.rate.window_at(now)
        if self.used[room_id, window] + 1 > self.rate.burst:
            raise RateLimited(window + self.rate.window_ms - now, 1)
        if player_id not in room.members or player_id in room.muted:
            return False, room
        self.used[room_id, window] += 1
        return True, room

    def renew(self, room_id: str) -> None:
        self._fail("renew")
        self.renewed.append(room_id)

    def find(self, room_id: str, *, consistent: bool = True) -> Room:
        self._fail("find")
        return self.by_id.get(room_id, Room(room_id))

    def _fail(self, method: str) -> None:
        if method in self.failing:
            raise Unavailable(method)


@dataclass
class InMemoryDirectory:
    connections: InMemoryConnections
    rooms: InMemoryRooms
    failing: bool = False
    was_consistent: bool | None = None
    """Whether the last read was."""

    def read(
        self, player_ids: Collection[str], room_ids: Collection[str] = (), *, consistent: bool = True
    ) -> tuple[dict[str, PlayerConnections], dict[str, Room]]:
        if self.failing:
            raise Unavailable("read")
        self.was_consistent = consistent
        players = {player_id: self.connections.player(player_id) for player_id in player_ids}
        return players, {room_id: self.rooms.find(room_id) for room_id in room_ids}


@dataclass
class InMemoryMessages:
    """`stored` is in the order of the stream. `failing` names the methods that raise Unavailable.

    `unprocessed`: how many copies of each successive call are not stored.
    """

    failing: set[str] = field(default_factory=set)
    stored: list[Entry] = field(default_factory=list)
    withdrawn: set[Send] = field(default_factory=set)
    unprocessed: list[int] = field(default_factory=list)

    def put(self, entry: Entry) -> None:
        self._fail("put")
        if entry not in self.stored:
            self.stored.append(entry)

    def put_copies(self, copies: Sequence[Message]) -> list[Message]:
        self._fail("put_copies")
        unprocessed = self.unprocessed.pop(0) if self.unprocessed else 0
        for copy in copies[unprocessed:]:
            self.put(copy)
        return list(copies[:unprocessed])

    def put_pokes(self, pokes: Sequence[Poke]) -> None:
        self._fail("put_pokes")
        self.stored += pokes

    def put_unless_withdrawn(self, message: SentMessage) -> bool:
        self._fail("put_unless_withdrawn")
        if Send(message.destination, message.id) in self.withdrawn:
            return False
        self.put(message)
        return True

    def withdraw(self, send: Send) -> SentMessage | None:
        self._fail("withdraw")
        for message in self.stored:
            if isinstance(message, SentMessage) and send == Send(message.destination, message.id):
                return message
        self.withdrawn.add(send)
        return None

    def page(self, player_id: str, after: str, until: str | None, limit: int) -> Page:
        self._fail("page")
        theirs = sorted(
            (
                entry
                for entry in self.stored
                if isinstance(entry, Message)
                and entry.destination_player_id == player_id
                and after < entry.id <= (until or "~")
            ),
            key=lambda message: message.id,
        )
        if len(theirs) <= limit:
            return Page(tuple(theirs), more=False, end=until or "~")
        return Page(tuple(theirs[:limit]), more=True, end=theirs[limit - 1].id)

    def _fail(self, method: str) -> None:
        if method in self.failing:
            raise Unavailable(method)


@dataclass
class InMemoryIdempotency:
    failing: set[str] = field(default_factory=set)
    claims: dict[tuple[str, str], Send] = field(default_factory=dict)

    def find(self, player_id: str, client_message_id: str) -> Send | None:
        self._fail("find")
        return self.claims.get((player_id, client_message_id))

    def claim(self, player_id: str, client_message_id: str, send: Send) -> Send:
        self._fail("claim")
        return self.claims.setdefault((player_id, client_message_id), send)

    def replace(self, player_id: str, client_message_id: str, old: Send, new: Send) -> bool:
        self._fail("replace")
        if self.claims[player_id, client_message_id] not in (old, new):
            return False
        self.claims[player_id, client_message_id] = new
        return True

    def _fail(self, method: str) -> None:
        if method in self.failing:
            raise Unavailable(method)


@dataclass
class FakeGateway:
    """`answers` are the results of successive posts to a connection. The last one is repeated."""

    answers: dict[str, list[Delivery]] = field(default_factory=dict)
    posted: list[tuple[str, str]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    endpoints: set[Endpoint] = field(default_factory=set)
    on_post: Callable[[], None] = lambda: None
    on_close: Callable[[], None] = lambda: None
    gone: set[str] = field(default_factory=set)

    def post(self, endpoint: Endpoint, connection_id: str, frame: str) -> Delivery:
        self.endpoints.add(endpoint)
        self.on_post()
        answers = self.answers.get(connection_id, [Delivery.DELIVERED])
        delivery = answers.pop(0) if len(answers) > 1 else answers[0]
        if delivery is Delivery.DELIVERED:
            self.posted.append((connection_id, frame))
        return delivery

    def close(self, endpoint: Endpoint, connection_id: str) -> None:
        self.on_close()
        self.closed.append(connection_id)

    def is_gone(self, endpoint: Endpoint, connection_id: str) -> bool:
        return connection_id in self.gone

    def frames_to(self, connection_id: str) -> list[str]:
        return [frame for to, frame in self.posted if to == connection_id]


@dataclass
class Notes:
    outcomes: list[tuple[str, dict[str, str | int | float]]] = field(default_factory=list)

    def __call__(self, outcome: str, /, **about: str | int | float) -> None:
        self.outcomes.append((outcome, about))

    def names(self) -> list[str]:
        return [outcome for outcome, _ in self.outcomes]


def _without(of_connections: Mapping[str, V], connection_id: str) -> dict[str, V]:
    return {other: value for other, value in of_connections.items() if other != connection_id}


def one_after_the_other(calls: Iterable[Callable[[], None]]) -> None:
    for call in calls:
        call()
