"""Signals reach the connections that are live now, are not stored, and are not answered."""

import json
from typing import Any

import pytest

from chalicelib.core.access import Access
from chalicelib.core.model import Delivery, Identity, Room
from chalicelib.core.protocol import MAX_PRESENCE_MEMBERS
from chalicelib.core.rate_limit import RateLimit
from tests.support.tokens import bearing
from tests.support.world import HERE, World


@pytest.fixture
def world() -> World:
    world = World(now=1_790_000_000_000)
    world.live("1", "c", "c2")
    world.live("2", "d", "d2")
    world.rooms.by_id["lobby"] = Room("lobby", members=frozenset({"1", "2", "3"}))
    return world


def signal(world: World, connection_id: str = "c", **frame: Any) -> list[tuple[str, str]]:
    """Send a signal and return what was posted: connection and `data`, or the error code."""
    before = len(world.gateway.posted)
    body = json.dumps({"action": "signal", "data": "x"} | frame)
    world.messenger.receive(connection_id, HERE, body)
    posted = [(to, json.loads(text)) for to, text in world.gateway.posted[before:]]
    return [(to, frame.get("code", frame.get("data", ""))) for to, frame in posted]


def test_a_signal_reaches_all_live_connections_of_a_player_and_is_not_answered(world: World) -> None:
    world.register("2", "connecting")

    assert signal(world, destinationPlayerId="2") == [("d", "x"), ("d2", "x")]

    assert world.frames("d")[-1] == {"type": "signal", "data": "x", "srcPlayerId": "1"}
    assert world.messages.stored == []


def test_a_signal_to_a_room_reaches_every_live_connection_but_the_senders(world: World) -> None:
    assert sorted(signal(world, roomId="lobby")) == [("c2", "x"), ("d", "x"), ("d2", "x")]

    assert world.frames("d")[-1] == {"type": "signal", "data": "x", "srcPlayerId": "1", "roomId": "lobby"}


def test_a_signal_to_nobody_online_is_lost(world: World) -> None:
    assert signal(world, destinationPlayerId="3") == []


def test_a_signal_is_posted_once_and_removes_only_connections_that_are_gone(world: World) -> None:
    world.gateway.answers = {"d": [Delivery.GONE], "d2": [Delivery.FAILED, Delivery.DELIVERED]}

    assert signal(world, destinationPlayerId="2") == []

    assert world.connections.player("2").connections == {"d2"}


@pytest.mark.parametrize(
    ("room", "code"),
    [
        (Room("lobby", members=frozenset({"2"})), "not_a_member"),
        (Room("lobby", members=frozenset({"1"}), muted=frozenset({"1"})), "forbidden"),
        (Room("lobby", members=frozenset(map(str, range(1, MAX_PRESENCE_MEMBERS + 2)))), "forbidden"),
    ],
)
def test_a_signal_to_a_room_is_refused_with_the_reason(world: World, room: Room, code: str) -> None:
    world.rooms.by_id["lobby"] = room

    assert signal(world, roomId="lobby") == [("c", code)]


def test_a_member_whose_token_only_permits_reading_cannot_signal() -> None:
    class ReadOnly:
        def identify(self, token: str) -> Identity:
            return Identity("1", rooms={"lobby": "read"})

    world = World(Access(is_open=False, tokens=ReadOnly))
    world.shake_hands("c", {}, bearing("t"))
    world.rooms.by_id["lobby"] = Room("lobby", members=frozenset({"1"}))

    assert signal(world, roomId="lobby") == [("c", "forbidden")]


@pytest.mark.parametrize(
    "data",
    ["", "x" * 4097, "\u00e9" * 2049, None, 7],
    ids=["empty", "long", "long in bytes", "null", "number"],
)
def test_data_has_1_to_4096_bytes(world: World, data: Any) -> None:
    assert signal(world, destinationPlayerId="2", data=data) == [("c", "invalid_frame")]
    assert signal(world, destinationPlayerId="2", data="\u00e9" * 2048) != []


@pytest.mark.parametrize(
    ("frame", "cost"),
    [({"destinationPlayerId": "2"}, 1), ({"roomId": "lobby"}, 1), ({"roomId": "large"}, 1 + 9)],
)
def test_a_signal_costs_by_the_number_of_members(world: World, frame: dict[str, str], cost: int) -> None:
    world.connections.rate = RateLimit(20, 60)
    world.rooms.by_id["large"] = Room("large", members=frozenset({"1", *map(str, range(100, 198))}))
    before = world.connections.used.total()

    signal(world, **frame)

    assert world.connections.used.total() - before == cost


def test_a_sender_within_a_small_rate_can_signal_a_small_room(world: World) -> None:
    world.connections.rate = RateLimit(per_second=2, burst=5)
    world.now += world.connections.rate.window_ms

    codes = [to for _ in range(4) for to, data in signal(world, roomId="lobby") if data == "rate_limited"]

    assert codes == []


def test_a_refused_signal_to_a_room_costs_its_frame_so_that_a_flood_reads_the_room_rarely(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.connections.rate = RateLimit(20, 60)
    world.rooms.by_id["large"] = Room("large", members=frozenset({"1", *map(str, range(100, 198))}))
    reads: list[str] = []
    find = world.rooms.find

    def counted(room_id: str, **how: bool) -> Room:
        reads.append(room_id)
        return find(room_id, **how)

    monkeypatch.setattr(world.rooms, "find", counted)

    for _ in range(90):
        signal(world, roomId="large")

    assert len(reads) <= 6 + 9


def test_a_signal_over_the_rate_is_refused_and_posted_to_nobody(world: World) -> None:
    world.connections.rate = RateLimit(1, 1)
    signal(world, destinationPlayerId="2")

    assert signal(world, destinationPlayerId="2") == [("c", "rate_limited")]
