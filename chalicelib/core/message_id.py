"""Message ids: UUIDv7s, which sort by the time they were made."""

import secrets
import threading
import time
from collections.abc import Callable
from uuid import UUID


def moved_back(cursor: str, milliseconds: int) -> str:
    """Return a cursor that is `milliseconds` earlier. `0` stays `0`."""
    if cursor == "0":
        return cursor
    return cursor_at(timestamp_of(cursor) - milliseconds)


def cursor_at(milliseconds: int) -> str:
    """Return a cursor that is smaller than every id made at this time, in ms since the epoch, or later."""
    return str(UUID(int=max(0, milliseconds) << 80))


def timestamp_of(message_id: str) -> int:
    """Return the time at which the id was made, in milliseconds since the epoch."""
    return UUID(message_id).int >> 80


class MessageIds:
    """Generates UUIDv7s (RFC 9562) that increase within a process, even if its clock stops or steps back.

    The twelve bits after the milliseconds hold the fraction of a millisecond. So ids that different Lambdas
    make within one millisecond still sort by time.
    """

    def __init__(self, time_ns: Callable[[], int] = time.time_ns) -> None:
        self._time_ns = time_ns
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            self._last = max(self._last + 1, self._time_ns() * 4096 // 1_000_000)
            milliseconds, fraction = divmod(self._last, 4096)
        version_and_fraction = 0x7000 | fraction
        variant_and_random = 0b10 << 62 | secrets.randbits(62)
        return str(UUID(int=milliseconds << 80 | version_and_fraction << 64 | variant_and_random))
