"""Checks the budgets: python -m measure.bench

Each budget is a count, or a ratio of two measurements of the same run, so it holds on any machine. The exit
code is 1 if a budget is exceeded.
"""

import json
import logging
import statistics
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import boto3

from chalicelib.aws import telemetry
from chalicelib.aws.connections import ConnectionsTable
from chalicelib.aws.management_api import OPEN_SECONDS
from chalicelib.core.ports import Calls
from chalicelib.core.rate_limit import RateLimit
from chalicelib.settings import Settings
from measure import cold, room_budgets, starting
from measure.budgets import Row, by_operation, table, total
from measure.counted_aws import HERE, CountedAws, seconds_of
from measure.progress import Progress

SENDS = 200
STORED = (1, 1_000, 100_000)
COLD_RUNS = 8
SHARES = (0.58, 0.29)
"""The shares of a CPU that Lambda gives a function with 1,024 MB and one with 512 MB."""

DAY_SECONDS = 24 * 60 * 60
DEFAULTS = Settings.from_environment({"WEBSOCKETS_TABLE": "w", "MESSAGES_TABLE": "m"})


def main() -> int:
    """Print the report. Return the exit code: 1 if a budget is exceeded."""
    telemetry.lines.addHandler(logging.NullHandler())
    progress = Progress("bench")
    aws = CountedAws.start()
    rows: list[Row] = []
    parts: list[Callable[[], Iterable[Row]]] = [
        partial(message_calls, aws),
        partial(flood_writes, aws),
        partial(concurrent_batch, aws),
        partial(room_budgets.frame_calls, aws),
        partial(room_budgets.fan_out_calls, aws),
        partial(room_budgets.presence_calls, aws),
        partial(room_budgets.fan_out_time, aws),
        startup_time,
        cold_batches,
        partial(growth_with_tables, aws),
    ]
    for number, part in enumerate(parts):
        progress.show(number, len(parts), part.__doc__ or "")
        rows += part()
    progress.end()
    print(table(rows))
    return 0 if all(row.is_kept for row in rows) else 1


def frame(to: str, **keys: str) -> str:
    keys = {"action": "sendmessage", "message": "hi", "destinationPlayerId": to, **keys}
    return json.dumps(keys)


def message_calls(aws: CountedAws) -> Iterable[Row]:
    """Count the AWS calls of frames and of a batch."""
    aws.connect("1", "2")
    with aws.counting() as first:
        aws.receive("1", frame("2"))
    with aws.counting() as warm:
        aws.receive("1", frame("2"))
    with aws.counting() as with_id:
        aws.receive("1", frame("2", clientMessageId="m"))
    aws.push()
    with aws.counting() as refused:
        aws.receive("1", "no JSON")
    yield Row("calls per sendmessage, the connection's first", total(first), 4, by_operation(first))
    yield Row("calls per sendmessage, later ones", total(warm), 3, by_operation(warm))
    yield Row("calls per sendmessage with clientMessageId", total(with_id), 4, by_operation(with_id))
    with aws.counting() as pinged:
        aws.receive("1", '{"action": "ping"}')
    yield Row("calls per ping", total(pinged), 2, by_operation(pinged))
    yield Row("calls per refused frame", total(refused), 2, by_operation(refused))
    players = [f"p{number}" for number in range(100)]
    aws.connect(*players)
    for player in players:
        aws.receive("1", frame(player))
    with aws.counting() as batch:
        aws.push()
    writes = sum(n for name, n in batch.items() if name.startswith(("Put", "Update", "Delete")))
    yield Row("reads per batch of 100 messages to 100 online players", batch["BatchGetItem"], 1)
    yield Row("posts per such batch", batch["PostToConnection"], 100)
    yield Row("writes per such batch", writes, 0)


def flood_writes(aws: CountedAws) -> Iterable[Row]:
    """Count the writes of 1,000 pings by one player within one window of the rate limit."""
    rate = RateLimit(DEFAULTS.messages_per_second, DEFAULTS.message_burst)
    for lambdas, receiver, most in ((1, "one Lambda", rate.burst + 2), (10, "ten Lambdas", rate.burst + 10)):
        player = f"flooder-{lambdas}"
        aws.connect(player)
        stores = [
            ConnectionsTable(
                boto3.client("dynamodb"),
                "websockets",
                player_seconds=DAY_SECONDS,
                rate=rate,
                connections_per_player=10,
                clock=lambda: 0,
            )
            for _ in range(lambdas)
        ]
        messengers = [replace(aws.service.messenger, connections=store) for store in stores]
        with aws.counting() as flood:
            for number in range(1000):
                messengers[number % lambdas].receive(f"c-{player}", HERE, '{"action": "ping"}')
        writes = flood["UpdateItem"] + flood["DeleteItem"]
        yield Row(f"writes per 1,000 pings in a window, to {receiver}", writes, most, by_operation(flood))


def concurrent_batch(aws: CountedAws) -> Iterable[Row]:
    """Compare 100 concurrent posts of 20 ms with sequential ones and with one round trip."""
    players = [f"p{number}" for number in range(100)]
    service = aws.service
    times = {}
    for name, push in {
        "concurrent": service.push,
        "sequential": replace(service.push, run_per_player=_sequentially),
    }.items():
        aws.post_seconds = 0
        for player in players:
            aws.receive("1", frame(player))
        aws.post_seconds, aws.service = 0.02, replace(service, push=push)
        times[name] = seconds_of(aws.push)
    aws.post_seconds, aws.service = 0, service
    ratio = times["concurrent"] / times["sequential"]
    yield Row("time of a batch of 100 posts, relative to sequential posts", ratio, 0.1)
    yield Row("the same, in round trips (at least 1)", times["concurrent"] / 0.02, None)


def _sequentially(calls: Calls) -> None:
    for call in calls:
        call()


def startup_time() -> Iterable[Row]:
    """Compare the import and the first call with a bare Chalice app with boto3 and pydantic."""
    bare = "relative to a bare app"
    yield Row(f"time of importing app.py, {bare}", starting.importing(), 1.3)
    yield Row(f"time of import and first call, {bare}", starting.importing_and_first_call(), 1.3)
    small = SHARES[-1]
    yield Row(f"time of the first call with {small:g} CPU, {bare}", starting.first_call(small), 1)


def cold_batches() -> Iterable[Row]:
    """Measure 100 posts over TLS by new processes that have a share of a CPU."""
    with cold.gateway() as environment:
        for share in SHARES:
            runs = [cold.cold_batch(environment, share) for _ in range(COLD_RUNS)]
            dropped = sum(run.dropped for run in runs)
            longest = max(run.longest_handshake_seconds for run in runs)
            seconds = statistics.median(run.cold_seconds for run in runs)
            against_warm = statistics.median(run.cold_seconds / run.warm_seconds for run in runs)
            had = statistics.median(run.cpu_share for run in runs)
            batches = f"{COLD_RUNS} cold batches of 100 posts over TLS, {share:g} CPU"
            yield Row(f"dropped by {batches}", dropped, 0, f"actual share {had:.2f}")
            yield Row("longest handshake, relative to its timeout", longest / OPEN_SECONDS, 1)
            yield Row("time, relative to a warm batch", against_warm, None, f"{1000 * seconds:.0f} ms")


def growth_with_tables(aws: CountedAws) -> Iterable[Row]:
    """Compare a message's calls and time in small and in large tables."""
    aws.connect("a", "b")
    for table_name, fill in {"connections": _store_connections, "messages": _store_messages}.items():
        costs = []
        stored = 0
        for count in STORED:
            fill(stored, count)
            stored = count
            with aws.counting() as calls:
                seconds = _median_send(aws)
            costs.append((count, total(calls) / SENDS, seconds))
        _, first_calls, first_seconds = costs[0]
        for count, calls_per_message, seconds in costs[1:]:
            rows = f"with {count:,} {table_name}, relative to 1"
            yield Row(f"calls per message {rows}", calls_per_message / first_calls, 1)
            yield Row(f"time per message {rows}", seconds / first_seconds, None)


def _median_send(aws: CountedAws) -> float:
    """Return the median time from frame to post in seconds, including the lookup of the recipient."""

    def send() -> None:
        aws.receive("a", frame("b"))
        aws.push()

    return statistics.median(seconds_of(send) for _ in range(SENDS))


def _store_connections(start: int, end: int) -> None:
    client = boto3.client("dynamodb")
    for number in range(start, end):
        ids = {"SS": [f"other-{number}"]}
        item = {"id": {"S": f"player#other-{number}"}, "connections": ids, "apiId": {"S": "a"}}
        client.put_item(TableName="websockets", Item={**item, "stage": {"S": "dev"}})


def _store_messages(start: int, end: int) -> None:
    """Store messages, half of them to the measured recipient."""
    client = boto3.client("dynamodb")
    for number in range(start, end):
        key = {"destinationPlayerId": {"S": ("b", "other")[number % 2]}, "messageId": {"S": f"0-{number:09}"}}
        client.put_item(TableName="messages", Item={**key, "withdrawn": {"BOOL": True}})


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
