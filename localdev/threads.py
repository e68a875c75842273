"""Background threads that the process cannot work without."""

import os
import sys
import threading
import traceback
from collections.abc import Callable


def start(name: str, target: Callable[[], object]) -> threading.Thread:
    """Start a daemon thread and return it. An exception in `target` ends the process with exit code 1."""

    def run() -> None:
        try:
            target()
        except BaseException as error:
            if threading.main_thread().is_alive():  # Otherwise the process is ending already.
                end(name, error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def end(name: str, error: BaseException) -> None:
    """End the process with a message on standard error."""
    try:
        print(f"chalice: {name} stopped: {type(error).__name__}: {error}", file=sys.stderr)
        traceback.print_exception(error)
        sys.stderr.flush()
    finally:
        os._exit(1)
