"""The IAM policies of the stages are current, and allow each function exactly the calls that it makes."""

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from chalicelib.core.model import Delivery
from deployment.policies import policies
from deployment.stage import PROJECT, Stage, stage_names
from tests.support.documented_policies import Access, allows, narrower_statements, statement_allows
from tests.support.recorded_functions import Functions

PROD = Stage.of("prod")
CALLED_BY_OTHERS = {"Log", "Trace", "ReadStream", "SendFailedBatches", "ReadSecret"}
"""Statements for the calls of Lambda and its stream mapping, and of `aws/tokens.py`, which isn't recorded."""


def test_the_policy_files_are_current() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in (PROJECT / ".chalice").glob("policy-*")}

    defined = {file: text for name in stage_names() for file, text in policies(Stage.of(name)).items()}

    assert files == defined, "run make policies"


def test_only_connect_can_read_the_secret_and_only_if_the_stage_names_one() -> None:
    prod = Stage.of("prod")

    with_secret, without_secret = policies(prod), policies(replace(prod, secret_name=None))

    assert [file for file, text in with_secret.items() if "ssm:" in text] == ["policy-prod-connect.json"]
    assert not any("ssm:" in text for text in without_secret.values())


def test_functions_can_write_traces_only_in_a_stage_with_tracing() -> None:
    prod = Stage.of("prod")

    assert all("xray:" in text for text in policies(replace(prod, has_tracing=True)).values())
    assert not any("xray:" in text for text in policies(replace(prod, has_tracing=False)).values())


@cache
def recorded() -> dict[str, set[Access]]:
    """Return the accesses of each function, from a conversation that uses each feature of the service."""
    functions = Functions(PROD)
    functions.live("1", "a")
    functions.live("2", "b")
    _use_every_action(functions)
    _disturb_replays_and_pushes(functions)
    _end_connections(functions)
    return functions.accesses


def _use_every_action(functions: Functions) -> None:
    for connection in ("a", "b"):
        functions.send(connection, action="join", roomId="lobby", presence=True)
    functions.send("a", action="members", roomId="lobby")
    functions.send("a", action="presence", playerIds=["2", "3"])
    functions.send("a", action="ping")
    functions.send("a", action="sync", after="0")
    functions.send("a", action="signal", destinationPlayerId="2", data="x")
    functions.send("a", action="signal", roomId="lobby", data="x")
    for _ in range(2):
        functions.send("a", action="sendmessage", destinationPlayerId="3", message="x", clientMessageId="1")
        functions.send("a", action="sendmessage", roomId="lobby", message="x", clientMessageId="2")
    functions.push()
    functions.send("a", action="leave", roomId="lobby")
    functions.send("a", action="sendmessage", roomId="lobby", message="x", clientMessageId="2")
    functions.push()


def _disturb_replays_and_pushes(functions: Functions) -> None:
    functions.gateway.answers["c"] = [Delivery.FAILED, Delivery.DELIVERED, Delivery.REFUSED]
    functions.live("3", "c")
    functions.send("a", action="sendmessage", destinationPlayerId="3", message="x")
    functions.push()


def _end_connections(functions: Functions) -> None:
    functions.disconnect("b")
    functions.live("2", "d")
    functions.gateway.gone.add("d")
    functions.live("2", "e")
    functions.gateway.answers["e"] = [Delivery.GONE]
    functions.send("a", action="signal", destinationPlayerId="2", data="x")
    functions.live("2", "f")
    functions.expire_tokens()
    functions.live("2", "g")
    functions.send("a", action="ping")


def policy(function: str) -> dict[str, Any]:
    """Return the policy of a function of prod, without the statements for calls that others make."""
    written: dict[str, Any] = json.loads(policies(PROD)[f"policy-prod-{function}.json"])
    own = [each for each in written["Statement"] if each["Sid"] not in CALLED_BY_OTHERS]
    return written | {"Statement": own}


@pytest.mark.parametrize("function", ["connect", "message", "disconnect", "push"])
def test_a_functions_policy_allows_each_of_its_calls(function: str) -> None:
    made = recorded()[function]

    assert [access for access in sorted(made) if not allows(policy(function), access)] == []


@pytest.mark.parametrize("function", ["connect", "message", "disconnect", "push"])
def test_a_functions_policy_allows_nothing_that_it_does_not_call(function: str) -> None:
    made = recorded()[function]

    for statement in policy(function)["Statement"]:
        for narrower in narrower_statements(statement):
            assert any(statement_allows(narrower, access) for access in made), narrower
