"""What happens when a client connects, sends a frame, or disconnects."""

import json
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from chalicelib.core.access import Access
from chalicelib.core.handshake import HandshakeRejected
from chalicelib.core.message_id import cursor_at
from chalicelib.core.messenger import HANDSHAKE_MS, LIVE_WITHIN_MS, REFUSALS_UNTIL_CLOSED, Messenger
from chalicelib.core.model import (
    Delivery,
    Endpoint,
    Identity,
    Message,
    ReplayMarker,
    ReplayProgress,
    TokenRefused,
    Unavailable,
)
from chalicelib.core.rate_limit import RateLimit
from chalicelib.settings import LARGEST_FRAME_BYTES
from tests.support.fakes import FakeGateway, InMemoryConnections, InMemoryIdempotency, InMemoryMessages, Notes
from tests.support.stream_records import position

HERE = Endpoint("api", "dev")


class World:
    """`now` is in milliseconds."""

    def __init__(self, access: Access = Access(is_open=True)) -> None:  # noqa: B008  # It is immutable.
        self.connections = InMemoryConnections()
        self.messages = InMemoryMessages()
        self.sends = InMemoryIdempotency()
        self.now = 1000
        self.gateway = FakeGateway()
        self.notes = Notes()
        ids = count(1)
        self.connections.clock = lambda: self.now
        self.messenger = Messenger(
            access=access,
            connections=self.connections,
            messages=self.messages,
            sends=self.sends,
            gateway=self.gateway,
            new_message_id=lambda: f"id-{next(ids)}",
            clock=lambda: self.now,
            note=self.notes,
            max_message_bytes=LARGEST_FRAME_BYTES,
        )

    def connect(self, player_id: str, connection_id: str, **query: str) -> None:
        self.shake_hands(connection_id, {"playerId": player_id} | query)

    def shake_hands(
        self, connection_id: str, query: dict[str, str], headers: dict[str, str] | None = None
    ) -> str | None:
        return self.messenger.connect(
            connection_id,
            HERE,
            {name: [value] for name, value in query.items()},
            {name: [value] for name, value in (headers or {}).items()},
        )

    def refusal(self, query: dict[str, str], headers: dict[str, str] | None = None) -> int:
        """The status that a handshake is refused with, which must leave nothing behind."""
        before = dict(self.connections.registered), list(self.messages.stored)
        with pytest.raises(HandshakeRejected) as caught:
            self.shake_hands("refused", query, headers)
        assert (self.connections.registered, self.messages.stored) == before
        return caught.value.status

    def send(self, connection_id: str, **frame: Any) -> dict[str, Any]:
        return self.send_text(connection_id, json.dumps(frame))

    def send_text(self, connection_id: str, body: str) -> dict[str, Any]:
        self.messenger.receive(connection_id, HERE, body)
        reply: dict[str, Any] = json.loads(self.gateway.frames_to(connection_id)[-1])
        return reply


@pytest.fixture
def world() -> World:
    return World()


def test_connecting_registers_the_connection_and_asks_for_it_to_go_live(world: World) -> None:
    world.connect("1", "c", level="9")

    connection = world.connections.registered["c"]
    assert (connection.player_id, connection.endpoint, connection.client_data) == ("1", HERE, {"level": "9"})
    assert world.connections.player("1").connections == {"c"}
    assert world.messages.stored == [ReplayMarker("id-1", "1", "c")]


def test_a_marker_is_as_old_as_it_has_been_under_way(world: World) -> None:
    """How long its connection is waited for counts from then: registering may have taken most of it."""
    world.connections.failing = {"register"}
    assert world.refusal({"playerId": "1"}) == 429

    world.connections.failing = set()
    world.connect("1", "c")

    assert world.messages.stored == [ReplayMarker("id-1", "1", "c")]


def test_a_connection_receives_nothing_before_its_marker_and_nothing_is_posted_while_connecting(
    world: World,
) -> None:
    world.connect("1", "c")

    assert world.connections.player("1").live == {}
    assert world.gateway.posted == []


def test_a_player_may_have_several_connections_and_disconnecting_ends_exactly_one(world: World) -> None:
    world.connect("1", "phone")
    world.connect("1", "laptop")

    world.messenger.disconnect("phone")
    world.messenger.disconnect("phone")

    assert world.connections.player("1").connections == {"laptop"}
    assert list(world.connections.registered) == ["laptop"]


def test_a_query_without_a_player_is_refused_with_400(world: World) -> None:
    with pytest.raises(HandshakeRejected) as caught:
        world.messenger.connect("c", HERE, {}, {})

    assert caught.value.status == 400
    assert world.connections.registered == {}


@pytest.mark.parametrize("broken", ["connections", "messages"])
def test_a_connect_that_could_not_be_stored_is_refused_and_leaves_nothing(world: World, broken: str) -> None:
    if broken == "connections":
        world.connections.failing = {"register"}
    else:
        world.messages.failing = {"put"}

    with pytest.raises(HandshakeRejected) as caught:
        world.connect("1", "c")

    assert caught.value.status == 429
    assert world.connections.registered == {}
    assert world.connections.player("1").connections == set()


def test_a_message_is_stored_and_then_acknowledged(world: World) -> None:
    world.connect("1", "c")

    ack = world.send("c", action="sendmessage", message="hi", destinationPlayerId="2", ackId="a")

    assert world.messages.stored[1:] == [Message("id-2", "2", "1", "hi", 1000)]
    assert ack == {
        "type": "ack",
        "status": "Message sent!",
        "messageId": "id-2",
        "message": "hi",
        "srcPlayerId": "1",
        "destinationPlayerId": "2",
        "sentAt": 1000,
        "ackId": "a",
    }


def test_a_message_that_could_not_be_stored_is_not_acknowledged(world: World) -> None:
    world.connect("1", "c")
    world.messages.failing = {"put"}

    reply = world.send("c", action="sendmessage", message="hi", destinationPlayerId="2", ackId=7)

    assert (reply["type"], reply["code"], reply["retryable"]) == ("error", "unavailable", True)
    assert reply["ackId"] == 7
    assert len(world.gateway.frames_to("c")) == 1


def test_a_message_is_from_whoever_the_connection_belongs_to(world: World) -> None:
    world.connect("1", "c")

    reply = world.send("c", action="sendmessage", message="hi", destinationPlayerId="2", playerId="3")

    assert reply["code"] == "forbidden"
    assert len(world.messages.stored) == 1


def test_a_message_to_a_player_who_never_connected_is_stored_and_acknowledged(world: World) -> None:
    world.connect("1", "c")

    assert world.send("c", action="sendmessage", message="hi", destinationPlayerId="nobody")["type"] == "ack"


def test_a_ping_is_answered_with_a_pong(world: World) -> None:
    world.connect("1", "c")

    assert world.send("c", action="ping", ackId="p") == {"type": "pong", "ackId": "p"}


def test_a_frame_that_cannot_be_carried_out_echoes_its_ack_id(world: World) -> None:
    world.connect("1", "c")

    reply = world.send("c", action="sendmessage", ackId="a")

    assert (reply["code"], reply["ackId"]) == ("invalid_frame", "a")


@pytest.mark.parametrize("action", ["ping", "sendmessage"])
def test_a_connection_without_a_record_is_told_so_and_closed(world: World, action: str) -> None:
    message = {"message": "hi", "destinationPlayerId": "2"} if action == "sendmessage" else {}

    reply = world.send("stranger", action=action, **message)

    assert (reply["code"], reply["retryable"]) == ("unknown_connection", True)
    assert world.gateway.closed == ["stranger"]
    assert world.messages.stored == []


def test_a_connection_that_was_removed_is_unknown_even_where_its_record_is_still_remembered(
    world: World,
) -> None:
    world.connect("1", "c")
    remembered = world.connections.registered["c"]
    world.messenger.disconnect("c")
    world.connections.registered["c"] = remembered

    assert world.send("c", action="ping")["code"] == "unknown_connection"


def test_a_message_is_too_large_by_the_bytes_of_the_frame_it_would_travel_in(world: World) -> None:
    world.connect("1", "c")
    envelope = len(json.dumps(world.send("c", **to_two("x")), separators=(",", ":"))) - 1
    room = LARGEST_FRAME_BYTES - envelope - len(',"duplicate":true')

    fits = world.send_text("c", json.dumps(to_two("x" * room)))
    over = world.send_text("c", json.dumps(to_two("\U0001f600" * (room // 4 + 1))))

    assert fits["type"] == "ack"
    assert (over["code"], str(LARGEST_FRAME_BYTES) in over["detail"]) == ("too_large", True)
    assert len(world.messages.stored) == 3


def to_two(message: str) -> dict[str, str]:
    return {"action": "sendmessage", "message": message, "destinationPlayerId": "2"}


def test_a_sender_that_is_gone_before_its_ack_changes_nothing(world: World) -> None:
    world.connect("1", "c")
    world.gateway.answers["c"] = [Delivery.GONE]

    world.messenger.receive("c", HERE, json.dumps(to_two("hi")))

    assert len(world.messages.stored) == 2


def test_a_reply_that_failed_is_posted_once_more(world: World) -> None:
    world.connect("1", "c")
    world.gateway.answers["c"] = [Delivery.FAILED, Delivery.DELIVERED]

    assert world.send("c", action="ping") == {"type": "pong"}


def test_a_reply_that_does_not_arrive_is_noted(world: World) -> None:
    world.connect("1", "c")
    world.gateway.answers["c"] = [Delivery.FAILED]

    world.messenger.receive("c", HERE, '{"action": "ping"}')

    assert world.notes.outcomes[-1] == ("unanswered", {"connection": "c", "because": "failed"})


def test_a_disconnect_that_could_not_be_stored_is_noted_and_not_raised(world: World) -> None:
    world.connect("1", "c")
    world.connections.failing = {"remove_by_id"}

    world.messenger.disconnect("c")

    assert world.notes.names()[-1] == "disconnect_failed"


def test_every_frame_is_one_line_that_holds_ids_and_no_text(world: World) -> None:
    world.connect("1", "c")
    world.notes.outcomes.clear()

    world.send("c", **to_two("canary"))
    world.send_text("c", "canary")
    world.send("c", action="ping")

    assert world.notes.names() == ["stored", "refused", "pinged"]
    assert "canary" not in repr(world.notes.outcomes)


# clientMessageId


def send_once(world: World, client_message_id: str = "u", text: str = "hi", **frame: Any) -> dict[str, Any]:
    return world.send("c", **to_two(text), clientMessageId=client_message_id, **frame)


def messages(world: World) -> list[Message]:
    return [entry for entry in world.messages.stored if isinstance(entry, Message)]


def test_a_client_message_id_is_stored_once_and_answered_as_the_first_time(world: World) -> None:
    world.connect("1", "c")

    first = send_once(world, ackId="first")
    world.now += 5_000
    again = send_once(world, text="changed", ackId="again")

    assert len(messages(world)) == 1
    assert again == {**first, "duplicate": True, "ackId": "again"}
    assert "duplicate" not in first


def test_the_same_id_of_another_player_or_another_id_is_another_message(world: World) -> None:
    world.connect("1", "c")
    world.connect("3", "d")

    send_once(world, "u")
    send_once(world, "v")
    world.send("d", **to_two("hi"), clientMessageId="u")

    assert len(messages(world)) == 3


@pytest.mark.parametrize("crash", ["put_unless_withdrawn", "claim"])
def test_a_send_that_was_not_stored_is_stored_by_its_retry(world: World, crash: str) -> None:
    world.connect("1", "c")
    failing = world.sends.failing if crash == "claim" else world.messages.failing
    failing.add(crash)
    assert send_once(world)["code"] == "unavailable"
    failing.clear()

    ack = send_once(world)

    assert ack["type"] == "ack"
    assert [message.id for message in messages(world)] == [ack["messageId"]]


def test_a_first_send_that_is_late_is_not_stored_after_its_retry_was(world: World) -> None:
    """Its call was on its way when its function was given up; it arrives when the retry has been stored."""
    world.connect("1", "c")
    world.messages.failing = {"put_unless_withdrawn"}
    send_once(world)
    late = Message(world.sends.claims["1", "u"].message_id, "2", "1", "hi", 1000)
    world.messages.failing = set()
    ack = send_once(world)

    assert world.messages.put_unless_withdrawn(late) is False
    assert [message.id for message in messages(world)] == [ack["messageId"]]


@pytest.mark.parametrize("failing", ["withdraw", "replace"])
def test_a_retry_that_cannot_find_out_says_so_and_stores_nothing(world: World, failing: str) -> None:
    world.connect("1", "c")
    world.messages.failing = {"put_unless_withdrawn"}
    send_once(world)
    world.messages.failing = {failing}
    world.sends.failing = {failing}

    assert send_once(world)["code"] == "unavailable"
    assert messages(world) == []


# sync, and connections that never went live


def test_a_sync_puts_a_marker_and_is_answered_by_the_stream(world: World) -> None:
    world.connect("1", "c")
    position = "01a20b18-76be-73f4-9340-55bd1f3d9f6e"

    world.messenger.receive("c", HERE, json.dumps({"action": "sync", "after": position, "ackId": 7}))

    assert world.messages.stored[1:] == [ReplayMarker("id-2", "1", "c", after=position, sync=True, ack_id=7)]
    assert world.gateway.posted == []


def test_connecting_with_after_asks_for_what_came_since(world: World) -> None:
    world.connect("1", "c", after="0")

    assert world.messages.stored == [ReplayMarker("id-1", "1", "c", after="0")]


def test_a_connection_that_should_be_live_by_now_and_is_not_has_to_connect_anew(world: World) -> None:
    world.connect("1", "c")
    world.now += LIVE_WITHIN_MS - 1
    assert world.send("c", action="ping")["type"] == "pong"

    world.now += 1
    assert world.send("c", action="ping")["code"] == "unknown_connection"
    assert world.gateway.closed == ["c"]


def test_a_connection_is_not_given_up_while_its_replay_makes_progress(world: World) -> None:
    world.connect("1", "c")
    world.now += 2 * LIVE_WITHIN_MS
    turn = cursor_at(world.now)
    world.connections.save_progress("1", "c", ReplayProgress(turn, turn, turn))

    world.now += LIVE_WITHIN_MS - 1
    assert world.send("c", action="ping")["type"] == "pong"

    world.now += 1
    assert world.send("c", action="ping")["code"] == "unknown_connection"


def test_a_live_connection_may_be_as_old_as_it_likes(world: World) -> None:
    world.connect("1", "c")
    world.connections.make_live("1", "c", position(1))
    world.now += 10 * LIVE_WITHIN_MS

    assert world.send("c", action="ping")["type"] == "pong"


# Who may connect


class Known:
    """Knows tokens by heart: "token-1" is player 1's until second 2000."""

    def identify(self, token: str) -> Identity:
        if token == "down":
            raise Unavailable("the keys cannot be had")
        if not token.startswith("token-"):
            raise TokenRefused("the token is not valid")
        return Identity(token.removeprefix("token-"), expires_at=2000)


@pytest.fixture
def guarded() -> World:
    """Players are who their tokens say."""
    return World(Access(is_open=False, tokens=Known))


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_whoever_connects_is_who_the_token_says(guarded: World) -> None:
    guarded.shake_hands("c", {}, bearing("token-1"))

    assert guarded.connections.registered["c"].player_id == "1"
    assert guarded.connections.registered["c"].expires_at == 2000


def test_a_player_that_is_named_must_be_the_tokens(guarded: World) -> None:
    guarded.shake_hands("c", {"playerId": "1"}, bearing("token-1"))

    assert guarded.refusal({"playerId": "2"}, bearing("token-1")) == 403


@pytest.mark.parametrize("headers", [{}, bearing("forged"), {"Authorization": "Basic token-1"}])
def test_nobody_gets_in_without_a_token_that_proves_something(
    guarded: World, headers: dict[str, str]
) -> None:
    assert guarded.refusal({"playerId": "1"}, headers) == 401


def test_an_empty_token_is_none(guarded: World) -> None:
    assert guarded.refusal({"token": ""}) == 401


def test_keys_that_cannot_be_had_are_not_the_clients_fault(guarded: World) -> None:
    assert guarded.refusal({}, bearing("down")) == 429


def test_a_stage_that_does_not_say_who_may_connect_lets_in_nobody_and_its_log_says_what_to_set() -> None:
    world = World(Access(is_open=False))

    assert world.refusal({"playerId": "1"}, bearing("token-1")) == 401
    assert Access(is_open=False).in_words().startswith("every connection is refused: set AUTH_MODE")


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://game.example", None),
        ("https://game.example:443", 403),
        ("http://game.example", 403),
        ("https://GAME.example", 403),
        ("https://evil.game.example", 403),
        ("https://game.example.evil.example", 403),
        ("null", 403),
        ("", 403),
        (None, 403),
    ],
)
def test_origins_are_matched_exactly_when_there_is_a_list(origin: str | None, status: int | None) -> None:
    world = World(Access(is_open=True, allowed_origins=frozenset({"https://game.example"})))
    headers = {} if origin is None else {"Origin": origin}

    if status is None:
        world.shake_hands("c", {"playerId": "1"}, headers)
    else:
        assert world.refusal({"playerId": "1"}, headers) == status


def test_any_origin_will_do_when_there_is_no_list(world: World) -> None:
    world.shake_hands("c", {"playerId": "1"}, {"Origin": "https://anywhere.example"})

    assert "c" in world.connections.registered


def test_a_token_is_neither_saved_nor_noted(guarded: World) -> None:
    guarded.shake_hands("a", {"token": "token-canary"})
    guarded.refusal({"token": "canary"})

    assert guarded.connections.registered["a"].client_data == {}
    assert "token-canary" not in repr(guarded.notes.outcomes)
    assert ("refused", {"connection": "refused", "code": "401", "reason": "the token is not valid"}) in (
        guarded.notes.outcomes
    )


@pytest.mark.parametrize(("second", "code"), [(1999, None), (2000, "unauthorized"), (9999, "unauthorized")])
def test_a_token_that_has_expired_ends_the_connection_at_its_next_frame(
    guarded: World, second: int, code: str | None
) -> None:
    guarded.now = 1_990_000
    guarded.shake_hands("c", {}, bearing("token-1"))
    guarded.now = 1000 * second

    reply = guarded.send("c", action="ping", ackId=1)

    assert (reply.get("code"), reply["ackId"]) == (code, 1)
    assert guarded.gateway.closed == ([] if code is None else ["c"])
    assert ("c" in guarded.connections.registered) == (code is None)


def test_an_expired_token_sends_nothing(guarded: World) -> None:
    guarded.shake_hands("c", {}, bearing("token-1"))
    guarded.now = 2_000_000

    guarded.send("c", action="sendmessage", message="hi", destinationPlayerId="2")

    assert len(guarded.messages.stored) == 1


# Limits


def limit(world: World, per_second: int, burst: int) -> None:
    """Give players this rate from now on, with nothing used."""
    world.connections.rate = RateLimit(per_second, burst)
    world.connections.used.clear()


def test_frames_over_the_players_rate_are_told_when_to_come_again(world: World) -> None:
    world.connect("1", "c")
    limit(world, 2, 2)
    world.now = 1650

    replies = [
        world.send("c", action="sendmessage", message="hi", destinationPlayerId="2", ackId=n)
        for n in range(3)
    ]

    assert [reply["type"] for reply in replies] == ["ack", "ack", "error"]
    assert replies[2] == {
        "type": "error",
        "code": "rate_limited",
        "detail": "over the player's rate limit",
        "retryable": True,
        "retryAfterMs": 750,
        "ackId": 2,
    }
    assert len(world.messages.stored) == 3
    world.now += 750
    assert world.send("c", action="ping") == {"type": "pong"}


@pytest.mark.parametrize("frame", ["no json", "{}", '{"action": "ping"}', '{"action": "sync"}'])
def test_every_frame_counts_whatever_it_holds(world: World, frame: str) -> None:
    world.connect("1", "c")
    limit(world, 10, 1)
    world.messenger.receive("c", HERE, frame)

    assert world.send_text("c", frame)["code"] == "rate_limited"


def test_a_frame_counts_by_its_bytes(world: World) -> None:
    """A character that JSON escapes is six bytes on the way here, whatever it is when it is stored."""
    world.connect("1", "c")
    limit(world, 10, 10)

    nine = world.send("c", **to_two("\u00e9" * 6000))
    two_more = world.send("c", **to_two("x" * 5000))
    one_more = world.send("c", **to_two("x"))

    assert (nine["type"], two_more.get("code"), one_more["type"]) == ("ack", "rate_limited", "ack")


@pytest.mark.parametrize(
    "frame",
    [
        json.dumps({"action": "ping"} | {f"key {number}": 1 for number in range(10_000)} | {"ackId": 7}),
        '{"action": "ping", "action": "ping", "ackId": 7}',
        '{"action": "nonsense", "ackId": 7}',
    ],
    ids=["unknown keys", "a key twice", "an unknown action"],
)
def test_a_frame_over_the_rate_is_read_for_its_ack_id_alone(
    world: World, frame: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.connect("1", "c")
    limit(world, 10, 1)
    world.send("c", action="ping")
    monkeypatch.delattr("chalicelib.core.messenger.parse_object")

    reply = world.send_text("c", frame)

    assert (reply["code"], reply["ackId"]) == ("rate_limited", 7)


def test_a_sync_counts_for_a_second(world: World) -> None:
    world.connect("1", "c")
    limit(world, 5, 6)

    world.messenger.receive("c", HERE, '{"action": "sync"}')
    replies = [world.send("c", action="ping") for _ in range(2)]

    assert [reply["type"] for reply in replies] == ["pong", "error"]


def test_a_sync_over_the_rate_asks_for_nothing(world: World) -> None:
    world.connect("1", "c")
    limit(world, 5, 6)
    for _ in range(2):
        world.send("c", action="ping")

    assert world.send("c", action="sync", ackId="s")["code"] == "rate_limited"
    assert len(world.messages.stored) == 1


def test_connects_count_against_the_players_rate(world: World) -> None:
    world.connections.rate = RateLimit(10, 2)
    world.connect("1", "a")
    world.connect("1", "b")

    assert world.refusal({"playerId": "1"}) == 429
    world.connect("2", "c")


def test_a_connect_that_replays_counts_as_a_sync(world: World) -> None:
    world.connections.rate = RateLimit(5, 6)
    world.connect("1", "a", after="0")

    world.connect("1", "b")
    assert world.refusal({"playerId": "1"}) == 429


# Floods


def flood(world: World, connection_id: str, frames: int) -> list[dict[str, Any]]:
    """Send pings, though the player has nothing left, and return the replies."""
    return [world.send(connection_id, action="ping", ackId=number) for number in range(frames)]


@pytest.fixture
def over(world: World) -> World:
    """The player 1 has used everything in this window, and has two connections."""
    world.connect("1", "c")
    world.connect("1", "other")
    limit(world, 2, 2)
    flood(world, "c", 2)
    world.notes.outcomes.clear()
    return world


def test_a_connection_that_goes_on_when_told_to_wait_is_removed_and_closed(over: World) -> None:
    assert over.connections.registered.keys() == {"c", "other"}
    replies = flood(over, "c", REFUSALS_UNTIL_CLOSED - 1)
    assert over.gateway.closed == []

    replies += flood(over, "c", 1)

    assert {reply["code"] for reply in replies} == {"rate_limited"}
    assert over.gateway.closed == ["c"]
    assert over.connections.registered.keys() == {"other"}
    assert over.connections.player("1").connections == {"other"}


def test_a_flooder_is_closed_though_it_cannot_be_removed(over: World) -> None:
    over.connections.failing = {"remove_by_id"}

    flood(over, "c", REFUSALS_UNTIL_CLOSED)

    assert over.gateway.closed == ["c"]


def test_who_is_let_in_now_and_then_is_not_closed(over: World) -> None:
    for _ in range(5):
        flood(over, "c", REFUSALS_UNTIL_CLOSED - 3)
        over.now += over.connections.rate.window_ms

    assert over.gateway.closed == []
    assert over.send("c", action="ping")["type"] == "pong"


def test_a_flood_is_two_lines_of_log(over: World) -> None:
    flood(over, "c", REFUSALS_UNTIL_CLOSED)

    assert over.notes.outcomes == [
        ("refused", {"connection": "c", "code": "rate_limited"}),
        ("flooded", {"connection": "c"}),
    ]


def test_refusals_that_do_not_arrive_are_not_logged_one_by_one(over: World) -> None:
    over.gateway.answers["c"] = [Delivery.GONE]

    for _ in range(50):
        over.messenger.receive("c", HERE, '{"action": "ping"}')

    assert over.notes.names() == ["refused"]


def test_a_flood_of_handshakes_is_one_line_of_log(over: World) -> None:
    for _ in range(50):
        assert over.refusal({"playerId": "1"}) == 429

    assert over.notes.names() == ["refused"]


def test_a_player_has_so_many_connections_at_most(world: World) -> None:
    world.connections.connections_per_player = 2
    world.connect("1", "a")
    world.connect("1", "b")

    assert world.refusal({"playerId": "1"}) == 429
    world.connect("2", "c")


def test_connections_that_ended_without_a_word_take_up_no_place(world: World) -> None:
    world.connections.connections_per_player = 2
    world.connect("1", "ended")
    world.connect("1", "there")
    world.gateway.gone = {"ended"}
    world.now += HANDSHAKE_MS

    world.connect("1", "new")

    assert world.connections.player("1").connections == {"there", "new"}


def test_connections_whose_token_has_expired_take_up_no_place() -> None:
    world = World(Access(is_open=False, tokens=Known))
    world.connections.connections_per_player = 1
    world.now = 1_990_000
    world.shake_hands("expired", {}, bearing("token-1"))
    world.now = 2_000_000

    world.shake_hands("new", {}, bearing("token-1"))

    assert world.connections.player("1").connections == {"new"}
    assert world.gateway.closed == ["expired"]


def test_a_connection_that_may_not_be_there_yet_keeps_its_place(world: World) -> None:
    world.connections.connections_per_player = 1
    world.connect("1", "connecting")
    world.gateway.gone = {"connecting"}

    assert world.refusal({"playerId": "1"}) == 429
    assert world.connections.player("1").connections == {"connecting"}


def test_a_live_connection_that_vanished_makes_room_at_once(world: World) -> None:
    world.connections.connections_per_player = 1
    world.connect("1", "vanished")
    world.connections.make_live("1", "vanished", position(1))
    world.gateway.gone = {"vanished"}

    world.connect("1", "new")

    assert world.connections.player("1").connections == {"new"}


def test_a_smaller_limit_for_messages_is_kept_and_said(world: World) -> None:
    world.messenger = replace(world.messenger, max_message_bytes=1024)
    world.connect("1", "c")

    reply = world.send("c", action="sendmessage", message="\u00e9" * 500, destinationPlayerId="2")

    assert (reply["code"], reply["detail"]) == (
        "too_large",
        "a frame with its message must not exceed 1024 bytes",
    )


def test_disconnecting_touches_no_connection_but_its_own(world: World) -> None:
    for player_id, connection_id in (("1", "a"), ("1", "b"), ("2", "c")):
        world.connect(player_id, connection_id)

    world.messenger.disconnect("a")
    world.messenger.disconnect("1")
    world.messenger.disconnect("player#2")

    assert set(world.connections.registered) == {"b", "c"}
