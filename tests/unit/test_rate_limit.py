"""How much a player can send, as a rule about times in milliseconds."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.rate_limit import CurrentWindow, RateLimit, RateLimited

limits = st.builds(RateLimit, st.integers(1, 1000), st.integers(1, 100))
NOW = 1_790_000_000_000


def test_a_frame_costs_one_for_each_4_kb_begun() -> None:
    limit = RateLimit(20, 60)

    costs = [limit.cost_of_frame(size) for size in (0, 1, 4096, 4097, 8192, 131_072)]

    assert costs == [1, 1, 1, 2, 2, 32]


@given(limits, st.integers(0, 131_072))
def test_no_frame_costs_more_than_a_burst_so_every_frame_can_pass(limit: RateLimit, size: int) -> None:
    assert 1 <= limit.cost_of_frame(size) <= limit.burst


@given(limits)
def test_a_replay_and_the_frame_that_asks_for_it_cost_a_second(limit: RateLimit) -> None:
    assert 1 + limit.cost_of_replay == min(limit.per_second, limit.burst)


def test_windows_follow_one_another_without_a_gap() -> None:
    limit = RateLimit(20, 60)

    starts = {limit.window_at(now) for now in range(NOW, NOW + 24_000, 100)}

    assert limit.window_ms == 2400
    assert sorted(starts) == list(range(min(starts), max(starts) + 1, 2400))


@given(limits, st.lists(st.integers(-100, 100), min_size=1, max_size=300), st.integers(0, 1_000_000))
def test_a_sender_who_keeps_the_rate_is_never_refused_though_jitter_and_clocks_differ(
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


def test_what_this_process_has_seen_is_refused_until_the_window_ends_and_not_after() -> None:
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


def test_an_answer_that_comes_after_its_window_says_nothing_of_the_next() -> None:
    now = 0
    window = CurrentWindow(RateLimit(20, 60), lambda: now)
    late = window.enter("1", "c", 1)
    now = 2400
    window.enter("1", "c", 1)

    window.record_accepted(late, "1", 60, "c")

    assert window.enter("1", "c", 60) == 2400


def test_an_answer_that_was_overtaken_takes_nothing_back() -> None:
    window = CurrentWindow(RateLimit(20, 60), lambda: 0)
    window.record_accepted(0, "1", 60, "c")
    window.record_accepted(0, "1", 59, "c")

    with pytest.raises(RateLimited):
        window.enter("1", "c", 1)


def test_refusals_in_a_row_are_counted_by_sender_and_end_with_an_admission_or_the_window() -> None:
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
