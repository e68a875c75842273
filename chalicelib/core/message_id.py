"""Message ids: positions in time that sort as strings."""

import secrets
import threading
import time
from collections.abc import Callable
from uuid import UUID


def moved_back(position: str, milliseconds: int) -> str:
    """The position so much earlier: every id made since then is greater. `position` may be 0."""
    if position == "0":
        return position
    return position_at(timestamp_of(position) - milliseconds)


def position_at(milliseconds: int) -> str:
    """Every id that is made from then on is greater."""
    return str(UUID(int=max(0, milliseconds) << 80))


def timestamp_of(message_id: str) -> int:
    """When the id was made, in milliseconds since the epoch."""
    return UUID(message_id).int >> 80


class MessageIds:
    """Makes UUIDv7s (RFC 9562) that rise within a process, even when its clock stands still or steps back.

    The twelve bits after the millisecond hold its fraction, so that ids made by different Lambdas
    within one millisecond still sort by time.
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
