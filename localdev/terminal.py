"""What a person sees of what happens: a line for each step, with the ids it is about."""

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime

from chalicelib.telemetry import lines, watchers

_writing = threading.Lock()
viewers: list[Callable[[str, Mapping[str, object]], None]] = []
"""Told of each step as well, the moment it is shown."""


def show(step: str, **about: object) -> None:
    """One line: the time, the step, and what it is about."""
    for viewer in viewers:
        viewer(step, about)
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
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(text: str) -> None:
    """Print it, unless the process is ending: then what fails, fails because of that."""
    if not threading.main_thread().is_alive():
        return
    with _writing:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def show_outcomes(telemetry_file: str | None) -> None:
    """Show outcomes as they happen; the lines of JSON, which come later, go to the file, if there is one.

    Raises OSError when it cannot be written.
    """
    watchers[:] = [_show_outcome]
    lines.handlers[:] = [logging.FileHandler(telemetry_file) if telemetry_file else logging.NullHandler()]
    logging.getLogger("botocore").setLevel(logging.WARNING)  # Chalice shows what others log as information.
