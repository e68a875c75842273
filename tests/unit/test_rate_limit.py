"""The rule of the rate limit, with times in milliseconds."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.rate_limit import CurrentWindow, RateLimit, RateLimited

limits = st.builds(RateLimit, st.integers(1, 1000), st.integers(1, 100))
NOW = 1_790_000_000_000


def test_a_frame_costs_one_unit_per_4_kb_rounded_up() -> None:
    limit = RateLimit(20, 60)

    costs = [limit.cost_of_frame(size) for size in (0, 1, 4096, 4097, 8192, 131_072)]

    assert costs == [1, 1, 1, 2, 2, 32]


@given(limits, st.integers(0, 131_072))
def test_no_frame_costs_more_than_a_burst(limit: RateLimit, size: int) -> None:
    assert 1 <= limit.cost_of_frame(size) <= limit.burst


@given(limits)
def test_a_replay_and_its_request_cost_one_second_of_the_rate(limit: RateLimit) -> None:
    assert 1 + limit.cost_of_replay == min(limit.per_second, limit.burst)


def test_windows_are_adjacent() -> None:
    limit = RateLimit(20, 60)

    starts = {limit.window_at(now) for now in range(NOW, NOW + 24_000, 100)}

    assert limit.window_ms == 2400
    assert sorted(starts) == list(range(min(starts), max(starts) + 1, 2400))


@given(limits, st.lists(st.integers(-100, 100), min_size=1, max_size=300), st.integers(0, 1_000_000))
def test_a_sender_within_the_rate_is_never_refused_despite_jitter_and_clock_skew(
    limit: RateLimit, errors_percent: list[int], begin: int
) -> None:
    """Each frame is early or late, by the network or a Lambda's clock, by up to a tenth of burst ÷ rate.

    Half a frame less than that, because the ends of a window can fall on two frames.
    """
    slack_us = max(0, 100_000 * limit.burst - 500_000) // limit.per_second
    used: Counter[int] = Counter()

    for number, percent in enumerate(errors_percent):
        sent_us = number * 1_000_000 // limit.per_second + slack_us * percent // 100
        used[limit.window_at(NOW + begin + sent_us // 1000)] += 1

    assert max(used.values()) <= limit.burst


def test_a_known_refusal_lasts_until_the_window_ends() -> None:
    now = 2400
    window = CurrentWindow(RateLimit(20, 60), lambda: now)
    start = window.enter("1", "c", 1)
    window.record_accepted(start, "1", 60, "c")

    with pytest.raises(RateLimited) as caught:
        window.enter("1", "c", 1)
    now += caught.value.retry_after_ms

    assert window.enter("1", "c", 60) == start + 2400


def test_a_cost_that_still_fits_is_not_refused() -> None:
    window = CurrentWindow(RateLimit(20, 60), lambda: 0)
    window.record_accepted(0, "1", 50, "c")

    with pytest.raises(RateLimited):
        window.enter("1", "c", 11)

    assert window.enter("1", "c", 10) == 0
    assert window.enter("2", "d", 60) == 0


def test_a_late_answer_does_not_affect_the_next_window() -> None:
    now = 0
    window = CurrentWindow(RateLimit(20, 60), lambda: now)
    late = window.enter("1", "c", 1)
    now = 2400
    window.enter("1", "c", 1)

    window.record_accepted(late, "1", 60, "c")

    assert window.enter("1", "c", 60) == 2400


def test_an_older_answer_does_not_lower_the_count() -> None:
    window = CurrentWindow(RateLimit(20, 60), lambda: 0)
    window.record_accepted(0, "1", 60, "c")
    window.record_accepted(0, "1", 59, "c")

    with pytest.raises(RateLimited):
        window.enter("1", "c", 1)


def test_consecutive_refusals_are_counted_per_sender_until_an_admission_or_the_next_window() -> None:
    now = 0
    window = CurrentWindow(RateLimit(20, 60), lambda: now)

    def refused(sender: str) -> int:
        with pytest.raises(RateLimited) as caught:
            window.record_refused(window.enter("1", sender, 0), "1", 60, sender, 1)
        return caught.value.in_a_row

    assert [refused("c"), refused("c"), refused("other"), refused("c")] == [1, 2, 1, 3]
    window.record_accepted(0, "1", 60, "c")
    assert refused("c") == 1
    now = 2400
    assert refused("other") == 1
