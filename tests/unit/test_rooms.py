"""Players join and leave rooms, and send to them. Push copies a room's messages to its members."""

import json
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.core.access import Access
from chalicelib.core.model import Connection, Identity, Message, ReplayMarker, Room, RoomMessage, Unavailable
from chalicelib.core.permissions import may_join
from chalicelib.core.rate_limit import RateLimit
from tests.support.stream_records import position
from tests.support.tokens import bearing
from tests.support.world import HERE, ROOM_BYTES, ROOM_SECONDS, World, at


@pytest.fixture
def world() -> World:
    world = World()
    world.live("1", "c")
    world.live("2", "d")
    return world


def join(world: World, connection_id: str = "c", room_id: str = "lobby", **more: Any) -> dict[str, Any]:
    return world.send(connection_id, action="join", roomId=room_id, **more)


def say(world: World, text: str = "hi", connection_id: str = "c", **more: Any) -> dict[str, Any]:
    return world.send(connection_id, action="sendmessage", roomId="lobby", message=text, **more)


def test_a_player_joins_a_room_and_leaves_it(world: World) -> None:
    assert join(world, ackId=1) == {"type": "joined", "roomId": "lobby", "members": 1, "ackId": 1}
    assert join(world, "d") == {"type": "joined", "roomId": "lobby", "members": 2}

    reply = world.send("c", action="leave", roomId="lobby", ackId=2)

    assert reply == {"type": "left", "roomId": "lobby", "ackId": 2}
    assert world.rooms.by_id["lobby"].members == {"2"}


def test_joining_and_leaving_can_be_repeated(world: World) -> None:
    assert [join(world)["members"], join(world)["members"]] == [1, 1]

    replies = [world.send("c", action="leave", roomId="lobby")["type"] for _ in range(2)]

    assert replies == ["left", "left"]


def test_a_full_room_lets_in_members_only(world: World) -> None:
    world.rooms.members_per_room = 1
    join(world)

    assert join(world, "d")["code"] == "room_full"
    assert join(world)["type"] == "joined"


def test_a_banned_player_cannot_join(world: World) -> None:
    world.rooms.by_id["lobby"] = Room("lobby", banned=frozenset({"1"}))

    assert join(world)["code"] == "forbidden"
    assert world.rooms.by_id["lobby"].members == set()


def test_members_see_who_is_in_the_room_and_others_do_not(world: World) -> None:
    join(world, "d")

    stranger = world.send("c", action="members", roomId="lobby")
    join(world)
    member = world.send("c", action="members", roomId="lobby", ackId="m")

    assert stranger["code"] == "not_a_member"
    assert (member["members"], member["ackId"]) == (["1", "2"], "m")


def test_members_whose_ids_do_not_fit_into_one_frame_are_too_large(world: World) -> None:
    ids, room_id = {f"{number:0128}" for number in range(999)}, "x" * 64
    world.rooms.by_id[room_id] = Room(room_id, members=frozenset({"1", *ids, "y" * 128}))

    assert world.send("c", action="members", roomId=room_id)["code"] == "too_large"


def test_a_message_to_a_room_is_stored_once_and_acknowledged(world: World) -> None:
    join(world)

    ack = say(world, ackId=7)

    assert ack == {
        "type": "ack",
        "status": "Message sent!",
        "messageId": "id-1",
        "message": "hi",
        "srcPlayerId": "1",
        "roomId": "lobby",
        "sentAt": 1000,
        "ackId": 7,
    }
    assert world.messages.stored == [RoomMessage("id-1", "lobby", "1", "hi", 1000)]


def test_a_client_message_id_stores_a_rooms_message_once(world: World) -> None:
    join(world)

    first = say(world, clientMessageId="u")
    again = say(world, clientMessageId="u")

    assert (again["messageId"], again["duplicate"]) == (first["messageId"], True)
    assert len(world.messages.stored) == 1


@pytest.mark.parametrize("left", [Room("lobby"), Room("lobby", frozenset("1"), muted=frozenset("1"))])
def test_a_retry_after_the_membership_has_ended_finds_its_stored_message(world: World, left: Room) -> None:
    join(world)
    first = say(world, clientMessageId="u")
    world.rooms.by_id["lobby"] = left

    again = say(world, clientMessageId="u", ackId=3)

    assert (again["messageId"], again["duplicate"], again["ackId"]) == (first["messageId"], True, 3)
    assert say(world, clientMessageId="new")["type"] == "error"


def test_a_retry_of_a_message_that_was_never_stored_is_refused_for_good(world: World) -> None:
    join(world)
    world.messages.failing = {"put_unless_withdrawn"}
    assert say(world, clientMessageId="u")["code"] == "unavailable"
    world.messages.failing = set()
    world.rooms.by_id["lobby"] = Room("lobby")

    assert say(world, clientMessageId="u")["code"] == "not_a_member"
    assert len(world.messages.withdrawn) == 1


def test_only_members_can_send(world: World) -> None:
    join(world, "d")

    assert say(world)["code"] == "not_a_member"
    assert world.messages.stored == []


def test_a_muted_member_cannot_send(world: World) -> None:
    world.rooms.by_id["lobby"] = Room("lobby", members=frozenset("1"), muted=frozenset("1"))

    assert say(world)["code"] == "forbidden"
    assert world.messages.stored == []


def test_a_room_over_its_rate_refuses_with_the_time_to_wait(world: World) -> None:
    world.rooms.rate = RateLimit(per_second=1, burst=1)
    join(world)
    say(world)

    refused = say(world)

    assert (refused["code"], refused["retryable"]) == ("rate_limited", True)
    assert 0 < refused["retryAfterMs"] <= world.rooms.rate.window_ms
    assert refused["detail"] == "over the room's rate limit"


def test_a_message_must_fit_into_the_frame_of_every_member(world: World) -> None:
    join(world)

    assert say(world, "x" * (ROOM_BYTES - 600))["type"] == "ack"
    assert say(world, "x" * (ROOM_BYTES - 200))["code"] == "too_large"
    assert len(world.messages.stored) == 1


@pytest.mark.parametrize(
    ("destination", "named"),
    [
        ({}, "destinationPlayerId: Field required, or roomId"),
        ({"destinationPlayerId": None}, "destinationPlayerId: Field required, or roomId"),
        ({"destinationPlayerId": "2", "roomId": "lobby"}, "roomId: cannot be sent with destinationPlayerId"),
        ({"roomId": "a#b"}, "roomId: must be a string of 1 to 64"),
        ({"roomId": "x" * 65}, "roomId: must be a string of 1 to 64"),
        ({"roomId": 7}, "roomId: must be a string of 1 to 64"),
    ],
)
def test_a_message_has_exactly_one_valid_destination(
    world: World, destination: dict[str, Any], named: str
) -> None:
    reply = world.send("c", action="sendmessage", message="hi", **destination)

    assert reply["code"] == "invalid_frame"
    assert reply["detail"].startswith(named)


@pytest.mark.parametrize(
    ("frame", "cost"),
    [
        ({"action": "ping"}, 1),
        ({"action": "join", "roomId": "lobby"}, 4),
        ({"action": "join", "roomId": "lobby", "presence": True}, 5),
        ({"action": "leave", "roomId": "lobby"}, 4),
        ({"action": "sendmessage", "roomId": "lobby", "message": "hi"}, 4),
        ({"action": "sendmessage", "roomId": "lobby", "message": "x" * 5000}, 8),
        ({"action": "members", "roomId": "lobby"}, 20),
        ({"action": "sync"}, 20),
        ({"action": "sync", "routeKey": "x" * 100_000}, 25),
        ({"action": "join", "roomId": "lobby", "presence": True, "routeKey": "x" * 100_000}, 25),
    ],
)
def test_each_action_has_its_price(world: World, frame: dict[str, Any], cost: int) -> None:
    world.connections.rate = RateLimit(20, 60)
    world.rooms.by_id["lobby"] = Room("lobby", members=frozenset("1"))
    before = world.connections.used.total()

    world.messenger.receive("c", HERE, json.dumps(frame))

    assert world.connections.used.total() - before == cost


# Permissions


@pytest.mark.parametrize(
    ("rooms", "room_id", "permission"),
    [
        ({}, "lobby", None),
        ({"lobby": "send"}, "lobby", "send"),
        ({"lobby": "send"}, "lobby2", None),
        ({"match-*": "read"}, "match-7", "read"),
        ({"match-*": "read"}, "match-", "read"),
        ({"match-*": "read"}, "match", None),
        ({"*": "read", "match-*": "send"}, "match-7", "send"),
        ({"match-*": "send", "match-7": "read"}, "match-7", "read"),
    ],
)
def test_the_longest_matching_name_gives_the_permission(
    rooms: dict[str, Any], room_id: str, permission: str | None
) -> None:
    assert may_join(Connection("c", "1", HERE, 0, {}, rooms=rooms), room_id) == permission


class Claims:
    """Tokens whose text is the rooms that they permit, such as `lobby=send`."""

    def identify(self, token: str) -> Identity:
        room_id, _, permission = token.partition("=")
        return Identity("3", rooms={room_id: "read" if permission == "read" else "send"})


def with_claims(rooms: str) -> World:
    world = World(Access(is_open=False, tokens=Claims))
    world.shake_hands("c", {}, bearing(rooms))
    return world


def test_a_room_that_the_token_does_not_permit_cannot_be_joined() -> None:
    world = with_claims("lobby=send")

    assert join(world, room_id="vip")["code"] == "forbidden"
    assert join(world, room_id="lobby")["type"] == "joined"


def test_a_member_whose_token_only_permits_reading_cannot_send() -> None:
    world = with_claims("lobby=read")
    join(world)

    assert say(world)["code"] == "forbidden"


def test_a_member_that_joined_to_read_stays_muted_with_a_token_that_says_nothing_of_the_room() -> None:
    world = with_claims("lobby=read")
    join(world)
    world.shake_hands("other", {}, bearing("elsewhere=send"))

    assert say(world, connection_id="other")["code"] == "forbidden"


def test_a_member_that_the_backend_added_can_send_without_a_permission() -> None:
    world = with_claims("other=send")
    world.rooms.by_id["lobby"] = Room("lobby", members=frozenset("3"))

    assert say(world)["type"] == "ack"


# Fan-out


def room_message(name: str, second: float = 1000, room_id: str = "lobby") -> RoomMessage:
    return RoomMessage(at(second), room_id, "1", name, 1000, stream_position=position(1))


def members(world: World, count: int, room_id: str = "lobby") -> list[str]:
    ids = [f"m{number:03}" for number in range(count)]
    world.rooms.by_id[room_id] = Room(room_id, members=frozenset(ids))
    return ids


def copies(world: World) -> list[Message]:
    return [entry for entry in world.messages.stored if isinstance(entry, Message)]


def test_each_member_gets_a_copy_with_a_fresh_id_and_the_rooms_message_id(world: World) -> None:
    ids = members(world, 60)
    sent = room_message("hi")

    world.batch(sent)

    assert sorted(copy.destination_player_id for copy in copies(world)) == ids
    assert {(copy.text, copy.room_id, copy.room_message_id) for copy in copies(world)} == {
        ("hi", "lobby", sent.id)
    }
    assert sent.id not in {copy.id for copy in copies(world)}


def test_every_member_gets_a_rooms_messages_in_the_order_of_the_stream(world: World) -> None:
    members(world, 60)

    world.batch(room_message("first", 2000), room_message("second", 1000), room_message("third", 3000))

    for member in world.rooms.by_id["lobby"].members:
        own = [copy for copy in copies(world) if copy.destination_player_id == member]
        assert [copy.text for copy in own] == ["first", "second", "third"]
        assert [copy.id for copy in own] == sorted(copy.id for copy in own)


def test_copies_that_were_not_processed_are_put_again_under_a_fresh_id(world: World) -> None:
    ids = members(world, 20)
    world.messages.unprocessed = [20, 5]

    world.batch(room_message("hi"))

    assert sorted(copy.destination_player_id for copy in copies(world)) == ids
    assert len({copy.id for copy in copies(world)}) == 2


def test_the_next_message_waits_until_all_copies_of_the_chunk_are_stored(world: World) -> None:
    members(world, 3)
    world.messages.unprocessed = [2]

    world.batch(room_message("first"), room_message("second"))

    assert [copy.text for copy in copies(world)] == ["first"] * 3 + ["second"] * 3


def test_a_batch_is_redelivered_when_copies_stay_unprocessed(world: World) -> None:
    members(world, 3)
    world.messages.unprocessed = [1] * 100

    with pytest.raises(Unavailable):
        world.batch(room_message("hi"))


def test_a_batch_is_redelivered_when_a_copy_cannot_be_stored(world: World) -> None:
    members(world, 3)
    world.messages.failing = {"put_copies"}

    with pytest.raises(Unavailable):
        world.batch(room_message("hi"))


def test_a_batch_is_redelivered_when_too_little_time_is_left_for_copies(world: World) -> None:
    members(world, 3)
    world.time_left = 2.0

    with pytest.raises(Unavailable):
        world.batch(room_message("hi"))

    assert copies(world) == []


def test_a_room_without_members_needs_no_copies(world: World) -> None:
    world.batch(room_message("hi"))

    assert copies(world) == []


@pytest.mark.parametrize(("expires_at", "renewed"), [(ROOM_SECONDS // 2 - 1, ["lobby"]), (ROOM_SECONDS, [])])
def test_a_fan_out_renews_a_room_half_of_whose_time_is_over(
    world: World, expires_at: int, renewed: list[str]
) -> None:
    """The backend puts messages without renewing the room."""
    world.rooms.by_id["lobby"] = Room(
        "lobby", members=frozenset("2"), expires_at=expires_at + world.now // 1000
    )

    world.batch(room_message("hi"))

    assert world.rooms.renewed == renewed


def test_a_message_stored_again_keeps_its_first_id(world: World) -> None:
    members(world, 1)
    again = replace(room_message("hi", 2000), room_message_id=at(1000))

    world.batch(again)

    assert [copy.room_message_id for copy in copies(world)] == [again.room_message_id]


def test_a_member_receives_a_copy_with_the_rooms_message_id_and_its_own_position(world: World) -> None:
    copy = Message(
        at(2000), "2", "1", "hi", 1000, room_id="lobby", room_message_id="m", stream_position=position(5)
    )

    world.batch(copy)

    assert world.frames("d") == [
        {
            "type": "message",
            "message": "hi",
            "messageId": "m",
            "position": copy.id,
            "roomId": "lobby",
            "srcPlayerId": "1",
            "destinationPlayerId": "2",
            "sentAt": 1000,
        }
    ]


def test_a_banned_player_cannot_connect(world: World) -> None:
    player = world.connections.player("9")
    world.connections.by_player["9"] = replace(player, banned_until=world.now + 1)

    assert world.refusal({"playerId": "9"}) == 403
    world.now += 1
    world.connect("9", "back")

    assert world.connections.player("9").connections == {"back"}


def test_a_client_of_version_1_0_0_misses_nothing_of_a_room(world: World) -> None:
    """It keeps the greatest `messageId` as its position, and a room's message is older than its copies."""
    ids = [at(second) for second in (1000, 1001, 1002)]
    copies_ids = [at(second) for second in (1010, 1011, 1012)]
    world.store(
        *(
            Message(copy_id, "9", "1", f"m{number}", 1000, room_id="lobby", room_message_id=message_id)
            for number, (message_id, copy_id) in enumerate(zip(ids, copies_ids, strict=True))
        )
    )
    world.register("9", "old")

    world.batch(ReplayMarker(at(2000), "9", "old", after=ids[0], stream_position=position(9)))

    assert world.received("old") == ["m0", "m1", "m2", "connected"]
