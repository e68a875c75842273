"""What happens when messages come down the stream."""

import json

import pytest

from chalicelib.ports import Connection, Delivery, Endpoint, Entry, Message, ReplayMarker, Unavailable
from chalicelib.push import NOT_YET_CONNECTED_PAUSES, Push
from tests.fakes import FakeGateway, InMemoryConnections, Notes, one_after_the_other

HERE = Endpoint("api", "dev")


class World:
    def __init__(self) -> None:
        self.connections = InMemoryConnections()
        self.gateway = FakeGateway()
        self.notes = Notes()
        self.slept: list[float] = []
        self.push = Push(self.connections, self.gateway, one_after_the_other, self.slept.append, self.notes)

    def register(self, player_id: str, connection_id: str, endpoint: Endpoint = HERE) -> None:
        self.connections.register(Connection(connection_id, player_id, endpoint, 0, {}))

    def live(self, player_id: str, *connection_ids: str) -> None:
        for connection_id in connection_ids:
            self.register(player_id, connection_id)
            self.connections.make_live(player_id, connection_id)

    def received(self, connection_id: str) -> list[str]:
        """The ids of the messages posted to a connection, and `connected` where it was greeted."""
        frames = map(json.loads, self.gateway.frames_to(connection_id))
        return [f["messageId"] if f["type"] == "message" else f["event"] for f in frames]


@pytest.fixture
def world() -> World:
    return World()


def message(message_id: str, to: str = "2") -> Message:
    return Message(message_id, to, "1", "hi", 1000)


def test_a_message_is_posted_to_every_live_connection_of_its_recipient(world: World) -> None:
    world.live("2", "phone", "laptop")
    world.live("3", "other")

    world.push.batch([message("m1")])

    assert (world.received("phone"), world.received("laptop")) == (["m1"], ["m1"])
    assert world.received("other") == []


def test_a_message_frame_says_who_sent_what_to_whom_and_when(world: World) -> None:
    world.live("2", "c")

    world.push.batch([message("m1")])

    assert json.loads(world.gateway.frames_to("c")[0]) == {
        "type": "message",
        "message": "hi",
        "messageId": "m1",
        "srcPlayerId": "1",
        "destinationPlayerId": "2",
        "sentAt": 1000,
    }


def test_a_connection_goes_live_at_its_marker_and_receives_what_was_stored_after_it(world: World) -> None:
    world.live("2", "old")
    world.register("2", "new")

    world.push.batch([message("m1"), ReplayMarker("m2", "2", "new"), message("m3")])

    assert world.received("old") == ["m1", "m3"]
    assert world.received("new") == ["connected", "m3"]
    assert world.connections.player("2").live == {"old", "new"}


def test_a_greeting_tells_the_connection_its_id_its_player_and_its_position(world: World) -> None:
    world.register("2", "c")

    world.push.batch([ReplayMarker("m1", "2", "c")])

    assert json.loads(world.gateway.frames_to("c")[0]) == {
        "type": "system",
        "event": "connected",
        "connectionId": "c",
        "playerId": "2",
        "messageId": "m1",
        "replayed": 0,
    }


def test_a_marker_of_a_connection_that_has_left_does_nothing(world: World) -> None:
    world.live("2", "c")

    world.push.batch([ReplayMarker("m1", "2", "left"), message("m2")])

    assert world.received("left") == []
    assert world.connections.player("2").live == {"c"}


def test_a_message_to_nobody_who_is_connected_fails_nothing(world: World) -> None:
    world.push.batch([message("m1", to="nobody")])

    assert world.gateway.posted == []


def test_a_live_connection_that_is_gone_is_removed_at_once_and_not_posted_to_again(world: World) -> None:
    world.live("2", "gone", "here")
    world.gateway.answers["gone"] = [Delivery.GONE, Delivery.DELIVERED]

    world.push.batch([message("m1"), message("m2")])

    assert world.received("gone") == []
    assert world.received("here") == ["m1", "m2"]
    assert world.connections.player("2").connections == {"here"}
    assert (world.gateway.closed, world.slept) == ([], [])


def test_a_connection_that_cannot_be_posted_to_is_removed_then_closed_and_sent_nothing_more(
    world: World,
) -> None:
    world.live("2", "c")
    world.gateway.answers["c"] = [Delivery.FAILED, Delivery.DELIVERED]

    world.push.batch([message("m1"), message("m2")])

    assert world.received("c") == []
    assert world.connections.player("2").connections == set()
    assert world.gateway.closed == ["c"]


def test_a_new_connection_is_greeted_as_soon_as_it_is_there(world: World) -> None:
    world.register("2", "c")
    world.gateway.answers["c"] = [Delivery.GONE, Delivery.GONE, Delivery.DELIVERED]

    world.push.batch([ReplayMarker("m1", "2", "c"), message("m2")])

    assert world.received("c") == ["connected", "m2"]
    assert world.slept == list(NOT_YET_CONNECTED_PAUSES[:2])


def test_a_new_connection_that_never_comes_is_removed_within_two_seconds(world: World) -> None:
    world.register("2", "c")
    world.gateway.answers["c"] = [Delivery.GONE]

    world.push.batch([ReplayMarker("m1", "2", "c"), message("m2")])

    assert world.connections.player("2").connections == set()
    assert sum(world.slept) < 2


def test_a_connection_that_cannot_be_made_live_is_closed_so_that_its_client_connects_anew(
    world: World,
) -> None:
    world.register("2", "c")
    world.connections.failing = {"make_live", "remove"}

    world.push.batch([ReplayMarker("m1", "2", "c"), message("m2")])

    assert world.received("c") == []
    assert world.gateway.closed == ["c"]


def test_a_batch_comes_again_only_when_the_players_cannot_be_read(world: World) -> None:
    world.connections.failing = {"players"}

    with pytest.raises(Unavailable):
        world.push.batch([message("m1")])


def test_a_batch_that_comes_twice_makes_a_connection_live_once(world: World) -> None:
    world.register("2", "c")
    batch: list[Entry] = [ReplayMarker("m1", "2", "c"), message("m2")]

    world.push.batch(batch)
    world.push.batch(batch)

    assert world.connections.player("2").live == {"c"}
    assert set(world.received("c")) == {"connected", "m2"}


def test_a_connection_is_posted_to_over_the_api_it_came_in_by(world: World) -> None:
    world.live("2", "c")
    elsewhere = Endpoint("other-api", "prod")
    world.register("3", "d", elsewhere)

    world.push.batch([message("m1"), ReplayMarker("m2", "3", "d")])

    assert world.gateway.endpoints == {HERE, elsewhere}


def test_every_pushed_message_is_one_line(world: World) -> None:
    world.live("2", "c")

    world.push.batch([message("m1"), message("m2")])

    assert world.notes.steps == [
        ("delivered", {"player": "2", "connection": "c", "message": "m1"}),
        ("delivered", {"player": "2", "connection": "c", "message": "m2"}),
    ]
