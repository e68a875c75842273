"""The contract of the stores, tested on the DynamoDB tables and on the fakes."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointConnectionError
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.aws.connections import ConnectionsTable
from chalicelib.aws.directory import DirectoryTable
from chalicelib.aws.dynamodb import CONFIG
from chalicelib.aws.idempotency import IdempotencyTable
from chalicelib.aws.message_items import UnreadableRecord, parse_record, written_at
from chalicelib.aws.messages import EXPIRY_SLACK_SECONDS, MessagesTable
from chalicelib.aws.rate_counter import OLD_WINDOWS
from chalicelib.core.message_id import MessageIds
from chalicelib.core.model import (
    Banned,
    Connection,
    Endpoint,
    Entry,
    Message,
    Page,
    PlayerConnections,
    ReplayMarker,
    ReplayProgress,
    RoomMessage,
    RoomPermissions,
    Send,
    TooManyConnections,
    Unavailable,
)
from chalicelib.core.ports import ConnectionStore, Directory, IdempotencyStore, MessageStore
from chalicelib.core.protocol import MAX_PRESENCE_ROOMS
from chalicelib.core.rate_limit import RateLimit, RateLimited
from tests.support.dynamodb_tables import Tables, count_calls, make_tables
from tests.support.fakes import (
    InMemoryConnections,
    InMemoryDirectory,
    InMemoryIdempotency,
    InMemoryMessages,
    InMemoryRooms,
)
from tests.support.sockets import PATIENCE_SECONDS
from tests.support.stream_records import STREAM, inserted, position

HERE = Endpoint("api", "dev")
DAY = 24 * 60 * 60
M1, M2 = MessageIds()(), MessageIds()()
CANARY = {"S": "canary"}


@pytest.fixture
def tables() -> Tables:
    return make_tables()


@pytest.fixture
def failing_tables() -> Tables:
    """Return tables whose calls reach HTTP, where tests can inject faults."""
    return make_tables(directly=False)


RATE = RateLimit(per_second=10, burst=5)
WINDOW_MS = 400
MOST = 3


@dataclass
class Clock:
    """A clock in milliseconds that a test moves. It starts at the beginning of a window of RATE."""

    now: int = 1_000_000

    def __call__(self) -> int:
        return self.now

    def advance(self, milliseconds: int) -> None:
        self.now += milliseconds


class ReadableConnections(ConnectionsTable):
    """A ConnectionsTable with the Directory that reads what it has written."""

    directory: DirectoryTable


def connections_table(tables: Tables, player_seconds: int = DAY, **options: Any) -> ReadableConnections:
    limits: dict[str, Any] = {"rate": RateLimit(20, 10_000), "connections_per_player": 100} | options
    store = ReadableConnections(tables.client, tables.websockets, player_seconds=player_seconds, **limits)
    store.directory = DirectoryTable(tables.client, tables.websockets)
    return store


def directory_of(store: ConnectionStore) -> Directory:
    if isinstance(store, InMemoryConnections):
        return InMemoryDirectory(store, InMemoryRooms())
    assert isinstance(store, ReadableConnections)
    return store.directory


@pytest.fixture(params=["dynamodb", "in memory"])
def store(request: pytest.FixtureRequest) -> ConnectionStore:
    return InMemoryConnections() if request.param == "in memory" else connections_table(make_tables())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["dynamodb", "in memory"])
def limited(request: pytest.FixtureRequest, clock: Clock) -> ConnectionStore:
    """Return a store with the limits RATE and MOST and the test's clock."""
    if request.param == "in memory":
        return InMemoryConnections(rate=RATE, connections_per_player=MOST, clock=clock)
    return connections_table(make_tables(), rate=RATE, connections_per_player=MOST, clock=clock)


def connection(connection_id: str, player_id: str = "1") -> Connection:
    return Connection(connection_id, player_id, HERE, 1000, {"level": "9", "empty": ""})


def player(store: ConnectionStore, player_id: str = "1") -> PlayerConnections:
    players, _ = directory_of(store).read([player_id])
    return players[player_id]


def test_a_registered_connection_is_found_as_it_was_saved(store: ConnectionStore) -> None:
    store.register(connection("c"))

    assert store.find("c") == connection("c")
    assert player(store) == PlayerConnections("1", HERE, frozenset({"c"}), registered_at={"c": 1000})


def test_an_unregistered_connection_is_not_found(store: ConnectionStore) -> None:
    assert store.find("c") is None
    assert store.remove_by_id("c") is None
    assert player(store) == PlayerConnections("1")


def test_a_connection_is_found_after_an_earlier_miss(store: ConnectionStore) -> None:
    assert store.find("c") is None
    store.register(connection("c"))

    assert store.find("c") == connection("c")


def test_only_a_players_own_connection_is_admitted_or_made_live(store: ConnectionStore) -> None:
    store.register(connection("c"))

    assert store.admit("1", "c", 1) == PlayerConnections(
        "1", HERE, frozenset({"c"}), registered_at={"c": 1000}
    )
    assert store.admit("1", "other", 1) is None
    assert store.admit("2", "c", 1) is None
    assert store.make_live("1", "other", position(7)) is None
    assert store.make_live("1", "c", position(7)) is not None
    assert player(store).live == {"c": position(7)}


def test_looking_up_an_unknown_connection_stores_nothing(store: ConnectionStore) -> None:
    store.admit("stranger", "c", 1)
    store.make_live("stranger", "c", position(7))

    assert player(store, "stranger") == PlayerConnections("stranger")


def test_removing_a_connection_removes_exactly_that_one(store: ConnectionStore) -> None:
    for connection_id in ("a", "b"):
        store.register(connection(connection_id))
        store.make_live("1", connection_id, position(7))

    store.remove("1", "a")
    store.remove("1", "a")

    assert player(store) == PlayerConnections(
        "1", HERE, frozenset({"b"}), {"b": position(7)}, registered_at={"b": 1000}
    )
    assert store.admit("1", "a", 1) is None


def test_a_connection_can_be_removed_by_its_id_alone(store: ConnectionStore) -> None:
    store.register(connection("c"))

    before = store.remove_by_id("c")

    assert before is not None
    assert (before.id, set(before.connections)) == ("1", {"c"})
    assert store.remove_by_id("c") is None
    assert player(store).connections == set()


def test_every_write_is_idempotent(store: ConnectionStore) -> None:
    for _ in range(2):
        store.register(connection("c"))
        store.make_live("1", "c", position(7))

    assert player(store) == PlayerConnections(
        "1", HERE, frozenset({"c"}), {"c": position(7)}, registered_at={"c": 1000}
    )


def test_a_sequence_number_can_have_forty_digits(store: ConnectionStore) -> None:
    store.register(connection("c"))
    store.make_live("1", "c", position(10**39 + 1))

    assert player(store).live == {"c": position(10**39 + 1)}


def test_a_position_stored_by_an_earlier_version_is_smaller_than_every_new_one(tables: Tables) -> None:
    store = connections_table(tables)
    store.register(connection("c"))
    store.make_live("1", "c", position(10**39))
    tables.client.update_item(
        TableName=tables.websockets,
        Key={"id": {"S": "player#1"}},
        UpdateExpression="REMOVE #stream",
        ExpressionAttributeNames={"#stream": "stream:c"},
    )

    assert player(store).live["c"] < position(1)


def test_an_earlier_version_reads_the_sequence_number_of_a_live_connection(tables: Tables) -> None:
    store = connections_table(tables)
    store.register(connection("c"))
    store.make_live("1", "c", position(10**39))

    item = scan(tables, tables.websockets)["player#1"]
    assert int(item["live:c"]["S"]) == 10**39
    assert item["stream:c"]["S"] == STREAM


def test_a_removed_connection_leaves_no_attribute_in_its_players_item(tables: Tables) -> None:
    store = connections_table(tables)
    store.register(connection("c"))
    store.make_live("1", "c", position(7))

    store.remove("1", "c")

    assert [name for name in scan(tables, tables.websockets)["player#1"] if name.endswith(":c")] == []


def test_the_first_missed_message_is_kept_until_a_connection_has_caught_up_with_it(
    store: ConnectionStore,
) -> None:
    store.register(connection("c"))
    store.note_missed("1", "m2")
    store.note_missed("1", "m3")
    assert player(store).missed_from == "m2"

    assert store.make_live("1", "c", position(7), caught_up="m1") is not None
    assert player(store).missed_from == "m2"

    assert store.make_live("1", "c", position(7), caught_up="m2") is not None
    assert player(store).missed_from is None
    assert store.make_live("1", "other", position(7), caught_up="m2") is None


def test_a_player_who_never_connected_can_miss_messages(store: ConnectionStore) -> None:
    store.note_missed("nobody", "m1")

    assert player(store, "nobody") == PlayerConnections("nobody", missed_from="m1")


def test_any_number_of_players_can_be_read_at_once(store: ConnectionStore) -> None:
    ids = [f"p{number}" for number in range(120)]
    store.register(connection("c", "p119"))

    found, _ = directory_of(store).read(ids)

    assert list(found) == ids
    assert found["p119"].connections == {"c"}


def test_concurrent_connects_and_disconnects_of_one_player_lose_nothing() -> None:
    tables = make_tables()
    store = connections_table(tables)
    for number in range(0, 60, 2):
        store.register(connection(f"c{number}"))

    with ThreadPoolExecutor(16) as pool:
        registering = [pool.submit(store.register, connection(f"c{n}")) for n in range(1, 60, 2)]
        removing = [pool.submit(store.remove, "1", f"c{n}") for n in range(0, 60, 2)]
        for done in registering + removing:
            done.result()

    assert player(store).connections == {f"c{n}" for n in range(1, 60, 2)}


def test_the_embedded_dynamodb_counts_correctly_with_many_threads(tables: Tables) -> None:
    key = {"id": {"S": "counter"}}

    def count(_: int) -> None:
        tables.client.update_item(
            TableName=tables.websockets,
            Key=key,
            UpdateExpression="ADD n :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(count, range(400)))

    assert tables.client.get_item(TableName=tables.websockets, Key=key)["Item"]["n"] == {"N": "400"}


# Limits


def admitted(store: ConnectionStore, connection_id: str = "c", size_bytes: int = 1) -> bool:
    try:
        assert store.admit("1", connection_id, RATE.cost_of_frame(size_bytes)) is not None
    except RateLimited:
        return False
    return True


def test_each_window_admits_one_burst(limited: ConnectionStore, clock: Clock) -> None:
    limited.register(connection("c"))
    first = [admitted(limited) for _ in range(6)]
    clock.advance(WINDOW_MS - 1)
    last_moment = admitted(limited)
    clock.advance(1)
    second = [admitted(limited) for _ in range(6)]

    assert first == [True] * 4 + [False] * 2  # The connect counts, too.
    assert last_moment is False
    assert second == [True] * 5 + [False]


def test_a_refused_frame_is_admitted_exactly_after_its_retry_time(
    limited: ConnectionStore, clock: Clock
) -> None:
    limited.register(connection("c"))
    clock.advance(WINDOW_MS // 3)
    while admitted(limited):
        pass
    with pytest.raises(RateLimited) as caught:
        limited.admit("1", "c", 1)
    clock.advance(caught.value.retry_after_ms - 1)
    too_early = admitted(limited)
    clock.advance(1)

    assert (too_early, admitted(limited)) == (False, True)


def test_a_long_frame_costs_units_by_its_size(limited: ConnectionStore, clock: Clock) -> None:
    limited.register(connection("c"))
    clock.advance(WINDOW_MS)

    assert admitted(limited, size_bytes=3 * 4096)
    assert not admitted(limited, size_bytes=2 * 4096 + 1)
    assert admitted(limited, size_bytes=2 * 4096)


def test_a_frame_that_costs_a_whole_burst_is_admitted_alone(limited: ConnectionStore, clock: Clock) -> None:
    limited.register(connection("c"))

    assert not admitted(limited, size_bytes=128 * 1024)
    clock.advance(WINDOW_MS)
    assert [admitted(limited, size_bytes=128 * 1024), admitted(limited)] == [True, False]


def test_consecutive_refusals_are_counted(limited: ConnectionStore, clock: Clock) -> None:
    limited.register(connection("c"))
    while admitted(limited):
        pass

    with pytest.raises(RateLimited) as caught:
        limited.admit("1", "c", 1)

    assert caught.value.in_a_row == 2


def test_all_connections_of_a_player_share_one_rate(limited: ConnectionStore) -> None:
    limited.register(connection("phone"))
    limited.register(connection("laptop"))

    assert [admitted(limited, "phone" if n % 2 else "laptop") for n in range(4)] == [True] * 3 + [False]


def test_connects_count_against_the_rate_and_a_refused_one_stores_nothing(
    limited: ConnectionStore, clock: Clock
) -> None:
    for number in range(5):
        limited.register(connection(f"c{number}"))
        limited.remove("1", f"c{number}")

    with pytest.raises(RateLimited):
        limited.register(connection("c"))

    assert limited.find("c") is None
    assert player(limited).connections == set()


def test_connections_beyond_the_limit_are_not_registered(limited: ConnectionStore) -> None:
    for number in range(MOST):
        limited.register(connection(f"c{number}"))

    with pytest.raises(TooManyConnections) as caught:
        limited.register(connection("c"))

    assert caught.value.player.connections == {"c0", "c1", "c2"}
    assert caught.value.player.registered_at == {"c0": 1000, "c1": 1000, "c2": 1000}
    assert limited.find("c") is None
    limited.remove("1", "c1")
    limited.register(connection("c"))
    assert player(limited).connections == {"c0", "c2", "c"}


STEPS_MS = (0, 0, 1, 20, 99, 100, 101, 500, -30, -200, -5000)
SIZES = (1, 1, 4097, 20_000)


@pytest.mark.parametrize("examples", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_all_lambdas_share_one_count(examples: int) -> None:
    """Every Lambda admits or refuses a frame exactly as the fake does."""

    @settings(max_examples=examples)
    @given(
        st.lists(st.tuples(st.sampled_from(STEPS_MS), st.integers(0, 2), st.sampled_from(SIZES)), max_size=30)
    )
    def check(frames: list[tuple[int, int, int]]) -> None:
        clock, tables = Clock(), make_tables()
        lambdas = [connections_table(tables, rate=RATE, clock=clock) for _ in range(3)]
        lambdas[0].register(connection("c"))
        model = InMemoryConnections(rate=RATE, clock=clock)
        model.register(connection("c"))

        for step_ms, number, size_bytes in frames:
            clock.advance(step_ms)
            assert admitted(lambdas[number], "c", size_bytes) == admitted(model, "c", size_bytes)

    check()


def test_concurrent_frames_never_exceed_the_burst() -> None:
    clock, tables = Clock(), make_tables()
    lambdas = [connections_table(tables, rate=RATE, clock=clock) for _ in range(8)]
    lambdas[0].register(connection("c"))

    with ThreadPoolExecutor(8) as pool:
        let_in = list(pool.map(lambda number: admitted(lambdas[number % 8]), range(40)))

    assert sum(let_in) == RATE.burst - 1


def test_each_admitted_frame_costs_one_update(tables: Tables) -> None:
    clock = Clock()
    store = connections_table(tables, rate=RATE, clock=clock)
    store.register(connection("c"))
    clock.advance(1000)
    calls = count_calls(tables.client)

    for _ in range(5):
        store.admit("1", "c", 1)

    assert calls == ["UpdateItem"] * 5


def test_frames_over_the_rate_cost_no_call_once_the_process_knows(tables: Tables) -> None:
    store = connections_table(tables, rate=RATE, clock=Clock())
    store.register(connection("c"))
    calls = count_calls(tables.client)

    let_in = [admitted(store) for _ in range(1000)]

    assert (sum(let_in), len(calls)) == (4, 4)
    with pytest.raises(RateLimited):
        store.register(connection("d"))
    assert len(calls) == 4


def test_a_flood_over_ten_lambdas_costs_one_burst_and_one_call_each_per_window(
    tables: Tables,
) -> None:
    lambdas = [connections_table(tables, rate=RATE, clock=Clock()) for _ in range(10)]
    lambdas[0].register(connection("c"))
    calls = count_calls(tables.client)

    let_in = [admitted(lambdas[number % 10]) for number in range(1000)]

    assert sum(let_in) == RATE.burst - 1
    assert len(calls) <= RATE.burst - 1 + 10


def windows(tables: Tables) -> list[str]:
    return sorted(name for name in scan(tables, tables.websockets)["player#1"] if name.startswith("used:"))


def test_old_windows_are_removed_regularly(tables: Tables) -> None:
    clock = Clock()
    store = connections_table(tables, rate=RATE, clock=clock)
    store.register(connection("c"))
    calls = count_calls(tables.client)

    for _ in range(100):
        clock.advance(1000)
        assert admitted(store)
        assert len(windows(tables)) <= OLD_WINDOWS + 1

    assert calls.count("UpdateItem") <= 100 + 100 // OLD_WINDOWS
    assert f"used:{RATE.window_at(clock.now)}" in windows(tables)


def test_a_window_that_is_current_for_a_slower_clock_is_kept(tables: Tables) -> None:
    clock, behind = Clock(), Clock()
    store = connections_table(tables, rate=RATE, clock=clock)
    other = connections_table(tables, rate=RATE, clock=behind)
    store.register(connection("c"))
    for _ in range(OLD_WINDOWS + 2):
        clock.advance(WINDOW_MS)
        store.admit("1", "c", 1)
        behind.now = clock.now - 1

        let_in = [admitted(other) for _ in range(RATE.burst)]
        assert sum(let_in) == RATE.burst - 1  # The Lambda that is ahead has used one in that window.


def test_a_failed_removal_of_old_windows_is_retried(failing_tables: Tables) -> None:
    clock = Clock()
    store = connections_table(failing_tables, rate=RATE, clock=clock)
    store.register(connection("c"))
    failed: list[bytes] = []

    def fail(request: Any, **_: Any) -> None:
        if b"REMOVE" in request.body:
            failed.append(request.body)
            raise EndpointConnectionError(endpoint_url="")

    failing_tables.client.meta.events.register_first("before-send.dynamodb.UpdateItem", fail)

    for _ in range(OLD_WINDOWS + 3):
        clock.advance(WINDOW_MS)
        assert admitted(store)

    assert len(failed) == 3


OF_AN_EARLIER_VERSION = {"rateDue": {"N": str(10**18)}, "rateCountedAt": {"N": str(10**18)}}


def test_counters_of_earlier_versions_are_ignored(tables: Tables) -> None:
    store = connections_table(tables, rate=RATE, clock=Clock())
    store.register(connection("c"))
    tables.client.update_item(
        TableName=tables.websockets,
        Key={"id": {"S": "player#1"}},
        UpdateExpression="SET rateDue = :n, rateCountedAt = :n",
        ExpressionAttributeValues={":n": OF_AN_EARLIER_VERSION["rateDue"]},
    )

    assert [admitted(store) for _ in range(5)] == [True] * 4 + [False]
    assert scan(tables, tables.websockets)["player#1"].items() >= OF_AN_EARLIER_VERSION.items()


def test_a_connect_over_the_limit_costs_two_calls_and_over_the_rate_none(tables: Tables) -> None:
    store = connections_table(tables, connections_per_player=1, rate=RATE, clock=Clock())
    store.register(connection("c"))
    calls = count_calls(tables.client)

    for _ in range(RATE.burst - 1):
        calls.clear()
        with pytest.raises(TooManyConnections):
            store.register(connection("d"))
        assert calls == ["UpdateItem"] * 2

    calls.clear()
    with pytest.raises(RateLimited):
        store.register(connection("d"))
    assert calls == []


def test_connects_over_the_limit_count_against_the_rate(limited: ConnectionStore) -> None:
    limited.register(connection("c"))
    for number in range(MOST - 1):
        limited.register(connection(f"c{number}"))
    for _ in range(RATE.burst - MOST):
        with pytest.raises(TooManyConnections):
            limited.register(connection("d"))

    with pytest.raises(RateLimited):
        limited.register(connection("d"))


SLOW = RateLimit(per_second=3, burst=6)


@pytest.fixture(params=["dynamodb", "in memory"])
def slow(request: pytest.FixtureRequest, clock: Clock) -> ConnectionStore:
    """Return a store whose burst is larger than the rate of one second."""
    if request.param == "in memory":
        return InMemoryConnections(rate=SLOW, clock=clock)
    return connections_table(make_tables(), rate=SLOW, clock=clock)


def test_a_sync_and_its_replay_cost_one_second_of_the_rate(slow: ConnectionStore, clock: Clock) -> None:
    slow.register(connection("c"))
    clock.advance(SLOW.window_ms)

    for _ in range(2):
        slow.admit("1", "c", 1)
        slow.charge_replay("1", "c")

    assert not admitted(slow)
    with pytest.raises(RateLimited):
        slow.charge_replay("1", "c")


def test_a_connect_with_a_replay_costs_one_second_of_the_rate(slow: ConnectionStore) -> None:
    slow.register(connection("c"), replays=True)

    assert [admitted(slow) for _ in range(4)] == [True] * 3 + [False]


def test_a_connect_after_missed_messages_costs_one_second_of_the_rate(slow: ConnectionStore) -> None:
    slow.note_missed("1", "m1")
    slow.register(connection("c"))

    assert [admitted(slow) for _ in range(4)] == [True] * 3 + [False]


def test_a_connect_with_a_replay_over_the_rate_stores_nothing(slow: ConnectionStore) -> None:
    slow.register(connection("c"), replays=True)
    slow.admit("1", "c", 1)

    with pytest.raises(RateLimited):
        slow.register(connection("d"), replays=True)

    assert slow.find("d") is None
    assert player(slow).connections == {"c"}
    slow.register(connection("d"))


def test_a_connect_costs_one_update_and_one_more_if_the_player_has_missed_something(tables: Tables) -> None:
    store = connections_table(tables)
    calls = count_calls(tables.client)

    store.register(connection("c"))
    assert calls == ["UpdateItem", "PutItem"]

    store.note_missed("1", "m1")
    calls.clear()
    store.register(connection("d"))
    assert calls == ["UpdateItem", "UpdateItem", "PutItem"]


def test_a_burst_over_many_lambdas_is_admitted() -> None:
    tables = make_tables()
    rate = RateLimit(per_second=20, burst=60)
    lambdas = [connections_table(tables, rate=rate, clock=Clock()) for _ in range(16)]
    lambdas[0].register(connection("c"))

    with ThreadPoolExecutor(16) as pool:
        let_in = list(pool.map(lambda number: admitted(lambdas[number % 16]), range(rate.burst - 1)))

    assert all(let_in)


def test_missed_from_advances_only_if_it_is_unchanged(store: ConnectionStore) -> None:
    store.note_missed("1", "m1")
    store.advance_missed("1", "m1", "m3")
    store.advance_missed("1", "m1", "m9")

    assert player(store).missed_from == "m3"


def test_replay_progress_is_kept_until_the_connection_is_live_or_removed(
    store: ConnectionStore,
) -> None:
    walk = ReplayProgress("m1", "m2", "m3")
    for name in ("c", "d"):
        store.register(connection(name))
        store.save_progress("1", name, ReplayProgress("m0", "m1", "m1"))
        store.save_progress("1", name, walk)
    assert player(store).progress == {"c": walk, "d": walk}

    store.make_live("1", "c", position(7), caught_up="m1")
    store.remove("1", "d")
    store.save_progress("1", "d", walk)

    assert player(store).progress == {}


def test_a_connection_is_stored_with_the_expiry_of_its_token(store: ConnectionStore) -> None:
    store.register(replace(connection("c"), expires_at=1_790_000_000))

    found = store.find("c")
    assert found is not None
    assert found.expires_at == 1_790_000_000


@pytest.mark.parametrize("rooms", [{}, {"*": "send"}, {"lobby": "send", "match-*": "read"}])
def test_a_connection_is_stored_with_its_permissions(store: ConnectionStore, rooms: RoomPermissions) -> None:
    store.register(replace(connection("c"), rooms=rooms))

    assert store.find("c") == replace(connection("c"), rooms=rooms)


def test_a_connection_of_version_1_0_0_has_no_permissions(tables: Tables) -> None:
    connections_table(tables).register(replace(connection("c"), rooms={"*": "send"}))
    tables.client.update_item(
        TableName=tables.websockets, Key={"id": {"S": "connection#c"}}, UpdateExpression="REMOVE rooms"
    )

    assert connections_table(tables).find("c") == connection("c")


# Bans


def ban(tables: Tables, until_ms: int) -> None:
    tables.client.update_item(
        TableName=tables.websockets,
        Key={"id": {"S": "player#1"}},
        UpdateExpression="SET bannedUntil = :until, expiresAt = :expires",
        ExpressionAttributeValues={
            ":until": {"N": str(until_ms)},
            ":expires": {"N": str(until_ms // 1000)},
        },
    )


@pytest.mark.parametrize("replays", [False, True])
def test_a_banned_player_is_refused_with_one_call_that_changes_nothing(tables: Tables, replays: bool) -> None:
    clock = Clock()
    store = connections_table(tables, clock=clock)
    ban(tables, clock.now + 1)
    before, calls = scan(tables, tables.websockets), count_calls(tables.client)

    with pytest.raises(Banned) as banned:
        store.register(connection("c"), replays)

    assert banned.value.until == clock.now + 1
    assert calls == ["UpdateItem"]
    assert scan(tables, tables.websockets) == before


def test_a_ban_takes_precedence_over_the_limit_of_connections(tables: Tables) -> None:
    clock = Clock()
    store = connections_table(tables, connections_per_player=1, clock=clock)
    store.register(connection("c"))
    ban(tables, clock.now + 1)

    with pytest.raises(Banned):
        store.register(connection("d"))


def test_a_player_can_connect_again_when_the_ban_is_over(tables: Tables) -> None:
    clock = Clock()
    store = connections_table(tables, clock=clock)
    ban(tables, clock.now + 1)
    clock.advance(1)

    store.register(connection("c"))

    assert player(store).connections == {"c"}


def test_a_missed_message_does_not_change_the_expiry_of_a_banned_player(tables: Tables) -> None:
    clock = Clock()
    store = connections_table(tables, clock=clock)
    until_ms = clock.now + 30_000 * DAY
    ban(tables, until_ms)

    store.note_missed("1", M1)
    banned = scan(tables, tables.websockets)["player#1"]
    clock.advance(30_000 * DAY)
    store.note_missed("1", M1)
    unbanned = scan(tables, tables.websockets)["player#1"]

    assert banned["missedFrom"] == {"S": M1}
    assert int(banned["expiresAt"]["N"]) == until_ms // 1000
    assert int(unbanned["expiresAt"]["N"]) == clock.now // 1000 + DAY


# Reading


def test_a_warm_lambda_reads_a_connection_once(tables: Tables) -> None:
    store = connections_table(tables)
    store.register(connection("c"))
    calls = count_calls(tables.client)

    store.find("c")
    store.find("c")

    assert calls == ["GetItem"]


def test_a_batch_of_players_and_rooms_costs_one_consistent_read(tables: Tables) -> None:
    store = connections_table(tables)
    calls = count_calls(tables.client)
    requests: list[Any] = []
    tables.client.meta.events.register(
        "provide-client-params.dynamodb.BatchGetItem", lambda params, **_: requests.append(params)
    )

    store.directory.read([f"p{number}" for number in range(99)], ["lobby"])

    assert calls == ["BatchGetItem"]
    assert requests[0]["RequestItems"][tables.websockets]["ConsistentRead"] is True


def test_unprocessed_keys_are_read_again(failing_tables: Tables) -> None:
    store = connections_table(failing_tables)
    store.register(connection("c"))
    key = {"id": {"S": "player#1"}}
    unprocessed = {failing_tables.websockets: {"Keys": [key], "ConsistentRead": True}}
    answers = [answer(200, {"Responses": {}, "UnprocessedKeys": unprocessed})]
    failing_tables.client.meta.events.register_first(
        "before-send.dynamodb.BatchGetItem", lambda **_: answers.pop() if answers else None
    )

    assert player(store).connections == {"c"}


def test_keys_that_stay_unprocessed_are_unavailable(failing_tables: Tables) -> None:
    store = connections_table(failing_tables)
    unprocessed = {failing_tables.websockets: {"Keys": [{"id": {"S": "player#1"}}]}}
    failing_tables.client.meta.events.register_first(
        "before-send.dynamodb.BatchGetItem",
        lambda **_: answer(200, {"Responses": {}, "UnprocessedKeys": unprocessed}),
    )

    with pytest.raises(Unavailable):
        store.directory.read(["1"])


@pytest.mark.parametrize(
    "failure", ["ProvisionedThroughputExceededException", "InternalServerError", "AccessDeniedException"]
)
def test_every_dynamodb_error_is_unavailable(failing_tables: Tables, failure: str) -> None:
    store = connections_table(failing_tables)
    messages = MessagesTable(failing_tables.client, failing_tables.messages, DAY)
    sends = IdempotencyTable(failing_tables.client, failing_tables.websockets, DAY)
    failing_tables.client.meta.events.register_first(
        "before-send.dynamodb", lambda **_: answer(400, {"__type": f"com.amazonaws#{failure}"})
    )

    for call in (
        lambda: store.register(connection("c")),
        lambda: store.find("c"),
        lambda: store.admit("1", "c", 1),
        lambda: store.make_live("1", "c", position(7)),
        lambda: store.remove("1", "c"),
        lambda: store.remove_by_id("c"),
        lambda: store.directory.read(["1"]),
        lambda: store.note_missed("1", "m"),
        lambda: store.advance_missed("1", "m", "n"),
        lambda: store.save_progress("1", "c", ReplayProgress("m", "n", "n")),
        lambda: messages.put(ReplayMarker("m", "1", "c")),
        lambda: messages.put_unless_withdrawn(message("m")),
        lambda: messages.withdraw(Send("1", "m")),
        lambda: messages.page("1", "0", None, 1),
        lambda: sends.claim("1", "u", Send("1", "m")),
        lambda: sends.replace("1", "u", Send("1", "m"), Send("1", "n")),
    ):
        with pytest.raises(Unavailable, match=failure):
            call()


def test_a_timeout_is_unavailable() -> None:
    nobody_listens = boto3.Session("local", "local", region_name="us-east-1").client(
        "dynamodb", endpoint_url="http://127.0.0.1:9", config=CONFIG
    )
    messages = MessagesTable(nobody_listens, "messages", DAY)

    with pytest.raises(Unavailable):
        messages.put(ReplayMarker("m", "1", "c"))


def test_items_expire_by_the_time_to_live_that_the_template_names(tables: Tables) -> None:
    store = connections_table(tables, player_seconds=5 * DAY)
    store.register(connection("c"))
    MessagesTable(tables.client, tables.messages, 7 * DAY).put(ReplayMarker("m", "1", "c"))

    items = scan(tables, tables.websockets) | scan(tables, tables.messages)

    left = {key: int(item["expiresAt"]["N"]) - time.time() for key, item in items.items()}
    assert 2 * 3600 < left["connection#c"] < DAY
    assert 4.9 * DAY < left["player#1"] <= 5 * DAY
    assert 6.9 * DAY < left["marker#m"] <= 7 * DAY


@pytest.mark.parametrize(
    "entry",
    [
        Message(M1, "2", "1", "h\u00e9 \U0001f600 \u0000", 1000),
        Message(M1, "2", "#backend", "hi", 1000),
        Message(M1, "2", "#backend", "hi", 1000, room_id="lobby", room_message_id=M2),
        RoomMessage(M1, "lobby", "1", "hi", 1000),
        RoomMessage(M1, "a.b:c|d", "#backend", "hi", 1000, room_message_id=M2),
        ReplayMarker(M1, "2", "c"),
        ReplayMarker(M1, "2", "c", after="0", sync=True),
        ReplayMarker(M1, "2", "c", after=M1, first_cursor="0", replayed=50, asked_at=1000),
        ReplayMarker(
            M1, "2", "c", after=M1, first_cursor="0", replayed=50, asked_at=1000, has_progress=True, tries=3
        ),
        ReplayMarker(M1, "2", "c", sync=True, ack_id="7"),
        ReplayMarker(M1, "2", "c", sync=True, ack_id=7),
        ReplayMarker(M1, "2", "c", sync=True, ack_id=-(10**100)),
        ReplayMarker(M1, "2", "c", sync=True, ack_id='h\u00e9 \U0001f600 \u0000 "'),
    ],
)
def test_an_entry_comes_down_the_stream_unchanged(tables: Tables, entry: Entry) -> None:
    MessagesTable(tables.client, tables.messages, DAY).put(entry)

    (item,) = scan(tables, tables.messages).values()

    brought = parse_record(inserted(item, "12"))
    assert brought == entry
    assert brought is not None
    assert brought.stream_position == position(12)


def test_a_marker_of_version_1_0_0_is_read(tables: Tables) -> None:
    marker = ReplayMarker(M1, "2", "c", sync=True)
    MessagesTable(tables.client, tables.messages, DAY).put(marker)

    (item,) = scan(tables, tables.messages).values()

    assert set(item) == {
        "destinationPlayerId",
        "messageId",
        "replayTo",
        "replayed",
        "sync",
        "expiresAt",
    }
    assert parse_record(inserted(item)) == marker


# Messages


@pytest.fixture(params=["dynamodb", "in memory"])
def message_store(request: pytest.FixtureRequest) -> MessageStore:
    if request.param == "in memory":
        return InMemoryMessages()
    tables = make_tables()
    return MessagesTable(tables.client, tables.messages, DAY)


def mid(number: int) -> str:
    """Return a message id that was made now. Ids sort by their numbers."""
    return f"{M1[:-12]}{number:012}"


def message(message_id: str, to: str = "1", text: str = "hi") -> Message:
    return Message(message_id, to, "2", text, 1000)


def ids(page: Page) -> tuple[list[str], bool]:
    return [message.id for message in page.messages], page.more


def walk(store: MessageStore, limit: int) -> list[list[str]]:
    """Return the ids of player 1's messages, one list per page."""
    pages, after, more = [], "0", True
    while more:
        page = store.page("1", after, None, limit)
        pages.append([message.id for message in page.messages])
        after, more = page.end, page.more
    return pages


def test_a_page_has_a_players_messages_in_order_and_nothing_else(message_store: MessageStore) -> None:
    for entry in (message(mid(3)), message(mid(1)), message(mid(2), to="3"), ReplayMarker(mid(4), "1", "c")):
        message_store.put(entry)

    assert ids(message_store.page("1", "0", None, 10)) == ([mid(1), mid(3)], False)


def test_a_page_begins_after_a_message_ends_with_another_and_has_a_limit(message_store: MessageStore) -> None:
    for number in range(1, 10):
        message_store.put(message(mid(number)))

    page = message_store.page("1", mid(2), None, 2)

    assert page.messages == (message(mid(3)), message(mid(4)))
    assert (page.more, page.end) == (True, mid(4))
    assert ids(message_store.page("1", mid(2), mid(5), 10)) == ([mid(3), mid(4), mid(5)], False)
    assert ids(message_store.page("1", mid(5), mid(5), 10)) == ([], False)
    assert ids(message_store.page("1", mid(7), None, 3)) == ([mid(8), mid(9)], False)


def test_consecutive_pages_have_every_message_once(message_store: MessageStore) -> None:
    for number in range(1, 10):
        message_store.put(message(mid(number)))

    pages = walk(message_store, 4)

    assert [each for page in pages for each in page] == [mid(number) for number in range(1, 10)]
    assert max(map(len, pages)) == 4


def test_a_page_costs_one_query_even_if_all_items_are_tombstones(tables: Tables) -> None:
    store = MessagesTable(tables.client, tables.messages, DAY)
    for number in range(1, 120):
        store.withdraw(Send("1", mid(number)))
    store.put(message(mid(120)))
    calls = count_calls(tables.client)

    pages = walk(store, 50)

    assert pages == [[], [], [mid(120)]]
    assert calls == ["Query"] * len(pages)


def test_a_page_does_not_read_expired_messages_that_still_exist(tables: Tables) -> None:
    """DynamoDB deletes expired items up to two days late."""
    old = MessageIds(lambda: time.time_ns() - 10**9 * (DAY + EXPIRY_SLACK_SECONDS + 1))
    expired = MessagesTable(tables.client, tables.messages, retention_seconds=-1)
    for _ in range(120):
        expired.put(message(old()))
    store = MessagesTable(tables.client, tables.messages, DAY)
    store.put(message(mid(1)))

    assert walk(store, 50) == [[mid(1)]]


def test_markers_cost_a_page_no_reads(tables: Tables) -> None:
    store = MessagesTable(tables.client, tables.messages, DAY)
    for number in range(120):
        store.put(ReplayMarker(mid(number), "1", "c"))
    store.put(message(M1))
    calls = count_calls(tables.client)

    assert ids(store.page("1", "0", None, 50)) == ([M1], False)
    assert calls == ["Query"]


def test_a_message_is_stored_once_however_often_it_is_put(message_store: MessageStore) -> None:
    assert message_store.put_unless_withdrawn(message(mid(1))) is True
    assert message_store.put_unless_withdrawn(message(mid(1))) is True

    assert ids(message_store.page("1", "0", None, 10)) == ([mid(1)], False)


def test_a_message_that_is_stored_cannot_be_withdrawn(message_store: MessageStore) -> None:
    message_store.put_unless_withdrawn(message(mid(1), text="first"))

    assert message_store.withdraw(Send("1", mid(1))) == message(mid(1), text="first")
    assert message_store.withdraw(Send("1", mid(1))) == message(mid(1), text="first")


def test_a_message_that_was_withdrawn_is_never_stored(message_store: MessageStore) -> None:
    assert message_store.withdraw(Send("1", mid(1))) is None
    assert message_store.withdraw(Send("1", mid(1))) is None

    assert message_store.put_unless_withdrawn(message(mid(1))) is False
    assert ids(message_store.page("1", "0", None, 10)) == ([], False)


def test_a_rooms_message_is_withdrawn_like_a_players(message_store: MessageStore) -> None:
    stored, never = (
        RoomMessage(mid(1), "lobby", "1", "hi", 1000),
        RoomMessage(mid(2), "lobby", "1", "hi", 1000),
    )
    message_store.put(stored)

    assert message_store.withdraw(Send("room#lobby", mid(1))) == stored
    assert message_store.withdraw(Send("room#lobby", mid(2))) is None
    assert not message_store.put_unless_withdrawn(never)


def test_a_tombstone_is_not_pushed(tables: Tables) -> None:
    MessagesTable(tables.client, tables.messages, DAY).withdraw(Send("1", mid(1)))
    item = scan(tables, tables.messages)[mid(1)]

    assert parse_record(inserted(item)) is None


def test_an_expired_message_is_not_replayed_while_dynamodb_still_has_it(tables: Tables) -> None:
    MessagesTable(tables.client, tables.messages, retention_seconds=-1).put(message(mid(1)))
    store = MessagesTable(tables.client, tables.messages, DAY)
    store.put(message(mid(2)))

    assert ids(store.page("1", "0", None, 10)) == ([mid(2)], False)


def test_a_page_leaves_out_items_that_are_not_messages(tables: Tables) -> None:
    store = MessagesTable(tables.client, tables.messages, DAY)
    store.put(message(mid(1)))
    whole = scan(tables, tables.messages)[mid(1)]
    odd_values: list[dict[str, Any]] = [
        {"message": {"B": b"\x00"}},
        {"sentAt": {"N": "9" * 38}},
        {"srcPlayerId": {"SS": ["2"]}},
    ]
    for number, odd in enumerate(odd_values, start=2):
        item = {**whole, "messageId": {"S": mid(number)}, **odd}
        tables.client.put_item(TableName=tables.messages, Item=item)
    tables.client.put_item(TableName=tables.messages, Item={**whole, "messageId": {"S": "b"}})
    extra = {**whole, "messageId": {"S": mid(9)}, "extra": {"BS": [b"\x00"]}}
    tables.client.put_item(TableName=tables.messages, Item=extra)

    assert ids(store.page("1", "0", None, 10)) == ([mid(1), mid(9)], False)


def test_withdrawing_a_key_with_an_odd_item_finds_no_message(tables: Tables) -> None:
    key = {"destinationPlayerId": {"S": "1"}, "messageId": {"S": mid(1)}}
    tables.client.put_item(TableName=tables.messages, Item={**key, "odd": {"B": b"\x00"}})

    assert MessagesTable(tables.client, tables.messages, DAY).withdraw(Send("1", mid(1))) is None


def test_a_page_is_read_consistently(tables: Tables) -> None:
    requests: list[Any] = []
    tables.client.meta.events.register(
        "provide-client-params.dynamodb.Query", lambda params, **_: requests.append(params)
    )

    MessagesTable(tables.client, tables.messages, DAY).page("1", "0", None, 10)

    assert requests[0]["ConsistentRead"] is True


# Sends


@pytest.fixture(params=["dynamodb", "in memory"])
def send_store(request: pytest.FixtureRequest) -> IdempotencyStore:
    if request.param == "in memory":
        return InMemoryIdempotency()
    tables = make_tables()
    return IdempotencyTable(tables.client, tables.websockets, DAY)


def test_the_first_claim_of_an_id_stands(send_store: IdempotencyStore) -> None:
    assert send_store.claim("1", "u", Send("2", "m1")) == Send("2", "m1")
    assert send_store.claim("1", "u", Send("3", "m2")) == Send("2", "m1")
    assert send_store.claim("2", "u", Send("3", "m2")) == Send("3", "m2")
    assert send_store.claim("1", "v", Send("3", "m2")) == Send("3", "m2")


def test_a_claim_is_replaced_only_while_it_stands(send_store: IdempotencyStore) -> None:
    old, new, other = Send("2", "m1"), Send("2", "m2"), Send("2", "m3")
    send_store.claim("1", "u", old)

    assert send_store.replace("1", "u", old, new) is True
    assert send_store.replace("1", "u", old, new) is True
    assert send_store.replace("1", "u", old, other) is False
    assert send_store.claim("1", "u", other) == new


# Stream records


@pytest.mark.parametrize("event_name", ["MODIFY", "REMOVE"])
def test_only_inserts_are_pushed(event_name: str) -> None:
    assert parse_record({"eventName": event_name, "dynamodb": {}}) is None


@pytest.mark.parametrize(
    "record",
    [
        inserted({}),
        inserted({"destinationPlayerId": {"S": "2"}, "messageId": {"S": "canary"}}),
        inserted({"destinationPlayerId": {"N": "2"}, "messageId": {"S": "canary"}}),
        inserted(None),
        inserted([]),
        inserted("canary", "canary"),
        inserted({}) | {"dynamodb": {}},
    ],
)
def test_an_invalid_new_item_is_unreadable_and_the_error_omits_its_content(record: Any) -> None:
    with pytest.raises(UnreadableRecord) as caught:
        parse_record(record)

    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("moment", [None, "canary", [], float("nan"), float("inf"), -float("inf"), 10**400])
def test_a_record_without_a_readable_time_counts_as_written_now(moment: Any) -> None:
    written = written_at({"dynamodb": {"ApproximateCreationDateTime": moment}})

    assert abs(written - time.time()) < PATIENCE_SECONDS


def answer(status: int, body: dict[str, Any]) -> AWSResponse:
    class Raw:
        def stream(self, **_: Any) -> Any:
            yield json.dumps(body).encode()

    return AWSResponse("https://dynamodb", status, {}, Raw())


def scan(tables: Tables, table: str) -> dict[str, dict[str, Any]]:
    """Return a table's items by their sort key, or by the hash key if that is the whole key."""
    items = tables.client.scan(TableName=table)["Items"]
    return {item.get("messageId", item.get("id"))["S"]: item for item in items}


# Presence


def test_a_players_presence_rooms_are_added_and_removed(store: ConnectionStore) -> None:
    store.register(connection("c"))

    assert store.add_presence_room("1", "c", "lobby")
    assert store.add_presence_room("1", "c", "lobby")
    assert not store.add_presence_room("1", "other", "arena")
    assert player(store).presence_rooms == {"lobby"}

    store.remove_presence_room("1", "lobby")
    store.remove_presence_room("1", "lobby")
    assert player(store).presence_rooms == set()


def test_a_player_has_a_limited_number_of_presence_rooms(store: ConnectionStore) -> None:
    store.register(connection("c"))
    rooms = [f"r{number}" for number in range(MAX_PRESENCE_ROOMS)]

    assert all(store.add_presence_room("1", "c", room_id) for room_id in rooms)

    assert not store.add_presence_room("1", "c", "one-too-many")
    assert store.add_presence_room("1", "c", "r0")


def test_going_live_and_being_removed_return_the_player(store: ConnectionStore) -> None:
    for connection_id in ("a", "b"):
        store.register(connection(connection_id))
    store.add_presence_room("1", "a", "lobby")

    first, second = (store.make_live("1", each, position(7)) for each in ("a", "b"))
    before_first, before_second = (store.remove("1", each) for each in ("a", "b"))

    assert first is not None
    assert second is not None
    assert (set(first.live), set(second.live)) == ({"a"}, {"a", "b"})
    assert (set(before_first.live), set(before_second.live)) == ({"a", "b"}, {"b"})
    assert before_second.presence_rooms == {"lobby"}


@pytest.mark.parametrize(
    ("rooms", "missed", "cost"), [(0, False, 1), (2, False, 11), (2, True, 13), (9, True, 16)]
)
def test_a_connect_costs_more_with_each_room_that_is_told(rooms: int, missed: bool, cost: int) -> None:
    """With 3 units per second and a burst of 16. A connect with a replay costs 3 units."""
    rate = RateLimit(per_second=3, burst=16)
    clock = Clock(now=10 * rate.window_ms)
    for store in (
        InMemoryConnections(rate=rate, clock=clock),
        connections_table(make_tables(), rate=rate, clock=clock),
    ):
        store.register(connection("a"))
        for number in range(rooms):
            store.add_presence_room("1", "a", f"r{number}")
        clock.advance(rate.window_ms)

        store.register(connection("b"), replays=missed)

        left = sum(store_admits(store) for _ in range(20))
        assert 16 - left == cost


@pytest.mark.parametrize(("burst", "replays"), [(1, False), (3, True)])
@pytest.mark.parametrize("missed", [False, True])
def test_a_player_can_connect_when_all_connects_cost_the_same(
    burst: int, replays: bool, missed: bool
) -> None:
    rate = RateLimit(per_second=3, burst=burst)
    clock = Clock(now=10 * rate.window_ms)
    store = connections_table(make_tables(), rate=rate, clock=clock)
    store.register(connection("a"))
    store.add_presence_room("1", "a", "lobby")
    if missed:
        store.note_missed("1", M1)
    clock.advance(rate.window_ms)

    store.register(connection("b"), replays)

    assert player(store).connections == {"a", "b"}


def store_admits(store: ConnectionStore) -> bool:
    try:
        return store.admit("1", "a", 1) is not None
    except RateLimited:
        return False


def test_a_player_was_last_seen_at_its_last_frame(limited: ConnectionStore, clock: Clock) -> None:
    limited.register(connection("c"))
    clock.advance(10 * WINDOW_MS)
    limited.admit("1", "c", 1)
    seen = clock.now
    clock.advance(10 * WINDOW_MS)
    limited.charge_replay("1", "c")

    assert player(limited).last_seen_at == seen
