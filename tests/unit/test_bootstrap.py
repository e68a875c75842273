"""Concurrent calls run concurrently and all of them finish."""

import threading
from functools import partial

import pytest

from chalicelib.aws.management_api import MAX_CONCURRENT_POSTS
from chalicelib.bootstrap import concurrent_runner


def test_calls_run_at_the_same_time() -> None:
    """As many as a batch has records, so that unresponsive recipients do not delay each other."""
    all_of_them = threading.Barrier(MAX_CONCURRENT_POSTS, timeout=10)

    def meet() -> None:
        all_of_them.wait()

    concurrent_runner("test", MAX_CONCURRENT_POSTS)([meet] * MAX_CONCURRENT_POSTS)


def test_an_empty_list_of_calls_returns_at_once() -> None:
    concurrent_runner("test", MAX_CONCURRENT_POSTS)([])


def test_calls_do_not_wait_for_the_calls_of_other_threads() -> None:
    """Calls that do not end occupy all threads."""
    run_concurrently, end = concurrent_runner("test", MAX_CONCURRENT_POSTS), threading.Event()
    others = threading.Thread(
        target=run_concurrently, args=([lambda: end.wait(10)] * (3 * MAX_CONCURRENT_POSTS),)
    )
    others.start()
    done: list[int] = []

    run_concurrently([partial(done.append, number) for number in range(3)])

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
        concurrent_runner("test", MAX_CONCURRENT_POSTS)([fail, go_on])

    assert ended.is_set()
