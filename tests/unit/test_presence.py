"""Rooms are told when a player's first connection goes live and when its last one is removed."""

from typing import Any

import pytest

from chalicelib.core.message_id import MessageIds
from chalicelib.core.model import Delivery, Message, Poke, Room, Unavailable
from chalicelib.core.ports import POST_SECONDS
from chalicelib.core.protocol import MAX_PRESENCE_MEMBERS, MAX_PRESENCE_ROOMS
from tests.support.stream_records import position
from tests.support.world import World, at

NOW = 1_790_000_000_000


@pytest.fixture
def world() -> World:
    world = World(now=NOW, new_message_id=MessageIds())
    world.live("1", "c")
    world.live("2", "d")
    return world


def join(world: World, connection_id: str, room_id: str = "lobby", **more: Any) -> dict[str, Any]:
    return world.send(connection_id, action="join", roomId=room_id, **more)


def pokes(world: World) -> list[tuple[str, str]]:
    return [(each.room_id, each.player_id) for each in world.messages.stored if isinstance(each, Poke)]


def poke(player_id: str, room_id: str = "lobby") -> Poke:
    return Poke(at(1000), room_id, player_id, position(1))


def events(world: World, connection_id: str) -> list[dict[str, Any]]:
    return [frame for frame in world.frames(connection_id) if frame["type"] == "presence"]


# Pokes


def test_a_room_is_told_when_a_player_joins_with_presence_and_when_it_leaves(world: World) -> None:
    join(world, "c", presence=True)
    join(world, "d")
    world.send("c", action="leave", roomId="lobby")
    world.send("d", action="leave", roomId="lobby")

    assert pokes(world) == [("lobby", "1"), ("lobby", "1")]
    assert world.connections.player("1").presence_rooms == set()


def test_only_the_last_connection_that_ends_is_told_to_the_rooms(world: World) -> None:
    world.live("1", "laptop")
    join(world, "c", "a", presence=True)
    join(world, "c", "b", presence=True)
    world.messages.stored.clear()

    world.registration.disconnect("c")
    assert pokes(world) == []
    world.registration.disconnect("laptop")

    assert pokes(world) == [("a", "1"), ("b", "1")]


def test_only_the_first_connection_that_goes_live_is_told_to_the_rooms(world: World) -> None:
    join(world, "c", presence=True)
    world.registration.disconnect("c")
    world.messages.stored.clear()

    for connection_id in ("phone", "laptop"):
        world.connect("1", connection_id)
        world.work()

    assert pokes(world) == [("lobby", "1")]


def test_a_connection_that_push_drops_is_told_to_the_rooms(world: World) -> None:
    join(world, "c", presence=True)
    world.messages.stored.clear()
    world.gateway.answers["c"] = [Delivery.GONE]

    world.batch(Message(at(1000), "1", "2", "hi", NOW, stream_position=position(5)))

    assert pokes(world) == [("lobby", "1")]


def test_a_repeated_removal_is_told_again(world: World) -> None:
    """boto3 repeats a removal whose response was lost. The repetition finds the connection gone."""
    join(world, "c", presence=True)
    world.connections.remove("1", "c")
    world.messages.stored.clear()

    world.registration.presence.remove("1", "c")

    assert pokes(world) == [("lobby", "1")]


def test_a_room_is_told_after_the_player_has_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the event could say that the player is still a member."""
    join(world, "c", presence=True)
    members: list[bool] = []
    monkeypatch.setattr(
        world.messages, "put_pokes", lambda _: members.append("1" in world.rooms.by_id["lobby"].members)
    )

    world.send("c", action="leave", roomId="lobby")

    assert members == [False]


def test_joining_again_changes_nothing_and_pokes_nobody(world: World) -> None:
    join(world, "c", presence=True)
    world.messages.stored.clear()

    for presence in (True, False, None):
        assert join(world, "c", presence=presence)["type"] == "joined"

    assert world.connections.player("1").presence_rooms == {"lobby"}
    assert pokes(world) == []


@pytest.mark.parametrize("presence", [True, None])
def test_a_room_is_told_when_a_player_that_was_removed_joins_again(
    world: World, presence: bool | None
) -> None:
    """Otherwise members would believe an event that was sent while the player was no member."""
    join(world, "c", presence=True)
    world.rooms.leave("lobby", "1")
    world.messages.stored.clear()

    join(world, "c", presence=presence)

    assert pokes(world) == [("lobby", "1")]


def test_a_room_that_is_told_of_a_player_is_told_when_it_joins_again(world: World) -> None:
    """Otherwise members would believe an event that was sent while the player was no member."""
    join(world, "c", presence=True)
    world.rooms.leave("lobby", "1")
    world.messages.stored.clear()

    join(world, "c")

    assert pokes(world) == [("lobby", "1")]


def test_a_player_can_be_told_to_sixteen_rooms_at_most(world: World) -> None:
    for number in range(MAX_PRESENCE_ROOMS):
        assert join(world, "c", f"r{number}", presence=True)["type"] == "joined"

    refused = join(world, "c", "one-too-many", presence=True)

    assert refused["code"] == "forbidden"
    assert "at most 16 rooms" in refused["detail"]
    assert "one-too-many" not in world.rooms.by_id
    assert join(world, "c", "r0", presence=True)["type"] == "joined"
    assert join(world, "c", "one-too-many")["type"] == "joined"


def test_a_poke_that_cannot_be_stored_fails_nothing(world: World) -> None:
    world.messages.failing = {"put_pokes"}

    assert join(world, "c", presence=True)["type"] == "joined"
    world.registration.disconnect("c")

    assert world.connections.player("1").connections == set()


def test_an_aborted_handshake_pokes_nobody(world: World) -> None:
    join(world, "c", presence=True)
    world.registration.disconnect("c")
    world.messages.stored.clear()

    world.connect("1", "aborted")
    world.registration.disconnect("aborted")

    assert pokes(world) == []


# Events


def test_all_members_are_told_what_is_true_now_in_one_frame(world: World) -> None:
    world.rooms.by_id["lobby"] = Room("lobby", members=frozenset({"1", "3"}))

    world.batch(poke("2"), poke("1"), poke("3"), poke("1"))

    (event,) = events(world, "c")
    assert event["roomId"] == "lobby"
    assert [(each["playerId"], each["member"], each["online"]) for each in event["players"]] == [
        ("1", True, True),
        ("2", False, True),
        ("3", True, False),
    ]


def test_a_player_that_has_left_is_told_about_itself_only(world: World) -> None:
    world.rooms.by_id["lobby"] = Room("lobby", members=frozenset({"1"}))

    world.batch(poke("2"), poke("1"))

    (event,) = events(world, "d")
    assert [(each["playerId"], each["member"]) for each in event["players"]] == [("2", False)]


def test_a_room_that_has_expired_is_no_longer_told(world: World) -> None:
    join(world, "c", presence=True)
    world.rooms.by_id.clear()

    world.batch(poke("1"))

    assert world.connections.player("1").presence_rooms == set()


def test_an_event_says_when_the_player_was_last_seen(world: World) -> None:
    join(world, "d", presence=True)
    world.now += 3_600_000

    world.batch(poke("2"))

    (event,) = events(world, "d")
    assert abs(event["players"][0]["lastSeenAt"] - NOW) <= world.connections.rate.window_ms


def test_a_large_room_gets_no_events(world: World) -> None:
    others = {f"m{number}" for number in range(MAX_PRESENCE_MEMBERS)}
    world.rooms.by_id["lobby"] = Room("lobby", members=frozenset({"1", *others}))

    world.batch(poke("1"))

    assert events(world, "c") == []


def test_an_event_is_lost_and_the_batch_goes_on_when_players_cannot_be_read(world: World) -> None:
    world.rooms.by_id["lobby"] = Room("lobby", members=frozenset({"1"}))
    presence_events = world.service.push.presence_events
    world.directory.failing = True

    presence_events.tell(world.rooms.by_id["lobby"], [poke("1")], lambda: 30.0)

    assert events(world, "c") == []
    assert "presence_lost" in world.notes.names()


def test_a_connection_that_is_gone_or_hangs_is_dropped(world: World) -> None:
    world.live("3", "e")
    world.rooms.by_id["lobby"] = Room("lobby", members=frozenset({"1", "2", "3"}))
    world.gateway.answers = {"d": [Delivery.GONE], "e": [Delivery.FAILED]}
    world.gateway.on_post = lambda: world.sleep(POST_SECONDS)

    world.batch(poke("1"))

    assert world.connections.player("2").connections == set()
    assert world.connections.player("3").connections == set()
    assert world.gateway.closed == ["e"]
    assert len(events(world, "c")) == 1


def test_a_throttled_event_is_lost_and_closes_nothing(world: World) -> None:
    world.rooms.by_id["lobby"] = Room("lobby", members=frozenset({"1", "2"}))
    world.gateway.answers["d"] = [Delivery.FAILED, Delivery.DELIVERED]

    world.batch(poke("1"))

    assert world.connections.player("2").connections == {"d"}
    assert events(world, "d") == []


def test_an_event_is_lost_and_closes_nothing_when_too_little_time_is_left(world: World) -> None:
    world.rooms.by_id["lobby"] = Room("lobby", members=frozenset({"1", "2"}))
    world.time_left = 2.9

    world.batch(poke("1"))

    assert (events(world, "c"), world.gateway.closed) == ([], [])
    assert world.connections.player("1").connections == {"c"}


# Queries


def test_a_query_answers_for_each_player_once(world: World) -> None:
    reply = world.send("c", action="presence", playerIds=["2", "nobody", "2"], ackId=1)

    assert (reply["type"], reply["ackId"]) == ("presence", 1)
    assert [(each["playerId"], each["online"]) for each in reply["players"]] == [
        ("2", True),
        ("nobody", False),
    ]
    assert "roomId" not in reply
    assert "member" not in reply["players"][0]


def test_members_says_which_members_are_online_and_when_they_were_last_seen(world: World) -> None:
    world.rooms.by_id["lobby"] = Room("lobby", members=frozenset({"1", "2", "away"}))

    reply = world.send("c", action="members", roomId="lobby")

    assert reply["members"] == ["1", "2", "away"]
    assert reply["online"].keys() == {"1", "2"}
    assert abs(reply["online"]["1"] - NOW) <= world.connections.rate.window_ms


def test_members_are_never_older_than_an_event_that_the_client_already_has(world: World) -> None:
    world.rooms.by_id["lobby"] = Room("lobby", members=frozenset({"1", "2"}))

    world.send("c", action="members", roomId="lobby")

    assert world.directory.was_consistent


def test_members_of_a_large_room_come_without_online(world: World) -> None:
    others = {f"m{number}" for number in range(MAX_PRESENCE_MEMBERS)}
    world.rooms.by_id["lobby"] = Room("lobby", members=frozenset({"1", *others}))

    reply = world.send("c", action="members", roomId="lobby")

    assert len(reply["members"]) == 101
    assert "online" not in reply


def test_a_query_is_unavailable_when_the_players_cannot_be_read(world: World) -> None:
    world.directory.failing = True

    assert world.send("c", action="presence", playerIds=["2"])["code"] == "unavailable"


def test_a_redelivered_batch_that_cannot_read_the_room_is_unavailable(world: World) -> None:
    world.directory.failing = True

    with pytest.raises(Unavailable):
        world.batch(poke("1"))
