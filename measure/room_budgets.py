"""Counts the AWS calls of rooms, and compares a room's fan-out with a page of replay."""

import json
import math
import statistics
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from chalicelib.core.protocol import MAX_PRESENCE_MEMBERS
from chalicelib.core.replay import PAGE_MESSAGES, PAGE_SECONDS
from measure.budgets import Row, by_operation, total
from measure.counted_aws import BATCH_RECORDS, HERE, CountedAws, seconds_of

MEMBERS = (10, 100, 250)
CALL_SECONDS = 0.01
"""The simulated duration of each call to AWS."""

PUTS_PER_CALL = 25
"""DynamoDB's limit for BatchWriteItem."""

BURST = 30
"""The messages of a room's burst with default settings."""

RUNS = 3


def frame_calls(aws: CountedAws) -> Iterable[Row]:
    """Count the AWS calls of a room's frames."""
    aws.connect("host", "guest")
    aws.receive("host", '{"action": "ping"}')
    aws.receive("guest", frame("join"))
    for name, body, most in (
        ("join", frame("join"), 3),
        ("leave", frame("leave"), 3),
        ("join with presence", frame("join", presence=True), 5),
        ("sendmessage to a room", frame("sendmessage", message="hi"), 4),
        (
            "sendmessage to a room, with clientMessageId",
            frame("sendmessage", message="hi", clientMessageId="m"),
            5,
        ),
        ("members", frame("members"), 4),
        ("signal to a player", '{"action": "signal", "destinationPlayerId": "guest", "data": "hi"}', 3),
        ("signal to a room of 2", frame("signal", data="hi"), 4),
    ):
        with aws.counting() as calls:
            aws.receive("host", body)
        yield Row(f"calls per {name}", total(calls), most, by_operation(calls))
    aws.push()


def fan_out_calls(aws: CountedAws) -> Iterable[Row]:
    """Count the AWS calls that bring one message to the members of rooms."""
    for members in MEMBERS:
        room = _room_of(aws, members)
        aws.receive(_member(0), frame("sendmessage", room, message="hi"))
        with aws.counting() as calls:
            aws.push_batch(aws.entries())
        writes = math.ceil(members / PUTS_PER_CALL)
        yield Row(
            f"calls that copy a message to {members} members", total(calls), 1 + writes, by_operation(calls)
        )
        with aws.counting() as calls:
            aws.push()
        reads = math.ceil(members / BATCH_RECORDS)
        yield Row(f"calls that post the {members} copies", total(calls), reads + members, by_operation(calls))


def presence_calls(aws: CountedAws) -> Iterable[Row]:
    """Count the AWS calls when members of the largest room with presence come and go."""
    members = [f"present-{number}" for number in range(MAX_PRESENCE_MEMBERS)]
    aws.connect(*members)
    for member in members:
        aws.receive(member, frame("join", "present", presence=True))
    aws.push()
    for who, leaving in (("1 member", members[:1]), (f"all {len(members)} members", members)):
        steps = (
            (f"{who} disconnect", partial(_disconnect, aws, leaving), 4 * len(leaving)),
            ("… events of it", aws.push, 2 + len(members) - len(leaving)),
            (f"{who} connect", partial(_register, aws, leaving), 4 * len(leaving)),
            ("… until they are live", aws.push, 1 + 3 * len(leaving)),
            ("… events of it", aws.push, 2 + len(members)),
        )
        for name, step, most in steps:
            with aws.counting() as calls:
                step()
            yield Row(f"room of {len(members)}: {name}", total(calls), most, by_operation(calls))


def fan_out_time(aws: CountedAws) -> Iterable[Row]:
    """Compare a batch with a fan-out to 250 members with a batch that posts a page of replay."""
    members = MEMBERS[-1]
    room, other = _room_of(aws, members), "other"
    aws.connect(other)
    aws.receive(other, '{"action": "ping"}')
    one, one_delay = _median_times(aws, room, 1, other)
    burst, burst_delay = _median_times(aws, room, BURST, other)
    page, page_delay = _page_times(aws, other)
    simulated = f"at {1000 * CALL_SECONDS:g} ms per call"
    yield Row(f"seconds to copy 1 message to {members} members, {simulated}", one, None)
    yield Row(f"seconds to copy {BURST} messages to {members} members, {simulated}", burst, None)
    yield Row(f"seconds of a page of replay, {simulated}", page, None, f"limit {PAGE_SECONDS[1]:g} s")
    yield Row("batch with 1 such message, relative to a batch with a page", one / page, 1)
    yield Row(f"batch with {BURST} such messages, relative to a batch with a page", burst / page, None)
    yield Row("another player of the batch with 1, relative to a page", one_delay / page, 1)
    yield Row(f"another player of the batch with {BURST}, relative to a page", burst_delay / page, 1)
    yield Row("another player of the batch with a page, relative to it", page_delay / page, None)


def _disconnect(aws: CountedAws, players: Iterable[str]) -> None:
    for player in players:
        aws.service.registration.disconnect(f"c-{player}")


def _register(aws: CountedAws, players: Iterable[str]) -> None:
    for player in players:
        aws.service.registration.connect(f"c-{player}", HERE, {"playerId": [player]}, {})


def frame(action: str, room_id: str = "room", **keys: str | bool) -> str:
    return json.dumps({"action": action, "roomId": room_id, **keys})


def _member(number: int) -> str:
    return f"member-{number}"


def _room_of(aws: CountedAws, members: int) -> str:
    """Connect the players, let them join a room, and return its id."""
    room = f"room-of-{members}"
    players = [_member(number) for number in range(members)]
    aws.connect(*(player for player in players if f"c-{player}" not in aws.posted_at))
    for player in players:
        aws.receive(player, frame("join", room))
    aws.push()
    return room


def _median_times(aws: CountedAws, room: str, messages: int, other: str) -> tuple[float, float]:
    """Return the medians of the batch's seconds, and of the seconds until `other` is posted to."""
    times = [_batch_times(aws, room, messages, other) for _ in range(RUNS)]
    return statistics.median(batch for batch, _ in times), statistics.median(delay for _, delay in times)


def _batch_times(aws: CountedAws, room: str, messages: int, other: str) -> tuple[float, float]:
    for number in range(messages):
        aws.receive(_member(number), frame("sendmessage", room, message="hi"))
    times = _times(aws, other)
    aws.records()  # The copies, whose posts aren't part of this.
    return times


def _page_times(aws: CountedAws, other: str) -> tuple[float, float]:
    """Let a player miss more than a page, and reconnect it. Return what `_times` returns for its batch."""
    for _ in range(2 * PAGE_MESSAGES):
        aws.receive(
            other, json.dumps({"action": "sendmessage", "destinationPlayerId": "away", "message": "hi"})
        )
    aws.push()
    aws.service.registration.connect("c-away", HERE, {"playerId": ["away"]}, {})
    time.sleep(PAGE_SECONDS[1])  # A page can take as long as its marker has waited.
    times = _times(aws, other)
    aws.push()
    return times


def _times(aws: CountedAws, other: str) -> tuple[float, float]:
    """Push one batch with what is in the stream and a message to `other`, with simulated calls.

    Returns the batch's seconds, and the seconds until the message is posted.
    """
    aws.receive(other, json.dumps({"action": "sendmessage", "destinationPlayerId": other, "message": "hi"}))
    entries = aws.entries()
    with _simulated_calls(aws):
        started = time.perf_counter()
        seconds = seconds_of(lambda: aws.push_batch(entries))
    return seconds, aws.posted_at[f"c-{other}"] - started


@contextmanager
def _simulated_calls(aws: CountedAws) -> Iterator[None]:
    aws.dynamodb_seconds = aws.post_seconds = CALL_SECONDS
    yield
    aws.dynamodb_seconds = aws.post_seconds = 0
