"""Starts background threads without which the process must not continue."""

import sys
import threading
import traceback
from collections.abc import Callable

from localdev.ending import exit_now


def start(name: str, target: Callable[[], object]) -> threading.Thread:
    """Start a daemon thread and return it. An exception in `target` ends the process with exit code 1."""

    def run() -> None:
        try:
            target()
        except BaseException as error:
            if threading.main_thread().is_alive():  # Otherwise the process is already ending.
                _end(name, error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def _end(name: str, error: BaseException) -> None:
    try:
        text = "".join(traceback.format_exception(error))
        sys.stderr.write(f"chalice: {name} stopped: {type(error).__name__}: {error}\n{text}")
        sys.stderr.flush()
    finally:
        exit_now()
