"""The backend module writes to the tables what the service reads, with ids of DynamoDB's time."""

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from chalicelib.core.message_id import cursor_at, timestamp_of
from chalicelib.core.protocol import MESSAGE_ID
from chalicelib.core.service_frames import MessageFrame
from clients.backend import (
    Backend,
    BackendError,
    BannedFromRoom,
    Invalid,
    NotClosed,
    RoomFull,
    ServerClock,
)
from tests.support.backend_world import DAY, HOUR_AHEAD, World
from tests.support.stream_records import position


@pytest.fixture
def world() -> World:
    return World.new()


# Messages


def test_a_message_to_a_player_is_stored_as_the_service_stores_one(world: World) -> None:
    message_id = world.backend.send("2", "Hello!")

    (item,) = world.stored("2")
    assert re.fullmatch(MESSAGE_ID, message_id)
    assert item == {
        "destinationPlayerId": {"S": "2"},
        "messageId": {"S": message_id},
        "srcPlayerId": {"S": "#backend"},
        "message": {"S": "Hello!"},
        "sentAt": item["sentAt"],
        "expiresAt": {"N": str(int(item["sentAt"]["N"]) // 1000 + 7 * DAY)},
    }


def test_a_message_to_a_room_is_stored_in_the_rooms_partition(world: World) -> None:
    message_id = world.another_backend(sender="#shop", retention_seconds=DAY).send_room("lobby", "Hello!")

    (item,) = world.stored("room#lobby")
    assert (item["messageId"], item["srcPlayerId"]) == ({"S": message_id}, {"S": "#shop"})
    assert int(item["expiresAt"]["N"]) == int(item["sentAt"]["N"]) // 1000 + DAY


def test_a_send_is_one_put_and_only_the_first_asks_for_the_time(world: World) -> None:
    world.backend.send("2", "one")
    first = list(world.dynamodb.methods)
    world.dynamodb.calls.clear()
    world.backend.send("2", "two")
    world.backend.send_room("lobby", "three")

    assert first == ["put_item", "put_item"]
    assert world.dynamodb.methods == ["put_item", "put_item"]
    assert len(world.stored("2")) == 2


@pytest.mark.parametrize("text", ["x", 'é"\\\n\x01\x7f\u2028🎩'])
def test_a_text_is_accepted_exactly_as_long_as_its_frame_fits(world: World, text: str) -> None:
    """The frame is the longest that the service makes of the message: the one of a replay."""
    frame = MessageFrame(
        message=text,
        message_id=cursor_at(0),
        src_player_id="#backend",
        destination_player_id="2",
        sent_at=1_790_000_000_000,
        replayed=True,
    )
    fits = 128 * 1024 - len(frame.to_json().encode())

    world.backend.send("2", text + "a" * fits)
    with pytest.raises(Invalid, match=f"has {128 * 1024 + 1} bytes, and at most {128 * 1024} are allowed"):
        world.backend.send("2", text + "a" * (fits + 1))


def test_a_rooms_text_has_the_rooms_limit(world: World) -> None:
    world.another_backend(room_message_bytes=16_384).send_room("lobby", "a" * 8192)

    with pytest.raises(Invalid, match="at most 8192 are allowed"):
        world.backend.send_room("lobby", "a" * 8192)


BAD_CALLS: list[tuple[Callable[[Backend], object], str]] = [
    (lambda b: b.send("", "x"), "player '' must be a string of 1 to 128 of A-Z"),
    (lambda b: b.send("#other", "x"), "player '#other' must be a string"),
    (lambda b: b.send("x" * 129, "x"), "1 to 128"),
    (lambda b: b.send("2\n", "x"), "must be a string"),
    (lambda b: b.send(2, "x"), "player 2 must be a string"),  # type: ignore[arg-type]
    (lambda b: b.send("2", ""), "at least one character"),
    (lambda b: b.send("2", b"x"), "must be a string"),  # type: ignore[arg-type]
    (lambda b: b.send("2", "\ud800"), "lone surrogate"),
    (lambda b: b.send_room("x" * 65, "x"), "1 to 64"),
    (lambda b: b.send_room("room#lobby", "x"), "room 'room#lobby' must be a string of 1 to 64 of A-Z"),
    (lambda b: b.send_room("lobby", ""), "at least one character"),
    (lambda b: b.signal("2", ""), "1 to 4096 bytes"),
    (lambda b: b.signal("2", "é" * 2049), "1 to 4096 bytes"),
    (lambda b: b.signal_room("", "x"), "room '' must"),
    (lambda b: b.add("lobby"), "at least one player"),
    (lambda b: b.add("lobby", "2", "#3"), "player '#3' must"),
    (lambda b: b.remove("lobby", "#3"), "player '#3' must"),
    (lambda b: b.mute("#", "2"), "room '#' must"),
    (lambda b: b.ban_from_room("lobby", ""), "player '' must"),
    (lambda b: b.members(""), "room '' must"),
    (lambda b: b.online([]), "at least one player"),
    (lambda b: b.kick("#2"), "player '#2' must"),
    (lambda b: b.unban("#2"), "player '#2' must"),
    (lambda b: b.ban("2", 1_600_000_000_000), "must end in the future, not at 2020-09-13T12:26:40Z"),
    (lambda b: b.ban("2", 1_800_000_000), "a whole number is in milliseconds"),
    (lambda b: b.ban("2", timedelta.max), "must be from 2001-09-09 to 9999-12-31"),
    (lambda b: b.ban("2", True), "milliseconds since the epoch, a datetime or"),
    (lambda b: b.ban("2", datetime(2099, 1, 1)), "time zone"),
    (lambda b: b.ban("2", timedelta(0)), "longer than zero"),
    (lambda b: b.ban("2", "tomorrow"), "milliseconds since the epoch, a datetime or"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "words"), BAD_CALLS)
def test_a_bad_argument_is_refused_without_a_call(
    world: World, call: Callable[[Backend], object], words: str
) -> None:
    with pytest.raises(Invalid, match=re.escape(words)):
        call(world.backend)

    assert world.dynamodb.calls == []


@pytest.mark.parametrize("sender", ["backend", "#", "", "#a b", "#" + "x" * 65, "##"])
def test_a_sender_begins_with_a_hash_sign_which_no_player_can(world: World, sender: str) -> None:
    with pytest.raises(Invalid, match="must be # and then 1 to 64 of A-Z"):
        world.another_backend(sender=sender)


@pytest.mark.parametrize(
    "since", [timedelta(days=30_000), datetime(1, 1, 1, tzinfo=timezone.utc), 1_790_000_000]
)
def test_refan_needs_a_time_that_can_be_meant(world: World, since: Any) -> None:
    with pytest.raises(Invalid, match="must be from 2001-09-09"):
        world.backend.refan("lobby", since)


def test_refan_needs_a_time_in_the_past_by_dynamodbs_clock(world: World) -> None:
    future = int(1000 * (time.time() + HOUR_AHEAD)) + 60_000

    assert world.backend.refan("lobby", future - 120_000) == 0
    with pytest.raises(Invalid, match="since must be in the past"):
        world.backend.refan("lobby", future)


@pytest.mark.parametrize(
    "option", ["retention_seconds", "room_seconds", "room_members", "room_message_bytes"]
)
def test_a_limit_must_be_a_whole_number(world: World, option: str) -> None:
    for value in (0, -1, 1.5, "7"):
        with pytest.raises(Invalid, match=f"{option} must be a whole number above 0"):
            world.another_backend(**{option: value})


# Time


@dataclass
class Clocks:
    """This machine's clocks, and DynamoDB's, which is always an hour ahead of them."""

    monotonic: float = 500.0
    wall: float = 1_790_000_000.3

    def pass_by(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds

    def sleep(self, seconds: float) -> None:
        """Let the machine sleep, which stops the monotonic clock."""
        self.wall += seconds

    def server(self) -> float:
        return self.wall + HOUR_AHEAD

    def error(self, clock: ServerClock) -> float:
        seconds = clock.seconds()
        assert seconds is not None
        return abs(seconds - self.server())


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def timed(world: World, clocks: Clocks) -> World:
    world.dynamodb.time = clocks.server
    world.options = {"clock": ServerClock(lambda: clocks.monotonic, lambda: clocks.wall)}
    return world


def error_ms(clocks: Clocks, message_id: str) -> float:
    return abs(timestamp_of(message_id) - 1000 * clocks.server())


def test_an_id_has_dynamodbs_time_within_half_a_second_whatever_this_machine_says(
    timed: World, clocks: Clocks
) -> None:
    assert error_ms(clocks, timed.backend.send("2", "Hello!")) <= 500


def test_each_answer_makes_the_time_more_exact(timed: World, clocks: Clocks) -> None:
    for _ in range(30):
        message_id = timed.backend.send("2", "Hello!")
        clocks.pass_by(0.37)

    clocks.pass_by(-0.37)
    assert error_ms(clocks, message_id) <= 50


def test_a_slow_answer_does_not_make_the_time_wrong(timed: World, clocks: Clocks) -> None:
    timed.dynamodb.slow = lambda: clocks.pass_by(5)
    timed.backend.send("2", "Hello!")
    timed.dynamodb.slow = lambda: None
    assert (
        clocks.error(timed.options["clock"]) <= 3
    )  # Half of the answer's five seconds, and of the Date's one.

    for _ in range(10):
        message_id = timed.backend.send("2", "Hello!")
        clocks.pass_by(0.37)
    clocks.pass_by(-0.37)
    assert error_ms(clocks, message_id) <= 500


def test_ids_of_a_process_increase_even_if_the_time_steps_back(timed: World, clocks: Clocks) -> None:
    ids = [timed.backend.send("2", "one")]
    clocks.sleep(-120)
    ids += [timed.backend.send("2", "two") for _ in range(3)]

    assert ids == sorted(set(ids))


def test_ids_of_many_threads_differ(world: World) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: world.backend.send("2", "Hello!"), range(40)))

    assert len(set(ids)) == len(world.stored("2")) == 40


@pytest.mark.parametrize("wait", [lambda clocks: clocks.sleep(7200), lambda clocks: clocks.pass_by(601)])
def test_the_time_is_asked_for_again_after_ten_minutes_or_when_the_machine_has_slept(
    timed: World, clocks: Clocks, wait: Callable[[Clocks], None]
) -> None:
    timed.backend.send("2", "one")
    wait(clocks)
    timed.dynamodb.calls.clear()

    message_id = timed.backend.send("2", "two")

    assert timed.dynamodb.methods == ["put_item", "put_item"]
    assert error_ms(clocks, message_id) <= 500


def test_an_answer_that_contradicts_the_earlier_ones_counts(clocks: Clocks) -> None:
    """A server's clock was wrong, or was set."""
    clock = ServerClock(lambda: clocks.monotonic, lambda: clocks.wall)
    clock.learn("Thu, 01 Jan 2026 00:00:00 GMT", clocks.monotonic, clocks.monotonic)
    clock.learn("Thu, 01 Jan 2026 01:00:00 GMT", clocks.monotonic, clocks.monotonic)

    assert clock.seconds() == datetime(2026, 1, 1, 1, tzinfo=timezone.utc).timestamp() + 0.5


def test_without_a_date_nothing_is_stored(world: World) -> None:
    world.dynamodb.time = None

    with pytest.raises(BackendError, match="no Date header"):
        world.backend.send("2", "Hello!")

    assert world.stored("2") == []


def test_a_date_that_cannot_be_read_is_as_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.recorded_aws.formatdate", lambda *_, **__: "soon")

    with pytest.raises(BackendError, match="no Date header"):
        world.backend.send("2", "Hello!")


def test_a_refusal_of_the_first_call_is_raised(world: World) -> None:
    tables = "no-such-table", "no-such-table"
    backend = Backend(world.dynamodb, world.connections.at, *tables)

    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        backend.send("2", "Hello!")


def test_a_put_ends_soon_enough_for_a_replay_and_a_post_is_tried_once() -> None:
    """A replay begins 15 s before a position, of which 5 s are for clocks that differ."""
    session = boto3.Session("local", "local", region_name="us-east-1")
    backend = Backend.connect("websockets", "messages", session)
    puts, posts = (
        client.meta.config for client in (backend._dynamodb, backend._management("https://api.example/dev"))
    )

    longest_backoff_seconds = 1
    attempts = puts.retries["total_max_attempts"]
    assert attempts * (puts.connect_timeout + puts.read_timeout) + longest_backoff_seconds <= 10
    assert posts.retries["total_max_attempts"] == 1


# Rooms


def test_added_players_are_members_until_they_are_removed(world: World) -> None:
    for _ in range(2):
        world.backend.add("lobby", "2", "1")
    assert world.backend.members("lobby") == ["1", "2"]

    for _ in range(2):
        world.backend.remove("lobby", "1", "3")
    assert world.backend.members("lobby") == ["2"]
    assert world.backend.members("nowhere") == []


def test_a_room_exists_for_a_while_after_its_last_change(world: World) -> None:
    backend = world.another_backend(room_seconds=30 * DAY)
    for change in (backend.add, backend.mute, backend.ban_from_room):
        change("lobby" + change.__name__, "1")

        item = world.websockets(f"room#lobby{change.__name__}")
        assert item is not None
        assert abs(int(item["expiresAt"]["N"]) - time.time() - 30 * DAY) < 60


def test_undoing_what_was_never_done_stores_nothing(world: World) -> None:
    world.backend.remove("lobby", "1")
    world.backend.unmute("lobby", "1")
    world.backend.unban_from_room("lobby", "1")
    world.backend.unban("1")

    assert world.websockets("room#lobby") is None
    assert world.websockets("player#1") is None


def test_a_mute_outlives_a_removal(world: World) -> None:
    world.backend.add("lobby", "1")
    world.backend.mute("lobby", "1")
    world.backend.remove("lobby", "1")
    assert (world.websockets("room#lobby") or {})["muted"] == {"SS": ["1"]}

    world.backend.unmute("lobby", "1")
    assert "muted" not in (world.websockets("room#lobby") or {})


def test_a_ban_from_a_room_removes_the_player_in_the_same_update(world: World) -> None:
    world.backend.add("lobby", "1", "2")
    world.dynamodb.calls.clear()

    world.backend.ban_from_room("lobby", "1")

    item = world.websockets("room#lobby") or {}
    updated_rooms = [request for _, request in world.dynamodb.calls if "room#" in request["Key"]["id"]["S"]]
    assert (item["members"], item["banned"]) == ({"SS": ["2"]}, {"SS": ["1"]})
    assert len(updated_rooms) == 1


def test_a_player_who_is_banned_from_a_room_can_be_added_only_after_an_unban(world: World) -> None:
    world.backend.ban_from_room("lobby", "2")
    with pytest.raises(BannedFromRoom, match="player 2 is banned from room lobby; unban_from_room") as caught:
        world.backend.add("lobby", "1", "2", "3")
    assert (caught.value.added, caught.value.not_added) == (("1",), ("2", "3"))
    assert world.backend.members("lobby") == ["1"]

    world.backend.unban_from_room("lobby", "2")
    world.backend.add("lobby", "2")
    assert world.backend.members("lobby") == ["1", "2"]


def test_a_full_room_refuses_further_members_and_says_who_was_added(world: World) -> None:
    backend = world.another_backend(room_members=3)
    backend.add("lobby", "1")

    with pytest.raises(RoomFull, match=r"^room_full: .* Added: 2, 3\. Not added: 4, 1\.$") as caught:
        backend.add("lobby", "2", "3", "4", "1")
    assert (caught.value.added, caught.value.not_added) == (("2", "3"), ("4", "1"))
    backend.add("lobby", "1")  # A member of a full room can be added again.
    assert backend.members("lobby") == ["1", "2", "3"]


def test_concurrent_adds_never_exceed_the_rooms_limit(world: World) -> None:
    backends = [world.another_backend(room_members=10) for _ in range(4)]

    def add(number: int) -> bool:
        try:
            backends[number % 4].add("lobby", f"p{number}")
        except RoomFull:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(add, range(40)))

    assert sum(added) == len(world.backend.members("lobby")) == 10


@pytest.mark.parametrize("end", ["remove", "ban_from_room"])
def test_a_room_that_is_told_of_a_players_presence_is_told_of_its_end(world: World, end: str) -> None:
    world.backend.add("lobby", "1", "2")
    world.set_rooms_of("1", "lobby", "arena")

    getattr(world.backend, end)("lobby", "1")
    getattr(world.backend, end)("lobby", "2")

    (poke,) = world.stored("room#lobby")
    assert world.player("1")["rooms"] == {"SS": ["arena"]}
    kind, _, poke_id = poke["messageId"]["S"].partition("#")
    assert kind == "presence"
    assert re.fullmatch(MESSAGE_ID, poke_id)
    assert poke["playerId"] == {"S": "1"}
    assert abs(int(poke["expiresAt"]["N"]) - time.time() - HOUR_AHEAD - DAY) < 60
    assert world.player("2") == {}


# Refan


def put(world: World, message_id: str, **attributes: Any) -> None:
    defaults: dict[str, Any] = {
        "srcPlayerId": {"S": "1"},
        "message": {"S": message_id},
        "sentAt": {"N": "5"},
        "expiresAt": {"N": str(int(time.time() + HOUR_AHEAD) + DAY)},
    }
    item = {"destinationPlayerId": {"S": "room#lobby"}, "messageId": {"S": message_id}}
    world.tables.client.put_item(TableName=world.tables.messages, Item={**item, **defaults, **attributes})


def room_id_at(seconds_ago: float) -> str:
    milliseconds = int(1000 * (time.time() + HOUR_AHEAD - seconds_ago))
    return cursor_at(milliseconds).replace("-0000-0000-", "-7000-8000-")


def test_refan_stores_a_rooms_messages_again_in_order_with_their_first_ids(world: World) -> None:
    old, one, two = room_id_at(7200), room_id_at(60), room_id_at(59)
    for message_id in (old, one, two):
        put(world, message_id)

    count = world.backend.refan("lobby", timedelta(hours=1))

    again = world.stored("room#lobby")[3:]
    assert count == 2
    assert [item["roomMessageId"]["S"] for item in again] == [one, two]
    assert all(item["messageId"]["S"] > two for item in again)
    assert {name: again[0][name] for name in ("srcPlayerId", "message", "sentAt")} == {
        "srcPlayerId": {"S": "1"},
        "message": {"S": one},
        "sentAt": {"N": "5"},
    }
    assert abs(int(again[0]["expiresAt"]["N"]) - time.time() - HOUR_AHEAD - 7 * DAY) < 60


def test_refan_leaves_out_what_is_not_a_message_or_has_expired(world: World) -> None:
    one, withdrawn, expired = room_id_at(60), room_id_at(59), room_id_at(58)
    put(world, one)
    put(world, expired, expiresAt={"N": "1000"})
    put(world, f"presence#{room_id_at(57)}")
    key = {"destinationPlayerId": {"S": "room#lobby"}, "messageId": {"S": withdrawn}}
    world.tables.client.put_item(
        TableName=world.tables.messages,
        Item={**key, "withdrawn": {"BOOL": True}, "expiresAt": {"N": "9999999999"}},
    )

    assert world.backend.refan("lobby", timedelta(hours=1)) == 1


def test_a_refan_of_a_refan_stores_each_message_once_with_its_first_id(world: World) -> None:
    before, one = room_id_at(7200), room_id_at(60)
    put(world, one)
    put(world, room_id_at(50), roomMessageId={"S": before})
    for _ in range(3):
        assert world.backend.refan("lobby", timedelta(hours=1)) == 2

    last = world.stored("room#lobby")[-2:]
    assert [item["roomMessageId"]["S"] for item in last] == [one, before]


def test_refan_finds_the_newest_message_even_if_its_id_is_of_a_faster_clock(world: World) -> None:
    put(world, room_id_at(-1.5))

    assert world.backend.refan("lobby", timedelta(hours=1)) == 1
    assert len(world.stored("room#lobby")) == 2


def test_refan_reads_every_page(world: World) -> None:
    long = {"S": "x" * 100_000}
    for number in range(25):  # DynamoDB returns at most 1 MB per call.
        put(world, room_id_at(100 - number), message=long)

    assert world.backend.refan("lobby", timedelta(hours=1)) == 25
    assert world.dynamodb.methods.count("query") >= 3


# Reading


def test_online_players_are_those_with_a_live_connection_and_when_they_were_last_seen(world: World) -> None:
    world.connect("1", "a")
    world.connect("2", "b", live=False)
    seen_at = int(world.player("1")["seenAt"]["N"])

    assert world.backend.online(["1", "2", "3", "1"]) == {"1": seen_at}


def test_any_number_of_players_can_be_asked_for(world: World) -> None:
    world.connect("p249", "a")

    assert list(world.backend.online(f"p{number}" for number in range(250))) == ["p249"]
    assert world.dynamodb.methods == ["batch_get_item"] * 3


def test_players_that_dynamodb_left_unread_are_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.connect("1", "a")
    monkeypatch.setattr("clients.backend.BATCH_GET_PAUSES_SECONDS", (0, 0, None))
    full = world.tables.client.batch_get_item
    left: list[int] = [2]

    def batch_get_item(RequestItems: Any) -> Any:  # noqa: N803
        if left[0] == 0:
            return full(RequestItems=RequestItems)
        left[0] -= 1
        return {"Responses": {}, "UnprocessedKeys": RequestItems, "ResponseMetadata": {}}

    monkeypatch.setattr(
        world.dynamodb, "client", type("Client", (), {"batch_get_item": staticmethod(batch_get_item)})
    )
    assert list(world.backend.online(["1"])) == ["1"]

    left[0] = 3
    with pytest.raises(BackendError, match="throttling"):
        world.backend.online(["1"])


# Kick and ban


def test_a_kick_removes_the_connections_then_tells_the_client_and_closes_them(world: World) -> None:
    world.connect("1", "a")
    world.connect("1", "b", live=False)
    world.connect("2", "c")
    seen: list[frozenset[str]] = []
    world.connections.before_post = lambda: seen.append(world.read_player("1").connections)

    assert world.backend.kick("1") == 2

    assert seen == [frozenset()] * 2
    assert [method for method, connection in world.connections.calls if connection == "a"] == [
        "post",
        "delete",
    ]
    assert world.connections.frames == {
        "a": [{"type": "closing", "reason": "kicked"}],
        "b": [{"type": "closing", "reason": "kicked"}],
    }
    assert world.connections.open == {"c"}
    assert [name for name in world.player("1") if name.endswith((":a", ":b"))] == []
    assert "connections" not in world.player("1")
    assert world.websockets("connection#a") is None
    assert world.read_player("2").connections == {"c"}


def test_a_kicked_player_can_connect_again(world: World) -> None:
    world.connect("1", "a")
    world.backend.kick("1")
    world.connect("1", "b")

    assert world.read_player("1").live.keys() == {"b"}
    assert world.read_player("1").missed_from is None


def test_a_kick_of_nobody_stores_nothing(world: World) -> None:
    assert world.backend.kick("stranger") == 0

    assert world.dynamodb.methods == ["get_item"]
    assert world.player("stranger") == {}


def test_a_player_who_connects_during_a_kick_is_kicked_too(world: World) -> None:
    world.connect("1", "a")
    world.dynamodb.before["update_item"] = lambda: world.connect("1", "b")

    assert world.backend.kick("1") == 2

    assert world.read_player("1").connections == set()
    assert world.connections.open == set()


@pytest.mark.parametrize("end", ["kick", "ban"])
def test_connections_are_closed_even_if_the_update_that_removed_them_seems_to_have_failed(
    world: World, end: str
) -> None:
    """boto3 repeats an update whose answer it didn't get, and then the condition fails."""
    world.connect("1", "a")
    world.set_rooms_of("1", "lobby")
    real = world.tables.client.update_item
    world.dynamodb.before["update_item"] = lambda: real(**world.dynamodb.calls[-1][1])
    until = [timedelta(hours=1)] if end == "ban" else []

    assert getattr(world.backend, end)("1", *until) == 1

    assert [frame["type"] for frame in world.connections.frames["a"]] == ["closing"]
    assert world.connections.open == set()
    assert world.websockets("connection#a") is None
    assert len(world.stored("room#lobby")) == 1


def test_a_kick_between_both_writes_of_a_connect_leaves_a_connection_that_is_not_the_players(
    world: World,
) -> None:
    """The service puts the connection's own item last."""
    world.connect("1", "a", live=False)
    item = world.websockets("connection#a")
    world.backend.kick("1")
    world.tables.client.put_item(TableName=world.tables.websockets, Item=item)

    assert world.service.find("a") is not None
    assert world.service.admit("1", "a", 1) is None
    assert not world.service.make_live("1", "a", position(8))


def test_a_connection_that_opens_during_a_kick_is_closed(world: World) -> None:
    world.connect("1", "young", live=False, at_ms=int(1000 * time.time()))
    world.connections.answers["young"] = [410, 410, 410]

    world.backend.kick("1")

    assert world.connections.open == set()


def test_a_connection_that_is_gone_counts_as_closed_at_once(world: World) -> None:
    world.connect("1", "a", at_ms=int(1000 * time.time()))
    world.connect("1", "b", live=False)
    world.connections.open.clear()

    assert world.backend.kick("1") == 2

    assert sorted(world.connections.calls) == [
        (method, connection) for method in ("delete", "post") for connection in ("a", "b")
    ]


def test_a_kick_says_which_connections_api_gateway_did_not_close(world: World) -> None:
    world.connect("1", "a")
    world.connect("1", "b")
    world.connections.answers["a"] = [429] + [500] * 10

    with pytest.raises(
        NotClosed, match=r"are removed, but API Gateway didn't close a \(HTTP 500\)$"
    ) as caught:
        world.backend.kick("1")

    assert caught.value.connections == {"a": "HTTP 500"}
    assert world.read_player("1").connections == set()
    assert world.connections.open == {"a"}


def test_a_kick_removes_what_an_earlier_version_or_a_crash_left_of_a_connection(world: World) -> None:
    world.connect("1", "a")
    world.tables.client.update_item(
        TableName=world.tables.websockets,
        Key={"id": {"S": "player#1"}},
        UpdateExpression="REMOVE connections",
    )

    assert world.backend.kick("1") == 1
    assert world.read_player("1").live == {}


def test_a_hundred_connections_are_kicked_at_once(world: World) -> None:
    for number in range(100):
        world.connect("1", f"connection-{number}=")

    assert world.backend.kick("1") == 100
    assert world.connections.open == set()


def test_rooms_are_told_that_a_kicked_player_is_offline(world: World) -> None:
    world.connect("1", "a")
    world.set_rooms_of("1", "lobby", "arena")

    world.backend.kick("1")

    for room in ("room#lobby", "room#arena"):
        assert [item["playerId"] for item in world.stored(room)] == [{"S": "1"}]


def test_the_connections_are_reached_by_their_own_api_unless_an_endpoint_is_given(world: World) -> None:
    for backend in (world.backend, world.another_backend(endpoint="http://127.0.0.1:8001/dev")):
        world.connect("1", "a")
        backend.kick("1")

    assert world.connections.urls == [
        "https://api.execute-api.us-east-1.amazonaws.com/dev",
        "http://127.0.0.1:8001/dev",
    ]


def test_a_ban_is_set_in_the_update_that_removes_the_connections(world: World) -> None:
    world.connect("1", "a")
    until = int(1000 * time.time()) + 3_600_000

    assert world.backend.ban("1", until) == 1

    assert world.dynamodb.methods.count("update_item") == 1
    assert world.player("1")["bannedUntil"] == {"N": str(until)}
    assert world.read_player("1").connections == set()
    assert world.connections.frames["a"] == [{"type": "closing", "reason": "banned", "until": until}]
    assert world.connections.open == set()


def test_a_player_who_connects_during_a_ban_is_either_removed_or_comes_after_it(world: World) -> None:
    world.connect("1", "a")
    world.dynamodb.before["update_item"] = lambda: world.connect("1", "b")

    assert world.backend.ban("1", timedelta(hours=1)) == 2

    assert world.read_player("1").connections == set()
    assert "bannedUntil" in world.player("1")


def test_a_player_who_always_connects_or_disconnects_is_reported(world: World) -> None:
    world.connect("1", "a")
    real = world.dynamodb.client.update_item

    def connect_first(**request: Any) -> Any:
        if "bannedUntil" in request["UpdateExpression"]:
            world.connect("1", f"c{len(world.dynamodb.calls)}")
        return real(**request)

    world.dynamodb.client = type(
        "Client", (), {"update_item": staticmethod(connect_first), "get_item": world.tables.client.get_item}
    )
    with pytest.raises(BackendError, match="at every attempt; retry"):
        world.backend.ban("1", timedelta(hours=1))


def test_a_ban_longer_than_the_retention_is_kept_until_it_ends(world: World) -> None:
    until = datetime.now(timezone.utc) + timedelta(days=365)

    world.backend.ban("never-seen", until)

    assert int(world.player("never-seen")["expiresAt"]["N"]) > until.timestamp()


def test_a_short_ban_does_not_shorten_the_life_of_the_players_item(world: World) -> None:
    world.connect("1", "a")
    before = int(world.player("1")["expiresAt"]["N"])

    world.another_backend(retention_seconds=DAY).ban("1", timedelta(minutes=1))

    assert int(world.player("1")["expiresAt"]["N"]) >= before


def test_an_unban_ends_a_ban(world: World) -> None:
    world.backend.ban("1", timedelta(hours=1))
    world.backend.unban("1")

    assert "bannedUntil" not in world.player("1")


# Signals


def test_a_signal_goes_once_to_each_live_connection(world: World) -> None:
    world.connect("1", "a")
    world.connect("1", "b")
    world.connect("1", "not-live", live=False)

    assert world.backend.signal("1", "é") == 2

    frame = {"type": "signal", "data": "é", "srcPlayerId": "#backend"}
    assert world.connections.frames == {"a": [frame], "b": [frame]}
    assert world.stored("1") == []


def test_a_signal_to_a_room_goes_to_its_live_members_and_names_the_room(world: World) -> None:
    world.backend.add("lobby", "1", "2", "3")
    world.connect("1", "a")
    world.connect("2", "b")
    world.connect("4", "stranger")

    assert world.backend.signal_room("lobby", "x") == 2

    frame = {"type": "signal", "data": "x", "srcPlayerId": "#backend", "roomId": "lobby"}
    assert world.connections.frames == {"a": [frame], "b": [frame]}


def test_a_signal_that_fails_is_not_repeated_and_only_a_gone_connection_is_removed(world: World) -> None:
    for connection in ("gone", "throttled", "failing", "works"):
        world.connect("1", connection)
    world.connections.answers |= {"gone": [410], "throttled": [429], "failing": [500]}

    assert world.backend.signal("1", "x") == 1

    assert len(world.connections.calls) == 4
    assert world.read_player("1").live.keys() == {"throttled", "failing", "works"}
    assert world.service.find("gone") is None
    assert [name for name in world.player("1") if name.endswith(":gone")] == []


def test_rooms_are_told_when_a_signal_finds_the_last_live_connection_gone(world: World) -> None:
    world.connect("1", "a")
    world.connect("1", "b")
    world.set_rooms_of("1", "lobby")
    world.connections.open.discard("a")
    world.backend.signal("1", "x")
    assert world.stored("room#lobby") == []

    world.connections.open.discard("b")
    world.backend.signal("1", "x")
    assert len(world.stored("room#lobby")) == 1


def test_a_signal_to_nobody_posts_nothing(world: World) -> None:
    assert world.backend.signal("stranger", "x") == 0
    assert world.backend.signal_room("nowhere", "x") == 0
    assert world.connections.calls == []


def test_a_room_of_more_than_a_hundred_members_cannot_be_signalled(world: World) -> None:
    world.backend.add("lobby", *(f"p{number}" for number in range(100)))
    assert world.backend.signal_room("lobby", "x") == 0

    world.backend.add("lobby", "one-more")
    with pytest.raises(Invalid, match="has 101 members: at most 100 can be signalled"):
        world.backend.signal_room("lobby", "x")
