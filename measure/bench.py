"""The budgets, counted or as ratios within one run: python -m measure.bench

Times are never compared with a number of another machine. It ends with 1 when a budget is not kept.
"""

import json
import logging
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import boto3

from chalicelib.aws import telemetry
from chalicelib.aws.connections import ConnectionsTable
from chalicelib.aws.management_api import OPEN_SECONDS
from chalicelib.core.push import Calls
from chalicelib.core.rate_limit import RateLimit
from chalicelib.settings import Settings
from measure import cold, starting
from measure.counted_aws import HERE, CountedAws, seconds_of
from measure.progress import Progress

SENDS = 200
STORED = (1, 1_000, 100_000)
COLD_RUNS = 8
SHARES = (0.58, 0.29)
"""Of a CPU: what Lambda gives a function of 1,024 MB, and one of 512 MB."""
DAY = 24 * 60 * 60
DEFAULTS = Settings.from_environment({"WEBSOCKETS_TABLE": "w", "MESSAGES_TABLE": "m"})


@dataclass(frozen=True, slots=True)
class Row:
    """`most` is the budget, None where there is none."""

    what: str
    measured: float
    most: float | None
    detail: str = ""

    @property
    def is_kept(self) -> bool:
        return self.most is None or self.measured <= self.most


def main() -> int:
    telemetry.lines.addHandler(logging.NullHandler())
    progress = Progress("bench")
    aws = CountedAws.start()
    rows: list[Row] = []
    parts: list[Callable[[], Iterable[Row]]] = [
        partial(calls_of_a_message, aws),
        partial(a_flood, aws),
        partial(a_batch_at_once, aws),
        cost_of_starting,
        a_cold_batch,
        partial(cost_by_what_is_stored, aws),
    ]
    for number, part in enumerate(parts):
        progress.show(number, len(parts), part.__doc__ or "")
        rows += part()
    progress.end()
    print(table(rows))
    return 0 if all(row.is_kept for row in rows) else 1


def table(rows: Iterable[Row]) -> str:
    lines = [f"{'':<66}{'measured':>10}{'at most':>10}"]
    for row in rows:
        most = "" if row.most is None else f"{row.most:g}"
        kept = "" if row.is_kept else "  NOT KEPT"
        lines.append(f"{row.what:<66}{row.measured:>10.4g}{most:>10}  {row.detail}{kept}".rstrip())
    return "\n".join(lines)


def frame(to: str, **keys: str) -> str:
    keys = {"action": "sendmessage", "message": "hi", "destinationPlayerId": to, **keys}
    return json.dumps(keys)


def calls_of_a_message(aws: CountedAws) -> Iterable[Row]:
    """AWS calls, counted where boto3 makes them."""
    aws.connect("1", "2")
    with aws.counting() as first:
        aws.receive("1", frame("2"))
    with aws.counting() as warm:
        aws.receive("1", frame("2"))
    with aws.counting() as named:
        aws.receive("1", frame("2", clientMessageId="m"))
    aws.push()
    with aws.counting() as refused:
        aws.receive("1", "no JSON")
    yield Row("calls of a sendmessage, its connection seen for the first time", _total(first), 4, _by(first))
    yield Row("calls of a sendmessage, warm", _total(warm), 3, _by(warm))
    yield Row("calls of a sendmessage with clientMessageId", _total(named), 4, _by(named))
    with aws.counting() as pinged:
        aws.receive("1", '{"action": "ping"}')
    yield Row("calls of a ping", _total(pinged), 2, _by(pinged))
    yield Row("calls of a frame that is refused", _total(refused), 2, _by(refused))
    players = [f"p{number}" for number in range(100)]
    aws.connect(*players)
    for player in players:
        aws.receive("1", frame(player))
    with aws.counting() as batch:
        aws.push()
    writes = sum(n for name, n in batch.items() if name.startswith(("Put", "Update", "Delete")))
    yield Row("reads of a batch of 100 messages to 100 online players", batch["BatchGetItem"], 1)
    yield Row("posts of it", batch["PostToConnection"], 100)
    yield Row("writes of it", writes, 0)


def a_flood(aws: CountedAws) -> Iterable[Row]:
    """1,000 pings of one player within one window of the default rate, to one Lambda and to ten."""
    rate = RateLimit(DEFAULTS.messages_per_second, DEFAULTS.message_burst)
    for lambdas, named, most in ((1, "one Lambda", rate.burst + 2), (10, "ten Lambdas", rate.burst + 10)):
        player = f"flooder-{lambdas}"
        aws.connect(player)
        stores = [
            ConnectionsTable(
                boto3.client("dynamodb"),
                "websockets",
                player_seconds=DAY,
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
        yield Row(f"writes of 1,000 pings in a window, to {named}", writes, most, _by(flood))


def a_batch_at_once(aws: CountedAws) -> Iterable[Row]:
    """100 posts of 20 ms, against one after the other and against one round trip."""
    players = [f"p{number}" for number in range(100)]
    service = aws.service
    times = {}
    for name, push in {
        "side by side": service.push,
        "one by one": replace(service.push, run_per_player=_one_by_one),
    }.items():
        aws.post_seconds = 0
        for player in players:
            aws.receive("1", frame(player))
        aws.post_seconds, aws.service = 0.02, replace(service, push=push)
        times[name] = seconds_of(aws.push)
    aws.post_seconds, aws.service = 0, service
    share = times["side by side"] / times["one by one"]
    yield Row("a batch of 100 posts, against one after the other", share, 0.1)
    yield Row("the same, in round trips (the floor is 1)", times["side by side"] / 0.02, None)


def _one_by_one(calls: Calls) -> None:
    for call in calls:
        call()


def cost_of_starting() -> Iterable[Row]:
    """Importing, and the first call, against a bare Chalice app with boto3 and pydantic."""
    bare = "against a bare Chalice app"
    yield Row(f"importing app.py, {bare}", starting.importing(), 1.3)
    yield Row(f"importing it and its first call, {bare}", starting.importing_and_first_call(), 1.3)
    small = SHARES[-1]
    yield Row(f"its first call on Lambda, {small:g} of a CPU, {bare}", starting.first_call(small), 1)


def a_cold_batch() -> Iterable[Row]:
    """100 posts over TLS by new processes that have a part of a CPU."""
    with cold.gateway() as environment:
        for share in SHARES:
            runs = [cold.cold_batch(environment, share) for _ in range(COLD_RUNS)]
            dropped = sum(run.dropped for run in runs)
            longest = max(run.longest_handshake_seconds for run in runs)
            seconds = statistics.median(run.cold_seconds for run in runs)
            against_warm = statistics.median(run.cold_seconds / run.warm_seconds for run in runs)
            had = statistics.median(run.cpu_share for run in runs)
            what = f"{COLD_RUNS} cold batches of 100 posts over TLS, {share:g} of a CPU"
            yield Row(f"{what}: dropped", dropped, 0, f"had {had:.2f}")
            yield Row("the longest handshake of them, in timeouts", longest / OPEN_SECONDS, 1)
            yield Row("the time of one, against a warm batch", against_warm, None, f"{1000 * seconds:.0f} ms")


def cost_by_what_is_stored(aws: CountedAws) -> Iterable[Row]:
    """A message among few and among many others: it has to cost the same."""
    aws.connect("a", "b")
    for table_name, fill in {"connections": _store_connections, "messages": _store_messages}.items():
        costs = []
        stored = 0
        for count in STORED:
            fill(stored, count)
            stored = count
            with aws.counting() as calls:
                seconds = _median_send(aws)
            costs.append((count, _total(calls) / SENDS, seconds))
        _, first_calls, first_seconds = costs[0]
        for count, calls_a_message, seconds in costs[1:]:
            yield Row(f"calls among {count:,} {table_name}, against 1", calls_a_message / first_calls, 1)
            yield Row(f"time among {count:,} {table_name}, against 1", seconds / first_seconds, None)


def _median_send(aws: CountedAws) -> float:
    """From frame to post, the recipient's lookup included."""

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
    """Half of them to the recipient itself."""
    client = boto3.client("dynamodb")
    for number in range(start, end):
        key = {"destinationPlayerId": {"S": ("b", "other")[number % 2]}, "messageId": {"S": f"0-{number:09}"}}
        client.put_item(TableName="messages", Item={**key, "withdrawn": {"BOOL": True}})


def _total(calls: Counter[str]) -> int:
    return sum(calls.values())


def _by(calls: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(calls.items()))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
