"""Bad input gets the documented error, changes nothing, affects nobody else, and is not repeated anywhere."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import app
from chalicelib.aws.tokens import JwtTokens, SecretKey
from chalicelib.core.access import Access
from chalicelib.core.client_frames import ACTIONS, ClientFrame, SendMessage, Sync
from chalicelib.core.message_id import MessageIds
from chalicelib.core.protocol import RETRYABLE
from localdev.events import Origin, connect_event, message_event
from localdev.functions import function, websocket_routes
from tests.support.bad_input import CONNECTS, FRAMES, MAX_MESSAGE_BYTES, RECORDS, Connect, Frame, Record
from tests.support.fakes import Notes
from tests.support.stream_records import inserted, position
from tests.support.tokens import SECRET, bearing, token, with_secret
from tests.support.world import World

ORIGIN = Origin("api", "dev", "domain", "c", 0, "127.0.0.1", None)
INTERNAL = ("Traceback", "chalicelib", "pydantic", "Error:", "Exception", "DynamoDB", "jwt.", "arn:", "#")
"""Words that must not be in a reply: names of internals and of dependencies."""

TOKENS = JwtTokens(with_secret(), SecretKey(lambda: SECRET))
STRICT_TOKENS = JwtTokens(with_secret(audience="game", issuer="us"), SecretKey(lambda: SECRET))
STRICT = Access(is_open=False, tokens=lambda: STRICT_TOKENS)


class AppWithBystander(World):
    """The functions of app.py over fakes, with player 2 as a live bystander."""

    def __init__(self) -> None:
        super().__init__(
            Access(is_open=False, tokens=lambda: TOKENS),
            now=1_790_000_000_000,
            new_message_id=MessageIds(),
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        self.unreadable = Notes()
        self.connect_with_token("b", "2")
        self.connections.make_live("2", "b", position(0))

    def connect_with_token(self, connection_id: str, player_id: str) -> None:
        self.shake_hands(connection_id, {}, bearing(token(sub=player_id)))

    def state(self) -> Any:
        return (
            dict(self.connections.registered),
            {p.id: replace(p) for p in self.connections.by_player.values()},
            list(self.messages.stored),
            dict(self.sends.claims),
            dict(self.rooms.by_id),
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> AppWithBystander:
    world = AppWithBystander()
    monkeypatch.setattr(app, "service", lambda: world.service)
    monkeypatch.setattr(app, "note", world.unreadable)
    return world


def says_nothing_it_should_not(text: str) -> bool:
    return not any(word in text for word in ("canary", *INTERNAL))


@pytest.mark.parametrize("row", CONNECTS, ids=lambda row: row.name)
def test_a_bad_handshake_is_refused_and_stores_nothing(row: Connect, world: AppWithBystander) -> None:
    origins = frozenset({"https://game.example"} if any(name == "Origin" for name, _ in row.headers) else ())
    strict = "audience" in row.name or "issuer" in row.name
    world.access = replace(STRICT if strict else world.access, allowed_origins=origins)
    before, noted = world.state(), len(world.notes.outcomes)
    headers = [(name, value()) for name, value in row.headers]

    event = connect_event(ORIGIN, f"/dev/?{row.query()}", headers, 0)
    answer = websocket_routes(app.app)["$connect"](event)

    assert answer["statusCode"] == row.status
    assert says_nothing_it_should_not(answer["body"])
    assert world.state() == before
    assert [outcome for outcome, _ in world.notes.outcomes[noted:]] == ["refused"]
    assert "canary" not in repr(world.notes.outcomes)


@pytest.mark.parametrize("row", FRAMES, ids=lambda row: row.name)
def test_a_bad_frame_gets_its_error_and_stores_nothing(row: Frame, world: AppWithBystander) -> None:
    world.connect_with_token("c", "1")
    before, noted = world.state(), len(world.notes.outcomes)

    websocket_routes(app.app)["$default"](message_event(ORIGIN, "$default", row.body, 0))

    (reply,) = [json.loads(frame) for frame in world.gateway.frames_to("c")]
    assert reply.get("code") == row.code
    assert reply["type"] == ("error" if row.code else "ack" if row.stores else "pong")
    assert row.code is None or says_nothing_it_should_not(json.dumps({**reply, "detail": shown(reply)}))
    assert world.gateway.frames_to("b") == world.gateway.closed == []
    assert len(world.messages.stored) - len(before[2]) == row.stores
    assert row.stores or world.state() == before
    assert len(world.notes.outcomes) == noted + 1
    assert "canary" not in repr(world.notes.outcomes)


def shown(reply: dict[str, Any]) -> str:
    """Return the detail without the name of an unknown key, which errors repeat on purpose."""
    detail: str = reply["detail"]
    return "unknown key" if detail.endswith(": unknown key") else detail


@pytest.mark.parametrize("row", RECORDS, ids=lambda row: row.name)
def test_an_unusable_record_is_skipped_and_the_next_one_is_pushed(
    row: Record, world: AppWithBystander
) -> None:
    good = {
        "destinationPlayerId": {"S": "2"},
        "messageId": {"S": "01a20b18-76be-73f4-9340-55bd1f3d9f6e"},
        "srcPlayerId": {"S": "1"},
        "message": {"S": "hi"},
        "sentAt": {"N": "1"},
    }
    after_it = inserted(good, "2")
    noted = len(world.notes.outcomes)

    function(app.app, "push_messages")({"Records": [row.record, after_it]})

    assert [json.loads(frame)["message"] for frame in world.gateway.frames_to("b")] == ["hi"]
    assert world.unreadable.names() == ["unreadable"] * row.noted
    assert world.notes.names()[noted:] == ["delivered"]
    assert "canary" not in repr(world.unreadable.outcomes)


# Random input


def _keys_of(model: type[ClientFrame]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


KEYS = st.sampled_from([*_keys_of(SendMessage), *_keys_of(Sync), "messageId", "expiresAt", "__class__"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
VALID: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"action": "sendmessage", "message": "hi", "destinationPlayerId": "2", "clientMessageId": "u"},
        {"action": "sync", "after": "0"},
        {"action": "ping", "ackId": 1},
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Draw a valid frame with changed values, missing keys and changed characters."""
    frame: dict[str, Any] = draw(VALID) | draw(st.dictionaries(KEYS, ANYTHING, max_size=3))
    for key in draw(st.sets(st.sampled_from(sorted(frame)), max_size=1)):
        del frame[key]
    text = json.dumps(frame, ensure_ascii=draw(st.booleans()))
    for place in draw(st.lists(st.integers(0, len(text) - 1), max_size=2)):
        text = text[:place] + draw(st.characters()) + text[place + 1 :]
    return text


BODIES = mutated() | st.text() | st.binary().map(lambda data: data.decode("utf-8", "replace"))


@pytest.fixture
def lasting(monkeypatch: pytest.MonkeyPatch) -> AppWithBystander:
    world = AppWithBystander()
    world.connect_with_token("c", "1")
    world.connections.make_live("1", "c", position(0))
    monkeypatch.setattr(app, "service", lambda: world.service)
    return world


@pytest.mark.parametrize("examples", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_any_input_gets_one_reply_that_the_protocol_describes(
    lasting: AppWithBystander, examples: int
) -> None:
    @settings(max_examples=examples)
    @given(BODIES)
    def check(body: str) -> None:
        lasting.now += 10_000
        lasting.gateway.posted.clear()
        lasting.notes.outcomes.clear()
        lasting.messages.stored.clear()

        websocket_routes(app.app)["$default"](message_event(ORIGIN, "$default", body, 0))

        replies = [json.loads(frame) for frame in lasting.gateway.frames_to("c")]
        assert lasting.gateway.frames_to("b") == lasting.gateway.closed == []
        assert len(lasting.notes.outcomes) == 1
        stored = lasting.messages.stored
        if not replies:
            assert [type(entry).__name__ for entry in stored] == ["ReplayMarker"]
            return
        (reply,) = replies
        assert reply["type"] in ("ack", "pong", "error")
        assert reply["type"] == "error" or json.loads(body)["action"] in ACTIONS
        assert reply.get("code") in {None, *RETRYABLE}
        assert len(stored) == (reply["type"] == "ack" and not reply.get("duplicate"))

    check()


QUERIES = st.dictionaries(
    st.sampled_from(["playerId", "token", "after", ""]) | st.text(), st.lists(st.text()), max_size=4
)
HEADERS = st.dictionaries(
    st.sampled_from(["Authorization", "Origin", "Sec-WebSocket-Protocol"]),
    st.lists(st.text() | st.sampled_from(["Bearer ", "bearer.", "Bearer a.b.c"]), max_size=2),
)


@pytest.mark.parametrize("examples", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_any_handshake_without_a_good_token_is_refused(lasting: AppWithBystander, examples: int) -> None:
    @settings(max_examples=examples)
    @given(QUERIES, HEADERS)
    def check(query: dict[str, list[str]], headers: dict[str, list[str]]) -> None:
        before = lasting.state()
        event = connect_event(ORIGIN, "/dev/", [], 0)
        event["multiValueQueryStringParameters"], event["multiValueHeaders"] = query, headers

        answer = websocket_routes(app.app)["$connect"](event)

        assert answer["statusCode"] in (400, 401)
        assert lasting.state() == before

    check()
