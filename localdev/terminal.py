"""Prints a line for each step of the service, with the ids involved."""

import json
import logging
import os
import stat
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime

from chalicelib.aws.telemetry import lines, tell, watchers
from localdev.outlet import Outlet

viewers: list[Callable[[str, Mapping[str, object]], None]] = []
"""Callbacks that are called with each step before it is printed."""


def show(step: str, **about: object) -> None:
    """Call the viewers, and print a line with the time, the step and its details."""
    for viewer in (*viewers, _print_step):
        tell(viewer, step, about)


def _print_step(step: str, about: Mapping[str, object]) -> None:
    now = datetime.now().strftime("%H:%M:%S.%f")[:-3]
    details = " ".join(f"{name}={_printable(str(value))}" for name, value in about.items())
    say(f"{now}  {step:<13} {details}".rstrip())


def show_failure(error: BaseException, **about: object) -> None:
    """Show an exception as a step, followed by its traceback."""
    show("failed", **about, error=type(error).__name__)
    say("".join(traceback.format_exception(error)))


def _show_outcome(outcome: str, about: Mapping[str, object]) -> None:
    show(outcome, **about)


def _printable(text: str) -> str:
    """Escape control characters, so that a client's text can't control the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(text: str) -> None:
    """Print the text, unless the process is ending, because errors are expected then."""
    if threading.main_thread().is_alive():
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def show_outcomes(telemetry_file: str | None) -> None:
    """Show each outcome as a step when it happens, and write the telemetry lines only to the file, if given.

    Raises OSError if the file can't be opened.
    """
    watchers[:] = [_show_outcome]
    lines.handlers[:] = [_handler(telemetry_file) if telemetry_file else logging.NullHandler()]
    lines.disabled = not telemetry_file
    logging.getLogger("botocore").setLevel(logging.WARNING)  # Chalice would print botocore's INFO records.


def _handler(path: str) -> logging.Handler:
    raw = open(path, "ab", buffering=0, opener=_opener)  # noqa: SIM115  # Open until the process ends.
    return logging.StreamHandler(Outlet("TELEMETRY_FILE", raw, report=_dropped_lines))


def _opener(path: str, flags: int) -> int:
    """Open a named pipe for reading too, because opening it only for writing waits for a reader."""
    if os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode):
        flags = os.O_RDWR
    return os.open(path, flags, 0o666)


def _dropped_lines(count: int) -> str:
    return json.dumps({"outcome": "dropped", "lines": count}) + "\n"
