"""How many frames a player may send, as a rule about times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.rate_limit import MICROSECONDS, Allowance, OverRate, RateLimit

limits = st.builds(RateLimit, st.integers(1, 1000), st.integers(1, 50))


def let_in(limit: RateLimit, times: list[int]) -> list[int]:
    """Those of the times at which a frame is let in."""
    used: Allowance | None = None
    taken = []
    for now in times:
        try:
            used = limit.take(used, now)
        except OverRate:
            continue
        taken.append(now)
    return taken


@given(limits, st.lists(st.integers(0, 2_000_000), max_size=200))
def test_never_more_than_the_burst_and_the_rate_are_let_in(limit: RateLimit, gaps: list[int]) -> None:
    times = [10**15 + sum(gaps[: n + 1]) for n in range(len(gaps))]
    taken = let_in(limit, times)

    for first in range(len(taken)):
        for last in range(first, len(taken)):
            most = limit.burst + (taken[last] - taken[first] + limit.tolerance) / limit.interval
            assert last - first + 1 <= most


@given(limits, st.lists(st.integers(0, 3), max_size=200))
def test_whoever_keeps_the_limit_is_never_refused(limit: RateLimit, bursts: list[int]) -> None:
    """Frames together, no more than the burst, and before each of them so long as it takes to rest."""
    times, now = [], 10**15
    for burst in bursts:
        size = min(burst, limit.burst)
        now += size * limit.interval
        times += [now] * size

    assert let_in(limit, times) == times


@given(limits, st.lists(st.tuples(st.integers(0, 500), st.integers(-5, 5)), max_size=200))
def test_clocks_that_differ_by_less_than_the_tolerance_refuse_nobody_who_keeps_the_rate(
    limit: RateLimit, frames: list[tuple[int, int]]
) -> None:
    now, times = 10**15, []
    for extra, tenths in frames:
        now += limit.interval + extra
        times.append(now + limit.tolerance // 2 * tenths // 5)

    assert let_in(limit, times) == times


@given(limits, st.integers(1, 10**12))
def test_a_clock_that_steps_back_refuses_nobody(limit: RateLimit, back: int) -> None:
    before = [10**15] * limit.burst
    after = [10**15 - limit.tolerance - back] * limit.burst

    assert let_in(limit, before + after) == before + after


@given(limits, st.lists(st.integers(0, 100_000), max_size=100))
def test_a_refused_frame_is_let_in_when_it_was_said_and_not_a_millisecond_before(
    limit: RateLimit, gaps: list[int]
) -> None:
    used, now = None, 10**15
    for gap in gaps:
        now += gap
        try:
            used = limit.take(used, now)
        except OverRate as over:
            limit.take(used, now + 1000 * over.retry_after_ms)
            with pytest.raises(OverRate):
                limit.take(used, now + 1000 * (over.retry_after_ms - 1))


def test_a_burst_at_once_is_exactly_the_burst() -> None:
    assert len(let_in(RateLimit(20, 60), [10**15] * 1000)) == 60


def test_on_average_exactly_the_rate_is_let_in() -> None:
    flood = range(10**15, 10**15 + 10 * MICROSECONDS, 1000)

    assert len(let_in(RateLimit(20, 60), list(flood))) == 60 + 10 * 20
