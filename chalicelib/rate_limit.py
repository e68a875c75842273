"""How many frames a player may send: GCRA, the "generic cell rate algorithm", as a pure function.

What is kept of a player is when the next frame would be due if frames came at exactly the rate, and
when the last one was counted. A frame may come ahead of its due time by the burst; an idle player's due
time lies in the past and means a whole burst.
"""

from dataclasses import dataclass

MICROSECONDS = 1_000_000


class OverRate(Exception):
    """So many milliseconds from now the same frame would be taken."""

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__(retry_after_ms)
        self.retry_after_ms = retry_after_ms


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a player has used. Both are in microseconds since the epoch, by whoever counted last."""

    due: int
    counted_at: int


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`burst` frames at once, and `per_second` on average."""

    per_second: int
    burst: int

    @property
    def interval(self) -> int:
        return MICROSECONDS // self.per_second

    @property
    def tolerance(self) -> int:
        """How far two clocks may differ before it can be noticed: it never makes room for a frame more."""
        return self.interval // 2

    def latest(self, now: int) -> int:
        """A frame that is due later than this has come too early."""
        return now + (self.burst - 1) * self.interval + self.tolerance

    def starts_anew(self, used: Allowance | None, now: int) -> bool:
        """Whether nothing is left to count: the player was idle, or was counted by a clock that ran ahead.

        How much time has passed since then cannot be known, and is not held against the player.
        """
        return used is None or used.due <= now or used.counted_at > now + self.tolerance

    def take(self, used: Allowance | None, now: int) -> Allowance:
        """Count one frame; raises OverRate and counts nothing."""
        if used is None or self.starts_anew(used, now):
            return Allowance(now + self.interval, now)
        if used.due > self.latest(now):
            raise OverRate(-((self.latest(now) - used.due) // 1000))
        return Allowance(used.due + self.interval, now)
