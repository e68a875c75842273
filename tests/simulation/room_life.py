"""What happens with rooms in two of five schedules: players join and leave, and the backend intervenes.

The shards of the stream also stand still and split in these schedules.
"""

from dataclasses import dataclass
from random import Random

from botocore.exceptions import ClientError

from chalicelib.aws.rooms import room_key
from chalicelib.core.model import ROOM
from chalicelib.core.ports import COPIES_PER_CALL
from tests.simulation.devices import Device
from tests.simulation.dynamodb import WEBSOCKETS, Item
from tests.simulation.memberships import Kind
from tests.simulation.schedule import Crash
from tests.simulation.world import MESSAGE_SECONDS, World

SHARE = 0.4
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
    """How often things happen with a schedule's rooms, per step. They have their own random numbers."""

    room_ids: tuple[str, ...]
    players: int
    copies_per_call: int
    most_members: int
    to_rooms: float
    join: float
    leave: float
    backend: float
    stall: float
    split: float
    backoff_seconds: float
    random: Random

    @classmethod
    def draw(cls, seed: int) -> "RoomHabits | None":
        random = Random(seed ^ 0x2005)
        if random.random() >= SHARE:
            return None
        return cls(
            room_ids=random.choice((("a",), ("a", "b"))),
            players=random.choice((2, 3)),
            copies_per_call=random.choice((1, 2, COPIES_PER_CALL)),
            most_members=random.choice((2, 250, 250)),
            to_rooms=random.choice((0.5, 0.9)),
            join=random.choice((0.02, 0.06)),
            leave=random.choice((0.0, 0.01, 0.03)),
            backend=random.choice((0.0, 0.01, 0.03)),
            stall=random.choice((0.0, 0.01, 0.02)),
            split=random.choice((0.0, 0.005)),
            backoff_seconds=random.choice((0.0, 0.0, 20.0, 60.0)),
            random=random,
        )


@dataclass(frozen=True, slots=True)
class RoomLife:
    world: World
    habits: RoomHabits

    def devices(self) -> list[Device]:
        """Return two devices per player. All of them ask for everything that they missed."""
        return [
            Device(f"p{number}{name}", f"p{number}", True, self.world)
            for number in range(self.habits.players)
            for name in ("", "-other")
        ]

    def choose_destination(self, devices: list[Device]) -> str:
        random = self.habits.random
        if random.random() < self.habits.to_rooms:
            return ROOM + random.choice(self.habits.room_ids)
        return random.choice(devices).player_id

    def add_first_members(self, devices: list[Device]) -> None:
        """Make some of the players members before the schedule begins."""
        self.world.backoff_seconds = self.habits.backoff_seconds
        players = list({device.player_id: None for device in devices})
        for room_id in self.habits.room_ids:
            for player_id in players[: self.habits.most_members]:
                if self.habits.random.random() < 0.6:
                    request = self.world.request_membership(Kind.JOIN, room_id, player_id)
                    self.world.tables.update_room(_request(ADD, room_id, player_id))
                    request.acked = self.world.schedule.moment()

    def act(self, devices: list[Device]) -> None:
        """Let a player or the backend change a membership, or disturb a shard, each with its probability."""
        habits, random = self.habits, self.habits.random
        device, room_id = random.choice(devices), random.choice(habits.room_ids)
        is_free = device.connected and device.requested is None
        if is_free and random.random() < habits.join:
            device.join_room(room_id)
        elif is_free and random.random() < habits.leave:
            device.leave_room(room_id)
        if random.random() < habits.backend:
            self._update(random.choice(list(UPDATES)), room_id, device.player_id)
        if random.random() < habits.stall:
            self.world.stall(random.choice(self.world.shards), random.choice(STALL_SECONDS))
        if random.random() < habits.split:
            self.world.split(random.choice(self.world.shards))

    def let_all_join(self, devices: list[Device]) -> None:
        """Lift all bans and mutes without faults, and let the first device of each player join the rooms."""
        for room_id in self.habits.room_ids:
            for device in {device.player_id: device for device in reversed(devices)}.values():
                for update in (PARDON, UNMUTE):
                    self.world.tables.update_room(_request(update, room_id, device.player_id))
                device.join_room(room_id)

    def last_destinations(self, number: int, players: list[str]) -> tuple[str, str]:
        """Return a player and a room, to which the device with this number sends last."""
        rooms = self.habits.room_ids
        return players[number % len(players)], ROOM + rooms[number % len(rooms)]

    def _update(self, update: str, room_id: str, player_id: str) -> None:
        """Let the backend update a room's item with a call that can fail."""
        world, kind = self.world, UPDATES[update]
        request = None if kind is None else world.request_membership(kind, room_id, player_id)

        def update_room() -> None:
            world.tables.client.update_item(**_request(update, room_id, player_id))

        def done(error: BaseException | None) -> None:
            if error is None and request is not None:
                request.acked = world.schedule.moment()
            if error is not None and not isinstance(error, (Crash, ClientError)):
                raise error

        world.schedule.start("backend", update_room, MESSAGE_SECONDS, done)


def _request(update: str, room_id: str, player_id: str) -> Item:
    return {
        "TableName": WEBSOCKETS,
        "Key": room_key(room_id),
        "UpdateExpression": update,
        "ExpressionAttributeValues": {":player": {"SS": [player_id]}},
    }
