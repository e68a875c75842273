"""Tests DynamoDB's behaviour on the chosen engine: the embedded one, moto, or Dynoxide.

The tests of the stores cover the calls that the service makes. These are other calls, and mistakes.
"""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localdev.dynamodb import create_tables
from localdev.engine import Client
from tests.support.dynamodb_tables import ENGINE, IS_EMBEDDED, Tables, make_tables

INVALID = "ValidationException"
FAILED = "ConditionalCheckFailedException"
MISSING = "ResourceNotFoundException"
KEY = {"id": {"S": "k"}}
ATTRIBUTES: dict[str, Any] = {
    "five": {"N": "5"},
    "abc": {"S": "abc"},
    "words": {"SS": ["a", "b"]},
    "flag": {"BOOL": True},
    "listed": {"L": [{"M": {"x": {"NULL": True}}}]},
    "bits": {"B": b"\x00\x01"},
}
VALUES: dict[str, Any] = {
    ":4": {"N": "4"},
    ":5": {"N": "5.0"},
    ":6": {"N": "6"},
    ":a": {"S": "a"},
    ":abc": {"S": "abc"},
    ":ab": {"SS": ["a", "b"]},
    ":c": {"SS": ["c"]},
    ":true": {"BOOL": True},
    ":0": {"B": b"\x00"},
}

DIFFERENCES: Mapping[str, Mapping[str, str]] = {
    "moto": {
        "a_condition_that_holds[begins_with(bits, :0)]": "does not know prefixes of binary",
        "a_condition_that_does_not_hold[five > :a]": "raises TypeError",
        "a_condition_that_does_not_hold[five > abc]": "raises TypeError",
        "a_condition_that_does_not_hold[six = seven]": "takes two missing attributes for equal",
        "a_condition_that_does_not_hold[size(five) > :4]": "raises TypeError",
        "a_condition_that_does_not_hold[size(six) > :4]": "raises ValueError",
        "a_condition_that_is_refused[five =]": "raises ValueError",
        "a_condition_that_is_refused[five = :5 five]": "raises ValueError",
        "a_condition_that_is_refused[five IN ()]": "raises ValueError",
        "a_condition_that_is_refused[five BETWEEN :6 AND :4]": "does not compare the bounds",
        "a_condition_that_is_refused[flag > :true]": "compares what has no order",
        "a_condition_that_is_refused[contains(words, words)]": "takes one attribute twice",
        "a_condition_that_is_refused[begins_with(abc, :5)]": "takes a number for a prefix",
        "a_condition_that_is_refused[five = :undefined]": "raises KeyError",
        "a_value_comes_back_as_dynamodb_writes_it[1.50]": "keeps the number as it was written",
        "a_value_comes_back_as_dynamodb_writes_it[007]": "keeps the number as it was written",
        "a_value_comes_back_as_dynamodb_writes_it[1e3]": "keeps the number as it was written",
        "a_value_comes_back_as_dynamodb_writes_it[-0.0]": "keeps the number as it was written",
        "an_invalid_value_is_refused[39 digits]": "has no limit",
        "an_invalid_value_is_refused[too large]": "has no limit",
        "an_invalid_value_is_refused[twice in a set]": "takes it",
        "an_invalid_key_is_refused[of another type]": "finds nothing for it",
        "an_invalid_key_is_refused[too long]": "finds nothing for it",
        "an_item_over_400_kib_is_refused": "counts the names of the types too",
        "a_query_that_is_refused[OR]": "raises AssertionError",
        "a_query_that_is_refused[filter on the key]": "filters by it",
        "a_batch_with_a_key_twice_or_with_too_many_keys_is_refused": "has no limit for writes",
    },
    "http": {
        # ExtendDB's pull request 216 says that AWS refuses the call.
        "a_condition_that_is_refused[flag > :true]": "compares what has no order",
    },
}
"""Tests that other engines fail, with the reason. `http` is Dynoxide."""


@pytest.fixture(autouse=True)
def known_difference(request: pytest.FixtureRequest) -> None:
    test = (
        request.node.name.removeprefix("test_").replace("through boto3-", "").replace("[through boto3]", "")
    )
    reason = DIFFERENCES.get(ENGINE.partition(":")[0], {}).get(test)
    if reason is not None:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


_numbers = count(1)


@pytest.fixture(scope="module")
def engine() -> Tables:
    return make_tables()


@pytest.fixture(params=["through boto3", "without boto3"])
def tables(request: pytest.FixtureRequest, engine: Tables) -> Tables:
    """Return new tables, once per kind of client that the embedded engine has."""
    number = next(_numbers)
    client = engine.client
    if request.param == "without boto3":
        if not IS_EMBEDDED:
            pytest.skip("only the embedded engine can be called without boto3")
        client = Client(engine.embedded.call)
    new = engine._replace(client=client, websockets=f"contract-{number}-w", messages=f"contract-{number}-m")
    create_tables(engine.client, {"WebsocketsTable": new.websockets, "MessagesTable": new.messages})
    return new


def put(tables: Tables, **attributes: Any) -> None:
    tables.client.put_item(TableName=tables.websockets, Item=KEY | attributes)


def read(tables: Tables) -> dict[str, Any]:
    """Return the item without its key, and its sets in order."""
    item = tables.client.get_item(TableName=tables.websockets, Key=KEY, ConsistentRead=True)["Item"]
    return {
        name: {kind: sorted(content) if kind == "SS" else content for kind, content in value.items()}
        for name, value in item.items()
        if name != "id"
    }


def used(expression: str) -> dict[str, Any]:
    """Return the values that an expression names."""
    return {
        "ExpressionAttributeValues": {
            name: value for name, value in VALUES.items() if name in words(expression)
        }
    }


def words(expression: str) -> list[str]:
    for sign in "(),":
        expression = expression.replace(sign, f" {sign} ")
    return expression.split()


def refusal(call: Callable[..., Any], **request: Any) -> Any:
    """Return the code of the error, or None."""
    try:
        call(**request)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


@pytest.mark.parametrize(
    "condition",
    [
        "attribute_exists(five)",
        "attribute_not_exists(six)",
        "five = :5",
        "words = :ab",
        "five <> :a",
        "six <> :6",
        "five > :4 AND five < :6",
        "five BETWEEN :4 AND :6",
        "five IN (:4, :5)",
        "NOT five = :6",
        "five = :6 OR abc = :abc AND flag = :true",
        "(five = :5 OR five = :6) AND flag = :true",
        "begins_with(abc, :a)",
        "begins_with(bits, :0)",
        "contains(abc, :a)",
        "contains(words, :a)",
        "size(words) < :4",
        "size(abc) <= five",
    ],
)
def test_a_condition_that_holds(condition: str, tables: Tables) -> None:
    put(tables, **ATTRIBUTES)

    delete = {"TableName": tables.websockets, "Key": KEY, "ConditionExpression": condition}
    arguments = delete | (used(condition) if ":" in condition else {})

    assert refusal(tables.client.delete_item, **arguments) is None


@pytest.mark.parametrize(
    "condition",
    [
        "attribute_exists(six)",
        "five = :a",
        "five > :a",
        "five > abc",
        "six > :5",
        "six = seven",
        "size(five) > :4",
        "size(six) > :4",
        "contains(five, :5)",
        "contains(words, :ab)",
        "begins_with(five, :a)",
    ],
)
def test_a_condition_that_does_not_hold(condition: str, tables: Tables) -> None:
    put(tables, **ATTRIBUTES)

    delete = {"TableName": tables.websockets, "Key": KEY, "ConditionExpression": condition}
    arguments = delete | (used(condition) if ":" in condition else {})

    assert refusal(tables.client.delete_item, **arguments) == FAILED


@pytest.mark.parametrize(
    "condition",
    [
        "five =",
        "five = :5 five",
        "five IN ()",
        "five BETWEEN :6 AND :4",
        "flag > :true",
        "contains(words, words)",
        "((five = :5))",
        "name = :5",
        "exists(five)",
        "begins_with(abc, :5)",
        "five = :undefined",
    ],
)
def test_a_condition_that_is_refused(condition: str, tables: Tables) -> None:
    delete = {"TableName": tables.websockets, "Key": KEY, "ConditionExpression": condition}
    arguments = delete | (used(condition) if used(condition)["ExpressionAttributeValues"] else {})

    assert refusal(tables.client.delete_item, **arguments) == INVALID


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        ("SET six = :6", {**ATTRIBUTES, "six": {"N": "6"}}),
        ("SET five = five + :6, six = five", {**ATTRIBUTES, "five": {"N": "11"}, "six": {"N": "5"}}),
        ("SET five = five - :6", {**ATTRIBUTES, "five": {"N": "-1"}}),
        ("SET five = if_not_exists(five, :6)", ATTRIBUTES),
        ("SET six = if_not_exists(six, :6) + :4", {**ATTRIBUTES, "six": {"N": "10"}}),
        ("REMOVE five, six", {name: value for name, value in ATTRIBUTES.items() if name != "five"}),
        ("ADD five :6", {**ATTRIBUTES, "five": {"N": "11"}}),
        ("ADD six :6", {**ATTRIBUTES, "six": {"N": "6"}}),
        ("ADD words :c", {**ATTRIBUTES, "words": {"SS": ["a", "b", "c"]}}),
        ("DELETE words :c", ATTRIBUTES),
        ("DELETE words :ab", {name: value for name, value in ATTRIBUTES.items() if name != "words"}),
        ("DELETE letters :ab", ATTRIBUTES),
        ("SET six = :6 ADD five :4 REMOVE abc", "three clauses"),
    ],
)
def test_an_update(update: str, expected: Any, tables: Tables) -> None:
    put(tables, **ATTRIBUTES)
    values = used(update) if ":" in update else {}

    tables.client.update_item(TableName=tables.websockets, Key=KEY, UpdateExpression=update, **values)

    if expected == "three clauses":
        expected = {**ATTRIBUTES, "six": {"N": "6"}, "five": {"N": "9"}}
        del expected["abc"]
    assert read(tables) == expected


@pytest.mark.parametrize(
    "update",
    [
        "SET five = :6, five = :4",
        "SET id = :a",
        "SET six = seven",
        "SET six = five + :a",
        "SET five",
        "SET five = :6 SET abc = :a",
        "ADD abc :6",
        "ADD five :a",
        "DELETE words :5",
        "DELETE five :ab",
        "PUT five = :6",
    ],
)
def test_an_update_that_is_refused_changes_nothing(update: str, tables: Tables) -> None:
    put(tables, **ATTRIBUTES)
    arguments = {"TableName": tables.websockets, "Key": KEY, "UpdateExpression": update} | (
        used(update) if ":" in update else {}
    )

    assert refusal(tables.client.update_item, **arguments) == INVALID
    assert read(tables) == ATTRIBUTES


def test_a_write_returns_the_item_that_it_is_asked_for(tables: Tables) -> None:
    put(tables, n={"N": "1"})
    update = {
        "TableName": tables.websockets,
        "Key": KEY,
        "UpdateExpression": "SET n = n + :4",
        "ExpressionAttributeValues": {":4": {"N": "4"}},
    }

    new = tables.client.update_item(**update, ReturnValues="ALL_NEW")["Attributes"]
    old = tables.client.update_item(**update, ReturnValues="ALL_OLD")["Attributes"]
    replaced = tables.client.put_item(TableName=tables.websockets, Item=KEY, ReturnValues="ALL_OLD")
    deleted = tables.client.delete_item(TableName=tables.websockets, Key=KEY, ReturnValues="ALL_OLD")
    gone = tables.client.delete_item(TableName=tables.websockets, Key=KEY, ReturnValues="ALL_OLD")

    assert new == old == {**KEY, "n": {"N": "5"}}
    assert replaced["Attributes"] == {**KEY, "n": {"N": "9"}}
    assert deleted["Attributes"] == KEY
    assert "Attributes" not in gone


def test_a_failed_condition_returns_the_item_that_is_there_when_asked_to(tables: Tables) -> None:
    put(tables, n={"N": "1"})
    write = {"TableName": tables.websockets, "Item": KEY, "ConditionExpression": "attribute_not_exists(id)"}

    with pytest.raises(ClientError) as caught:
        tables.client.put_item(**write, ReturnValuesOnConditionCheckFailure="ALL_OLD")

    assert caught.value.response["Item"] == {**KEY, "n": {"N": "1"}}


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ({"N": "1.50"}, {"N": "1.5"}),
        ({"N": "007"}, {"N": "7"}),
        ({"N": "1e3"}, {"N": "1000"}),
        ({"N": "-0.0"}, {"N": "0"}),
        ({"S": ""}, {"S": ""}),
        ({"B": b""}, {"B": b""}),
        ({"L": []}, {"L": []}),
        ({"M": {"x": {"N": "1"}}}, {"M": {"x": {"N": "1"}}}),
    ],
    ids=["1.50", "007", "1e3", "-0.0", "no text", "no bytes", "no list", "a map"],
)
def test_a_value_comes_back_as_dynamodb_writes_it(value: Any, stored: Any, tables: Tables) -> None:
    put(tables, x=value)

    assert read(tables) == {"x": stored}


@pytest.mark.parametrize(
    "value",
    [{"N": "x"}, {"N": "9" * 39}, {"N": "1e126"}, {"SS": []}, {"SS": ["a", "a"]}],
    ids=["no number", "39 digits", "too large", "an empty set", "twice in a set"],
)
def test_an_invalid_value_is_refused(value: Any, tables: Tables) -> None:
    assert refusal(tables.client.put_item, TableName=tables.websockets, Item=KEY | {"x": value}) == INVALID


@pytest.mark.parametrize(
    "key",
    [{}, {"id": {"N": "1"}}, {"id": {"S": ""}}, {"id": {"S": "é" * 1025}}],
    ids=["missing", "of another type", "empty", "too long"],
)
def test_an_invalid_key_is_refused(key: Any, tables: Tables) -> None:
    assert refusal(tables.client.put_item, TableName=tables.websockets, Item=key) == INVALID
    assert refusal(tables.client.get_item, TableName=tables.websockets, Key=key) == INVALID


def test_an_item_over_400_kib_is_refused(tables: Tables) -> None:
    largest = 400 * 1024 - len("id") - len("k") - len("x")
    put(tables, x={"S": "a" * largest})

    item = KEY | {"x": {"S": "a" * (largest + 1)}}
    assert refusal(tables.client.put_item, TableName=tables.websockets, Item=item) == INVALID


def test_the_error_for_a_missing_table_names_it(tables: Tables) -> None:
    assert refusal(tables.client.get_item, TableName="nowhere", Key=KEY) == MISSING
    assert refusal(tables.client.put_item, TableName="nowhere", Item=KEY) == MISSING
    assert refusal(tables.client.describe_table, TableName="nowhere") == MISSING


# Pages


IDS = ("a", "ab", "b", "c", "é")


def put_messages(tables: Tables, player: str = "p") -> None:
    for number, message_id in enumerate(IDS):
        key = {"destinationPlayerId": {"S": player}, "messageId": {"S": message_id}}
        tables.client.put_item(TableName=tables.messages, Item=key | {"n": {"N": str(number)}})


def queried(tables: Tables, condition: str, **options: Any) -> tuple[list[str], Any]:
    """Return the ids of a page of the player's messages, and where the next one starts."""
    values = {":low": {"S": "ab"}, ":high": {"S": "c"}}
    answer = tables.client.query(
        TableName=tables.messages,
        KeyConditionExpression="destinationPlayerId = :player" + condition,
        ExpressionAttributeValues={
            ":player": {"S": "p"},
            **{name: value for name, value in values.items() if name in words(condition)},
            **options.pop("values", {}),
        },
        **options,
    )
    return [item["messageId"]["S"] for item in answer["Items"]], answer.get("LastEvaluatedKey")


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("", list(IDS)),
        (" AND messageId = :low", ["ab"]),
        (" AND messageId < :low", ["a"]),
        (" AND messageId <= :low", ["a", "ab"]),
        (" AND messageId > :low", ["b", "c", "é"]),
        (" AND messageId >= :low", ["ab", "b", "c", "é"]),
        (" AND messageId BETWEEN :low AND :high", ["ab", "b", "c"]),
        (" AND begins_with(messageId, :low)", ["ab"]),
    ],
)
def test_a_query_finds_a_range_of_one_partition_in_order(
    condition: str, expected: list[str], tables: Tables
) -> None:
    put_messages(tables)
    put_messages(tables, player="q")

    assert queried(tables, condition)[0] == expected
    assert queried(tables, condition, ScanIndexForward=False)[0] == expected[::-1]


@pytest.mark.parametrize("forward", [True, False])
def test_a_query_continues_where_its_page_ended(forward: bool, tables: Tables) -> None:
    put_messages(tables)
    found: list[str] = []
    more: dict[str, Any] = {}

    while True:
        ids, last = queried(tables, "", Limit=2, ScanIndexForward=forward, **more)
        found += ids
        if last is None:
            break
        more = {"ExclusiveStartKey": last}

    assert found == list(IDS if forward else IDS[::-1])


def test_the_limit_counts_items_before_the_filter(tables: Tables) -> None:
    put_messages(tables)

    found, last = queried(
        tables, "", Limit=2, FilterExpression="n > :zero", values={":zero": {"N": "0"}}, ConsistentRead=True
    )

    assert found == ["ab"]
    assert last == {"destinationPlayerId": {"S": "p"}, "messageId": {"S": "ab"}}


@pytest.mark.parametrize(
    "options",
    [
        {"KeyConditionExpression": "messageId = :p"},
        {"KeyConditionExpression": "destinationPlayerId > :p"},
        {"KeyConditionExpression": "destinationPlayerId = :p OR messageId = :p"},
        {"KeyConditionExpression": "destinationPlayerId = :p", "FilterExpression": "messageId = :p"},
    ],
    ids=["no hash key", "no equality", "OR", "filter on the key"],
)
def test_a_query_that_is_refused(options: dict[str, str], tables: Tables) -> None:
    values = {":p": {"S": "p"}}

    found = refusal(
        tables.client.query, TableName=tables.messages, ExpressionAttributeValues=values, **options
    )

    assert found == INVALID


def test_a_scan_finds_everything_page_by_page(tables: Tables) -> None:
    put_messages(tables, "p")
    put_messages(tables, "q")
    found: list[tuple[str, str]] = []
    more: dict[str, Any] = {}

    while True:
        answer = tables.client.scan(TableName=tables.messages, Limit=3, **more)
        found += [(item["destinationPlayerId"]["S"], item["messageId"]["S"]) for item in answer["Items"]]
        if "LastEvaluatedKey" not in answer:
            break
        more = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    assert sorted(found) == sorted((player, each) for player in "pq" for each in IDS)
    counted = tables.client.scan(TableName=tables.messages, Select="COUNT")
    assert (counted["Count"], "Items" in counted) == (10, False)


def test_a_page_ends_at_a_megabyte(tables: Tables) -> None:
    for message_id in "abcde":
        key = {"destinationPlayerId": {"S": "p"}, "messageId": {"S": message_id}}
        tables.client.put_item(TableName=tables.messages, Item=key | {"x": {"S": "a" * 300_000}})

    ids, last = queried(tables, "")

    assert (ids, last["messageId"]["S"]) == (["a", "b", "c"], "c")


def test_a_projection_shows_some_attributes(tables: Tables) -> None:
    put(tables, a={"N": "1"}, b={"N": "2"}, name={"N": "3"})

    answer = tables.client.get_item(
        TableName=tables.websockets,
        Key=KEY,
        ProjectionExpression="a, #name, nothing",
        ExpressionAttributeNames={"#name": "name"},
    )

    assert answer["Item"] == {"a": {"N": "1"}, "name": {"N": "3"}}


# Batches


def keys(*ids: str) -> list[dict[str, Any]]:
    return [{"id": {"S": each}} for each in ids]


def test_a_batch_writes_and_reads_many_items(tables: Tables) -> None:
    table = tables.websockets
    puts = [{"PutRequest": {"Item": key}} for key in keys("a", "b", "c")]

    tables.client.batch_write_item(RequestItems={table: puts})
    tables.client.batch_write_item(RequestItems={table: [{"DeleteRequest": {"Key": keys("b")[0]}}]})
    answer = tables.client.batch_get_item(RequestItems={table: {"Keys": keys("a", "b", "c", "d")}})

    assert sorted(item["id"]["S"] for item in answer["Responses"][table]) == ["a", "c"]
    assert answer["UnprocessedKeys"] == {}


def test_a_batch_with_a_key_twice_or_with_too_many_keys_is_refused(tables: Tables) -> None:
    table, many = tables.websockets, keys(*map(str, range(101)))
    twice = [{"PutRequest": {"Item": key}} for key in keys("a", "a")]

    assert refusal(tables.client.batch_get_item, RequestItems={table: {"Keys": keys("a", "a")}}) == INVALID
    assert refusal(tables.client.batch_get_item, RequestItems={table: {"Keys": many}}) == INVALID
    assert refusal(tables.client.batch_write_item, RequestItems={table: twice}) == INVALID
    puts = [{"PutRequest": {"Item": key}} for key in many[:26]]
    assert refusal(tables.client.batch_write_item, RequestItems={table: puts}) == INVALID


# Tables


def listed(tables: Tables) -> list[str]:
    names: list[str] = []
    more: dict[str, str] = {}
    while True:
        answer = tables.client.list_tables(Limit=20, **more)
        names += answer["TableNames"]
        if "LastEvaluatedTableName" not in answer:
            return names
        more = {"ExclusiveStartTableName": answer["LastEvaluatedTableName"]}


def test_a_table_is_described_listed_and_deleted(tables: Tables) -> None:
    put(tables)

    described = tables.client.describe_table(TableName=tables.websockets)["Table"]
    ttl = tables.client.describe_time_to_live(TableName=tables.websockets)["TimeToLiveDescription"]
    tables.client.delete_table(TableName=tables.websockets)

    assert described["KeySchema"] == [{"AttributeName": "id", "KeyType": "HASH"}]
    assert described["TableStatus"] == "ACTIVE"
    assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "expiresAt")
    names = listed(tables)
    assert tables.messages in names
    assert tables.websockets not in names
    assert refusal(tables.client.describe_table, TableName=tables.websockets) == MISSING


def test_an_existing_table_cannot_be_created(tables: Tables) -> None:
    found = refusal(
        tables.client.create_table,
        TableName=tables.websockets,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )

    assert found == "ResourceInUseException"
