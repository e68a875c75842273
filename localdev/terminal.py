"""What a person at the terminal sees: a line for each step, with the ids it is about."""

import logging
import sys
import threading
from datetime import datetime

from chalicelib.telemetry import steps

_writing = threading.Lock()


def show(step: str, **about: object) -> None:
    """One line: the time, the step, and what it is about."""
    now = datetime.now().strftime("%H:%M:%S.%f")[:-3]
    details = " ".join(f"{name}={_printable(str(value))}" for name, value in about.items())
    say(f"{now}  {step:<13} {details}".rstrip())


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


class Lines(logging.Handler):
    """Shows the service's own steps as lines in place of JSON."""

    def emit(self, record: logging.LogRecord) -> None:
        show(record.getMessage(), **getattr(record, "ids", {}))


def show_steps() -> None:
    steps.handlers[:] = [Lines()]
    logging.getLogger("botocore").setLevel(logging.WARNING)  # Chalice shows what others log as information.
