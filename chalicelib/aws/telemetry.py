"""Writes the log: one line of JSON per frame and per pushed message.

A line has ids, outcomes and timings. CloudWatch extracts metrics from the same lines, which are in its
embedded metric format, so metrics need no call. docs/telemetry.md lists all fields and metrics.
"""

import functools
import itertools
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Value = str | int | float

NAMESPACE = "serverless-websockets"

METRICS_BY_OUTCOME = {
    "connected": "connected",
    "stored": "accepted",
    "duplicate": "accepted",
    "refused": "refused",
    "delivered": "delivered",
    "missed": "missed",
    "gone": "gone",
    "closed": "closed",
    "unreadable": "unreadable",
}
"""The metric that counts each outcome."""

UNITS = {"throttled": "Count", "replayed": "Count", "push_latency_ms": "Milliseconds"}
"""Line fields that are also metrics, with their CloudWatch units."""

BATCH_UNITS = {"batch_size": "Count", "iterator_age_ms": "Milliseconds"}
"""Metrics of a whole batch, which only its first line reports."""

lines = logging.getLogger("chalicelib.lines")
watchers: list[Callable[[str, Mapping[str, Value]], None]] = []
"""Called at each outcome, before its line is complete. The local AWS shows outcomes in a terminal."""

_reported: list[object] = []
"""The watchers and loggers that have failed, so that only their first failure is printed."""


@dataclass(slots=True)
class Call:
    """One invocation of a Lambda function. Each of its lines includes `about`.

    An invocation that is `in_one_line` writes one line at its end; others write one per outcome.
    """

    step: str
    function: str
    in_one_line: bool
    about: dict[str, Value]
    began: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)
    outcomes: list[str] = field(default_factory=list)
    earlier_lines: Iterator[int] = field(default_factory=itertools.count)


_call: ContextVar[Call] = ContextVar("call")
_spent: ContextVar[dict[str, float]] = ContextVar("spent")
"""Timings in milliseconds and counts since the last line, by field name."""


def log_lines() -> None:
    """Write lines to standard output, which Lambda logs, unless the logger already has a handler."""
    lines.setLevel(logging.INFO)
    lines.propagate = False
    if not lines.handlers:
        lines.addHandler(logging.StreamHandler(sys.stdout))


@contextmanager
def call(step: str, function: str, in_one_line: bool = True, **about: Value) -> Iterator[None]:
    """Collect outcomes, timings and counts inside the block as one invocation, and write its line."""
    of_call = Call(step, function, in_one_line, about)
    tokens = _call.set(of_call), _spent.set({})
    try:
        yield
    finally:
        if of_call.outcomes:
            _write(of_call, of_call.outcomes, {})
        _call.reset(tokens[0])
        _spent.reset(tokens[1])


def note(outcome: str, /, **about: Value) -> None:
    """Log an outcome with ids and numbers. Never pass message texts, tokens or whole events."""
    for watcher in watchers:
        tell(watcher, outcome, about)
    of_call = _call.get(None)
    if of_call is None:
        _log({"outcome": outcome, **about})
    elif of_call.in_one_line:
        of_call.outcomes.append(outcome)
        of_call.about |= about
    else:
        _write(of_call, [outcome], about)


def tell(watcher: Callable[[str, Mapping[str, Any]], None], outcome: str, about: Mapping[str, Any]) -> None:
    """Call the watcher. Its first exception is printed to standard error; none is raised."""
    try:
        watcher(outcome, about)
    except Exception:
        _report(watcher)


def _log(line: Mapping[str, object]) -> None:
    """Write the line. An exception from a log handler is printed once and not raised."""
    try:
        if lines.isEnabledFor(logging.INFO):
            lines.info(json.dumps(line))
    except Exception:
        _report(lines)


def _report(failed: object) -> None:
    if failed not in _reported:
        _reported.append(failed)
        with suppress(OSError, ValueError):  # Standard error might be closed.
            traceback.print_exc()


def timed(part: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that adds a function's duration to the next line, as `<part>_ms`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def measured(*args: P.args, **kwargs: P.kwargs) -> R:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                count(f"{part}_ms", 1000 * (time.perf_counter() - started))

        return measured

    return decorate


def count(name: str, amount: float = 1) -> None:
    """Add an amount to a field of the next line."""
    spent = _spent.get(None)
    if spent is not None:
        spent[name] = spent.get(name, 0) + amount


def aside(work: Callable[[], None]) -> Callable[[], None]:
    """Return the work for another thread: in the same invocation, but with its own timings."""
    context = copy_context()
    context.run(_spent.set, {})
    return functools.partial(context.run, work)


def _write(of_call: Call, outcomes: list[str], about: Mapping[str, Value]) -> None:
    spent = _spent.get()
    line: dict[str, Value] = {
        "step": of_call.step,
        "outcome": ", ".join(outcomes),
        "at": round(1000 * of_call.began, 2),
        "ms": round(1000 * (time.perf_counter() - of_call.started), 2),
        **of_call.about,
        **about,
        **{name: round(amount, 2) for name, amount in spent.items()},
    }
    spent.clear()
    is_first = next(of_call.earlier_lines) == 0
    _log(line | _metrics(of_call, outcomes, line, is_first))


def _metrics(
    of_call: Call, outcomes: list[str], line: Mapping[str, Value], is_first: bool
) -> dict[str, object]:
    """Return the fields that make CloudWatch extract metrics from a line.

    Metrics of the whole batch are in its first line only.
    """
    counts = {METRICS_BY_OUTCOME[outcome]: 1 for outcome in outcomes if outcome in METRICS_BY_OUTCOME}
    units = dict.fromkeys(counts, "Count")
    units |= {name: unit for name, unit in UNITS.items() if name in line}
    if is_first:
        units |= {name: unit for name, unit in BATCH_UNITS.items() if name in line}
    if not units:
        return {}
    by_code = [["FunctionName", "code"]] if "code" in line else []
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [["FunctionName"], *by_code],
        "Metrics": [{"Name": name, "Unit": unit} for name, unit in units.items()],
    }
    return {
        "FunctionName": of_call.function,
        **counts,
        "_aws": {"Timestamp": round(1000 * of_call.began), "CloudWatchMetrics": [directive]},
    }
