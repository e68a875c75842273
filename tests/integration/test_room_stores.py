"""The contract of the rooms' store, tested on the DynamoDB table and on the fake, and the copies' store."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from chalicelib.aws.directory import DirectoryTable
from chalicelib.aws.messages import MessagesTable
from chalicelib.aws.rooms import RoomsTable
from chalicelib.core.message_id import MessageIds
from chalicelib.core.model import Message, PlayerConnections, Room, Unavailable
from chalicelib.core.ports import COPIES_PER_CALL, RoomStore
from chalicelib.core.rate_limit import RateLimit, RateLimited
from tests.support.dynamodb_tables import Tables, count_calls, make_tables
from tests.support.fakes import InMemoryRooms

DAY = 24 * 60 * 60
MOST = 3
RATE = RateLimit(per_second=10, burst=5)


@dataclass
class Clock:
    """A clock in milliseconds that a test moves. It starts at the beginning of a window of RATE."""

    now: int = 1_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tables() -> Tables:
    return make_tables()


def rooms_table(tables: Tables, clock: Clock, members_per_room: int = MOST) -> RoomsTable:
    return RoomsTable(
        tables.client,
        tables.websockets,
        members_per_room=members_per_room,
        rate=RATE,
        room_seconds=DAY,
        clock=clock,
    )


@pytest.fixture(params=["dynamodb", "in memory"])
def store(request: pytest.FixtureRequest, tables: Tables, clock: Clock) -> RoomStore:
    if request.param == "in memory":
        return InMemoryRooms(members_per_room=MOST, rate=RATE, clock=clock)
    return rooms_table(tables, clock)


def item(tables: Tables, room_id: str = "lobby") -> Any:
    key = {"id": {"S": f"room#{room_id}"}}
    return tables.client.get_item(TableName=tables.websockets, Key=key).get("Item")


def ban(tables: Tables, player_id: str) -> None:
    """Ban a player from the room and end its membership with one update, as an operator does."""
    tables.client.update_item(
        TableName=tables.websockets,
        Key={"id": {"S": "room#lobby"}},
        UpdateExpression="ADD banned :players DELETE members :players",
        ExpressionAttributeValues={":players": {"SS": [player_id]}},
    )


def put_on_list(tables: Tables, store: RoomStore, name: str, player_id: str) -> None:
    """Add a player to the room's `muted` or `banned`, wherever the store keeps it."""
    if isinstance(store, InMemoryRooms):
        room = store.find("lobby")
        lists = {"muted": room.muted, "banned": room.banned}
        lists[name] |= {player_id}
        store.by_id["lobby"] = Room("lobby", room.members, lists["muted"], lists["banned"])
        return
    tables.client.update_item(
        TableName=tables.websockets,
        Key={"id": {"S": "room#lobby"}},
        UpdateExpression=f"ADD {name} :players",
        ExpressionAttributeValues={":players": {"SS": [player_id]}},
    )


def fill(store: RoomStore, *player_ids: str) -> None:
    for player_id in player_ids:
        store.join("lobby", player_id)


# Joining and leaving


def test_a_room_that_is_not_stored_has_no_members(store: RoomStore) -> None:
    assert store.find("lobby") == Room("lobby")


def test_a_join_returns_the_room_as_it_was_before(store: RoomStore) -> None:
    fill(store, "1")

    first, again = store.join("lobby", "2"), store.join("lobby", "2")

    assert first == (True, Room("lobby", frozenset({"1"})))
    assert again == (True, Room("lobby", frozenset({"1", "2"})))


def test_a_join_can_be_repeated_even_in_a_full_room(store: RoomStore) -> None:
    fill(store, "1", "2", "3")

    is_member, room = store.join("lobby", "1")

    assert is_member
    assert room.members == {"1", "2", "3"}


def test_a_full_room_takes_nobody_until_a_member_leaves(store: RoomStore) -> None:
    fill(store, "1", "2", "3")

    is_member, room = store.join("lobby", "4")
    store.leave("lobby", "2")

    assert not is_member
    assert room.members == {"1", "2", "3"}
    assert store.join("lobby", "4") == (True, Room("lobby", frozenset({"1", "3"})))
    assert store.find("lobby").members == {"1", "3", "4"}


def test_concurrent_joins_never_exceed_the_limit(tables: Tables, clock: Clock) -> None:
    lambdas = [rooms_table(tables, clock, members_per_room=5) for _ in range(8)]

    with ThreadPoolExecutor(8) as pool:
        joined = list(pool.map(lambda number: lambdas[number % 8].join("lobby", f"p{number}")[0], range(40)))

    assert sum(joined) == len(lambdas[0].find("lobby").members) == 5


def test_a_banned_player_cannot_join(store: RoomStore, tables: Tables) -> None:
    fill(store, "1")
    put_on_list(tables, store, "banned", "2")

    is_member, room = store.join("lobby", "2")

    assert not is_member
    assert room == Room("lobby", frozenset({"1"}), banned=frozenset({"2"}))


def test_a_ban_among_concurrent_joins_leaves_the_player_no_member(tables: Tables, clock: Clock) -> None:
    lambdas = [rooms_table(tables, clock) for _ in range(4)]

    with ThreadPoolExecutor(5) as pool:
        for store in lambdas * 5:
            pool.submit(store.join, "lobby", "2")
        pool.submit(ban, tables, "2").result()

    assert lambdas[0].find("lobby") == Room("lobby", banned=frozenset({"2"}))


def test_a_leave_can_be_repeated_and_ends_no_other_membership(store: RoomStore) -> None:
    fill(store, "1", "2")

    store.leave("lobby", "1")
    store.leave("lobby", "1")

    assert store.find("lobby").members == {"2"}


def test_leaving_a_room_that_is_not_stored_does_not_create_it(tables: Tables, clock: Clock) -> None:
    rooms_table(tables, clock).leave("lobby", "1")

    assert item(tables) is None


def test_a_leave_keeps_the_mute(store: RoomStore, tables: Tables) -> None:
    fill(store, "1")
    put_on_list(tables, store, "muted", "1")

    store.leave("lobby", "1")

    assert store.join("lobby", "1")[1].muted == {"1"}


# Counting messages


def test_a_message_of_a_member_is_counted(store: RoomStore) -> None:
    fill(store, "1", "2")

    assert store.count_message("lobby", "1") == (True, Room("lobby", frozenset({"1", "2"})))


def test_a_message_of_no_member_is_not_counted(store: RoomStore) -> None:
    fill(store, "1")

    for _ in range(2 * RATE.burst):
        assert store.count_message("lobby", "2") == (False, Room("lobby", frozenset({"1"})))

    assert store.count_message("lobby", "1")[0]


def test_a_message_to_a_room_that_is_not_stored_is_not_counted(tables: Tables, clock: Clock) -> None:
    counted = rooms_table(tables, clock).count_message("lobby", "1")

    assert counted == (False, Room("lobby"))
    assert item(tables) is None


def test_a_message_of_a_muted_member_is_not_counted(store: RoomStore, tables: Tables) -> None:
    fill(store, "1")
    put_on_list(tables, store, "muted", "1")

    counted, room = store.count_message("lobby", "1")

    assert not counted
    assert room == Room("lobby", frozenset({"1"}), muted=frozenset({"1"}))


def test_all_members_share_one_burst_per_window_and_room(store: RoomStore, clock: Clock) -> None:
    fill(store, "1", "2")
    store.join("hall", "1")
    for number in range(RATE.burst):
        store.count_message("lobby", str(1 + number % 2))

    with pytest.raises(RateLimited) as refused:
        store.count_message("lobby", "1")

    assert refused.value.retry_after_ms == RATE.window_ms
    assert store.count_message("hall", "1")[0]
    clock.now += refused.value.retry_after_ms
    assert store.count_message("lobby", "1")[0]


def test_in_a_window_that_is_used_up_the_rate_is_the_reason_for_everyone(
    store: RoomStore, tables: Tables
) -> None:
    fill(store, "1", "muted")
    put_on_list(tables, store, "muted", "muted")
    for _ in range(RATE.burst):
        store.count_message("lobby", "1")

    for player_id in ("1", "muted", "stranger"):
        with pytest.raises(RateLimited):
            store.count_message("lobby", player_id)


def test_concurrent_messages_never_exceed_the_burst(tables: Tables, clock: Clock) -> None:
    lambdas = [rooms_table(tables, clock) for _ in range(8)]
    fill(lambdas[0], "1")

    def is_counted(number: int) -> bool:
        try:
            return lambdas[number % 8].count_message("lobby", "1")[0]
        except RateLimited:
            return False

    with ThreadPoolExecutor(8) as pool:
        counted = list(pool.map(is_counted, range(40)))

    assert sum(counted) == RATE.burst


# Calls and items


def test_each_operation_costs_one_call(tables: Tables, clock: Clock) -> None:
    store = rooms_table(tables, clock)
    calls = count_calls(tables.client)

    store.join("lobby", "1")
    store.count_message("lobby", "1")
    store.find("lobby")
    store.leave("lobby", "1")

    assert calls == ["UpdateItem", "UpdateItem", "GetItem", "UpdateItem"]


def test_a_join_and_a_message_renew_the_rooms_expiry_and_a_leave_does_not(
    tables: Tables, clock: Clock
) -> None:
    store = rooms_table(tables, clock)
    expiries = []

    for operation in (store.join, store.count_message, store.leave):
        clock.now += 10_000
        operation("lobby", "1")
        expiries.append(int(item(tables)["expiresAt"]["N"]))

    assert expiries == [1010 + DAY, 1020 + DAY, 1020 + DAY]


def test_a_refused_message_does_not_renew_the_expiry(tables: Tables, clock: Clock) -> None:
    store = rooms_table(tables, clock)
    store.join("lobby", "1")
    before = item(tables)
    clock.now += 10_000

    store.count_message("lobby", "2")

    assert item(tables) == before


def test_a_room_is_read_consistently(tables: Tables, clock: Clock) -> None:
    requests: list[Any] = []
    tables.client.meta.events.register(
        "provide-client-params.dynamodb.GetItem", lambda params, **_: requests.append(params)
    )

    rooms_table(tables, clock).find("lobby")

    assert requests[0]["ConsistentRead"] is True


def test_the_directory_returns_rooms_and_players_of_the_same_name(tables: Tables, clock: Clock) -> None:
    fill(rooms_table(tables, clock), "1")
    put_on_list(tables, rooms_table(tables, clock), "muted", "1")

    players, rooms = DirectoryTable(tables.client, tables.websockets).read(["lobby", "1"], ["lobby", "hall"])

    assert players == {name: PlayerConnections(name) for name in ("lobby", "1")}
    assert rooms == {
        "lobby": Room("lobby", frozenset({"1"}), muted=frozenset({"1"})),
        "hall": Room("hall"),
    }


def test_the_directory_reads_more_than_a_hundred_keys_with_several_calls(
    tables: Tables, clock: Clock
) -> None:
    fill(rooms_table(tables, clock), "1")
    calls = count_calls(tables.client)
    player_ids = [f"p{number}" for number in range(250)]

    players, rooms = DirectoryTable(tables.client, tables.websockets).read(player_ids, ["lobby"])

    assert list(players) == player_ids
    assert rooms["lobby"].members == {"1"}
    assert calls == ["BatchGetItem"] * 3


# Copies


def copies(count: int) -> list[Message]:
    new_id, room_message_id = MessageIds()(), MessageIds()()
    return [
        Message(new_id, f"p{n}", "#backend", "hi", 1000, room_id="lobby", room_message_id=room_message_id)
        for n in range(count)
    ]


def test_copies_are_stored_with_one_call_and_read_back_unchanged(tables: Tables) -> None:
    store, sent = MessagesTable(tables.client, tables.messages, DAY), copies(COPIES_PER_CALL)
    calls = count_calls(tables.client)

    assert store.put_copies(sent) == []

    assert calls == ["BatchWriteItem"]
    for copy in sent:
        assert store.page(copy.destination_player_id, "0", None, 2).messages == (copy,)


def test_copies_that_dynamodb_did_not_process_are_returned(tables: Tables) -> None:
    class Throttled:
        """A client that processes all but two puts."""

        def batch_write_item(self, RequestItems: Any) -> Any:  # noqa: N803
            (puts,) = RequestItems.values()
            tables.client.batch_write_item(RequestItems={tables.messages: puts[:1] + puts[2:-1]})
            return {"UnprocessedItems": {tables.messages: [puts[1], puts[-1]]}}

    store, sent = MessagesTable(Throttled(), tables.messages, DAY), copies(5)

    assert store.put_copies(sent) == [sent[1], sent[4]]


@pytest.mark.parametrize("operation", ["join", "leave", "count_message", "find", "put_copies"])
def test_a_failure_of_dynamodb_is_unavailable(operation: str, clock: Clock) -> None:
    tables = make_tables()
    tables.client.delete_table(TableName=tables.websockets)
    tables.client.delete_table(TableName=tables.messages)
    store = rooms_table(tables, clock)
    messages = MessagesTable(tables.client, tables.messages, DAY)

    operations: dict[str, Callable[[], object]] = {
        "join": lambda: store.join("lobby", "1"),
        "leave": lambda: store.leave("lobby", "1"),
        "count_message": lambda: store.count_message("lobby", "1"),
        "find": lambda: store.find("lobby"),
        "put_copies": lambda: messages.put_copies(copies(1)),
    }

    with pytest.raises(Unavailable):
        operations[operation]()
