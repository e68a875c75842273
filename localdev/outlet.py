"""Writes standard output, standard error and the telemetry file in background threads.

A terminal stopped by Ctrl-S, a full pipe or a full disk must not block a function.
"""

import atexit
import errno
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from io import RawIOBase
from typing import Any, TextIO

from localdev.ending import before_exit
from localdev.threads import start

QUEUE_CHARACTERS = 1_000_000
"""The queue's limit while a stream is blocked. Further lines are dropped and counted."""

DRAIN_SECONDS = 2.0
RETRY_SECONDS = 1.0
BUSY_SECONDS = 0.05
GONE = (errno.EPIPE, errno.EBADF, errno.EIO)
"""Errors that are permanent, because the stream's reader is gone."""

_outlets: list["Outlet"] = []


def dropped_notice(dropped: int) -> str:
    """Return the line that replaces dropped lines in the output."""
    return f"chalice: {dropped} lines were dropped here because this stream was blocked\n"


class Outlet:
    """A text stream whose `write` never blocks and never raises. Its thread writes to `raw`.

    Characters that `encoding` lacks are replaced. Other attributes come from `stream`. `report` takes the
    number of dropped lines and returns the line that reports it.
    """

    def __init__(
        self,
        name: str,
        raw: RawIOBase,
        encoding: str = "utf-8",
        stream: Any = None,
        report: Callable[[int], str] = dropped_notice,
    ) -> None:
        self._name = name
        self._raw = raw
        self._encoding = encoding
        self._stream = raw if stream is None else stream
        self._report = report
        self._waiting: deque[str] = deque()
        self._characters = 0
        self._dropped = 0
        self._is_writing = False
        self._is_gone = False
        self._has_failed = False
        self._changed = threading.Condition()
        _outlets.append(self)
        start(name, self._run)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Queue the text, or drop it if the queue is full. Return the text's length."""
        with self._changed:
            if self._is_gone:
                return len(text)
            if self._dropped or self._characters >= QUEUE_CHARACTERS:
                self._dropped += text.count("\n")
            else:
                self._waiting.append(text)
                self._characters += len(text)
            self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Do nothing, because the thread writes as soon as it can. `drain` waits for the thread."""

    def drain(self, seconds: float) -> None:
        """Wait until everything is written, for at most `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_gone or self._is_idle(), seconds)

    def _is_idle(self) -> bool:
        return not (self._waiting or self._dropped or self._is_writing)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException:  # The error message needs a working standard error.
            self._is_gone = True
            if sys.stderr is self:
                sys.stderr = self._stream
            raise

    def _work(self) -> None:
        torn = False
        while not self._is_gone:
            text, dropped = self._next()
            data = (("\n" if torn else "") + text + (self._report(dropped) if dropped else "")).encode(
                self._encoding, "replace"
            )
            written, failure = self._put(data)
            torn = failure is not None and not data[:written].endswith(b"\n") and (torn or written > 0)
            with self._changed:
                self._is_writing = False
                if failure is not None:
                    self._dropped += dropped + data[written:].count(b"\n") - bool(dropped)
                    self._is_gone = not isinstance(failure, OSError) or failure.errno in GONE
                self._changed.notify_all()
            if failure is not None:
                self._report_first_failure(failure)
                time.sleep(RETRY_SECONDS)

    def _next(self) -> tuple[str, int]:
        """Wait for text. Return all queued text, and the number of lines dropped after it."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._dropped)
            text, dropped = "".join(self._waiting), self._dropped
            self._waiting.clear()
            self._characters = self._dropped = 0
            self._is_writing = True
            return text, dropped

    def _put(self, data: bytes) -> tuple[int, Exception | None]:
        """Write the data. Return the number of bytes written, and the exception if that isn't all."""
        written = 0
        while written < len(data):
            try:
                count = self._raw.write(data[written:])
            except (OSError, ValueError) as failure:  # ValueError: a function closed the stream.
                return written, failure
            if count is None:  # The stream is non-blocking, and full.
                time.sleep(BUSY_SECONDS)
            written += count or 0
        return written, None

    def _report_first_failure(self, failure: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            reason = failure.strerror if isinstance(failure, OSError) else str(failure)
            sys.stderr.write(f"chalice: cannot write to {self._name}: {reason}\n")


def redirect_output() -> None:
    """Replace standard output and standard error by outlets, also in the log handlers that Chalice added."""
    sys.stdout = _outlet_for("standard output", sys.stdout)
    sys.stderr = _outlet_for("standard error", sys.stderr)
    atexit.register(drain)
    before_exit.append(drain)


def _outlet_for(name: str, stream: TextIO | None) -> Any:
    if stream is None:  # The process was started without it, but http.server writes to it anyway.
        return open(os.devnull, "w", encoding="utf-8")
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        return stream
    outlet = Outlet(name, getattr(buffer, "raw", buffer), stream.encoding, stream)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is stream:
            handler.stream = outlet
    return outlet


def drain() -> None:
    """Wait until all outlets have written their queues, for at most DRAIN_SECONDS."""
    deadline = time.monotonic() + DRAIN_SECONDS
    for outlet in _outlets:
        outlet.drain(max(0.0, deadline - time.monotonic()))
