"""The four functions translate events and answers, and survive malformed events."""

import json
import subprocess
import sys
from typing import Any

import pytest
from chalice.app import DynamoDBEventConfig

import app
from chalicelib.core.model import Connection, Endpoint, ReplayMarker, Unavailable
from localdev.events import Origin, connect_event, disconnect_event, message_event
from localdev.functions import function, websocket_routes
from tests.support.fakes import Notes
from tests.support.stream_records import inserted
from tests.support.world import World

MARKER = {
    "destinationPlayerId": {"S": "1"},
    "messageId": {"S": "01a20b18-76be-73f4-9340-55bd1f3d9f6e"},
    "replayTo": {"S": "c"},
    "replayed": {"N": "0"},
    "sync": {"BOOL": False},
}
ORIGIN = Origin("api", "dev", "domain", "c", 0, "127.0.0.1", None)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(app, "service", lambda: world.service)
    return world


def call(event: dict[str, Any], route_key: str) -> Any:
    return websocket_routes(app.app)[route_key](event)


def push(*records: Any) -> Any:
    return function(app.app, "push_messages")({"Records": list(records)})


def test_a_handshake_with_a_player_is_accepted_and_registered(world: World) -> None:
    answer = call(connect_event(ORIGIN, "/dev/?playerId=1&level=9", [], 0), "$connect")

    assert (answer["statusCode"], answer["headers"]) == (200, {})
    assert world.connections.registered["c"].endpoint == Endpoint("api", "dev")
    assert world.connections.registered["c"].client_data == {"level": "9"}


def test_the_answer_to_a_handshake_has_the_ordinary_subprotocol(world: World) -> None:
    offered = [("Sec-WebSocket-Protocol", "bearer.token, chat")]

    answer = call(connect_event(ORIGIN, "/dev/?playerId=1", offered, 0), "$connect")

    assert answer["headers"] == {"Sec-WebSocket-Protocol": "chat"}


def test_a_repeated_query_parameter_is_refused(world: World) -> None:
    answer = call(connect_event(ORIGIN, "/dev/?playerId=1&playerId=2", [], 0), "$connect")

    assert answer["statusCode"] == 400
    assert world.connections.registered == {}


def test_an_event_without_multi_value_fields_is_read(world: World) -> None:
    event = connect_event(ORIGIN, "/dev/?playerId=1", [("Origin", "https://a.example")], 0)
    del event["multiValueHeaders"], event["multiValueQueryStringParameters"]

    assert call(event, "$connect")["statusCode"] == 200


@pytest.mark.parametrize("target", ["/dev/", "/dev/?playerId=", "/dev/?playerId=a%00b"])
def test_a_handshake_without_a_player_is_refused_with_400_and_a_reason(world: World, target: str) -> None:
    answer = call(connect_event(ORIGIN, target, [], 0), "$connect")

    assert answer["statusCode"] == 400
    assert "playerId" in answer["body"]


def test_a_frame_is_answered_by_a_post_and_not_by_the_return_value(world: World) -> None:
    call(connect_event(ORIGIN, "/dev/?playerId=1", [], 0), "$connect")

    answer = call(message_event(ORIGIN, "$default", '{"action": "ping"}', 0), "$default")

    assert answer == {"statusCode": 200}
    assert [json.loads(frame) for frame in world.gateway.frames_to("c")] == [{"type": "pong"}]


def test_an_event_without_a_body_is_answered_with_invalid_json(world: World) -> None:
    call(connect_event(ORIGIN, "/dev/?playerId=1", [], 0), "$connect")
    event = message_event(ORIGIN, "$default", "", 0)
    del event["body"]

    call(event, "$default")

    assert json.loads(world.gateway.frames_to("c")[0])["code"] == "invalid_json"


def test_a_disconnect_removes_the_connection_of_its_event(world: World) -> None:
    call(connect_event(ORIGIN, "/dev/?playerId=1", [], 0), "$connect")

    call(disconnect_event(ORIGIN, 1001, "", 0), "$disconnect")

    assert world.connections.registered == {}


def test_unreadable_records_are_logged_and_the_rest_is_pushed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes()
    monkeypatch.setattr(app, "note", notes)
    world.connections.register(Connection("c", "1", Endpoint("api", "dev"), 0, {}))
    push(
        {},
        {"eventName": "INSERT"},
        inserted({"canary": {"S": "canary"}}),
        {"eventName": "REMOVE", "userIdentity": {"type": "Service"}, "dynamodb": {"Keys": {}}},
        inserted(MARKER),
    )

    assert world.received("c") == ["connected"]
    assert notes.names() == ["unreadable", "unreadable"]
    assert "canary" not in repr(notes.outcomes)


def test_a_batch_is_redelivered_when_the_players_cannot_be_read(world: World) -> None:
    world.directory.failing = True
    with pytest.raises(Unavailable):
        push(inserted(MARKER))


def test_connecting_stores_a_marker_for_the_stream(world: World) -> None:
    call(connect_event(ORIGIN, "/dev/?playerId=1", [], 0), "$connect")

    assert world.messages.stored == [ReplayMarker("id-1", "1", "c")]


def test_a_new_mapping_reads_the_stream_from_its_beginning() -> None:
    (source,) = app.app.event_sources

    assert isinstance(source, DynamoDBEventConfig)
    assert (source.starting_position, source.batch_size) == ("TRIM_HORIZON", 100)


def test_importing_the_app_does_not_import_the_local_aws() -> None:
    program = (
        "import sys, app; "
        "print([m for m in sys.modules if m.split('.')[0] in ('localdev', 'moto', 'websockets', 'h11')])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, encoding="utf-8"
    )

    assert ran.stdout.strip() == "[]"


LOADED = "import sys, app; print(app.made_service.cache_info().currsize, 'jwt' in sys.modules)"
A_REGION = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
TABLES = {"WEBSOCKETS_TABLE": "w", "MESSAGES_TABLE": "m", "JWT_SECRET": "s" * 32}


def loaded(**environment: str) -> "subprocess.CompletedProcess[str]":
    """Import app.py in a new process with only these environment variables."""
    return subprocess.run(
        [sys.executable, "-c", LOADED], env=environment, capture_output=True, text=True, encoding="utf-8"
    )


def test_on_lambda_importing_the_app_creates_the_clients_and_only_connect_imports_jwt() -> None:
    message = loaded(AWS_LAMBDA_FUNCTION_NAME="app-prod-websocket_message", **A_REGION, **TABLES)
    connect = loaded(AWS_LAMBDA_FUNCTION_NAME="app-prod-websocket_connect", **A_REGION, **TABLES)

    assert message.stdout.splitlines()[1:] == ["1 False"], message.stderr
    assert connect.stdout.splitlines()[1:] == ["1 True"], connect.stderr


def test_elsewhere_importing_the_app_creates_no_clients_and_needs_no_region() -> None:
    ran = loaded(**TABLES)

    assert ran.stdout == "0 False\n", ran.stderr


def test_on_lambda_a_wrong_setting_stops_the_import_with_its_name() -> None:
    ran = loaded(AWS_LAMBDA_FUNCTION_NAME="f", MESSAGE_BURST="0", **A_REGION, **TABLES)

    assert ran.returncode == 1
    assert ran.stdout == ""
    assert "SettingsError: MESSAGE_BURST must be a whole number of units from 1 to 10000" in ran.stderr
