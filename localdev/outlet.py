"""Standard output, standard error and the telemetry file, written to by threads that nothing waits for.

A terminal that is stopped by Ctrl-S, a pipe that nothing reads, or a full disk must not hold up a function.
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
"""How much waits for a stream that stands still. Further lines are dropped and counted."""

DRAIN_SECONDS = 2.0
RETRY_SECONDS = 1.0
BUSY_SECONDS = 0.05
GONE = (errno.EPIPE, errno.EBADF, errno.EIO)
"""The errors after which a stream never takes anything again: its reader is gone."""

_outlets: list["Outlet"] = []


def in_words(dropped: int) -> str:
    return f"chalice: {dropped} lines were dropped here because this stream stood still\n"


class Outlet:
    """A text stream whose `write` returns at once and never raises. Its thread writes to `raw`.

    Characters that `encoding` does not have are replaced. Attributes that are not defined here are those of
    `stream`. `report` returns the line that says how many lines were dropped.
    """

    def __init__(
        self,
        name: str,
        raw: RawIOBase,
        encoding: str = "utf-8",
        stream: Any = None,
        report: Callable[[int], str] = in_words,
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
        """Queue the text, or drop it when too much is waiting; return its length."""
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
        """Do nothing: the thread writes as soon as it can, and `drain` waits for it."""

    def drain(self, seconds: float) -> None:
        """Wait until everything is written, for at most so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_gone or self._is_idle(), seconds)

    def _is_idle(self) -> bool:
        return not (self._waiting or self._dropped or self._is_writing)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException:  # The message about it needs a standard error that is written to.
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
                self._say_once(failure)
                time.sleep(RETRY_SECONDS)

    def _next(self) -> tuple[str, int]:
        """Return all that is waiting, and how many lines were dropped after it."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._dropped)
            text, dropped = "".join(self._waiting), self._dropped
            self._waiting.clear()
            self._characters = self._dropped = 0
            self._is_writing = True
            return text, dropped

    def _put(self, data: bytes) -> tuple[int, Exception | None]:
        """Write; return how many bytes were written, and why not all of them."""
        written = 0
        while written < len(data):
            try:
                count = self._raw.write(data[written:])
            except (OSError, ValueError) as failure:  # ValueError: a function closed the stream.
                return written, failure
            if count is None:  # The stream does not block, and is full.
                time.sleep(BUSY_SECONDS)
            written += count or 0
        return written, None

    def _say_once(self, failure: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            reason = failure.strerror if isinstance(failure, OSError) else str(failure)
            sys.stderr.write(f"chalice: {self._name} cannot be written: {reason}\n")


def take_over() -> None:
    """Let this process's standard output and error be outlets, and Chalice's log handlers write to them."""
    sys.stdout = _outlet_for("standard output", sys.stdout)
    sys.stderr = _outlet_for("standard error", sys.stderr)
    atexit.register(drain)
    before_exit.append(drain)


def _outlet_for(name: str, stream: TextIO | None) -> Any:
    if stream is None:  # The process was started without it, and http.server writes to it regardless.
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
    """Wait until what was queued is written, for at most DRAIN_SECONDS."""
    deadline = time.monotonic() + DRAIN_SECONDS
    for outlet in _outlets:
        outlet.drain(max(0.0, deadline - time.monotonic()))
