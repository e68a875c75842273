"""20,000 random calls: the embedded engine answers as Dynoxide does, but for listed differences."""

import http.client
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from localdev.engine import DynamoDb, wire
from tests.support.dynamodb_tables import ENGINE
from tests.support.random_calls import TABLES, RandomCalls, create_tables

CALLS = int(os.environ.get("FUZZ_CALLS", "20000"))
SEED = int(os.environ.get("FUZZ_SEED", "2"))

CREDENTIAL = "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request"
HEADERS = {
    "Content-Type": "application/x-amz-json-1.0",
    "Authorization": f"{CREDENTIAL}, SignedHeaders=host, Signature=none",
    "X-Amz-Date": "20260101T000000Z",
}
FAILED = "ConditionalCheckFailedException"

Engine = Callable[[str, dict[str, Any]], tuple[int, Any]]


class Outcome(NamedTuple):
    """`code` is the error's code, or empty."""

    code: str
    message: str
    response: Any

    def differs(self, other: "Outcome") -> bool:
        return (self.code, self.response) != (other.code, other.response)


@dataclass(frozen=True, slots=True)
class Difference:
    """A known difference, in which this engine is right. `known` gets the request and both outcomes."""

    name: str
    why: str
    known: Callable[[dict[str, Any], Outcome, Outcome], bool]


def refused_here(text: str, *there: str) -> Callable[[dict[str, Any], Outcome, Outcome], bool]:
    """Match calls that this engine refuses with the text, and Dynoxide answers with one of these codes."""
    return lambda request, ours, theirs: text in ours.message and theirs.code in there


DIFFERENCES = (
    Difference(
        "ALL_OLD of an item that an update creates",
        "There was no item: UpdateItem's ReturnValues are the attributes as they were before it.",
        lambda request, ours, theirs: (
            request.get("ReturnValues") == "ALL_OLD"
            and ours.response == {}
            and theirs.response == {"Attributes": normal(request["Key"])}
        ),
    ),
    Difference(
        "a value without an order in < <= > >= or BETWEEN",
        "AWS refuses the expression, whatever the item. ExtendDB's pull request 216 compared it.",
        refused_here("Incorrect operand type", "", FAILED),
    ),
    Difference(
        "BETWEEN in a filter, with bounds in the wrong order or of two types",
        "AWS refuses both in every expression; Dynoxide refuses them in conditions alone.",
        refused_here("The BETWEEN operator requires", "", FAILED),
    ),
    Difference(
        "a hash key of another type in a query",
        "AWS compares the type with the schema; Dynoxide finds nothing.",
        refused_here("Condition parameter type does not match schema type", ""),
    ),
    Difference(
        "one number written in two ways as two keys of a batch",
        "1 and 1.0 are one key, and AWS refuses duplicates.",
        refused_here("duplicates", ""),
    ),
    Difference(
        "a mistake in the request, and a condition that fails",
        "AWS checks a request before it reads the item; Dynoxide checks some things afterwards.",
        lambda request, ours, theirs: ours.code == "ValidationException" and theirs.code == FAILED,
    ),
    Difference(
        "a value that no expression uses, in an update without an UpdateExpression",
        "AWS refuses what is unused in every call; Dynoxide lets it be in this one.",
        refused_here("unused in expressions", ""),
    ),
    Difference(
        "a set in a map or a list that is empty or has a member twice, in a value of an expression",
        "AWS checks a value to its depth; Dynoxide does so in items alone.",
        refused_here("a set is empty or contains duplicates", "", FAILED),
    ),
)


def embedded() -> Engine:
    engine = DynamoDb()

    def ask(operation: str, request: dict[str, Any]) -> tuple[int, Any]:
        status, content = wire.answer(engine.call, operation, json.dumps(request))
        return status, json.loads(content)

    return ask


def over_http(url: str) -> Engine:
    connection = http.client.HTTPConnection(urlsplit(url).netloc)

    def ask(operation: str, request: dict[str, Any]) -> tuple[int, Any]:
        headers = HEADERS | {"X-Amz-Target": f"DynamoDB_20120810.{operation}"}
        connection.request("POST", "/", json.dumps(request), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    return ask


def outcome(engine: Engine, operation: str, request: dict[str, Any]) -> Outcome:
    status, answer = engine(operation, request)
    if status != 200:
        code = answer["__type"].rpartition("#")[2]
        return Outcome(code, answer.get("message", answer.get("Message", "")), normal(answer.get("Item")))
    for items in (answer.get("Items"), *answer.get("Responses", {}).values()):
        if items and operation != "Query":  # Only a query has an order.
            items.sort(key=lambda item: json.dumps(normal(item), sort_keys=True))
    return Outcome("", "", normal(answer))


def normal(value: Any) -> Any:
    """Return the value with its sets in order."""
    if isinstance(value, dict):
        return {
            key: sorted(each) if key in ("SS", "NS", "BS") and isinstance(each, list) else normal(each)
            for key, each in value.items()
        }
    return [normal(each) for each in value] if isinstance(value, list) else value


def empty_tables(engines: Iterable[Engine]) -> None:
    """Delete all items, because later calls would otherwise differ too."""
    for engine in engines:
        for table, keys in TABLES.items():
            for item in engine("Scan", {"TableName": table})[1]["Items"]:
                engine("DeleteItem", {"TableName": table, "Key": {name: item[name] for name, _ in keys}})


@pytest.mark.skipif(
    not ENGINE.startswith("http"),
    reason="needs Dynoxide: `make test-dynamodb`, where npm has it for this platform",
)
def test_random_calls_have_the_same_outcome_on_dynoxide() -> None:
    engines = embedded(), over_http(ENGINE)
    for engine in engines:
        for operation, request in create_tables():
            assert engine(operation, request)[0] == 200
    calls, unknown, known = RandomCalls(SEED), [], Counter[str]()

    for number in range(CALLS):
        operation, request = calls.next()
        ours, theirs = (outcome(engine, operation, request) for engine in engines)
        if ours.differs(theirs):
            names = [each.name for each in DIFFERENCES if each.known(request, ours, theirs)]
            known.update(names)
            if not names:
                unknown.append((number, operation, json.dumps(request), ours, theirs))
            empty_tables(engines)

    assert unknown == [], "\n\n".join("\n".join(map(str, each)) for each in unknown[:5])
    assert known.keys() == {each.name for each in DIFFERENCES}, "a listed difference did not come up"


def test_random_calls_succeed_and_fail_often_enough() -> None:
    engine, calls, codes = embedded(), RandomCalls(SEED), Counter[str]()
    for operation, request in create_tables():
        engine(operation, request)

    for _ in range(2000):
        operation, request = calls.next()
        codes[outcome(engine, operation, request).code] += 1

    assert codes[""] > 800
    assert codes[FAILED] > 200
    assert codes["ValidationException"] > 200
    assert codes.keys() == {"", FAILED, "ValidationException"}
