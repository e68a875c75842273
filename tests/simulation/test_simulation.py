"""The promises, under every fault at every call, in pairs, and in thousands of schedules."""

import os
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.simulation.checker import judge, unreachable
from tests.simulation.devices import Device
from tests.simulation.dynamodb import BATCH_READ, WRITE
from tests.simulation.prove import prove, report
from tests.simulation.run import all_hear_from_all, let_all_work_end, run
from tests.simulation.world import Faults, World


@pytest.mark.parametrize("schedules", [500, pytest.param(20_000, marks=pytest.mark.slow)])
def test_nothing_is_lost_doubled_disordered_or_unreachable_in_any_schedule(schedules: int) -> None:
    """`make prove` runs a million."""
    total = prove(schedules, first_seed=0, processes=os.cpu_count() or 1)

    assert total.wrong == [], report(total)
    assert total.schedules == schedules
    assert min(total.outcomes["ok"], total.faults.total()) > schedules, report(total)


def test_a_seed_gives_the_same_schedule_every_time() -> None:
    first, second = run(7), run(7)

    assert (first.calls, first.outcomes, first.faults) == (second.calls, second.outcomes, second.faults)


# Every fault at every call


def conversation(faults: dict[int, str]) -> tuple[World, int, list[str]]:
    """Player 1 writes to 2, who is away, comes, asks, and is cut off: its calls to AWS, and its wrongs."""
    world = World(1, Faults(only=dict(faults)))
    one, two = (Device(name, name, from_the_beginning=False, world=world) for name in ("p1", "p2"))
    devices = [one, two]
    acts: tuple[tuple[Device, Callable[[], None] | None], ...] = (
        (one, None),
        (one, lambda: one.say("p2", once=True)),
        (two, None),
        (one, lambda: one.say("p2", once=True)),
        (two, two.sync),
        (two, lambda: two.leave(cut=True)),
        (one, lambda: one.say("p2", once=True)),
    )
    for speaker, act in acts:
        if speaker.socket is None:
            speaker.connect()
        elif act is not None and speaker.connected and speaker.asked is None:
            act()
        let_all_work_end(world, devices)
    wrongs = [f"unreachable: {socket}" for socket in unreachable(world)]
    calls, world.faults = world.calls, Faults()
    if not all_hear_from_all(world, devices):
        wrongs.append(f"no rest: {[device.name for device in devices if not device.at_rest]}")
    return world, calls, wrongs + judge(world, devices).wrongs


KINDS = sorted({*BATCH_READ, *WRITE, *Faults.POST})


def test_a_fault_before_or_after_any_one_call_breaks_no_promise() -> None:
    _, calls, _ = conversation({})

    met = 0
    for call, kind in product(range(1, calls + 1), KINDS):
        world, _, wrongs = conversation({call: kind})
        met += world.faulted.total()
        assert wrongs == [], (call, kind)

    assert met > 2 * calls


@pytest.mark.parametrize("later", [1, *(pytest.param(calls, marks=pytest.mark.slow) for calls in (2, 3, 5))])
def test_a_second_fault_while_the_first_is_made_up_for_breaks_no_promise(later: int) -> None:
    _, calls, _ = conversation({})
    harsh = ("before", "after", "crash before", "crash after", "late")

    for call, first, second in product(range(1, calls + 1), harsh, harsh):
        _, _, wrongs = conversation({call: first, call + later: second})
        assert wrongs == [], (call, first, second)


# A state machine


class Promises(RuleBasedStateMachine):
    """Any order of what clients, functions and faults can do."""

    @initialize(seed=st.integers(0, 2**32), percent=st.sampled_from((0, 5, 20)))
    def begin(self, seed: int, percent: int) -> None:
        self.world = World(seed, Faults(percent))
        self.devices = [Device(f"p{n}", f"p{n}", n == 0, self.world) for n in range(2)]
        self.devices.append(Device("p0-other", "p0", True, self.world))

    @rule(index=st.integers(0, 2))
    def connect(self, index: int) -> None:
        if self.devices[index].socket is None:
            self.devices[index].connect()

    @rule(index=st.integers(0, 2), to=st.sampled_from(("p0", "p1")), once=st.booleans())
    def say(self, index: int, to: str, once: bool) -> None:
        device = self.devices[index]
        if device.connected and device.asked is None:
            device.say(to, once)

    @rule(index=st.integers(0, 2))
    def sync(self, index: int) -> None:
        device = self.devices[index]
        if device.connected and device.asked is None:
            device.sync()

    @rule(index=st.integers(0, 2), cut=st.booleans())
    def leave(self, index: int, cut: bool) -> None:
        if self.devices[index].connected:
            self.devices[index].leave(cut)

    @rule(steps=st.integers(1, 12))
    def work(self, steps: int) -> None:
        for _ in range(steps):
            self.world.schedule.step()

    @rule(shard=st.integers(0, 1))
    def poll(self, shard: int) -> None:
        self.world.poll(self.world.shards[shard])

    @rule(index=st.integers(0, 2))
    def read(self, index: int) -> None:
        self.devices[index].read()

    @rule(seconds=st.sampled_from((0.1, 2, 12, 70)))
    def wait(self, seconds: float) -> None:
        self.world.schedule.advance(seconds)
        self.world.faulted["time: passed"] += 1

    @precondition(lambda self: hasattr(self, "world"))
    @invariant()
    def every_open_socket_can_be_reached(self) -> None:
        assert list(unreachable(self.world)) == []

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.faults = Faults()
            assert all_hear_from_all(self.world, self.devices)
            assert judge(self.world, self.devices).wrongs == []


TestPromises = Promises.TestCase
TestPromises.settings = settings(
    max_examples=200, stateful_step_count=60, suppress_health_check=list(HealthCheck)
)


# What it costs


@pytest.mark.parametrize(
    ("frame", "calls"),
    [
        ({"action": "ping"}, ["GetItem websockets", "UpdateItem websockets", "post"]),
        (
            {"action": "sendmessage", "destinationPlayerId": "p2", "message": "hi"},
            ["GetItem websockets", "UpdateItem websockets", "PutItem messages", "post"],
        ),
        (
            {
                "action": "sendmessage",
                "destinationPlayerId": "p2",
                "message": "hi",
                "clientMessageId": "u",
            },
            [
                "GetItem websockets",
                "UpdateItem websockets",
                "PutItem websockets",
                "PutItem messages",
                "post",
            ],
        ),
    ],
)
def test_a_frame_costs_no_more_calls_than_it_must(frame: dict[str, Any], calls: list[str]) -> None:
    """Only a Lambda's first frame of a connection costs a GetItem: the store keeps what it has read."""
    world = World(1, Faults())
    device = Device("p1", "p1", False, world)
    device.connect()
    let_all_work_end(world, [device])
    assert device.socket is not None
    made: list[str] = []
    draw = world.draw

    def remember(name: str, kinds: tuple[str, ...]) -> str | None:
        made.append(name)
        return draw(name, kinds)

    setattr(world, "draw", remember)  # noqa: B010  # mypy forbids it plainly.
    device.ask(frame)
    while world.schedule.step():
        pass

    assert made == calls
