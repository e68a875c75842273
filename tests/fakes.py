"""Stores and a gateway in memory that keep their ports' word, and can be told to fail."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace

from chalicelib.ports import Connection, Delivery, Endpoint, Entry, Player, Unavailable


@dataclass
class InMemoryConnections:
    """`failing`: the methods that raise Unavailable."""

    failing: set[str] = field(default_factory=set)
    registered: dict[str, Connection] = field(default_factory=dict)
    by_player: dict[str, Player] = field(default_factory=dict)

    def register(self, connection: Connection) -> None:
        self._fail("register")
        self.registered[connection.id] = connection
        player = self.player(connection.player_id)
        self.by_player[player.id] = replace(
            player, endpoint=connection.endpoint, connections=player.connections | {connection.id}
        )

    def find(self, connection_id: str) -> Connection | None:
        self._fail("find")
        return self.registered.get(connection_id)

    def admit(self, player_id: str, connection_id: str) -> Player | None:
        self._fail("admit")
        player = self.player(player_id)
        return player if connection_id in player.connections else None

    def make_live(self, player_id: str, connection_id: str) -> bool:
        self._fail("make_live")
        player = self.player(player_id)
        if connection_id not in player.connections:
            return False
        self.by_player[player_id] = replace(player, live=player.live | {connection_id})
        return True

    def remove(self, player_id: str, connection_id: str) -> None:
        self._fail("remove")
        player, gone = self.player(player_id), {connection_id}
        self.by_player[player_id] = replace(
            player, connections=player.connections - gone, live=player.live - gone
        )
        self.registered.pop(connection_id, None)

    def remove_by_id(self, connection_id: str) -> str | None:
        self._fail("remove_by_id")
        connection = self.registered.get(connection_id)
        if connection is None:
            return None
        self.remove(connection.player_id, connection_id)
        return connection.player_id

    def players(self, player_ids: Collection[str]) -> dict[str, Player]:
        self._fail("players")
        return {player_id: self.player(player_id) for player_id in player_ids}

    def player(self, player_id: str) -> Player:
        return self.by_player.get(player_id, Player(player_id))

    def _fail(self, method: str) -> None:
        if method in self.failing:
            raise Unavailable(method)


@dataclass
class InMemoryMessages:
    failing: bool = False
    stored: list[Entry] = field(default_factory=list)

    def put(self, entry: Entry) -> None:
        if self.failing:
            raise Unavailable("put")
        self.stored.append(entry)


@dataclass
class FakeGateway:
    """`answers`: what a post to a connection comes to, one after the other; the last one stays."""

    answers: dict[str, list[Delivery]] = field(default_factory=dict)
    posted: list[tuple[str, str]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    endpoints: set[Endpoint] = field(default_factory=set)

    def post(self, endpoint: Endpoint, connection_id: str, frame: str) -> Delivery:
        self.endpoints.add(endpoint)
        answers = self.answers.get(connection_id, [Delivery.DELIVERED])
        delivery = answers.pop(0) if len(answers) > 1 else answers[0]
        if delivery is Delivery.DELIVERED:
            self.posted.append((connection_id, frame))
        return delivery

    def close(self, endpoint: Endpoint, connection_id: str) -> None:
        self.closed.append(connection_id)

    def frames_to(self, connection_id: str) -> list[str]:
        return [frame for to, frame in self.posted if to == connection_id]


@dataclass
class Notes:
    steps: list[tuple[str, dict[str, str | int]]] = field(default_factory=list)

    def __call__(self, step: str, /, **ids: str | int) -> None:
        self.steps.append((step, ids))

    def names(self) -> list[str]:
        return [step for step, _ in self.steps]


def one_after_the_other(calls: Iterable[Callable[[], None]]) -> None:
    for call in calls:
        call()
