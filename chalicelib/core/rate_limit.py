"""How much a player can send: a pure rule about windows of time, and what a process knows of one.

Windows are the same for all players. In each window a player can use `burst` units, over all connections and
Lambdas. A frame costs one unit for each 4 KB that it begins. docs/architecture.md gives the reasons.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

BYTES_PER_UNIT = 4096

WINDOW_PERCENT = 80
"""How long a window is, of the time in which a sender at the rate uses up a burst. The rest is slack."""


class RateLimited(Exception):
    """The player has too little left in this window, which ends in `retry_after_ms` milliseconds.

    `in_a_row`: how often this process has refused the sender in this window, since it last admitted it.
    """

    def __init__(self, retry_after_ms: int, in_a_row: int) -> None:
        super().__init__(retry_after_ms, in_a_row)
        self.retry_after_ms = retry_after_ms
        self.in_a_row = in_a_row


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`burst` units in each window. A sender who keeps to `per_second` units is never refused."""

    per_second: int
    burst: int

    @property
    def window_ms(self) -> int:
        return max(1, 1000 * self.burst * WINDOW_PERCENT // (100 * self.per_second))

    def window_at(self, now_ms: int) -> int:
        """Return when the window began, in milliseconds since the epoch."""
        return now_ms - now_ms % self.window_ms

    def cost_of_frame(self, size_bytes: int) -> int:
        """Return the units for a frame: never more than a whole burst, so that every frame can pass."""
        return min(max(1, -(-size_bytes // BYTES_PER_UNIT)), self.burst)

    @property
    def cost_of_replay(self) -> int:
        """The units for a replay, beside the one for the frame or connect that asks for it.

        Together they are a second's rate.
        """
        return min(self.per_second, self.burst) - 1


class CurrentWindow:
    """What this process knows of the window that its clock is in. `clock` gives milliseconds since the epoch.

    Within a window, what a player has used only grows. So once this process has seen too little left, it
    refuses the player until the window ends, and doesn't have to ask the table.
    """

    def __init__(self, rate: RateLimit, clock: Callable[[], int]) -> None:
        self._rate = rate
        self._clock = clock
        self._start = 0
        self._used: dict[str, int] = {}
        self._refusals: Counter[str] = Counter()

    def enter(self, player_id: str, sender: str, cost: int) -> int:
        """Return the current window's start. Raises RateLimited if too little is known to be left.

        `sender` is what refusals in a row are counted by.
        """
        start = self._rate.window_at(self._clock())
        if start != self._start:
            self._start, self._used, self._refusals = start, {}, Counter()
        self._check(start, self._used.get(player_id, 0), sender, cost)
        return start

    def counted(self, start: int, player_id: str, used: int, sender: str) -> None:
        """Take in that the table has counted a cost, and what the player has used with it."""
        self._see(start, player_id, used)
        self._refusals.pop(sender, None)

    def not_counted(self, start: int, player_id: str, used: int, sender: str, cost: int) -> None:
        """Take in that the table has not counted a cost. Raises RateLimited if the rate was the reason."""
        self._see(start, player_id, used)
        self._check(start, used, sender, cost)

    def _see(self, start: int, player_id: str, used: int) -> None:
        if start == self._start:
            self._used[player_id] = max(used, self._used.get(player_id, 0))

    def _check(self, start: int, used: int, sender: str, cost: int) -> None:
        if used + cost > self._rate.burst:
            self._refusals[sender] += 1
            end = start + self._rate.window_ms
            raise RateLimited(max(1, end - self._clock()), self._refusals[sender])
