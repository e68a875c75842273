"""How many frames a player may send: GCRA, the "generic cell rate algorithm", as a pure function.

What is kept of a player is when the next frame would be due if frames came at exactly the rate, and
when the last one was counted. A frame may come ahead of its due time by the burst; an idle player's due
time lies in the past and means a whole burst.
"""

from dataclasses import dataclass

MICROSECONDS = 1_000_000
CLOCKS_DIFFER = 10_000
"""By so many microseconds at least Lambdas' clocks may differ."""


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
        """How far clocks may differ before it is noticed. At usual rates it makes room for no frame more."""
        return max(self.interval // 2, CLOCKS_DIFFER)

    @property
    def second(self) -> int:
        """How many frames something counts for that may be asked for once a second."""
        return min(self.per_second, self.burst)

    def latest(self, now: int, frames: int = 1) -> int:
        """Frames that are due later than this have come too early."""
        return now + (self.burst - frames) * self.interval + self.tolerance

    def starts_anew(self, used: Allowance | None, now: int) -> bool:
        """Whether nothing is left to count: the player was idle, or was counted by a clock that ran ahead.

        How much time has passed since then cannot be known, and is not held against the player.
        """
        return used is None or used.due <= now or used.counted_at > now + self.tolerance

    def take(self, used: Allowance | None, now: int, frames: int = 1) -> Allowance:
        """Count one frame, or one that counts for several; raises OverRate and counts nothing."""
        if used is None or self.starts_anew(used, now):
            return Allowance(now + frames * self.interval, now)
        latest = self.latest(now, frames)
        if used.due > latest:
            raise OverRate(-((latest - used.due) // 1000))
        return Allowance(used.due + frames * self.interval, now)
