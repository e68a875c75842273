"""Concurrent calls run concurrently and all of them finish."""

import threading
from functools import partial

import pytest

from chalicelib.aws.management_api import POSTS_AT_ONCE
from chalicelib.bootstrap import side_by_side_in_threads


def test_calls_run_at_the_same_time() -> None:
    """As many as a batch has records, so that unresponsive recipients do not delay each other."""
    all_of_them = threading.Barrier(POSTS_AT_ONCE, timeout=10)

    def meet() -> None:
        all_of_them.wait()

    side_by_side_in_threads("test")([meet] * POSTS_AT_ONCE)


def test_an_empty_list_of_calls_returns_at_once() -> None:
    side_by_side_in_threads("test")([])


def test_calls_do_not_wait_for_the_calls_of_other_threads() -> None:
    """Calls that do not end occupy all threads."""
    side_by_side, end = side_by_side_in_threads("test"), threading.Event()
    others = threading.Thread(target=side_by_side, args=([lambda: end.wait(10)] * (3 * POSTS_AT_ONCE),))
    others.start()
    done: list[int] = []

    side_by_side([partial(done.append, number) for number in range(3)])

    assert sorted(done) == [0, 1, 2]
    assert not end.is_set()
    end.set()
    others.join()


def test_an_exception_is_raised_after_all_calls_have_ended() -> None:
    ended = threading.Event()
    raised = threading.Event()

    def fail() -> None:
        raised.set()
        raise RuntimeError("told to")

    def go_on() -> None:
        raised.wait(10)
        ended.set()

    with pytest.raises(RuntimeError, match="told to"):
        side_by_side_in_threads("test")([fail, go_on])

    assert ended.is_set()
