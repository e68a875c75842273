"""How long each step of the sequence took: what the clients saw, joined with what the functions say.

Of a deployment only what a client can see is known; of a `chalice local` on the same machine, whose clock
is the clients' too, the lines of its telemetry cut the way of each message into steps.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram

from measure.observations import Connect, Observations, Send

STEPS = {
    "connect": "from asking for the connection to the beginning of its function",
    "save connection": "counting it, saving it, and putting its marker",
    "accept": "from the end of its function to the client's being connected",
    "send": "from when a message was due to the beginning of its function",
    "save message": "checking, counting and storing it",
    "acknowledge": "from stored to the sender's having the acknowledgement",
    "trigger": "from stored to the beginning of the push function",
    "look up": "finding the recipients of a batch",
    "post": "the call that posts it, as the push function sees it",
    "receive": "from the beginning of that call to the recipient's having it",
}
"""The ten steps, and what each is measured as. `post` and `receive` overlap; the others follow each other."""

TOTALS = {
    "connected": "from asking for the connection to the greeting, from when on it receives",
    "acknowledged": "from when a message was due to its acknowledgement",
    "delivered": "from when a message was due to its recipient's having it",
}
"""What a client can see by itself."""

LOWEST_US, HIGHEST_US, DIGITS = 1, 600_000_000, 3
"""Microseconds up to ten minutes, to three digits."""

Line = Mapping[str, Any]
Durations = Iterator[tuple[str, float]]


def histograms(observed: Observations, telemetry: Path | None) -> dict[str, HdrHistogram]:
    """Of every step and total that anything is known of, in microseconds."""
    made: dict[str, HdrHistogram] = {}
    lines = _lines(telemetry) if telemetry is not None else []
    for name, seconds in _all(observed, lines):
        if name not in made:
            made[name] = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        made[name].record_value(min(HIGHEST_US, max(LOWEST_US, round(1e6 * seconds))))
    return {name: made[name] for name in (*STEPS, *TOTALS) if name in made}


def _lines(telemetry: Path) -> list[Line]:
    return [json.loads(text) for text in telemetry.read_text(encoding="utf-8").splitlines()]


def _all(observed: Observations, lines: Iterable[Line]) -> Durations:
    connects = {line["connection"]: line for line in lines if line.get("step") == "connect"}
    about = [line for line in lines if "message" in line]
    frames = {line["message"]: line for line in about if line["step"] == "message"}
    pushes = {line["message"]: line for line in about if line["outcome"] == "delivered"}
    for connect in observed.measured_connects:
        yield from _of_connect(connect, connects.get(connect.connection_id))
    for send in observed.measured:
        yield from _of_send(send, frames.get(send.message_id), pushes.get(send.message_id))


def _of_connect(connect: Connect, line: Line | None) -> Durations:
    if connect.greeted is None or connect.accepted is None:
        return
    yield "connected", connect.greeted - connect.asked
    if line is not None:
        began = line["at"] / 1000
        yield "connect", began - connect.asked
        yield "save connection", (line["save_connection_ms"] + line["save_message_ms"]) / 1000
        yield "accept", connect.accepted - began - line["ms"] / 1000


def _of_send(send: Send, frame: Line | None, push: Line | None) -> Durations:
    if send.acknowledged is not None and send.acknowledged >= send.due:
        yield "acknowledged", send.acknowledged - send.due
        if frame is not None:
            began, stored = frame["at"] / 1000, _stored(frame)
            yield "send", began - send.due
            yield "save message", stored - began
            yield "acknowledge", send.acknowledged - stored
            if push is not None:
                yield "trigger", push["at"] / 1000 - stored
    if send.received is not None:
        yield "delivered", send.received - send.due
        if push is not None:
            yield "look up", push["look_up_ms"] / 1000
            yield "post", push["post_ms"] / 1000
            yield "receive", send.received - (push["at"] + push["ms"] - push["post_ms"]) / 1000


def _stored(frame: Line) -> float:
    """The post of the acknowledgement is the last thing that a frame's function does."""
    return float(frame["at"] + frame["ms"] - frame["post_ms"]) / 1000
