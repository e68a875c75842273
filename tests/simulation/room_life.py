"""What happens with rooms in one of eight schedules: players join and leave, and the backend intervenes.

The shards of the stream also stand still and split in these schedules.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

from botocore.exceptions import ClientError

from chalicelib.aws.rooms import room_key
from chalicelib.core.model import ROOM
from chalicelib.core.ports import COPIES_PER_CALL
from tests.simulation.devices import Device
from tests.simulation.dynamodb import WEBSOCKETS, Item
from tests.simulation.memberships import Kind
from tests.simulation.schedule import Crash
from tests.simulation.world import MESSAGE_SECONDS, Faults, World

SHARE = 1 / 8
STEPS = 40
STALL_SECONDS = (5.0, 20.0, 60.0)
"""The longer two exceed the overlap of a replay."""

ADD = "ADD members :player"
REMOVE = "DELETE members :player"
BAN = "ADD banned :player DELETE members :player"
PARDON = "DELETE banned :player"
MUTE = "ADD muted :player"
UNMUTE = "DELETE muted :player"
UPDATES = {
    REMOVE: Kind.REMOVAL,
    BAN: Kind.REMOVAL,
    MUTE: Kind.MUTE,
    PARDON: None,
    UNMUTE: None,
}
"""The backend's updates of a room's item, and the kind of request that each of them is."""


@dataclass(frozen=True, slots=True)
class RoomHabits:
    """The limits of a schedule's rooms, and how often their events happen. `random` is only for rooms.

    `weights` are those of RoomLife.events. `paces`: how many steps of work can follow an event.
    """

    room_ids: tuple[str, ...]
    players: int
    faults: Faults
    copies_per_call: int
    most_members: int
    weights: tuple[int, ...]
    paces: tuple[int, ...]
    jumps: tuple[float, ...]
    to_rooms: float
    idempotent: float
    backoff_seconds: float
    random: Random

    @classmethod
    def draw(cls, seed: int) -> "RoomHabits | None":
        random = Random(seed ^ 0x2005)
        if random.random() >= SHARE:
            return None
        return cls(
            room_ids=random.choice((("a",), ("a",), ("a", "b"))),
            players=random.choice((2, 2, 3)),
            faults=Faults(random.choice((0, 3, 10, 10, 20))),
            copies_per_call=random.choice((1, 2, COPIES_PER_CALL)),
            most_members=random.choice((2, 250, 250)),
            weights=(
                random.choice((16, 32)),
                random.choice((2, 6)),
                random.choice((0, 1, 4)),
                random.choice((4, 16)),
                2,
                random.choice((0, 2, 6)),
                random.choice((0, 4, 12)),
                random.choice((0, 1)),
                random.choice((3, 8)),
            ),
            paces=random.choice(((0, 3, 10), (3, 10, 30), (10, 30, 60))),
            jumps=random.choice(((0.1, 0.5, 2), (2, 6, 20), (6, 20, 70))),
            to_rooms=random.choice((0.7, 1.0)),
            idempotent=random.choice((0.0, 0.5, 1.0)),
            backoff_seconds=random.choice((0.0, 20.0, 60.0)),
            random=random,
        )


@dataclass(slots=True)
class RoomLife:
    """`presence` returns the value of `presence` for the next join, and `end_presence` what the backend does
    after it has removed a player from a room.
    """

    world: World
    habits: RoomHabits
    devices: list[Device] = field(default_factory=list)
    presence: Callable[[], bool | None] = lambda: None
    end_presence: Callable[[str, str], None] = lambda room_id, player_id: None

    def begin(self) -> None:
        """Create two devices per player, and make some of the players members.

        All devices ask for everything that they missed.
        """
        world, habits = self.world, self.habits
        world.backoff_seconds = habits.backoff_seconds
        for number in range(habits.players):
            for name in ("", "-other"):
                self.devices.append(Device(f"p{number}{name}", f"p{number}", True, world))
        for room_id in habits.room_ids:
            for player_id in self.players[: habits.most_members]:
                if habits.random.random() < 0.7:
                    request = world.request_membership(Kind.JOIN, room_id, player_id)
                    world.tables.update_room(_request(ADD, room_id, player_id))
                    request.acked = world.schedule.moment()

    @property
    def players(self) -> list[str]:
        return list({device.player_id: None for device in self.devices})

    @property
    def events(self) -> tuple[Callable[[], None], ...]:
        return (
            self._send,
            self._join,
            self._leave,
            self._disconnect,
            self._ping_or_sync,
            self._let_the_backend_update,
            self._stall,
            self._split,
            self._jump,
        )

    def take_step(self) -> None:
        """Let one event happen, and then some work."""
        habits, random, world = self.habits, self.habits.random, self.world
        (event,) = random.choices(self.events, habits.weights)
        event()
        for device in self.devices:
            if device.socket is None and random.random() < 0.2:
                device.connect()
        for _ in range(random.choice(habits.paces)):
            if random.random() < 0.2 or not world.schedule.step():
                world.poll(random.choice(world.shards))
            if random.random() < 0.3:
                random.choice(self.devices).read()
            world.schedule.advance(0.002)

    def let_all_join(self) -> Iterator[None]:
        """Lift all bans and mutes without faults, let all join the rooms, and yield after each join."""
        for room_id in self.habits.room_ids:
            for device in self._first_devices():
                for update in (PARDON, UNMUTE):
                    self.world.tables.update_room(_request(update, room_id, device.player_id))
                device.join_room(room_id)
                yield

    def last_sends(self) -> Iterable[tuple[Device, str]]:
        """Yield the last messages: one from each player to a player and to a room."""
        first, room_ids = self._first_devices(), self.habits.room_ids
        for number, device in enumerate(first):
            yield device, first[number - 1].player_id
            yield device, ROOM + room_ids[number % len(room_ids)]

    def _first_devices(self) -> list[Device]:
        return list({device.player_id: device for device in reversed(self.devices)}.values())

    def _any_room(self) -> str:
        return self.habits.random.choice(self.habits.room_ids)

    def _any_free_device(self) -> Iterator[Device]:
        """Yield one of the connected devices that wait for no reply, if there is one."""
        free = [device for device in self.devices if device.connected and device.requested is None]
        if free:
            yield self.habits.random.choice(free)

    def _send(self) -> None:
        """Send a message, or retry an unacknowledged one."""
        random = self.habits.random
        waiting = [each for each in self.devices if each.connected and each.unacked is not None]
        for device in waiting:
            if device.unacked is not None and device.unacked.idempotent and random.random() < 0.3:
                device.send_message(device.unacked.to, idempotent=True)
        for device in self._any_free_device():
            is_to_room = random.random() < self.habits.to_rooms
            to = ROOM + self._any_room() if is_to_room else random.choice(self.players)
            device.send_message(to, idempotent=random.random() < self.habits.idempotent)

    def _join(self) -> None:
        for device in self._any_free_device():
            device.join_room(self._any_room(), self.presence())

    def _leave(self) -> None:
        for device in self._any_free_device():
            device.leave_room(self._any_room())

    def _disconnect(self) -> None:
        random = self.habits.random
        connected = [device for device in self.devices if device.connected]
        if connected:
            random.choice(connected).leave(cut=random.random() < 0.5)

    def _ping_or_sync(self) -> None:
        for device in self._any_free_device():
            if self.habits.random.random() < 0.5:
                device.ping()
            else:
                device.sync()

    def _let_the_backend_update(self) -> None:
        """Let the backend update a room's item with a call that can fail."""
        random, world = self.habits.random, self.world
        update, room_id, player_id = (
            random.choice(list(UPDATES)),
            self._any_room(),
            random.choice(self.players),
        )
        kind = UPDATES[update]
        request = None if kind is None else world.request_membership(kind, room_id, player_id)

        def update_room() -> None:
            world.tables.client.update_item(**_request(update, room_id, player_id))
            if kind is Kind.REMOVAL:
                self.end_presence(room_id, player_id)

        def done(error: BaseException | None) -> None:
            if error is None and request is not None:
                request.acked = world.schedule.moment()
            if error is not None and not isinstance(error, (Crash, ClientError)):
                raise error

        world.schedule.start("backend", update_room, MESSAGE_SECONDS, done)

    def _stall(self) -> None:
        shard = self.world.shard_of(ROOM + self._any_room())
        self.world.stall(shard, self.habits.random.choice(STALL_SECONDS))

    def _split(self) -> None:
        self.world.split(self.habits.random.choice(self.world.shards))

    def _jump(self) -> None:
        seconds, world = self.habits.random.choice(self.habits.jumps), self.world
        if world.schedule.tasks:
            world.faulted["a function: slow"] += 1
        world.schedule.advance(seconds)


def _request(update: str, room_id: str, player_id: str) -> Item:
    return {
        "TableName": WEBSOCKETS,
        "Key": room_key(room_id),
        "UpdateExpression": update,
        "ExpressionAttributeValues": {":player": {"SS": [player_id]}},
    }
