"""docs/asyncapi.yaml describes exactly the frames of the code."""

import json
from typing import Any, get_args

import pytest
from jsonschema import Draft7Validator

from chalicelib.core.client_frames import ACTIONS
from chalicelib.core.protocol import RETRYABLE, ErrorCode
from localdev.local_aws import WEBSOCKET_PORT
from specification import asyncapi
from specification.examples import FROM_CLIENT, MESSAGE_ID, TO_CLIENT
from tests.support import recorder
from tests.support.bad_input import FRAMES, Frame
from tests.support.recorder import DOCUMENT, MESSAGES, Recorder

NO_FRAME = ("invalid_json", "unknown_action", "invalid_frame")
BEYOND_A_SCHEMA = ("lone surrogate", "with a new line", "of no bytes", "of 4,097 bytes")
"""JSON Schema has no rule for surrogates and bytes, and in Python `$` also matches before a final newline."""


def test_the_file_matches_the_models() -> None:
    assert recorder.PATH.read_text(encoding="utf-8") == asyncapi.text(), "run make specification"


@pytest.mark.parametrize("name", MESSAGES)
def test_each_example_matches_its_message(name: str) -> None:
    record = Recorder()
    see = record.sent if name in recorder.FROM_CLIENT else record.received

    seen = {see(json.dumps(example["payload"])) for example in MESSAGES[name]["examples"]}

    assert seen == {name}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_payload_is_described_by_a_valid_schema(name: str) -> None:
    Draft7Validator.check_schema(MESSAGES[name]["payload"])


def test_every_error_code_is_described() -> None:
    code = MESSAGES["error"]["payload"]["properties"]["code"]

    described = [line.split("`")[1] for line in code["description"].splitlines()]

    assert described == code["enum"] == list(RETRYABLE) == list(get_args(ErrorCode))


def test_every_action_is_described_and_all_but_a_signal_have_a_reply() -> None:
    received = {name: each for name, each in DOCUMENT["operations"].items() if each["action"] == "receive"}

    assert received.keys() == recorder.FROM_CLIENT.keys() == ACTIONS.keys()
    for name, operation in received.items():
        answers = {reference["$ref"].rpartition("/")[2] for reference in operation["reply"]["messages"]}
        assert answers >= {"error", "gatewayFailure"}
        assert len(answers) == (2 if name == "signal" else 3)
        assert answers <= recorder.TO_CLIENT.keys()


def test_every_frame_to_a_client_is_a_reply_or_sent_unasked() -> None:
    references = [
        reference["$ref"].rpartition("/")[2]
        for operation in DOCUMENT["operations"].values()
        for reference in [*operation["messages"], *operation.get("reply", {}).get("messages", [])]
    ]

    assert set(references) == MESSAGES.keys()


def expressible() -> list[Frame]:
    return [frame for frame in FRAMES if not any(words in frame.name for words in BEYOND_A_SCHEMA)]


@pytest.mark.parametrize("frame", expressible(), ids=lambda frame: frame.name)
def test_exactly_the_valid_frames_of_clients_are_described(frame: Frame) -> None:
    if frame.code in NO_FRAME:
        Recorder().sent_malformed(frame.body)
    else:
        Recorder().sent(frame.body)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("ack", {"messageId": "7"}),
        ("ack", {"sentAt": "now"}),
        ("ack", {"status": None}),
        ("ack", {"duplicate": False}),
        ("ack", {"roomId": "lobby"}),
        ("ack", {"ackId": None}),
        ("pong", {"ackId": ""}),
        ("pong", {"undocumented": 1}),
        ("message", {"srcPlayerId": "a#b"}),
        ("message", {"replayed": False}),
        ("message", {"roomId": "lobby"}),
        ("message", {"position": MESSAGE_ID}),
        ("connected", {"event": "else"}),
        ("synced", {"more": None}),
        ("error", {"code": "else"}),
    ],
)
def test_a_frame_to_a_client_that_is_wrong_is_not_described(name: str, wrong: dict[str, Any]) -> None:
    frame = json.loads(TO_CLIENT[name].to_json()) | wrong

    with pytest.raises(AssertionError, match="no described message"):
        Recorder().received(json.dumps(frame))


@pytest.mark.parametrize("name", TO_CLIENT)
def test_a_frame_to_a_client_is_not_described_without_a_key_that_is_always_there(name: str) -> None:
    frame = json.loads(TO_CLIENT[name].to_json())

    for key in frame.keys() - {"ackId", "retryAfterMs"}:
        less = {other: value for other, value in frame.items() if other != key}
        with pytest.raises(AssertionError, match="no described message"):
            Recorder().received(json.dumps(less))


def test_a_client_must_accept_unknown_keys_and_must_not_send_any() -> None:
    for name, message in MESSAGES.items():
        assert message["payload"]["additionalProperties"] is (name not in FROM_CLIENT)


def test_a_frame_sent_as_malformed_must_not_be_described() -> None:
    with pytest.raises(AssertionError, match="described, as ping, and yet sent as malformed"):
        Recorder().sent_malformed('{"action": "ping"}')


def test_the_local_server_is_where_make_run_listens() -> None:
    assert DOCUMENT["servers"]["local"]["host"] == f"127.0.0.1:{WEBSOCKET_PORT}"
