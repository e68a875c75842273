"""Each policy of docs/backend.md allows exactly the calls of its methods."""

import ast
import inspect
import re
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import clients.backend
from clients.backend import COMMANDS, Backend
from tests.support.backend_world import World
from tests.support.documented_policies import (
    DOCUMENT,
    Access,
    allows,
    documented_policies,
    narrower_statements,
    statement_allows,
)
from tests.support.documents import table

POLICIES = documented_policies()
TEXT = DOCUMENT.read_text(encoding="utf-8")
METHODS = {name.partition("(")[0]: cells for name, cells in table(TEXT, "## Methods").items()}
POLICY_OF = {name: re.findall(r"\[([a-z-]+)\]\(#\1\)", cells[-1])[0] for name, cells in METHODS.items()}

TABLES = {
    "websockets": "serverless-websockets-prod-websockets",
    "messages": "serverless-websockets-prod-messages",
}

USES: dict[str, Callable[[Backend], object]] = {
    "send": lambda b: b.send("1", "x"),
    "send_room": lambda b: b.send_room("lobby", "x"),
    "refan": lambda b: (b.send_room("lobby", "x"), b.refan("lobby", timedelta(hours=1))),
    "signal": lambda b: b.signal("1", "x"),
    "signal_room": lambda b: b.signal_room("lobby", "x"),
    "add": lambda b: b.add("lobby", "3", "4"),
    "remove": lambda b: b.remove("lobby", "1"),
    "mute": lambda b: b.mute("lobby", "1"),
    "unmute": lambda b: b.unmute("lobby", "1"),
    "ban_from_room": lambda b: b.ban_from_room("lobby", "1"),
    "unban_from_room": lambda b: b.unban_from_room("lobby", "1"),
    "kick": lambda b: b.kick("1"),
    "ban": lambda b: b.ban("1", timedelta(hours=1)),
    "unban": lambda b: b.unban("1"),
    "members": lambda b: b.members("lobby"),
    "online": lambda b: b.online(["1", "2"]),
}


@cache
def made_by(method: str) -> frozenset[Access]:
    """Return the accesses of a method in a room of two online players, of which one has just vanished."""
    world = World.new()
    setup = world.another_backend()
    setup.add("lobby", "1", "2")
    world.connect("1", "gone")
    world.connect("2", "b")
    world.set_rooms_of("1", "lobby")
    world.connections.open.discard("gone")
    world.dynamodb.calls.clear()

    USES[method](world.another_backend())

    names = {world.tables.websockets: TABLES["websockets"], world.tables.messages: TABLES["messages"]}
    made = set()
    for call, request in world.dynamodb.calls:
        for name, keys in accessed(call, request).items():
            action = f"dynamodb:{''.join(word.title() for word in call.split('_'))}"
            made.add(Access(action, f"arn:aws:dynamodb:eu-west-1:123456789012:table/{names[name]}", keys))
    for verb, connection in world.connections.calls:
        path = f"prod/{verb.upper()}/@connections/{connection}"
        made.add(
            Access("execute-api:ManageConnections", f"arn:aws:execute-api:eu-west-1:123456789012:api/{path}")
        )
    return frozenset(made)


def accessed(call: str, request: dict[str, Any]) -> dict[str, frozenset[str]]:
    """Return the partition keys that a call reads or writes, by table."""
    if call == "batch_get_item":
        return {
            name: frozenset(key["id"]["S"] for key in read["Keys"])
            for name, read in request["RequestItems"].items()
        }
    if call == "query":
        return {request["TableName"]: frozenset([request["ExpressionAttributeValues"][":room"]["S"]])}
    item = request.get("Key") or request["Item"]
    key = item.get("id") or item["destinationPlayerId"]
    return {request["TableName"]: frozenset([key["S"]])}


@pytest.mark.parametrize("method", USES)
def test_a_methods_policy_allows_each_of_its_calls(method: str) -> None:
    made = made_by(method)

    assert made
    assert [access for access in made if not allows(POLICIES[POLICY_OF[method]], access)] == []


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_allows_nothing_that_its_methods_do_not_need(name: str) -> None:
    made = frozenset[Access]().union(
        *(made_by(method) for method, policy in POLICY_OF.items() if policy == name)
    )

    for statement in POLICIES[name]["Statement"]:
        for narrower in narrower_statements(statement):
            assert any(statement_allows(narrower, access) for access in made), narrower


def test_every_permission_for_items_is_restricted_by_their_keys() -> None:
    statements = [statement for policy in POLICIES.values() for statement in policy["Statement"]]

    for statement in statements:
        if statement["Action"][0].startswith("dynamodb:"):
            assert "Condition" in statement, statement["Sid"]
        assert "*" not in statement["Action"][0]


def test_a_program_that_sends_only_to_rooms_cannot_send_to_players_nor_the_reverse() -> None:
    put = "dynamodb:PutItem", f"arn:aws:dynamodb:eu-west-1:123456789012:table/{TABLES['messages']}"
    to_player, to_room = Access(*put, frozenset(["1"])), Access(*put, frozenset(["room#lobby"]))

    allowed = {
        name: (allows(POLICIES[name], to_player), allows(POLICIES[name], to_room)) for name in POLICIES
    }
    assert allowed["send-to-players"] == (True, False)
    assert [name for name, (player, _) in allowed.items() if player] == ["send-to-players"]
    assert allowed["send-to-rooms"] == (False, True)


def test_the_documented_methods_are_those_there_are() -> None:
    methods = {
        name: list(inspect.signature(function).parameters)[1:]
        for name, function in vars(Backend).items()
        if inspect.isfunction(function) and not name.startswith("_")
    }
    documented = {
        name.partition("(")[0]: re.findall(r"\w+", name.partition("(")[2])
        for name in table(TEXT, "## Methods")
    }

    assert documented == methods
    assert set(USES) == set(methods)
    assert {name.replace("-", "_") for name in COMMANDS} == set(methods)
    assert set(POLICY_OF.values()) == set(POLICIES)


def test_the_documented_defaults_are_those_there_are() -> None:
    parameters = inspect.signature(Backend).parameters
    documented = {name: cells[-1] for name, cells in table(TEXT, "| argument").items()}

    assert documented.pop("room_seconds") == "the retention"
    assert documented == {name: str(parameters[name].default) for name in documented}


def test_the_file_can_be_copied_because_it_needs_boto3_alone() -> None:
    tree = ast.parse(Path(clients.backend.__file__).read_text(encoding="utf-8"))
    imported = {
        (each.module or "") if isinstance(each, ast.ImportFrom) else each.names[0].name
        for each in ast.walk(tree)
        if isinstance(each, ast.Import | ast.ImportFrom)
    }

    standard = {"argparse", "json", "os", "re", "secrets", "sys", "threading", "time", "typing", "uuid"}
    standard |= {"collections.abc", "concurrent.futures", "contextlib", "datetime", "email.utils"}
    assert imported - standard == {"boto3", "botocore.config", "botocore.exceptions"}
