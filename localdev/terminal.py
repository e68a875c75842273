"""What a person sees of what happens: a line for each step, with the ids it is about."""

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
"""Told of each step as well, the moment it is shown."""


def show(step: str, **about: object) -> None:
    """Print one line: the time, the step, and what it is about. Tell the viewers."""
    for viewer in (*viewers, _print_step):
        tell(viewer, step, about)


def _print_step(step: str, about: Mapping[str, object]) -> None:
    now = datetime.now().strftime("%H:%M:%S.%f")[:-3]
    details = " ".join(f"{name}={_printable(str(value))}" for name, value in about.items())
    say(f"{now}  {step:<13} {details}".rstrip())


def show_failure(error: BaseException, **about: object) -> None:
    """Show an exception as a step, and its traceback below."""
    show("failed", **about, error=type(error).__name__)
    say("".join(traceback.format_exception(error)))


def _show_outcome(outcome: str, about: Mapping[str, object]) -> None:
    show(outcome, **about)


def _printable(text: str) -> str:
    """What a stranger sent must not be able to steer the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(text: str) -> None:
    """Print it, unless the process is ending: then what fails, fails because of that."""
    if threading.main_thread().is_alive():
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def show_outcomes(telemetry_file: str | None) -> None:
    """Show outcomes as they happen; the lines of JSON, which come later, go to the file, if there is one.

    Raises OSError when it cannot be written.
    """
    watchers[:] = [_show_outcome]
    lines.handlers[:] = [_handler(telemetry_file) if telemetry_file else logging.NullHandler()]
    lines.disabled = not telemetry_file
    logging.getLogger("botocore").setLevel(logging.WARNING)  # Chalice shows what others log as information.


def _handler(path: str) -> logging.Handler:
    raw = open(path, "ab", buffering=0, opener=_opener)  # noqa: SIM115  # It is open as long as the process.
    return logging.StreamHandler(Outlet("TELEMETRY_FILE", raw, report=_dropped_lines))


def _opener(path: str, flags: int) -> int:
    """Open a named pipe for reading too: otherwise that waits until something reads it."""
    if os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode):
        flags = os.O_RDWR
    return os.open(path, flags, 0o666)


def _dropped_lines(count: int) -> str:
    return json.dumps({"outcome": "dropped", "lines": count}) + "\n"
