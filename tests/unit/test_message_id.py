"""Message ids sort by time as strings, even when the clock steps back."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from chalicelib.core.message_id import MessageIds

MILLISECOND = 1_000_000


def test_ids_increase_when_the_clock_stands_still_or_steps_back() -> None:
    times = iter([5 * MILLISECOND, 5 * MILLISECOND, 3 * MILLISECOND, 6 * MILLISECOND])
    new_id = MessageIds(lambda: next(times))

    made = [new_id() for _ in range(4)]

    assert made == sorted(set(made))


def test_ids_that_two_lambdas_make_in_one_millisecond_sort_by_time() -> None:
    earlier = MessageIds(lambda: 5 * MILLISECOND + 1_000)
    later = MessageIds(lambda: 5 * MILLISECOND + 2_000)

    assert earlier() < later()


def test_an_id_is_a_uuid_of_version_7_that_holds_the_milliseconds() -> None:
    made = UUID(MessageIds(lambda: 1_790_000_000_123 * MILLISECOND)())

    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == 1_790_000_000_123


def test_threads_never_get_the_same_id() -> None:
    new_id = MessageIds(lambda: MILLISECOND)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_id(), range(2_000)))

    assert len({one[:18] for one in made}) == 2_000


def test_zero_comes_before_every_id() -> None:
    assert MessageIds(lambda: 0)() > "0"
