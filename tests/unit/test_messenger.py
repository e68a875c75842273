"""How connects, frames and disconnects are handled."""

import json
from typing import Any

import pytest

from chalicelib.core.access import Access
from chalicelib.core.handshake import HandshakeRejected
from chalicelib.core.message_id import cursor_at
from chalicelib.core.messenger import LIVE_WITHIN_MS, REFUSALS_UNTIL_CLOSED
from chalicelib.core.model import (
    Delivery,
    Identity,
    Message,
    ReplayMarker,
    ReplayProgress,
    TokenRefused,
    Unavailable,
)
from chalicelib.core.protocol import LARGEST_FRAME_BYTES
from chalicelib.core.rate_limit import RateLimit
from chalicelib.core.registration import HANDSHAKE_MS
from tests.support.stream_records import position
from tests.support.tokens import bearing
from tests.support.world import HERE, World


@pytest.fixture
def world() -> World:
    return World()


def test_connecting_registers_the_connection_and_puts_its_marker(world: World) -> None:
    world.connect("1", "c", level="9")

    connection = world.connections.registered["c"]
    assert (connection.player_id, connection.endpoint, connection.client_data) == ("1", HERE, {"level": "9"})
    assert world.connections.player("1").connections == {"c"}
    assert world.messages.stored == [ReplayMarker("id-1", "1", "c")]


def test_a_marker_is_dated_after_its_connection_was_registered(world: World) -> None:
    """Push waits for the connection from that time on, and registering can take long."""
    world.connections.failing = {"register"}
    assert world.refusal({"playerId": "1"}) == 429

    world.connections.failing = set()
    world.connect("1", "c")

    assert world.messages.stored == [ReplayMarker("id-1", "1", "c")]


def test_nothing_is_posted_to_a_connection_before_its_marker(
    world: World,
) -> None:
    world.connect("1", "c")

    assert world.connections.player("1").live == {}
    assert world.gateway.posted == []


def test_a_player_can_have_several_connections_and_disconnect_ends_one(world: World) -> None:
    world.connect("1", "phone")
    world.connect("1", "laptop")

    world.registration.disconnect("phone")
    world.registration.disconnect("phone")

    assert world.connections.player("1").connections == {"laptop"}
    assert list(world.connections.registered) == ["laptop"]


def test_a_query_without_a_player_is_refused_with_400(world: World) -> None:
    with pytest.raises(HandshakeRejected) as caught:
        world.registration.connect("c", HERE, {}, {})

    assert caught.value.status == 400
    assert world.connections.registered == {}


@pytest.mark.parametrize("broken", ["connections", "messages"])
def test_a_connect_that_cannot_be_stored_is_refused_and_cleaned_up(world: World, broken: str) -> None:
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


def test_a_message_that_cannot_be_stored_is_not_acknowledged(world: World) -> None:
    world.connect("1", "c")
    world.messages.failing = {"put"}

    reply = world.send("c", action="sendmessage", message="hi", destinationPlayerId="2", ackId=7)

    assert (reply["type"], reply["code"], reply["retryable"]) == ("error", "unavailable", True)
    assert reply["ackId"] == 7
    assert len(world.gateway.frames_to("c")) == 1


def test_a_client_cannot_send_as_another_player(world: World) -> None:
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


def test_the_error_for_an_invalid_frame_echoes_its_ack_id(world: World) -> None:
    world.connect("1", "c")

    reply = world.send("c", action="sendmessage", ackId="a")

    assert (reply["code"], reply["ackId"]) == ("invalid_frame", "a")


@pytest.mark.parametrize("action", ["ping", "sendmessage"])
def test_a_connection_without_an_item_is_refused_and_closed(world: World, action: str) -> None:
    message = {"message": "hi", "destinationPlayerId": "2"} if action == "sendmessage" else {}

    reply = world.send("stranger", action=action, **message)

    assert (reply["code"], reply["retryable"]) == ("unknown_connection", True)
    assert world.gateway.closed == ["stranger"]
    assert world.messages.stored == []


def test_a_removed_connection_is_unknown_even_where_its_item_is_cached(
    world: World,
) -> None:
    world.connect("1", "c")
    remembered = world.connections.registered["c"]
    world.registration.disconnect("c")
    world.connections.registered["c"] = remembered

    assert world.send("c", action="ping")["code"] == "unknown_connection"


def test_the_size_limit_of_a_message_counts_the_bytes_of_its_frame(world: World) -> None:
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


def test_a_sender_that_disconnects_before_its_ack_loses_no_message(world: World) -> None:
    world.connect("1", "c")
    world.gateway.answers["c"] = [Delivery.GONE]

    world.messenger.receive("c", HERE, json.dumps(to_two("hi")))

    assert len(world.messages.stored) == 2


def test_a_failed_reply_is_posted_once_more(world: World) -> None:
    world.connect("1", "c")
    world.gateway.answers["c"] = [Delivery.FAILED, Delivery.DELIVERED]

    assert world.send("c", action="ping") == {"type": "pong"}


def test_a_reply_that_cannot_be_posted_is_logged(world: World) -> None:
    world.connect("1", "c")
    world.gateway.answers["c"] = [Delivery.FAILED]

    world.messenger.receive("c", HERE, '{"action": "ping"}')

    assert world.notes.outcomes[-1] == ("unanswered", {"connection": "c", "because": "failed"})


def test_a_disconnect_that_cannot_be_stored_is_logged_and_not_raised(world: World) -> None:
    world.connect("1", "c")
    world.connections.failing = {"remove_by_id"}

    world.registration.disconnect("c")

    assert world.notes.names()[-1] == "disconnect_failed"


def test_every_frame_writes_one_line_with_ids_and_no_text(world: World) -> None:
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


def test_a_repeated_client_message_id_stores_nothing_and_gets_the_first_ack(world: World) -> None:
    world.connect("1", "c")

    first = send_once(world, ackId="first")
    world.now += 5_000
    again = send_once(world, text="changed", ackId="again")

    assert len(messages(world)) == 1
    assert again == {**first, "duplicate": True, "ackId": "again"}
    assert "duplicate" not in first


def test_client_message_ids_are_per_player(world: World) -> None:
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


def test_a_late_first_send_is_not_stored_after_its_retry(world: World) -> None:
    """The call of a function that timed out can reach DynamoDB after the retry was stored."""
    world.connect("1", "c")
    world.messages.failing = {"put_unless_withdrawn"}
    send_once(world)
    late = Message(world.sends.claims["1", "u"].message_id, "2", "1", "hi", 1000)
    world.messages.failing = set()
    ack = send_once(world)

    assert world.messages.put_unless_withdrawn(late) is False
    assert [message.id for message in messages(world)] == [ack["messageId"]]


@pytest.mark.parametrize("failing", ["withdraw", "replace"])
def test_a_retry_that_cannot_withdraw_the_first_send_stores_nothing(world: World, failing: str) -> None:
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


def test_connecting_with_after_asks_for_a_replay_from_there(world: World) -> None:
    world.connect("1", "c", after="0")

    assert world.messages.stored == [ReplayMarker("id-1", "1", "c", after="0")]


def test_a_connection_that_is_not_live_in_time_must_reconnect(world: World) -> None:
    world.connect("1", "c")
    world.now += LIVE_WITHIN_MS - 1
    assert world.send("c", action="ping")["type"] == "pong"

    world.now += 1
    assert world.send("c", action="ping")["code"] == "unknown_connection"
    assert world.gateway.closed == ["c"]


def test_a_connection_is_kept_while_its_replay_makes_progress(world: World) -> None:
    world.connect("1", "c")
    world.now += 2 * LIVE_WITHIN_MS
    turn = cursor_at(world.now)
    world.connections.save_progress("1", "c", ReplayProgress(turn, turn, turn))

    world.now += LIVE_WITHIN_MS - 1
    assert world.send("c", action="ping")["type"] == "pong"

    world.now += 1
    assert world.send("c", action="ping")["code"] == "unknown_connection"


def test_a_live_connection_can_have_any_age(world: World) -> None:
    world.connect("1", "c")
    world.connections.make_live("1", "c", position(1))
    world.now += 10 * LIVE_WITHIN_MS

    assert world.send("c", action="ping")["type"] == "pong"


# Authentication


class Known:
    """Accepts the token "token-1" for player 1, "token-2" for player 2, and so on, until second 2000."""

    def identify(self, token: str) -> Identity:
        if token == "down":
            raise Unavailable("the keys cannot be had")
        if not token.startswith("token-"):
            raise TokenRefused("the token is not valid")
        return Identity(token.removeprefix("token-"), expires_at=2000)


@pytest.fixture
def guarded() -> World:
    """Return a world that requires tokens."""
    return World(Access(is_open=False, tokens=Known))


def test_a_connection_belongs_to_the_player_in_the_token(guarded: World) -> None:
    guarded.shake_hands("c", {}, bearing("token-1"))

    assert guarded.connections.registered["c"].player_id == "1"
    assert guarded.connections.registered["c"].expires_at == 2000


def test_a_player_id_in_the_query_must_match_the_token(guarded: World) -> None:
    guarded.shake_hands("c", {"playerId": "1"}, bearing("token-1"))

    assert guarded.refusal({"playerId": "2"}, bearing("token-1")) == 403


@pytest.mark.parametrize("headers", [{}, bearing("forged"), {"Authorization": "Basic token-1"}])
def test_a_handshake_without_a_valid_token_is_refused(guarded: World, headers: dict[str, str]) -> None:
    assert guarded.refusal({"playerId": "1"}, headers) == 401


def test_an_empty_token_is_refused(guarded: World) -> None:
    assert guarded.refusal({"token": ""}) == 401


def test_a_handshake_is_refused_with_429_when_the_keys_are_unavailable(guarded: World) -> None:
    assert guarded.refusal({}, bearing("down")) == 429


def test_a_stage_without_authentication_settings_refuses_everybody_and_logs_what_to_set() -> None:
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


def test_any_origin_is_accepted_when_there_is_no_list(world: World) -> None:
    world.shake_hands("c", {"playerId": "1"}, {"Origin": "https://anywhere.example"})

    assert "c" in world.connections.registered


def test_a_token_is_neither_stored_nor_logged(guarded: World) -> None:
    guarded.shake_hands("a", {"token": "token-canary"})
    guarded.refusal({"token": "canary"})

    assert guarded.connections.registered["a"].client_data == {}
    assert "token-canary" not in repr(guarded.notes.outcomes)
    assert ("refused", {"connection": "refused", "code": "401", "reason": "the token is not valid"}) in (
        guarded.notes.outcomes
    )


@pytest.mark.parametrize(("second", "code"), [(1999, None), (2000, "unauthorized"), (9999, "unauthorized")])
def test_an_expired_token_ends_the_connection_at_its_next_frame(
    guarded: World, second: int, code: str | None
) -> None:
    guarded.now = 1_990_000
    guarded.shake_hands("c", {}, bearing("token-1"))
    guarded.now = 1000 * second

    reply = guarded.send("c", action="ping", ackId=1)

    assert (reply.get("code"), reply["ackId"]) == (code, 1)
    assert guarded.gateway.closed == ([] if code is None else ["c"])
    assert ("c" in guarded.connections.registered) == (code is None)


def test_a_message_sent_with_an_expired_token_is_not_stored(guarded: World) -> None:
    guarded.shake_hands("c", {}, bearing("token-1"))
    guarded.now = 2_000_000

    guarded.send("c", action="sendmessage", message="hi", destinationPlayerId="2")

    assert len(guarded.messages.stored) == 1


# Limits


def limit(world: World, per_second: int, burst: int) -> None:
    """Set the rate of all players, and reset their used units."""
    world.connections.rate = RateLimit(per_second, burst)
    world.connections.used.clear()


def test_a_frame_over_the_rate_gets_the_time_of_its_retry(world: World) -> None:
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
def test_invalid_frames_count_against_the_rate(world: World, frame: str) -> None:
    world.connect("1", "c")
    limit(world, 10, 1)
    world.messenger.receive("c", HERE, frame)

    assert world.send_text("c", frame)["code"] == "rate_limited"


def test_a_long_frame_costs_more_of_the_rate(world: World) -> None:
    """A character that JSON escapes takes six bytes in the frame, and fewer when it is stored."""
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
def test_only_the_ack_id_of_a_frame_over_the_rate_is_read(
    world: World, frame: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.connect("1", "c")
    limit(world, 10, 1)
    world.send("c", action="ping")
    monkeypatch.delattr("chalicelib.core.messenger.parse_object")

    reply = world.send_text("c", frame)

    assert (reply["code"], reply["ackId"]) == ("rate_limited", 7)


def test_a_sync_costs_one_second_of_the_rate(world: World) -> None:
    world.connect("1", "c")
    limit(world, 5, 6)

    world.messenger.receive("c", HERE, '{"action": "sync"}')
    replies = [world.send("c", action="ping") for _ in range(2)]

    assert [reply["type"] for reply in replies] == ["pong", "error"]


def test_a_sync_over_the_rate_puts_no_marker(world: World) -> None:
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


def test_a_connect_with_after_costs_as_much_as_a_sync(world: World) -> None:
    world.connections.rate = RateLimit(5, 6)
    world.connect("1", "a", after="0")

    world.connect("1", "b")
    assert world.refusal({"playerId": "1"}) == 429


# Floods


def flood(world: World, connection_id: str, frames: int) -> list[dict[str, Any]]:
    """Send pings over the rate, and return the replies."""
    return [world.send(connection_id, action="ping", ackId=number) for number in range(frames)]


@pytest.fixture
def over(world: World) -> World:
    """Return a world in which player 1 has two connections and has used up this window."""
    world.connect("1", "c")
    world.connect("1", "other")
    limit(world, 2, 2)
    flood(world, "c", 2)
    world.notes.outcomes.clear()
    return world


def test_a_connection_that_ignores_rate_limited_is_removed_and_closed(over: World) -> None:
    assert over.connections.registered.keys() == {"c", "other"}
    replies = flood(over, "c", REFUSALS_UNTIL_CLOSED - 1)
    assert over.gateway.closed == []

    replies += flood(over, "c", 1)

    assert {reply["code"] for reply in replies} == {"rate_limited"}
    assert over.gateway.closed == ["c"]
    assert over.connections.registered.keys() == {"other"}
    assert over.connections.player("1").connections == {"other"}


def test_a_flooding_connection_is_closed_even_if_it_cannot_be_removed(over: World) -> None:
    over.connections.failing = {"remove_by_id"}

    flood(over, "c", REFUSALS_UNTIL_CLOSED)

    assert over.gateway.closed == ["c"]


def test_an_admitted_frame_restarts_the_count_of_refusals(over: World) -> None:
    for _ in range(5):
        flood(over, "c", REFUSALS_UNTIL_CLOSED - 3)
        over.now += over.connections.rate.window_ms

    assert over.gateway.closed == []
    assert over.send("c", action="ping")["type"] == "pong"


def test_a_flood_writes_two_lines(over: World) -> None:
    flood(over, "c", REFUSALS_UNTIL_CLOSED)

    assert over.notes.outcomes == [
        ("refused", {"connection": "c", "code": "rate_limited"}),
        ("flooded", {"connection": "c"}),
    ]


def test_refusals_that_cannot_be_posted_are_logged_once(over: World) -> None:
    over.gateway.answers["c"] = [Delivery.GONE]

    for _ in range(50):
        over.messenger.receive("c", HERE, '{"action": "ping"}')

    assert over.notes.names() == ["refused"]


def test_a_flood_of_handshakes_writes_one_line(over: World) -> None:
    for _ in range(50):
        assert over.refusal({"playerId": "1"}) == 429

    assert over.notes.names() == ["refused"]


def test_connections_beyond_the_limit_of_a_player_are_refused(world: World) -> None:
    world.connections.connections_per_player = 2
    world.connect("1", "a")
    world.connect("1", "b")

    assert world.refusal({"playerId": "1"}) == 429
    world.connect("2", "c")


def test_dead_connections_do_not_count_against_the_limit(world: World) -> None:
    world.connections.connections_per_player = 2
    world.connect("1", "ended")
    world.connect("1", "there")
    world.gateway.gone = {"ended"}
    world.now += HANDSHAKE_MS

    world.connect("1", "new")

    assert world.connections.player("1").connections == {"there", "new"}


def test_connections_with_expired_tokens_do_not_count_against_the_limit() -> None:
    world = World(Access(is_open=False, tokens=Known))
    world.connections.connections_per_player = 1
    world.now = 1_990_000
    world.shake_hands("expired", {}, bearing("token-1"))
    world.now = 2_000_000

    world.shake_hands("new", {}, bearing("token-1"))

    assert world.connections.player("1").connections == {"new"}
    assert world.gateway.closed == ["expired"]


def test_a_connection_that_is_still_connecting_counts_against_the_limit(world: World) -> None:
    world.connections.connections_per_player = 1
    world.connect("1", "connecting")
    world.gateway.gone = {"connecting"}

    assert world.refusal({"playerId": "1"}) == 429
    assert world.connections.player("1").connections == {"connecting"}


def test_a_dead_live_connection_is_replaced_at_once(world: World) -> None:
    world.connections.connections_per_player = 1
    world.connect("1", "vanished")
    world.connections.make_live("1", "vanished", position(1))
    world.gateway.gone = {"vanished"}

    world.connect("1", "new")

    assert world.connections.player("1").connections == {"new"}


def test_a_lower_message_limit_is_enforced_and_named_in_the_error(world: World) -> None:
    world.max_message_bytes = 1024
    world.connect("1", "c")

    reply = world.send("c", action="sendmessage", message="\u00e9" * 500, destinationPlayerId="2")

    assert (reply["code"], reply["detail"]) == (
        "too_large",
        "a frame with its message must not exceed 1024 bytes",
    )


def test_a_disconnect_removes_no_other_connection(world: World) -> None:
    for player_id, connection_id in (("1", "a"), ("1", "b"), ("2", "c")):
        world.connect(player_id, connection_id)

    world.registration.disconnect("a")
    world.registration.disconnect("1")
    world.registration.disconnect("player#2")

    assert set(world.connections.registered) == {"b", "c"}
