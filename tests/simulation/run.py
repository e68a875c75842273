"""Runs one schedule from a seed: random events with faults, then none, then the verdict.

Before the verdict, each device reconnects and sends one message to each player.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import product
from random import Random

from tests.simulation.characters import Characters
from tests.simulation.checker import judge, unreachable
from tests.simulation.devices import Device
from tests.simulation.room_life import STEPS as ROOM_STEPS
from tests.simulation.room_life import RoomHabits, RoomLife
from tests.simulation.watchers import Watchers
from tests.simulation.world import Faults, World

STEPS = 200
SETTLING_ROUNDS = 60
SLOW_BATCHES, SLOW_BATCH_SECONDS = 12, 10.0
"""A slow stream: together, the batches last longer than a minute."""

QUICK_SECONDS = 0.1
"""A longer jump of time counts as a fault, because a few of them exceed the connect's timeout."""
WINDOW_SECONDS = 2.5
"""More than a window of the lowest rate limit, so that a join or a message to a room isn't refused."""

AFTER_FAULTS_SECONDS = 45.0
"""After the faults, late writes and late disconnects take effect within this time."""


@dataclass(slots=True)
class Result:
    seed: int
    outcomes: Counter[str]
    faults: Counter[str]
    violations: list[str]
    calls: int


@dataclass(frozen=True, slots=True)
class Habits:
    """The frequencies of a schedule's events. They vary, so rare events coincide often in some schedules."""

    work: float
    read: float
    act: float
    jumps: tuple[float, ...]
    leave: float
    sync: float
    retry: float
    idempotent: float

    @classmethod
    def draw(cls, random: Random) -> "Habits":
        return cls(
            work=random.choice((0.3, 0.5, 0.6)),
            read=random.choice((0.05, 0.15, 0.25)),
            act=random.choice((0.1, 0.2, 0.3)),
            jumps=random.choice(((0.01, 0.1), (0.1, 0.5, 2), (2, 6, 20), (6, 20, 70))),
            leave=random.choice((0.02, 0.15, 0.3)),
            sync=random.choice((0.0, 0.05, 0.2)),
            retry=random.choice((0.0, 0.2, 0.5)),
            idempotent=random.choice((0.0, 0.5, 1.0)),
        )


def run(seed: int, faults: Faults | None = None, steps: int = STEPS) -> Result:
    """Run a schedule and return its result. The same seed and faults always give the same result."""
    random = Random(seed ^ 0x5EED)
    percent = random.choice((0, 1, 3, 10, 30))
    room_habits = RoomHabits.draw(seed)
    if room_habits is None:
        world, rooms, watchers = World(seed, faults or Faults(percent)), None, None
        devices, habits = _devices(world, random), Habits.draw(random)
        characters = Characters.draw(world, seed)
    else:
        world, rooms, watchers = _begin_with_rooms(seed, room_habits)
        world.faults = faults or rooms.habits.faults
        devices, steps, characters = rooms.devices, ROOM_STEPS, Characters(world, random)
    recreates_table = Random(~seed).random() < 0.1
    violations: list[str] = []
    for step in range(steps + characters.steps):
        if recreates_table and step == steps // 2:
            _recreate_messages_table(world, devices + characters.devices)
        if rooms is None:
            _take_step(world, devices, habits, random)
        else:
            rooms.take_step()
        if watchers is not None:
            watchers.act()
        characters.act()
        violations += [f"unreachable: {socket}" for socket in unreachable(world)]
        if violations or world.out_of_order or world.expired:
            break
    world.faults = Faults()
    world.end_stalls()
    if watchers is not None:
        watchers.judge_undisturbed(lambda: run_until_idle(world, devices))
    if characters.replays_slowly:
        run_until_idle(world, devices)
    devices += characters.devices
    if characters.hoarder is not None:
        if characters.replays_slowly:
            _run_slow_replay(world, characters, characters.hoarder)
        run_until_idle(world, devices)  # The long replay ends before the device reconnects.
    violations += world.needlessly_closed
    if not violations and not converges(world, devices, rooms):
        violations.append(f"unreachable: not settled: {[d.name for d in devices if not d.is_settled]}")
    verdict = judge(world, devices)
    if watchers is not None:
        watchers.finish(verdict, lambda: run_until_idle(world, devices))
    for about in world.out_of_order:
        verdict.add("out of order", about)
    for about in world.misplaced:
        verdict.add("misplaced", about)
    for about in world.expired:
        verdict.add("expired", about)
    outcomes = verdict.counts + Counter(unreachable=len(violations))
    return Result(seed, outcomes, world.faulted, violations + verdict.violations, world.calls)


def _begin_with_rooms(seed: int, habits: RoomHabits) -> tuple[World, RoomLife, Watchers | None]:
    """Return a world with rooms, in which all devices have connected without faults."""
    world = World(seed, Faults(), habits.copies_per_call, habits.most_members)
    rooms = RoomLife(world, habits)
    rooms.begin()
    watchers = Watchers.draw(seed, world, rooms)
    for device in rooms.devices:
        device.connect()
    run_until_idle(world, rooms.devices)
    if watchers is not None:
        watchers.begin()
        run_until_idle(world, rooms.devices)
    return world, rooms, watchers


def _devices(world: World, random: Random) -> list[Device]:
    """Return the devices of two or three players. One player can have a second device.

    It connects with `after=0`, or without `after` (the latecomer).
    """
    devices = [
        Device(f"p{number}", f"p{number}", random.random() < 0.3, world)
        for number in range(random.choice((2, 2, 3)))
    ]
    second = random.choice((None, "p0-other", "p0-latecomer"))
    if second is not None:
        devices[0].wants_all = True
        devices.append(Device(second, "p0", second == "p0-other", world))
    return devices


def _take_step(world: World, devices: list[Device], habits: Habits, random: Random) -> None:
    draw = random.random()
    if draw < habits.work:
        if not world.schedule.step():
            world.poll(world.random.choice(world.shards))
    elif draw < habits.work + habits.read:
        random.choice(devices).read()
    elif draw < habits.work + habits.read + habits.act:
        _act(random.choice(devices), devices, habits, random)
    elif draw < 0.97:
        world.poll(world.random.choice(world.shards))
    else:
        seconds = random.choice(habits.jumps)
        if seconds > QUICK_SECONDS and world.schedule.tasks:
            world.faulted["a function: slow"] += 1
        world.schedule.advance(seconds)
    world.schedule.advance(0.002)


def _recreate_messages_table(world: World, devices: list[Device]) -> None:
    world.recreate_messages_table()
    for device in devices:
        for sent in device.sent:
            sent.table_was_deleted = True
        if device.socket is not None and device.socket.id in world.lost_markers:
            # Its marker was perhaps in the old stream, and only a marker makes it live.
            device.leave(cut=True)


def _act(device: Device, devices: list[Device], habits: Habits, random: Random) -> None:
    if device.socket is None:
        device.connect()
        return
    if not device.connected:
        return
    draw = random.random()
    if draw < habits.leave:
        device.leave(cut=random.random() < 0.5)
    elif device.requested is not None:
        if device.unacked is not None and device.unacked.idempotent and random.random() < habits.retry:
            device.send_message(device.unacked.to, idempotent=True)
    elif draw < habits.leave + habits.sync:
        device.sync()
    elif draw > 0.9:
        device.ping()
    else:
        device.send_message(random.choice(devices).player_id, idempotent=random.random() < habits.idempotent)


def converges(world: World, devices: list[Device], rooms: RoomLife | None = None) -> bool:
    """Reconnect all devices without faults, then let each send. Return whether all settled.

    Each sends to each player, or with rooms to one player and to one room.
    """
    world.schedule.advance(AFTER_FAULTS_SECONDS)
    if not _settle(world, devices):
        return False
    players = list({device.player_id: None for device in devices})
    if rooms is not None:
        for _ in rooms.let_all_join():
            run_until_idle(world, devices)
            world.schedule.advance(WINDOW_SECONDS)
    sends = product(devices, players) if rooms is None else rooms.last_sends()
    for device, to in sends:
        if not device.is_settled:
            return False
        world.schedule.advance(1 if rooms is None else WINDOW_SECONDS)
        device.send_message(to, idempotent=True)
        run_until_idle(world, devices)
    return all(device.is_settled for device in devices)


def _run_slow_replay(world: World, characters: Characters, hoarder: Device) -> None:
    """Let seconds pass between the batches of the stream, while the client pings."""
    for _ in range(SLOW_BATCHES):
        for shard in world.shards:
            world.poll(shard)
        characters.ping(hoarder)
        while world.schedule.step():
            pass
        characters.ping(hoarder)
        while world.schedule.step():
            pass
        world.schedule.advance(SLOW_BATCH_SECONDS)


def _settle(world: World, devices: list[Device]) -> bool:
    for device in devices:
        device.require_new_pong()
    for _ in range(SETTLING_ROUNDS):
        run_until_idle(world, devices)
        for device in devices:
            if device.socket is None:
                device.connect()
            elif device.connected and device.requested is None:
                if device.unacked is not None:
                    device.send_message(device.unacked.to, idempotent=True)
                elif not device.confirmed:
                    device.ping()
        run_until_idle(world, devices)
        if all(device.is_settled for device in devices):
            return True
        world.schedule.advance(5)
    return False


def run_until_idle(world: World, devices: list[Device]) -> None:
    busy = True
    while busy:
        busy = world.schedule.step()
        for shard in world.shards:
            busy |= world.poll(shard)
        for device in devices:
            busy |= device.read()
        if not busy and world.schedule.tasks:
            world.schedule.wake()
            busy = True
