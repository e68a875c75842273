"""How the process of `chalice local` ends when it cannot go on, and how it goes on after an edit."""

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

before_exit: list[Callable[[], None]] = []
"""Called before the process ends at once."""

before_restart: list[Callable[[], None]] = []
"""Called before the worker ends so that another one follows it."""

_parent = os.getppid()
_follows_an_edit = False


def end(message: str) -> NoReturn:
    """Print the message and end the process with exit code 1, from whatever thread this is.

    After an edit, wait for the next one instead, as Chalice does after a syntax error: SystemExit ends only
    the thread that loads the app.
    """
    try:
        print(f"chalice: {message}", file=sys.stderr, flush=True)
    finally:
        if _follows_an_edit:
            sys.exit(1)
        exit_now()


def exit_now() -> NoReturn:
    """End the process with exit code 1, and Chalice's reloader with it.

    The reloader's own exit code is 0 whatever its worker's is, so a signal ends it: a shell calls that 143.
    """
    for work in before_exit:
        work()
    if "CHALICE_WORKER" in os.environ and os.name == "posix" and os.getppid() == _parent != 1:
        with suppress(OSError):
            os.kill(_parent, signal.SIGTERM)
    os._exit(1)


def prepare_restart() -> None:
    """Leave the worker that Chalice's reloader starts next what it needs, and that it follows an edit."""
    with suppress(OSError):  # Without the note, a wrong setting ends that worker.
        note_for_next_worker("restarts").touch(mode=0o600, exist_ok=False)
    for work in before_restart:
        work()


def read_note() -> None:
    """Find out whether this worker follows an edit."""
    global _follows_an_edit
    try:
        note_for_next_worker("restarts").unlink()
    except OSError:
        return
    _follows_an_edit = True


def note_for_next_worker(name: str) -> Path:
    """Return a path outside the project, named by the reloader: the one process that both workers know."""
    return Path(tempfile.gettempdir()) / f"chalice-local-{_parent}-{name}"
