"""Computes the duration of each step of a message from the clients' observations and the telemetry.

For a deployment, only the totals that a client can observe are known. A `chalice local` on the same machine
shares the clients' clock, so its telemetry lines divide each total into steps.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram

from measure.observations import Connect, Observations, Send

STEPS = {
    "connect": "from the client's handshake to the start of websocket_connect",
    "save connection": "counting and saving the connection, and storing its marker",
    "accept": "from the end of websocket_connect to the open connection at the client",
    "send": "from the time a message was due to the start of websocket_message",
    "save message": "validating, counting and storing the message",
    "acknowledge": "from stored to the ack at the sender",
    "trigger": "from stored to the start of push_messages",
    "look up": "reading the recipients of a batch",
    "post": "the call that posts the message, as push_messages measures it",
    "receive": "from the start of that call to the message at the recipient",
}
"""The ten steps with their definitions. `post` and `receive` overlap; the others are consecutive."""

TOTALS = {
    "connected": "from the client's handshake to the greeting, when the connection is live",
    "acknowledged": "from the time a message was due to its ack",
    "delivered": "from the time a message was due to its arrival at the recipient, in a room at the last one",
}
"""The durations that a client can observe."""

LOWEST_US, HIGHEST_US, DIGITS = 1, 600_000_000, 3
"""The histograms' range, 1 µs to 10 minutes, and their precision of three digits."""

Line = Mapping[str, Any]
Durations = Iterator[tuple[str, float]]


def histograms(observed: Observations, telemetry: Path | None) -> dict[str, HdrHistogram]:
    """Return a histogram in microseconds for each step and total that has at least one value."""
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
    """Return the time at which the message was stored, in epoch seconds.

    The last action of a frame's function is to post the ack, so this is the start of that post.
    """
    return float(frame["at"] + frame["ms"] - frame["post_ms"]) / 1000
