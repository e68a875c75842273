"""Tests the guarantees under each fault at each call, under pairs of faults, and in many random schedules."""

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
from tests.simulation.dynamodb import BATCH_READ, BATCH_WRITE
from tests.simulation.prove import report, run_all
from tests.simulation.run import converges, run, run_until_idle
from tests.simulation.world import Faults, World


@pytest.mark.parametrize("schedules", [200, pytest.param(20_000, marks=pytest.mark.slow)])
def test_no_schedule_violates_a_guarantee(schedules: int) -> None:
    """`make simulate` runs a million schedules."""
    total = run_all(schedules, first_seed=0, processes=os.cpu_count() or 1)

    assert total.failed == [], report(total)
    assert total.schedules == schedules
    assert min(total.outcomes["ok"], total.faults.total()) > schedules, report(total)
    assert total.outcomes["due in rooms"] > schedules, report(total)


def test_a_seed_gives_the_same_schedule_every_time() -> None:
    first, second = run(7), run(7)

    assert (first.calls, first.outcomes, first.faults) == (second.calls, second.outcomes, second.faults)


# Every fault at every call


Acts = tuple[tuple[Device, Callable[[], None] | None], ...]
"""Devices, and what each does if it is connected. Otherwise it connects."""


def direct_messages(one: Device, two: Device) -> Acts:
    """Player 1 writes to player 2, who is offline, then connects, sends a `sync` and loses its connection."""
    return (
        (one, None),
        (one, lambda: one.send_message("p2", idempotent=True)),
        (two, None),
        (one, lambda: one.send_message("p2", idempotent=True)),
        (two, two.sync),
        (two, lambda: two.leave(cut=True)),
        (one, lambda: one.send_message("p2", idempotent=True)),
    )


def room_messages(one: Device, two: Device) -> Acts:
    """Two players join a room. Player 1 writes while player 2 is online, then offline, then has left."""
    return (
        (one, None),
        (two, None),
        (one, lambda: one.join_room("a")),
        (two, lambda: two.join_room("a")),
        (one, lambda: one.send_message("room#a", idempotent=True)),
        (two, lambda: two.leave(cut=True)),
        (one, lambda: one.send_message("room#a", idempotent=True)),
        (two, None),
        (two, lambda: two.leave_room("a")),
        (one, lambda: one.send_message("room#a", idempotent=True)),
    )


def conversation(
    faults: dict[int, str], acts_of: Callable[[Device, Device], Acts] = direct_messages
) -> tuple[World, int, list[str]]:
    """Return the world after a short conversation, its number of AWS calls, and its violations."""
    world = World(1, Faults(only=dict(faults)), copies_per_call=1)
    one, two = (Device(name, name, wants_all=False, world=world) for name in ("p1", "p2"))
    devices, acts = [one, two], acts_of(one, two)
    for speaker, act in acts:
        if speaker.socket is None:
            speaker.connect()
        elif act is not None and speaker.connected and speaker.requested is None:
            act()
        run_until_idle(world, devices)
    violations = [f"unreachable: {socket}" for socket in unreachable(world)]
    calls, world.faults = world.calls, Faults()
    if not converges(world, devices):
        violations.append(f"not settled: {[device.name for device in devices if not device.is_settled]}")
    return world, calls, violations + judge(world, devices).violations


KINDS = sorted({*BATCH_READ, *BATCH_WRITE, *Faults.POST})


@pytest.mark.parametrize("acts_of", [room_messages, pytest.param(direct_messages, marks=pytest.mark.slow)])
def test_one_fault_at_any_call_violates_no_guarantee(
    acts_of: Callable[[Device, Device], Acts],
) -> None:
    _, calls, _ = conversation({}, acts_of)

    met = 0
    for call, kind in product(range(1, calls + 1), KINDS):
        world, _, violations = conversation({call: kind}, acts_of)
        met += world.faulted.total()
        assert violations == [], (call, kind)

    assert met > 2 * calls


@pytest.mark.slow
@pytest.mark.parametrize("later", [1, 2, 3, 5])
def test_a_second_fault_during_recovery_violates_no_guarantee(later: int) -> None:
    _, calls, _ = conversation({})
    harsh = ("before", "after", "crash before", "crash after", "late")

    for call, first, second in product(range(1, calls + 1), harsh, harsh):
        _, _, violations = conversation({call: first, call + later: second})
        assert violations == [], (call, first, second)


# A state machine


class Guarantees(RuleBasedStateMachine):
    """Any order of the actions of clients, functions and faults."""

    @initialize(seed=st.integers(0, 2**32), percent=st.sampled_from((0, 5, 20)))
    def begin(self, seed: int, percent: int) -> None:
        self.world = World(seed, Faults(percent))
        self.devices = [Device(f"p{n}", f"p{n}", n == 0, self.world) for n in range(2)]
        self.devices.append(Device("p0-other", "p0", True, self.world))

    @rule(index=st.integers(0, 2))
    def connect(self, index: int) -> None:
        if self.devices[index].socket is None:
            self.devices[index].connect()

    @rule(index=st.integers(0, 2), to=st.sampled_from(("p0", "p1")), idempotent=st.booleans())
    def send_message(self, index: int, to: str, idempotent: bool) -> None:
        device = self.devices[index]
        if device.connected and device.requested is None:
            device.send_message(to, idempotent)

    @rule(index=st.integers(0, 2))
    def sync(self, index: int) -> None:
        device = self.devices[index]
        if device.connected and device.requested is None:
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
            assert converges(self.world, self.devices)
            assert judge(self.world, self.devices).violations == []


TestGuarantees = Guarantees.TestCase
TestGuarantees.settings = settings(
    max_examples=100, stateful_step_count=60, suppress_health_check=list(HealthCheck)
)


# Costs


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
def test_a_frame_costs_exactly_its_budget_of_calls(frame: dict[str, Any], calls: list[str]) -> None:
    """Only a connection's first frame in a Lambda process costs a GetItem: the store caches the item."""
    world = World(1, Faults())
    device = Device("p1", "p1", False, world)
    device.connect()
    run_until_idle(world, [device])
    assert device.socket is not None
    made: list[str] = []
    draw = world.draw

    def remember(name: str, kinds: tuple[str, ...]) -> str | None:
        made.append(name)
        return draw(name, kinds)

    setattr(world, "draw", remember)  # noqa: B010  # mypy forbids it plainly.
    device.send_frame(frame)
    while world.schedule.step():
        pass

    assert made == calls
