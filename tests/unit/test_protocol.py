"""Which frames are valid, and how the others are refused."""

import json
from typing import Any

import pytest

from chalicelib.core import parsing, service_frames
from chalicelib.core.client_frames import ACTIONS, Action, SendMessage
from chalicelib.core.protocol import FrameError

ORIGINAL_FRAME = (
    '{"routeKey": "sendmessage", "action": "sendmessage", "message": "Hello, from player 1!", '
    '"playerId": "1", "destinationPlayerId": "2"}'
)


def parse(body: str) -> Action:
    return parsing.parse_frame(parsing.parse_object(body))


def refusal(body: str) -> FrameError:
    with pytest.raises(FrameError) as caught:
        parse(body)
    return caught.value


def sendmessage(**keys: Any) -> str:
    return json.dumps({"action": "sendmessage", "message": "hi", "destinationPlayerId": "2"} | keys)


def test_the_frame_of_the_original_clients_is_accepted_unchanged() -> None:
    frame = parse(ORIGINAL_FRAME)

    assert isinstance(frame, SendMessage)
    assert frame.message == "Hello, from player 1!"
    assert (frame.player_id, frame.destination_player_id) == ("1", "2")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "None",
        "hello",
        "[]",
        "1",
        "null",
        '"text"',
        "{",
        '{"action": "ping"} {}',
        '{"action": "ping", "action": "ping"}',
        '{"action": "ping", "routeKey": NaN}',
        '{"action": "ping", "routeKey": -Infinity}',
        '{"action": "ping", "routeKey": {"a": 1, "a": 2}}',
        '{"action": "ping", "\\ud800": 1}',
        "[" * 100_000,
        '{"a":' * 50_000,
        '{"action": "ping", "ackId": ' + "9" * 5_000 + "}",
    ],
    ids=lambda body: body[:30],
)
def test_anything_but_one_strict_json_object_is_invalid_json(body: str) -> None:
    assert refusal(body).code == "invalid_json"


@pytest.mark.parametrize("action", ["{}", '{"action": null}', '{"action": ["ping"]}', '{"action": "Ping"}'])
def test_the_error_for_an_unknown_action_lists_the_actions(action: str) -> None:
    error = refusal(action)

    assert error.code == "unknown_action"
    assert error.detail == f"action must be one of: {', '.join(ACTIONS)}"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ('{"action": "sendmessage", "message": "hi"}', "destinationPlayerId: Field required"),
        ('{"action": "sendmessage", "destinationPlayerId": "2"}', "message: Field required"),
        (sendmessage(message=""), "message: "),
        (sendmessage(message=7), "message: "),
        (sendmessage(message="\ud800"), "message: "),
        (sendmessage(destinationPlayerId=2), "destinationPlayerId: "),
        (sendmessage(destinationPlayerId=""), "destinationPlayerId: "),
        (sendmessage(destinationPlayerId="a" * 129), "destinationPlayerId: "),
        (sendmessage(destinationPlayerId="a#b"), "destinationPlayerId: "),
        (sendmessage(destinationPlayerId="2\n"), "destinationPlayerId: "),
        (sendmessage(destinationPlayerId="\u0430"), "destinationPlayerId: "),
        (sendmessage(messageId="0"), "messageId: unknown key"),
        (sendmessage(destinationplayerid="2"), "destinationplayerid: unknown key"),
        (sendmessage(player_id="1"), "player_id: unknown key"),
        (sendmessage(clientMessageId=""), "clientMessageId: "),
        (sendmessage(clientMessageId="u" * 65), "clientMessageId: "),
        (
            '{"action": "sync", "after": "yesterday"}',
            "after: must be a messageId, or 0 for all stored messages",
        ),
        ('{"action": "sync", "after": 0}', "after: "),
        (sendmessage(ackId=""), "ackId: must be a string of 1 to 64 characters or an integer"),
        (sendmessage(ackId="a" * 65), "ackId: "),
        (sendmessage(ackId=1.5), "ackId: "),
        (sendmessage(ackId=True), "ackId: "),
    ],
)
def test_the_error_for_an_invalid_key_names_it(body: str, named: str) -> None:
    error = refusal(body)

    assert error.code == "invalid_frame"
    assert error.detail.startswith(named)


@pytest.mark.parametrize(
    ("unknown", "detail"),
    [
        ("a", "a: unknown key"),
        ("ab", "a, b: unknown keys"),
        ("abc", "a, b, c: unknown keys"),
        ("abcde", "a, b, c and 2 more: unknown keys"),
    ],
)
def test_up_to_three_unknown_keys_are_named(unknown: str, detail: str) -> None:
    assert refusal(json.dumps({"action": "ping"} | dict.fromkeys(unknown))).detail == detail


def test_a_misspelled_key_is_named_rather_than_the_missing_one() -> None:
    error = refusal('{"action": "sendmessage", "message": "hi", "destinationPlayerID": "2"}')

    assert error.detail == "destinationPlayerID: unknown key"


def test_many_unknown_keys_are_refused_without_checking_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parsing, "describe", None)
    keys = {f"key {number}": 1 for number in range(13_000)}

    assert refusal(json.dumps({"action": "ping"} | keys)).detail == (
        "key 0, key 1, key 2 and 12997 more: unknown keys"
    )


@pytest.mark.parametrize("ack_id", ["a", 7])
def test_the_ack_id_of_a_refused_frame_is_read(ack_id: str | int) -> None:
    body = json.dumps({"action": "nonsense", "routeKey": [[{}]], "ackId": ack_id, "x": 1})

    assert parsing.read_ack_id(body) == ack_id


@pytest.mark.parametrize("body", ["", "[]", "{", "[" * 100_000, "null", '{"ackId": 1.5}', '{"ackId": ""}'])
def test_a_frame_without_a_readable_ack_id_has_none(body: str) -> None:
    assert parsing.read_ack_id(body) is None


def test_a_refusal_never_echoes_the_text_of_a_message() -> None:
    error = refusal(sendmessage(message="canary" + "\ud800"))

    assert "canary" not in error.detail


@pytest.mark.parametrize("ack_id", ["a", "a" * 64, 0, -1, 2**70])
def test_an_ack_id_is_echoed_unchanged(ack_id: str | int) -> None:
    frame = parsing.parse_object(json.dumps({"action": "ping", "ackId": ack_id}))

    assert parsing.ack_id_of(frame) == ack_id
    pong = service_frames.Pong(ack_id=parsing.parse_frame(frame).ack_id)
    assert json.loads(pong.to_json()) == {"type": "pong", "ackId": ack_id}


@pytest.mark.parametrize("frame", [{}, {"ackId": None}, {"ackId": []}, {"ackId": True}])
def test_an_invalid_ack_id_is_not_echoed(frame: dict[str, Any]) -> None:
    assert parsing.ack_id_of(frame) is None


def test_a_frame_to_a_client_is_utf_8_without_escapes() -> None:
    frame = service_frames.MessageFrame(
        message="h\u00e9 \U0001f600 \u0000",
        message_id="m",
        src_player_id="1",
        destination_player_id="2",
        sent_at=3,
    )

    assert frame.to_json() == (
        '{"type":"message","message":"h\u00e9 \U0001f600 \\u0000","messageId":"m",'
        '"srcPlayerId":"1","destinationPlayerId":"2","sentAt":3}'
    )


def test_an_error_says_whether_it_is_retryable() -> None:
    error = service_frames.Error.of(FrameError("unavailable", "not confirmed"), "7")

    assert json.loads(error.to_json()) == {
        "type": "error",
        "code": "unavailable",
        "detail": "not confirmed",
        "retryable": True,
        "ackId": "7",
    }


def test_a_rate_limited_error_says_when_to_retry() -> None:
    error = service_frames.Error.of(FrameError("rate_limited", "too many frames", retry_after_ms=50))

    assert json.loads(error.to_json()) == {
        "type": "error",
        "code": "rate_limited",
        "detail": "too many frames",
        "retryable": True,
        "retryAfterMs": 50,
    }
