"""One schedule from a seed: chaos, then rest, then a word from everyone to everyone, then the verdict."""

from collections import Counter
from dataclasses import dataclass
from random import Random

from tests.simulation.characters import Characters
from tests.simulation.checker import judge, unreachable
from tests.simulation.devices import Device
from tests.simulation.world import Faults, World

STEPS = 200
ROUNDS_TO_REST = 60
SLOW_BATCHES, SLOW_BATCH_SECONDS = 12, 10.0
"""Of a stream that is slow: as many batches as a replay needs for a minute."""

QUICK_SECONDS = 0.1
"""A function that stands still for longer is a fault: a few of them outlast what a connect is given."""
AFTERMATH_SECONDS = 45.0
"""In which whatever was on its way when the faults ended takes effect: late writes, late disconnects."""


@dataclass(slots=True)
class Result:
    seed: int
    outcomes: Counter[str]
    faults: Counter[str]
    wrongs: list[str]
    calls: int


@dataclass(frozen=True, slots=True)
class Habits:
    """What a schedule does much and what little: drawn for each, so that rare things meet often in some."""

    work: float
    read: float
    act: float
    jumps: tuple[float, ...]
    leave: float
    sync: float
    again: float
    once: float

    @classmethod
    def draw(cls, random: Random) -> "Habits":
        return cls(
            work=random.choice((0.3, 0.5, 0.6)),
            read=random.choice((0.05, 0.15, 0.25)),
            act=random.choice((0.1, 0.2, 0.3)),
            jumps=random.choice(((0.01, 0.1), (0.1, 0.5, 2), (2, 6, 20), (6, 20, 70))),
            leave=random.choice((0.02, 0.15, 0.3)),
            sync=random.choice((0.0, 0.05, 0.2)),
            again=random.choice((0.0, 0.2, 0.5)),
            once=random.choice((0.0, 0.5, 1.0)),
        )


def run(seed: int, faults: Faults | None = None, steps: int = STEPS) -> Result:
    """The same seed and faults give the same result, always."""
    random = Random(seed ^ 0x5EED)
    world = World(seed, Faults(random.choice((0, 1, 3, 10, 30))) if faults is None else faults)
    devices, habits = _devices(world, random), Habits.draw(random)
    characters = Characters.draw(world, seed)
    recreates_table = Random(~seed).random() < 0.1
    wrongs: list[str] = []
    for step in range(steps + characters.steps):
        if recreates_table and step == steps // 2:
            _recreate_messages_table(world, devices + characters.devices)
        _something_happens(world, devices, habits, random)
        characters.act()
        wrongs += [f"unreachable: {socket}" for socket in unreachable(world)]
        if wrongs or world.out_of_order or world.expired:
            break
    world.faults = Faults()
    if characters.lasts:
        let_all_work_end(world, devices)
    devices += characters.devices
    if characters.hoarder is not None:
        if characters.lasts:
            _let_the_replay_last(world, characters, characters.hoarder)
        let_all_work_end(world, devices)  # So that its long replay ends before it connects again.
    wrongs += world.dropped_for_nothing
    if not wrongs and not all_hear_from_all(world, devices):
        wrongs.append(f"unreachable: no rest, {[d.name for d in devices if not d.at_rest]}")
    verdict = judge(world, devices)
    for about in world.out_of_order:
        verdict.wrong("out of order", about)
    for about in world.expired:
        verdict.wrong("expired", about)
    outcomes = verdict.counts + Counter(unreachable=len(wrongs))
    return Result(seed, outcomes, world.faulted, wrongs + verdict.wrongs, world.calls)


def _devices(world: World, random: Random) -> list[Device]:
    """Two or three players; one may have a second device, which comes later or asks from the beginning."""
    devices = [
        Device(f"p{number}", f"p{number}", random.random() < 0.3, world)
        for number in range(random.choice((2, 2, 3)))
    ]
    second = random.choice((None, "p0-other", "p0-latecomer"))
    if second is not None:
        devices[0].from_the_beginning = True
        devices.append(Device(second, "p0", second == "p0-other", world))
    return devices


def _something_happens(world: World, devices: list[Device], habits: Habits, random: Random) -> None:
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
        if device.socket is not None and device.socket.id in world.cut_short:
            device.leave(cut=True)  # Its marker might be in the old stream: nothing else makes it live.


def _act(device: Device, devices: list[Device], habits: Habits, random: Random) -> None:
    if device.socket is None:
        device.connect()
        return
    if not device.connected:
        return
    draw = random.random()
    if draw < habits.leave:
        device.leave(cut=random.random() < 0.5)
    elif device.asked is not None:
        if device.waiting is not None and device.waiting.once and random.random() < habits.again:
            device.say(device.waiting.to, once=True)
    elif draw < habits.leave + habits.sync:
        device.sync()
    elif draw > 0.9:
        device.ping()
    else:
        device.say(random.choice(devices).player_id, once=random.random() < habits.once)


def all_hear_from_all(world: World, devices: list[Device]) -> bool:
    """No more faults: every client comes to be connected, and what everyone then says arrives everywhere."""
    world.schedule.advance(AFTERMATH_SECONDS)
    if not _come_to_rest(world, devices):
        return False
    for device in devices:
        for player_id in {other.player_id: None for other in devices}:
            if not device.at_rest:
                return False
            world.schedule.advance(1)
            device.say(player_id, once=True)
            let_all_work_end(world, devices)
    return all(device.at_rest for device in devices)


def _let_the_replay_last(world: World, characters: Characters, hoarder: Device) -> None:
    """The stream is slow: between two of its batches pass seconds, in which the client asks how it is."""
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


def _come_to_rest(world: World, devices: list[Device]) -> bool:
    for device in devices:
        device.doubt()
    for _ in range(ROUNDS_TO_REST):
        let_all_work_end(world, devices)
        for device in devices:
            if device.socket is None:
                device.connect()
            elif device.connected and device.asked is None:
                if device.waiting is not None:
                    device.say(device.waiting.to, once=True)
                elif not device.answered:
                    device.ping()
        let_all_work_end(world, devices)
        if all(device.at_rest for device in devices):
            return True
        world.schedule.advance(5)
    return False


def let_all_work_end(world: World, devices: list[Device]) -> None:
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
