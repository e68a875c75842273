"""What the stores promise, kept by the DynamoDB tables and by the fakes that stand in for them."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse

from chalicelib.connections_table import ConnectionsTable
from chalicelib.dynamodb import CONFIG
from chalicelib.messages_table import MessagesTable, UnreadableRecord, entry_of
from chalicelib.ports import Connection, ConnectionStore, Endpoint, Message, Player, ReplayMarker, Unavailable
from tests.dynamodb_tables import Tables, make_tables
from tests.fakes import InMemoryConnections

HERE = Endpoint("api", "dev")
DAY = 24 * 60 * 60


@pytest.fixture
def tables() -> Tables:
    return make_tables()


@pytest.fixture(params=["dynamodb", "in memory"])
def store(request: pytest.FixtureRequest) -> ConnectionStore:
    if request.param == "in memory":
        return InMemoryConnections()
    tables = make_tables()
    return ConnectionsTable(tables.client, tables.websockets, DAY)


def connection(connection_id: str, player_id: str = "1") -> Connection:
    return Connection(connection_id, player_id, HERE, 1000, {"level": "9", "empty": ""})


def player(store: ConnectionStore, player_id: str = "1") -> Player:
    return store.players([player_id])[player_id]


def test_a_registered_connection_is_found_as_it_was_saved(store: ConnectionStore) -> None:
    store.register(connection("c"))

    assert store.find("c") == connection("c")
    assert player(store) == Player("1", HERE, frozenset({"c"}), frozenset())


def test_what_was_never_registered_is_not_found(store: ConnectionStore) -> None:
    assert store.find("c") is None
    assert store.remove_by_id("c") is None
    assert player(store) == Player("1")


def test_a_connection_that_is_registered_after_it_was_not_found_is_found(store: ConnectionStore) -> None:
    assert store.find("c") is None
    store.register(connection("c"))

    assert store.find("c") == connection("c")


def test_only_a_players_own_connection_is_admitted_or_made_live(store: ConnectionStore) -> None:
    store.register(connection("c"))

    assert store.admit("1", "c") == Player("1", HERE, frozenset({"c"}), frozenset())
    assert store.admit("1", "other") is None
    assert store.admit("2", "c") is None
    assert store.make_live("1", "other") is False
    assert store.make_live("1", "c") is True
    assert player(store).live == {"c"}


def test_asking_about_a_stranger_leaves_nothing_behind(store: ConnectionStore) -> None:
    store.admit("stranger", "c")
    store.make_live("stranger", "c")

    assert player(store, "stranger") == Player("stranger")


def test_removing_a_connection_removes_exactly_that_one(store: ConnectionStore) -> None:
    for connection_id in ("a", "b"):
        store.register(connection(connection_id))
        store.make_live("1", connection_id)

    store.remove("1", "a")
    store.remove("1", "a")

    assert player(store) == Player("1", HERE, frozenset({"b"}), frozenset({"b"}))
    assert store.admit("1", "a") is None


def test_a_connection_can_be_removed_without_knowing_whose_it_is(store: ConnectionStore) -> None:
    store.register(connection("c"))

    assert store.remove_by_id("c") == "1"
    assert store.remove_by_id("c") is None
    assert player(store).connections == set()


def test_everything_may_be_repeated(store: ConnectionStore) -> None:
    for _ in range(2):
        store.register(connection("c"))
        store.make_live("1", "c")

    assert player(store) == Player("1", HERE, frozenset({"c"}), frozenset({"c"}))


def test_any_number_of_players_can_be_asked_for_at_once(store: ConnectionStore) -> None:
    ids = [f"p{number}" for number in range(120)]
    store.register(connection("c", "p119"))

    found = store.players(ids)

    assert list(found) == ids
    assert found["p119"].connections == {"c"}


def test_connects_and_disconnects_of_one_player_at_once_lose_nothing() -> None:
    tables = make_tables()
    store = ConnectionsTable(tables.client, tables.websockets, DAY)
    for number in range(0, 60, 2):
        store.register(connection(f"c{number}"))

    with ThreadPoolExecutor(16) as pool:
        registering = [pool.submit(store.register, connection(f"c{n}")) for n in range(1, 60, 2)]
        removing = [pool.submit(store.remove, "1", f"c{n}") for n in range(0, 60, 2)]
        for done in registering + removing:
            done.result()

    assert player(store).connections == {f"c{n}" for n in range(1, 60, 2)}


def test_a_warm_lambda_reads_a_connection_once(tables: Tables) -> None:
    store = ConnectionsTable(tables.client, tables.websockets, DAY)
    store.register(connection("c"))
    calls = count_calls(tables.client)

    store.find("c")
    store.find("c")

    assert calls == ["GetItem"]


def test_a_batch_of_players_costs_one_consistent_read(tables: Tables) -> None:
    store = ConnectionsTable(tables.client, tables.websockets, DAY)
    calls = count_calls(tables.client)
    requests: list[Any] = []
    tables.client.meta.events.register(
        "provide-client-params.dynamodb.BatchGetItem", lambda params, **_: requests.append(params)
    )

    store.players([f"p{number}" for number in range(100)])

    assert calls == ["BatchGetItem"]
    assert requests[0]["RequestItems"][tables.websockets]["ConsistentRead"] is True


def test_what_dynamodb_left_unprocessed_is_asked_for_again(tables: Tables) -> None:
    store = ConnectionsTable(tables.client, tables.websockets, DAY)
    store.register(connection("c"))
    key = {"id": {"S": "player#1"}}
    unprocessed = {tables.websockets: {"Keys": [key], "ConsistentRead": True}}
    answers = [answer(200, {"Responses": {}, "UnprocessedKeys": unprocessed})]
    tables.client.meta.events.register_first(
        "before-send.dynamodb.BatchGetItem", lambda **_: answers.pop() if answers else None
    )

    assert player(store).connections == {"c"}


def test_players_that_cannot_be_read_whole_are_unavailable(tables: Tables) -> None:
    store = ConnectionsTable(tables.client, tables.websockets, DAY)
    unprocessed = {tables.websockets: {"Keys": [{"id": {"S": "player#1"}}]}}
    tables.client.meta.events.register_first(
        "before-send.dynamodb.BatchGetItem",
        lambda **_: answer(200, {"Responses": {}, "UnprocessedKeys": unprocessed}),
    )

    with pytest.raises(Unavailable):
        store.players(["1"])


@pytest.mark.parametrize(
    "failure", ["ProvisionedThroughputExceededException", "InternalServerError", "AccessDeniedException"]
)
def test_every_failure_of_dynamodb_is_unavailable(tables: Tables, failure: str) -> None:
    store = ConnectionsTable(tables.client, tables.websockets, DAY)
    messages = MessagesTable(tables.client, tables.messages, DAY)
    tables.client.meta.events.register_first(
        "before-send.dynamodb", lambda **_: answer(400, {"__type": f"com.amazonaws#{failure}"})
    )

    for call in (
        lambda: store.register(connection("c")),
        lambda: store.find("c"),
        lambda: store.admit("1", "c"),
        lambda: store.make_live("1", "c"),
        lambda: store.remove("1", "c"),
        lambda: store.remove_by_id("c"),
        lambda: store.players(["1"]),
        lambda: messages.put(ReplayMarker("m", "1", "c")),
    ):
        with pytest.raises(Unavailable, match=failure):
            call()


def test_an_answer_that_does_not_come_is_unavailable() -> None:
    nobody_listens = boto3.Session("local", "local", region_name="us-east-1").client(
        "dynamodb", endpoint_url="http://127.0.0.1:9", config=CONFIG
    )
    messages = MessagesTable(nobody_listens, "messages", DAY)

    with pytest.raises(Unavailable):
        messages.put(ReplayMarker("m", "1", "c"))


def test_items_expire_by_the_time_to_live_that_the_template_names(tables: Tables) -> None:
    store = ConnectionsTable(tables.client, tables.websockets, player_seconds=5 * DAY)
    store.register(connection("c"))
    MessagesTable(tables.client, tables.messages, 7 * DAY).put(ReplayMarker("m", "1", "c"))

    items = scan(tables, tables.websockets) | scan(tables, tables.messages)

    left = {key: int(item["expiresAt"]["N"]) - time.time() for key, item in items.items()}
    assert 2 * 3600 < left["connection#c"] < DAY
    assert 4.9 * DAY < left["player#1"] <= 5 * DAY
    assert 6.9 * DAY < left["m"] <= 7 * DAY


@pytest.mark.parametrize(
    "entry",
    [Message("m1", "2", "1", "h\u00e9 \U0001f600 \u0000", 1000), ReplayMarker("m1", "2", "c")],
    ids=["message", "marker"],
)
def test_what_is_put_is_what_the_stream_brings(tables: Tables, entry: Message | ReplayMarker) -> None:
    MessagesTable(tables.client, tables.messages, DAY).put(entry)

    item = scan(tables, tables.messages)["m1"]

    assert entry_of({"eventName": "INSERT", "dynamodb": {"NewImage": item}}) == entry


@pytest.mark.parametrize("event_name", ["MODIFY", "REMOVE"])
def test_only_a_new_item_is_anything_to_push(event_name: str) -> None:
    assert entry_of({"eventName": event_name, "dynamodb": {}}) is None


@pytest.mark.parametrize(
    "dynamodb",
    [
        {},
        {"NewImage": {}},
        {"NewImage": {"destinationPlayerId": {"S": "2"}, "messageId": {"S": "canary"}}},
        {"NewImage": {"destinationPlayerId": {"N": "2"}, "messageId": {"S": "canary"}}},
        {"NewImage": None},
    ],
)
def test_a_new_item_that_is_none_of_ours_is_unreadable_and_not_repeated(dynamodb: Any) -> None:
    with pytest.raises(UnreadableRecord) as caught:
        entry_of({"eventName": "INSERT", "dynamodb": dynamodb})

    assert "canary" not in str(caught.value)


def answer(status: int, body: dict[str, Any]) -> AWSResponse:
    class Raw:
        def stream(self, **_: Any) -> Any:
            yield json.dumps(body).encode()

    return AWSResponse("https://dynamodb", status, {}, Raw())


def count_calls(client: Any) -> list[str]:
    calls: list[str] = []
    client.meta.events.register("before-call.dynamodb", lambda model, **_: calls.append(model.name))
    return calls


def scan(tables: Tables, table: str) -> dict[str, dict[str, Any]]:
    """A table's items by the sort key, or the only key."""
    items = tables.client.scan(TableName=table)["Items"]
    return {item.get("messageId", item.get("id"))["S"]: item for item in items}
