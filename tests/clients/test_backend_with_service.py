"""The service reads what the backend writes: messages, rooms and bans."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest

from chalicelib.aws.connections import ConnectionsTable
from chalicelib.aws.message_items import parse_record
from chalicelib.aws.messages import MessagesTable
from chalicelib.aws.rooms import RoomsTable
from chalicelib.core.frames import frame_of
from chalicelib.core.message_id import cursor_at
from chalicelib.core.model import Banned, Connection, Message, Poke, RoomMessage
from chalicelib.core.rate_limit import RateLimit
from clients.backend import Invalid, RoomFull
from tests.support.backend_world import DAY, HERE, World
from tests.support.sockets import PATIENCE_SECONDS
from tests.support.stream_records import inserted

LONGEST_PLAYER_ID = "x" * 128


@pytest.fixture
def world() -> World:
    return World.new()


def rooms_of(world: World, members_per_room: int = 250) -> RoomsTable:
    return RoomsTable(
        world.tables.client,
        world.tables.websockets,
        members_per_room=members_per_room,
        rate=RateLimit(100, 300),
        room_seconds=7 * DAY,
    )


def connections_at(world: World, clock: Callable[[], int]) -> ConnectionsTable:
    return ConnectionsTable(
        world.tables.client,
        world.tables.websockets,
        player_seconds=7 * DAY,
        rate=RateLimit(20, 10_000),
        connections_per_player=100,
        clock=clock,
    )


def entries(world: World, destination: str) -> list[Any]:
    """Return what the push function reads of a destination's stream records."""
    return [parse_record(inserted(item)) for item in world.stored(destination)]


# Messages


def test_the_push_function_reads_a_message_to_a_player(world: World) -> None:
    message_id = world.backend.send("2", "Hello!")

    (message,) = entries(world, "2")
    assert message == Message(message_id, "2", "#backend", "Hello!", message.sent_at)


def test_a_replay_finds_a_message_to_a_player(world: World) -> None:
    message_id = world.backend.send("2", "Hello!")

    messages = MessagesTable(world.tables.client, world.tables.messages, 7 * DAY)
    page = messages.page("2", "0", None, 50)

    assert [message.id for message in page.messages] == [message_id]


def test_the_push_function_reads_a_message_to_a_room(world: World) -> None:
    message_id = world.another_backend(sender="#shop").send_room("lobby", "Hello!")

    (message,) = entries(world, "room#lobby")
    assert message == RoomMessage(message_id, "lobby", "#shop", "Hello!", message.sent_at)


def test_the_push_function_reads_a_message_that_refan_stored_again(world: World) -> None:
    first_id = world.backend.send_room("lobby", "Hello!")
    world.backend.refan("lobby", timedelta(minutes=1))

    first, again = entries(world, "room#lobby")
    assert again.room_message_id == first_id
    assert (again.text, again.sent_at, again.src_player_id) == (first.text, first.sent_at, "#backend")
    assert again.copy_for("2", "x").room_message_id == first.copy_for("2", "x").room_message_id == first_id


def test_the_push_function_reads_that_a_room_must_be_told_of_a_player(world: World) -> None:
    world.connect("1", "a")
    world.set_rooms_of("1", "lobby")
    world.backend.kick("1")

    (poke,) = entries(world, "room#lobby")
    assert isinstance(poke, Poke)
    assert (poke.room_id, poke.player_id) == ("lobby", "1")


def test_the_push_function_reads_the_senders_and_rooms_that_the_backend_accepts(world: World) -> None:
    characters = "AZaz09._-@|:+!'/="
    backend = world.another_backend(sender="#" + characters.ljust(64, "x"))

    backend.send_room(characters.ljust(64, "x"), "Hello!")
    backend.send(characters.ljust(128, "x"), "Hello!")

    assert len(entries(world, "room#" + characters.ljust(64, "x"))) == 1
    assert len(entries(world, characters.ljust(128, "x"))) == 1


def test_a_text_to_a_room_is_accepted_exactly_as_long_as_every_members_frame_fits(world: World) -> None:
    message = RoomMessage(cursor_at(0), "lobby", "#backend", "é", 1_790_000_000_000)
    longest = frame_of(message.copy_for(LONGEST_PLAYER_ID, message.id), replayed=True)
    fits = 8192 - len(longest.encode())

    world.backend.send_room("lobby", "é" + "a" * fits)
    with pytest.raises(Invalid, match="has 8193 bytes"):
        world.backend.send_room("lobby", "é" + "a" * (fits + 1))


# Rooms


def test_the_service_knows_the_members_that_the_backend_added(world: World) -> None:
    world.backend.add("lobby", "1", "2")
    world.backend.remove("lobby", "2")

    assert rooms_of(world).find("lobby").members == {"1"}


def test_a_muted_member_cannot_send(world: World) -> None:
    world.backend.add("lobby", "1")
    world.backend.mute("lobby", "1")
    muted, _ = rooms_of(world).count_message("lobby", "1")
    world.backend.unmute("lobby", "1")
    unmuted, _ = rooms_of(world).count_message("lobby", "1")

    assert (muted, unmuted) == (False, True)


def test_a_player_who_is_banned_from_a_room_cannot_join_or_send(world: World) -> None:
    rooms = rooms_of(world)
    rooms.join("lobby", "1")
    world.backend.ban_from_room("lobby", "1")
    sent, room = rooms.count_message("lobby", "1")
    joined, _ = rooms.join("lobby", "1")
    world.backend.unban_from_room("lobby", "1")

    assert (sent, room.members, joined) == (False, frozenset(), False)
    assert rooms.join("lobby", "1")[0]


def test_joins_that_race_a_ban_from_a_room_leave_no_member(world: World) -> None:
    rooms = rooms_of(world)
    for round_number in range(20):
        room = f"room{round_number}"
        with ThreadPoolExecutor(4) as pool:
            joining = [pool.submit(rooms.join, room, "1") for _ in range(3)]
            pool.submit(world.backend.ban_from_room, room, "1").result()
            for each in joining:
                each.result()

        assert rooms.find(room).members == set()


def test_joins_and_adds_together_never_exceed_the_rooms_limit(world: World) -> None:
    rooms, backend = rooms_of(world, members_per_room=10), world.another_backend(room_members=10)

    def enter(number: int) -> bool:
        if number % 2:
            return rooms.join("lobby", f"p{number}")[0]
        try:
            backend.add("lobby", f"p{number}")
        except RoomFull:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        entered = list(pool.map(enter, range(40)))

    assert sum(entered) == len(rooms.find("lobby").members) == 10


# Bans


def connect(world: World, connection: str) -> bool:
    """Return whether the service registers a connection of player 1."""
    try:
        world.service.register(Connection(connection, "1", HERE, 1000, {}))
    except Banned:
        return False
    return True


def test_a_banned_player_cannot_connect_until_the_ban_ends(world: World) -> None:
    now = int(1000 * time.time())
    world.backend.ban("1", now + 3_600_000)
    later = connections_at(world, lambda: now + 3_600_001)

    assert connect(world, "a") is False
    assert world.service.find("a") is None
    later.register(Connection("b", "1", HERE, 1000, {}))
    assert world.read_player("1").connections == {"b"}


def test_an_unbanned_player_can_connect(world: World) -> None:
    world.backend.ban("1", timedelta(hours=1))
    world.backend.unban("1")

    assert connect(world, "a") is True


def test_connects_that_race_a_ban_leave_no_connection(world: World) -> None:
    for round_number in range(20):
        together = Barrier(7)

        def connect_too(connection: str, together: Barrier = together) -> None:
            together.wait(PATIENCE_SECONDS)
            for attempt in range(3):
                connect(world, f"{connection}-{attempt}")

        with ThreadPoolExecutor(6) as pool:
            connecting = [pool.submit(connect_too, f"{round_number}-{n}") for n in range(6)]
            together.wait(PATIENCE_SECONDS)
            world.backend.ban("1", timedelta(hours=1))
            for each in connecting:
                each.result()

        assert world.read_player("1").connections == set()
        world.backend.unban("1")


def test_a_message_that_a_banned_player_misses_does_not_end_a_long_ban(world: World) -> None:
    until = int(1000 * (time.time() + 365 * DAY))
    world.backend.ban("1", until)

    world.service.note_missed("1", cursor_at(0))

    assert int(world.player("1")["expiresAt"]["N"]) > until // 1000
