"""What the functions say of themselves: one line of JSON for a frame, and for a pushed message.

A line has ids, what came of it, and where the time went; CloudWatch takes its metrics from the same
lines, in its "embedded metric format", so they cost no call. docs/telemetry.md lists what there is.
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

COUNTED_AS = {
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
"""The metric that counts an outcome."""

UNITS = {"throttled": "Count", "replayed": "Count", "push_latency_ms": "Milliseconds"}
"""The metrics whose value a line has anyway, and CloudWatch's name of their unit."""

UNITS_OF_A_BATCH = {"batch_size": "Count", "iterator_age_ms": "Milliseconds"}

lines = logging.getLogger("chalicelib.lines")
watchers: list[Callable[[str, Mapping[str, Value]], None]] = []
"""Told of each outcome the moment it is noted: a terminal wants it sooner than the whole line."""

_reported: list[object] = []
"""The watchers and the logger whose first failure was printed."""


@dataclass(slots=True)
class Call:
    """One call of a function. `about` is said by every line of it; a call `in_one_line` has only one."""

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
"""Where the time has gone since the last line, and what else was counted."""


def log_lines() -> None:
    """Write lines to standard output, where Lambda's log is, unless they go somewhere already."""
    lines.setLevel(logging.INFO)
    lines.propagate = False
    if not lines.handlers:
        lines.addHandler(logging.StreamHandler(sys.stdout))


@contextmanager
def call(step: str, function: str, in_one_line: bool = True, **about: Value) -> Iterator[None]:
    """Whatever is noted, timed and counted inside belongs to this call of a function."""
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
    """Say what came of something, by ids and numbers; never text, tokens or whole events."""
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
    """Call the watcher. Print its first exception to standard error, and let none reach the function."""
    try:
        watcher(outcome, about)
    except Exception:
        _report(watcher)


def _log(line: Mapping[str, object]) -> None:
    """Write the line. A log handler that raises must not fail the function either."""
    try:
        if lines.isEnabledFor(logging.INFO):
            lines.info(json.dumps(line))
    except Exception:
        _report(lines)


def _report(failed: object) -> None:
    if failed not in _reported:
        _reported.append(failed)
        with suppress(OSError, ValueError):  # Standard error is gone or closed, so nothing can be said.
            traceback.print_exc()


def timed(part: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The line that comes next says how long calls of this took, as `<part>_ms`."""

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
    """Add to a number of the line that comes next."""
    spent = _spent.get(None)
    if spent is not None:
        spent[name] = spent.get(name, 0) + amount


def aside(work: Callable[[], None]) -> Callable[[], None]:
    """The same work for another thread: of this call, with lines and times of its own."""
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
    """What makes metrics of a line; what is true of a whole batch counts once."""
    counts = {COUNTED_AS[outcome]: 1 for outcome in outcomes if outcome in COUNTED_AS}
    units = dict.fromkeys(counts, "Count")
    units |= {name: unit for name, unit in UNITS.items() if name in line}
    if is_first:
        units |= {name: unit for name, unit in UNITS_OF_A_BATCH.items() if name in line}
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
