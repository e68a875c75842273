"""The rate limit of a player: fixed windows of time, and a process's cache of the current one.

All players share the same windows. In each window a player can use `burst` units across all connections and
Lambdas. A frame costs one unit per 4 KB or part of it. docs/architecture.md gives the reasons.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

BYTES_PER_UNIT = 4096

ROOM_FACTOR = 4
"""How many times as much a frame to a room costs: it rewrites the room's item, or is copied to members."""

COST_OF_PRESENCE = 5
"""The cost of telling one room of a player's presence, which posts to its members."""

MEMBERS_PER_UNIT = 10
"""A signal to a room costs one unit more for so many members."""

ROOM_BURST_SECONDS = 3
"""A room's burst, in seconds of its rate."""

WINDOW_PERCENT = 80
"""A window's length in percent of the time in which `per_second` units add up to `burst`."""


class RateLimited(Exception):
    """Raised when a cost exceeds the rest of the window, which ends in `retry_after_ms` milliseconds.

    `in_a_row`: the sender's consecutive refusals by this process in this window.
    """

    def __init__(self, retry_after_ms: int, in_a_row: int) -> None:
        super().__init__(retry_after_ms, in_a_row)
        self.retry_after_ms = retry_after_ms
        self.in_a_row = in_a_row


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A limit of `burst` units per window. A sender below `per_second` units per second is never refused."""

    per_second: int
    burst: int

    @property
    def window_ms(self) -> int:
        return max(1, 1000 * self.burst * WINDOW_PERCENT // (100 * self.per_second))

    def window_at(self, now_ms: int) -> int:
        """Return the start of the window that contains this time, both in milliseconds since the epoch."""
        return now_ms - now_ms % self.window_ms

    def cost_of_frame(self, size_bytes: int) -> int:
        """Return a frame's cost in units. It is at most `burst`, so that every frame can be accepted."""
        return min(max(1, -(-size_bytes // BYTES_PER_UNIT)), self.burst)

    def cost_of_room_frame(self, size_bytes: int) -> int:
        return min(ROOM_FACTOR * self.cost_of_frame(size_bytes), self.burst)

    @property
    def cost_of_presence(self) -> int:
        return min(COST_OF_PRESENCE, self.burst)

    def cost_of_connect(self, replays: bool, presence_rooms: int) -> int:
        """Return the cost of a connect. It can replay messages, and tell rooms of the player's presence."""
        cost = self.cost_of_second if replays else 1
        return min(cost + COST_OF_PRESENCE * presence_rooms, self.burst)

    def cost_of_room_signal(self, size_bytes: int, members: int) -> int:
        return min(self.cost_of_frame(size_bytes) + members // MEMBERS_PER_UNIT, self.burst)

    @property
    def cost_of_second(self) -> int:
        """The cost of a frame that reads much, such as a `sync`: one second of the rate."""
        return min(self.per_second, self.burst)

    @property
    def cost_of_replay(self) -> int:
        """The cost of a replay in units, in addition to the unit of the connect that requests it."""
        return self.cost_of_second - 1


class CurrentWindow:
    """Caches the players' usage of the current window. `clock` returns milliseconds since the epoch.

    Usage only grows within a window. So once a player has used it up, this process refuses the player until
    the window ends without calling DynamoDB.
    """

    def __init__(self, rate: RateLimit, clock: Callable[[], int]) -> None:
        self._rate = rate
        self._clock = clock
        self._start = 0
        self._used: dict[str, int] = {}
        self._refusals: Counter[str] = Counter()

    def enter(self, player_id: str, sender: str, cost: int) -> int:
        """Return the current window's start. Raises RateLimited if the cached usage leaves too little.

        Consecutive refusals are counted per `sender`.
        """
        start = self._rate.window_at(self._clock())
        if start != self._start:
            self._start, self._used, self._refusals = start, {}, Counter()
        self._check(start, self._used.get(player_id, 0), sender, cost)
        return start

    def record_accepted(self, start: int, player_id: str, used: int, sender: str) -> None:
        """Cache the player's usage after the table has counted a cost, and reset the sender's refusals."""
        self._see(start, player_id, used)
        self._refusals.pop(sender, None)

    def record_refused(self, start: int, player_id: str, used: int, sender: str, cost: int) -> None:
        """Cache the usage after the table has refused a cost. Raises RateLimited if that was too high."""
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
