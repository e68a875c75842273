"""Ends the process of `chalice local` after a fatal error, and prepares its restart after an edit."""

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

before_exit: list[Callable[[], None]] = []
"""Callbacks that `exit_now` runs before it ends the process."""

before_restart: list[Callable[[], None]] = []
"""Callbacks that run before Chalice's reloader replaces this worker."""

_parent = os.getppid()
_follows_an_edit = False


def end(message: str) -> NoReturn:
    """Print the message and end the process with exit code 1, from any thread.

    In a worker that follows an edit, raise SystemExit instead. It ends only the thread that loads the app, so
    the worker waits for the next edit, as Chalice does after a syntax error.
    """
    try:
        print(f"chalice: {message}", file=sys.stderr, flush=True)
    finally:
        if _follows_an_edit:
            sys.exit(1)
        exit_now()


def exit_now() -> NoReturn:
    """End the process with exit code 1, and end Chalice's reloader by SIGTERM.

    The reloader would exit with 0 whatever its worker's exit code is. After the signal, a shell reports 143.
    """
    for work in before_exit:
        work()
    if "CHALICE_WORKER" in os.environ and os.name == "posix" and os.getppid() == _parent != 1:
        with suppress(OSError):
            os.kill(_parent, signal.SIGTERM)
    os._exit(1)


def prepare_restart() -> None:
    """Tell the next worker that it follows an edit, and run the callbacks in `before_restart`."""
    with suppress(OSError):  # Without the note, an invalid setting would end the next worker.
        note_for_next_worker("restarts").touch(mode=0o600, exist_ok=False)
    for work in before_restart:
        work()


def read_note() -> None:
    """Read and delete the note of `prepare_restart`, which says that this worker follows an edit."""
    global _follows_an_edit
    try:
        note_for_next_worker("restarts").unlink()
    except OSError:
        return
    _follows_an_edit = True


def note_for_next_worker(name: str) -> Path:
    """Return a path outside the project for a file from one worker to the next.

    The name has the id of the reloader, because both workers know it.
    """
    return Path(tempfile.gettempdir()) / f"chalice-local-{_parent}-{name}"
