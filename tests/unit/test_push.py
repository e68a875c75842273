"""How push handles messages and markers of the stream."""

from dataclasses import replace
from typing import Any

import pytest

from chalicelib.core.delivery import PAUSES, RESERVE_SECONDS
from chalicelib.core.model import (
    Delivery,
    Endpoint,
    Entry,
    Message,
    PlayerConnections,
    ReplayMarker,
    Unavailable,
)
from chalicelib.core.ports import POST_SECONDS
from chalicelib.core.rate_limit import RateLimit
from chalicelib.core.replay import OVERLAP_MS, PAGE_BYTES, PAGE_MESSAGES, PAGE_SECONDS, TRIES
from tests.support.stream_records import STREAM, position
from tests.support.world import HERE, World, at

OVERLAP = OVERLAP_MS // 1000


def message(name: str, number: int = 1, to: str = "2", second: float = 1000, stream: str = STREAM) -> Message:
    return Message(at(second), to, "1", name, 1000, stream_position=position(number, stream))


def marker(connection_id: str, number: int = 5, to: str = "2", **asked: Any) -> ReplayMarker:
    return ReplayMarker(at(2000), to, connection_id, stream_position=position(number), **asked)


@pytest.fixture
def world() -> World:
    """Return a world at second 2000, when the markers of these tests are made."""
    return World(now=2_000_000)


def test_a_message_is_posted_to_every_live_connection_of_its_recipient(world: World) -> None:
    world.live("2", "phone", "laptop")
    world.live("3", "other")

    world.batch(message("m1"))

    assert (world.received("phone"), world.received("laptop")) == (["m1"], ["m1"])
    assert world.received("other") == []


def test_a_message_frame_has_sender_text_recipient_and_time(world: World) -> None:
    world.live("2", "c")
    sent = message("hi")

    world.batch(sent)

    assert world.frames("c") == [
        {
            "type": "message",
            "message": "hi",
            "messageId": sent.id,
            "srcPlayerId": "1",
            "destinationPlayerId": "2",
            "sentAt": 1000,
        }
    ]


def test_a_connection_goes_live_at_its_marker_and_receives_what_was_stored_after_it(world: World) -> None:
    world.live("2", "old")
    world.register("2", "new")

    world.batch(message("m1", 1), marker("new", 2), message("m3", 3))

    assert world.received("old") == ["m1", "m3"]
    assert world.received("new") == ["connected", "m3"]
    assert world.connections.player("2").live == {"old": position(0), "new": position(2)}


def test_a_live_connection_receives_messages_after_the_table_was_recreated(world: World) -> None:
    """The sequence numbers of the new stream are smaller than the one at which the connection went live."""
    world.register("2", "c")
    world.connections.make_live("2", "c", position(4421584500000000017450439091, "2026-01-01T00:00:00.000"))

    world.batch(message("m1", 100000000003498069978, stream="2026-02-01T00:00:00.000"))

    assert world.received("c") == ["m1"]
    assert world.connections.player("2").missed_from is None


def test_a_connection_made_live_by_an_earlier_version_receives_every_message(world: World) -> None:
    world.register("2", "c")
    world.connections.make_live("2", "c", position(10**39, stream=""))

    world.batch(message("m1", 1))

    assert world.received("c") == ["m1"]


def test_the_greeting_has_connection_id_player_id_and_cursor(world: World) -> None:
    world.register("2", "c")
    asked = marker("c")

    world.batch(asked)

    assert world.frames("c") == [
        {
            "type": "system",
            "event": "connected",
            "connectionId": "c",
            "playerId": "2",
            "messageId": asked.id,
            "replayed": 0,
        }
    ]


def test_a_marker_of_a_connection_that_has_left_does_nothing(world: World) -> None:
    world.live("2", "c")

    world.batch(marker("left", 1, after="0"), message("m2", 2))

    assert world.received("left") == []
    assert world.connections.player("2").live == {"c": position(0)}


def test_a_post_goes_to_the_endpoint_of_its_connection(world: World) -> None:
    world.live("2", "c")
    elsewhere = Endpoint("other-api", "prod")
    world.register("3", "d", elsewhere)

    world.batch(message("m1"), marker("d", to="3"))

    assert world.gateway.endpoints == {HERE, elsewhere}


def test_every_pushed_message_writes_one_line(world: World) -> None:
    world.live("2", "c")
    first, second = message("m1"), message("m2", 2)

    world.batch(first, second)

    assert [(outcome, about["message"]) for outcome, about in world.notes.outcomes] == [
        ("delivered", first.id),
        ("delivered", second.id),
    ]
    assert {about["push_latency_ms"] for _, about in world.notes.outcomes} == {2_000_000 - first.sent_at}


def test_a_missed_message_writes_one_line(world: World) -> None:
    first, second = message("m1"), message("m2", 2)

    world.batch(first, second)

    assert [(outcome, about["message"]) for outcome, about in world.notes.outcomes] == [
        ("missed", first.id),
        ("missed", second.id),
    ]


def test_closing_a_connection_writes_one_line_with_the_reason(world: World) -> None:
    world.live("2", "gone", "slow")
    world.gateway.answers = {"gone": [Delivery.GONE], "slow": [Delivery.REFUSED]}
    sent = message("m1")

    world.batch(sent)

    about = {"player": "2", "message": sent.id}
    assert world.notes.outcomes[:2] == [
        ("gone", {"connection": "gone", "because": "gone", **about}),
        ("closed", {"connection": "slow", "because": "refused", **about}),
    ]


# Missed messages


def test_only_the_first_missed_message_is_stored(world: World) -> None:
    first = message("m1", 1)

    world.batch(first, message("m2", 2, second=1001))
    world.batch(message("m3", 3, second=1002))

    assert world.connections.player("2").missed_from == first.id


def test_a_message_that_reached_one_of_two_connections_is_not_missed(world: World) -> None:
    world.live("2", "gone", "here")
    world.gateway.answers["gone"] = [Delivery.GONE]

    world.batch(message("m1"))

    assert world.connections.player("2").missed_from is None


def test_a_player_who_reconnects_without_a_cursor_gets_missed_messages_then_the_greeting(
    world: World,
) -> None:
    seen, missed = message("seen", 1, second=900), [message("m1", 2), message("m2", 3, second=1001)]
    world.store(seen, *missed)
    world.batch(*missed)
    world.register("2", "c")

    world.batch(marker("c", 4), message("m3", 5, second=2001))

    assert world.received("c") == ["m1", "m2", "connected", "m3"]
    assert [frame.get("replayed") for frame in world.frames("c")] == [True, True, 2, None]
    assert world.connections.player("2").missed_from is None


def test_a_missed_message_and_the_next_marker_can_be_in_one_batch(world: World) -> None:
    world.register("2", "c")
    missed = message("m1", 1)
    world.store(missed)

    world.batch(missed, marker("c", 2))

    assert world.received("c") == ["m1", "connected"]
    assert world.connections.player("2").missed_from is None


def test_a_batch_is_redelivered_when_a_missed_message_cannot_be_stored(world: World) -> None:
    world.connections.failing = {"note_missed"}

    with pytest.raises(Unavailable):
        world.batch(message("m1"))


# Replay


def test_a_replay_starts_a_little_before_the_cursor(world: World) -> None:
    world.register("2", "c")
    world.store(
        message("long ago", second=1000 - OVERLAP - 1),
        message("late", second=1000 - OVERLAP + 1),
        message("seen", second=1000),
        message("new", second=1001),
    )

    world.batch(marker("c", after=at(1000)))

    assert world.received("c") == ["late", "seen", "new", "connected"]


def test_after_0_replays_everything(world: World) -> None:
    world.register("2", "c")
    world.store(message("m1", second=10), message("m2", second=500_000))

    world.batch(marker("c", after="0"))

    assert world.received("c") == ["m1", "m2", "connected"]


def test_a_replay_starts_at_the_first_missed_message_if_it_is_before_the_cursor(world: World) -> None:
    missed = message("missed", second=500)
    world.store(missed, message("m2", second=1000))
    world.batch(missed)
    world.register("2", "c")

    world.batch(marker("c", after=at(1000)))

    assert world.received("c") == ["missed", "m2", "connected"]
    assert world.connections.player("2").missed_from is None


def test_a_replay_that_starts_after_a_missed_message_leaves_it_missed(
    world: World,
) -> None:
    """A slow invocation can store a missed message while a replay is already running."""
    world.register("2", "c")
    world.store(message("m1", second=1000))
    world.connections.note_missed("2", at(500))

    world.batch(replace(marker("c", after=at(900)), first_cursor=at(900)))

    assert world.connections.player("2").missed_from is not None


def test_a_long_backlog_is_replayed_in_pages_with_a_marker_after_each(world: World) -> None:
    world.register("2", "c")
    world.register("3", "d")
    world.store(*(message(f"m{n}", second=1000 + 100 * n) for n in range(PAGE_MESSAGES + 2)))

    world.batch(marker("c", 5, after="0"), marker("d", 6, to="3"))
    (next_marker,) = world.put_markers()
    assert world.received("c") == [f"m{n}" for n in range(PAGE_MESSAGES)]
    assert (world.received("d"), world.connections.player("2").live) == (["connected"], {})

    world.batch(replace(next_marker, stream_position=position(7)))
    assert world.received("c")[PAGE_MESSAGES:] == ["m50", "m51", "connected"]
    assert world.frames("c")[-1]["replayed"] == PAGE_MESSAGES + 2
    replayed = [about["replayed"] for outcome, about in world.notes.outcomes if outcome == "replayed"]
    assert (replayed, world.notes.names()[-2:]) == ([PAGE_MESSAGES, 2], ["live", "replayed"])


def walk_of(world: World, count: int = PAGE_MESSAGES + 2) -> list[Message]:
    """Store this many messages, one per millisecond, and replay the first page to connection c."""
    world.register("2", "c")
    stored = [message(f"m{n}", second=1990 + n / 1000) for n in range(count)]
    world.store(*stored)
    world.batch(marker("c", 5, after="0"))
    return stored


def test_a_message_stored_behind_the_replay_is_sent_when_the_stream_brings_it(world: World) -> None:
    walk_of(world)
    late = message("late", 6, second=1990.0005)
    world.store(late)

    world.batch(late)
    world.work()

    assert world.received("c")[PAGE_MESSAGES:] == ["late", "m50", "m51", "connected"]
    assert world.frames("c")[PAGE_MESSAGES]["replayed"] is True


def test_a_message_stored_ahead_of_the_replay_is_sent_by_the_replay(world: World) -> None:
    walk_of(world)
    ahead = message("ahead", 6, second=1995)
    world.store(ahead)

    world.batch(ahead)
    world.work()

    assert world.received("c")[PAGE_MESSAGES:] == ["m50", "m51", "ahead", "connected"]


def test_a_late_message_that_cannot_be_posted_ends_the_connection(world: World) -> None:
    walk_of(world)
    world.gateway.answers["c"] = [Delivery.FAILED]

    world.batch(message("late", 6, second=1990.0005))

    assert world.gateway.closed == ["c"]
    assert world.connections.player("2").progress == {}


def test_a_message_stored_before_the_next_marker_with_an_id_made_after_it_is_replayed(world: World) -> None:
    walk_of(world)
    overtaken = message("overtaken", 6, second=1_000_001)
    world.store(overtaken)

    world.batch(overtaken)
    world.work()

    assert world.received("c")[-2:] == ["overtaken", "connected"]


def test_a_page_leaves_out_messages_that_the_stream_brings_after_its_marker(world: World) -> None:
    """A message stored between them can have a smaller id, and must be sent first."""
    walk_of(world)
    world.store(message("after the marker", 1002, second=1_000_001))

    world.work()

    assert world.received("c")[-2:] == ["m51", "connected"]


def test_a_marker_of_version_1_0_0_includes_late_messages(world: World) -> None:
    world.register("2", "c")
    world.store(message("long ago", second=1979), message("late", second=1981), message("next", second=1990))

    world.batch(replace(marker("c"), first_cursor="0", after=at(1988), asked_at=1995_000))

    assert world.received("c") == ["late", "next", "connected"]


def test_a_marker_that_a_redelivered_batch_has_replaced_is_ignored(world: World) -> None:
    walk_of(world)
    (next_marker,) = world.put_markers()

    world.batch(replace(next_marker, id=at(999_999), stream_position=position(6)))

    assert len(world.received("c")) == PAGE_MESSAGES
    world.work()
    assert world.received("c")[PAGE_MESSAGES:] == ["m50", "m51", "connected"]


def test_a_replay_sends_each_message_once(world: World) -> None:
    walk_of(world, 3 * PAGE_MESSAGES)

    world.work()

    assert world.received("c") == [*(f"m{n}" for n in range(3 * PAGE_MESSAGES)), "connected"]


def test_the_overlap_before_the_cursor_is_replayed_in_pages_too(world: World) -> None:
    world.register("2", "c")
    seventeen_a_second = [message(f"m{n}", second=1985 + n / 17) for n in range(17 * OVERLAP)]
    world.store(*seventeen_a_second)

    world.batch(marker("c", after=seventeen_a_second[-1].id))

    assert len(world.received("c")) == PAGE_MESSAGES
    world.work()
    assert world.received("c") == [*(m.text for m in seventeen_a_second), "connected"]


def test_a_page_ends_after_256_kb(world: World) -> None:
    world.register("2", "c")
    large = [message("x" * 100_000, second=1000 + n) for n in range(7)]
    world.store(*large)

    world.batch(marker("c", after="0"))

    assert len(world.received("c")) == PAGE_BYTES // 100_000
    world.work()
    assert world.received("c") == [*(m.text for m in large), "connected"]


def test_a_page_has_at_least_one_message(world: World) -> None:
    world.register("2", "c")
    world.store(message("x" * (PAGE_BYTES + 1)), message("y", second=1001))

    world.batch(marker("c", after="0"))
    world.work()

    assert [len(text) for text in world.received("c")] == [PAGE_BYTES + 1, 1, len("connected")]


@pytest.mark.parametrize(("waited", "allowed"), [(0.0, PAGE_SECONDS[0]), (0.3, 0.3), (60.0, PAGE_SECONDS[1])])
def test_a_page_takes_no_longer_than_its_marker_waited(world: World, waited: float, allowed: float) -> None:
    world.register("2", "c")
    world.store(*(message(f"m{n}", second=1000 + n) for n in range(PAGE_MESSAGES)))
    world.gateway.on_post = lambda: world.sleep(0.1)

    world.batch(replace(marker("c", after="0"), id=at(2000 - waited)))

    assert allowed < world.slept < allowed + 0.11
    world.work()
    assert world.received("c") == [*(f"m{n}" for n in range(PAGE_MESSAGES)), "connected"]


def test_a_page_that_does_not_fit_into_the_invocation_is_sent_later(world: World) -> None:
    world.register("2", "c")
    world.store(message("m1"))
    world.time_left = RESERVE_SECONDS - 0.1
    world.batch(marker("c", after="0"))
    assert world.received("c") == []

    world.time_left = 30
    world.work()

    assert world.received("c") == ["m1", "connected"]


def test_each_batch_replays_one_page_per_player(world: World) -> None:
    world.live("2", "a", "b")
    world.live("3", "c")
    world.store(message("m1", second=10))
    asked = [marker("a", 5, after="0", sync=True), marker("b", 6, after="0", sync=True)]

    world.batch(*asked, message("m2", 7, to="3"))

    (again,) = world.put_markers()
    assert world.received("a") == ["m1", "synced"]
    assert (world.received("b"), world.received("c")) == ([], ["m2"])
    assert (again.connection_id, again.after, again.sync) == ("b", "0", True)
    world.batch(replace(again, stream_position=position(8)))
    assert world.received("b") == ["m1", "synced"]


def test_an_interrupted_replay_keeps_its_progress(world: World) -> None:
    missed = [message(f"m{n}", second=1000 + 100 * n) for n in range(4)]
    world.store(*missed)
    world.batch(missed[0])
    world.register("2", "slow")
    world.gateway.answers["slow"] = [Delivery.DELIVERED, Delivery.DELIVERED, Delivery.FAILED]
    world.batch(marker("slow"))
    world.work()
    world.register("2", "again")

    world.batch(marker("again", 6, after="0"), marker("again", 7))

    assert world.gateway.closed == ["slow"]
    assert world.received("slow") == ["m0", "m1"]
    assert world.connections.player("2").missed_from is None


def test_messages_of_a_full_page_are_no_longer_missed(world: World) -> None:
    missed = [message(f"m{n}", second=1000 + 100 * n) for n in range(PAGE_MESSAGES + 2)]
    world.store(*missed)
    world.batch(missed[0])
    world.register("2", "c")

    world.batch(marker("c"))

    assert world.connections.player("2").missed_from == missed[PAGE_MESSAGES - 1].id


def test_messages_that_arrive_during_a_replay_reach_the_connection(world: World) -> None:
    world.register("2", "c")
    world.store(*(message(f"m{n}", second=1000 + 100 * n) for n in range(PAGE_MESSAGES + 1)))
    world.batch(marker("c", 5, after="0"))
    meanwhile = message("meanwhile", 6, second=50_000)
    world.store(meanwhile)
    world.batch(meanwhile)

    world.batch(replace(world.put_markers()[0], stream_position=position(7)))

    assert world.received("c")[-2:] == ["meanwhile", "connected"]
    assert world.connections.player("2").missed_from is None


def test_a_page_that_cannot_be_read_or_continued_ends_the_connection(world: World) -> None:
    world.register("2", "c")
    world.messages.failing = {"page"}

    world.batch(marker("c", after="0"))

    assert world.gateway.closed == ["c"]
    assert world.connections.player("2").connections == set()


# sync


def test_a_sync_replays_the_overlap_in_pages_and_answers_once(world: World) -> None:
    world.live("2", "c")
    stored = [message(f"m{n}", second=1000 + n / 10) for n in range(2 * PAGE_MESSAGES + 10)]
    world.store(*stored)

    world.batch(marker("c", after=stored[-1].id, sync=True, ack_id=7))
    world.work()

    assert world.received("c") == [*(m.text for m in stored), "synced"]
    synced = world.frames("c")[-1]
    assert (synced["replayed"], synced["more"], synced["ackId"]) == (len(stored), False, 7)


def test_a_sync_with_messages_left_sends_one_page_and_more_is_true(world: World) -> None:
    world.live("2", "c")
    world.store(*(message(f"m{n}", second=1000 + 100 * n) for n in range(PAGE_MESSAGES + 1)))

    world.batch(marker("c", after="0", sync=True))

    synced = world.frames("c")[-1]
    assert (synced["event"], synced["replayed"], synced["more"]) == ("synced", PAGE_MESSAGES, True)
    assert synced["messageId"] == world.frames("c")[-2]["messageId"]
    assert world.put_markers() == []


@pytest.mark.parametrize("ack_id", ["1", 1, 0])
def test_a_sync_echoes_its_ack_id_unchanged(world: World, ack_id: str | int) -> None:
    world.live("2", "c")

    world.batch(marker("c", after="0", sync=True, ack_id=ack_id))

    assert world.frames("c")[-1]["ackId"] == ack_id
    assert type(world.frames("c")[-1]["ackId"]) is type(ack_id)


def test_a_sync_with_nothing_left_returns_the_cursor_of_its_marker(world: World) -> None:
    world.live("2", "c")
    asked = marker("c", after=at(1000), sync=True)

    world.batch(asked)

    assert world.frames("c") == [
        {"type": "system", "event": "synced", "messageId": asked.id, "replayed": 0, "more": False}
    ]


# Failed posts


def test_a_live_connection_that_is_gone_is_removed_at_the_first_410(world: World) -> None:
    world.live("2", "gone", "here")
    world.gateway.answers["gone"] = [Delivery.GONE, Delivery.DELIVERED]

    world.batch(message("m1", 1), message("m2", 2))

    assert world.received("gone") == []
    assert world.received("here") == ["m1", "m2"]
    assert world.connections.player("2").connections == {"here"}
    assert (world.gateway.closed, world.slept) == ([], 0)


def test_a_failed_post_is_retried_with_pauses(world: World) -> None:
    world.live("2", "c")
    world.gateway.answers["c"] = [Delivery.FAILED, Delivery.FAILED, Delivery.DELIVERED]

    world.batch(message("m1"))

    assert world.received("c") == ["m1"]
    assert world.slept == sum(PAUSES[:2])


def test_a_connection_that_keeps_failing_is_removed_and_then_closed(
    world: World,
) -> None:
    world.live("2", "c")
    tries = len(PAUSES) + 1
    world.gateway.answers["c"] = [*[Delivery.FAILED] * tries, Delivery.DELIVERED]
    left_when_closed: list[frozenset[str]] = []
    world.gateway.on_close = lambda: left_when_closed.append(world.connections.player("2").connections)

    world.batch(message("m1", 1), message("m2", 2))

    assert world.received("c") == []
    assert (left_when_closed, world.gateway.closed) == ([frozenset()], ["c"])
    assert world.slept > sum(PAUSES[:2])


@pytest.mark.parametrize("fails_at_once", range(5))
def test_an_unresponsive_connection_delays_others_less_than_2_seconds(
    world: World, fails_at_once: int
) -> None:
    world.live("2", "c")
    world.gateway.answers["c"] = [Delivery.FAILED]
    posts = iter([0.0] * fails_at_once)
    world.gateway.on_post = lambda: world.sleep(next(posts, POST_SECONDS))
    world.gateway.on_close = lambda: world.sleep(POST_SECONDS)

    world.batch(message("m1"))

    assert world.gateway.closed == ["c"]
    assert POST_SECONDS < world.slept < 2


def test_a_refused_post_is_not_retried(world: World) -> None:
    world.live("2", "c")
    world.gateway.answers["c"] = [Delivery.REFUSED, Delivery.DELIVERED]

    world.batch(message("m1"))

    assert (world.received("c"), world.gateway.closed, world.slept) == ([], ["c"], 0)


def test_a_post_that_times_out_is_not_retried(world: World) -> None:
    world.live("2", "c")
    world.gateway.answers["c"] = [Delivery.FAILED, Delivery.DELIVERED]
    world.gateway.on_post = lambda: world.sleep(POST_SECONDS)

    world.batch(message("m1"))

    assert (world.received("c"), world.gateway.closed, world.slept) == ([], ["c"], POST_SECONDS)


def test_a_connection_that_cannot_be_removed_is_closed_and_the_batch_is_redelivered(world: World) -> None:
    world.live("2", "c")
    world.gateway.answers["c"] = [Delivery.REFUSED]
    world.connections.failing = {"remove"}

    with pytest.raises(Unavailable):
        world.batch(message("m1"))

    assert world.gateway.closed == ["c"]


def test_a_connection_that_is_still_connecting_is_greeted_at_a_later_marker(world: World) -> None:
    world.live("3", "other")
    world.register("2", "c")
    world.gateway.answers["c"] = [Delivery.GONE, Delivery.GONE, Delivery.DELIVERED]

    missed = message("m2", 2)
    world.store(missed)

    world.batch(marker("c", 1), missed, message("m3", 3, to="3"))

    assert (world.received("c"), world.received("other"), world.slept) == ([], ["m3"], 0)
    world.work()
    assert world.received("c") == ["m2", "connected"]
    assert world.slept == 0


def test_a_new_connection_that_has_left_gets_no_further_marker(world: World) -> None:
    world.register("2", "c")
    world.gateway.answers["c"] = [Delivery.GONE]
    world.batch(marker("c", 1, after="0"))

    world.connections.remove("2", "c")
    world.work()

    assert len(world.put_markers()) == 1


def test_a_connection_that_never_opens_is_removed_after_a_few_markers(world: World) -> None:
    world.register("2", "c")
    world.gateway.answers["c"] = [Delivery.GONE]

    world.batch(marker("c", 1), message("m2", 2))
    world.work()

    assert world.connections.player("2").connections == set()
    assert (len(world.put_markers()), world.slept) == (TRIES - 1, 0)


def test_a_failed_post_of_a_replay_is_retried_at_a_later_marker(world: World) -> None:
    world.register("2", "c")
    world.store(message("m1"), message("m2", second=1001))
    world.gateway.answers["c"] = [Delivery.DELIVERED, Delivery.FAILED, Delivery.FAILED, Delivery.DELIVERED]

    world.batch(marker("c", after="0"))
    world.work()

    assert world.received("c") == ["m1", "m2", "connected"]
    assert world.slept == 0


def test_a_client_that_never_reads_is_closed_after_a_few_markers(world: World) -> None:
    world.register("2", "c")
    world.store(message("m1"), message("m2", second=1001))
    world.gateway.answers["c"] = [Delivery.DELIVERED, Delivery.FAILED]

    world.batch(marker("c", after="0"))
    world.work()

    assert world.gateway.closed == ["c"]
    assert (len(world.put_markers()), world.slept) == (TRIES - 1, 0)


def test_a_post_of_a_replay_that_times_out_is_not_retried(world: World) -> None:
    world.register("2", "c")
    world.store(message("m1"))
    world.gateway.answers["c"] = [Delivery.FAILED]
    world.gateway.on_post = lambda: world.sleep(POST_SECONDS)

    world.batch(marker("c", after="0"))

    assert (world.gateway.closed, world.slept) == (["c"], POST_SECONDS)


def test_a_failed_connection_costs_its_player_as_much_as_a_sync(world: World) -> None:
    world.connections.rate = RateLimit(10, 1000)
    world.live("2", "c")
    world.gateway.answers["c"] = [Delivery.REFUSED]
    world.batch(message("m1"))
    before = world.connections.used.total()

    world.live("2", "d")
    world.gateway.answers["d"] = [Delivery.FAILED]
    world.batch(message("m2"))

    after = world.connections.used.total()
    assert after - before >= world.connections.rate.cost_of_replay


def test_the_connections_of_one_player_that_time_out_delay_others_by_less_than_2_seconds(
    world: World,
) -> None:
    """This holds even when one thread posts to all of them."""
    hanging = [f"c{n}" for n in range(10)]
    world.live("2", *hanging)
    for connection_id in hanging:
        world.gateway.answers[connection_id] = [Delivery.FAILED]
    world.gateway.on_post = world.gateway.on_close = lambda: world.sleep(POST_SECONDS)

    world.batch(message("m1"))

    assert world.connections.player("2").connections == set()
    assert world.slept <= 2 * POST_SECONDS


def test_a_client_that_reconnects_many_times_delays_nobody(world: World) -> None:
    for number in range(20):
        world.register("2", f"c{number}")
        world.gateway.answers[f"c{number}"] = [Delivery.GONE]

    world.batch(*(marker(f"c{number}", number + 1, after="0") for number in range(20)))
    world.work()

    assert world.connections.player("2").connections == set()
    assert world.slept == 0


def test_a_connection_that_cannot_be_made_live_is_closed(
    world: World,
) -> None:
    world.register("2", "c")
    world.connections.failing = {"make_live"}

    world.batch(marker("c", 1), message("m2", 2))

    assert world.received("c") == ["connected"]
    assert world.gateway.closed == ["c"]
    assert world.connections.player("2").connections == set()


def test_connections_are_closed_without_an_exception_when_the_invocation_is_out_of_time(world: World) -> None:
    world.live("2", "c")
    world.time_left = RESERVE_SECONDS - 0.1

    world.batch(message("m1"))

    assert (world.received("c"), world.gateway.closed) == ([], ["c"])
    assert world.connections.player("2").missed_from is not None


def test_a_batch_is_redelivered_when_the_players_cannot_be_read(world: World) -> None:
    world.directory.failing = True

    with pytest.raises(Unavailable):
        world.batch(message("m1"))


# Redelivered batches


def test_a_redelivered_batch_sends_a_connection_nothing_from_before_its_marker(
    world: World,
) -> None:
    """The connection is live by now, and would get old messages after newer ones."""
    world.live("2", "old")
    world.register("2", "new")
    batch: list[Entry] = [message("m1", 1), marker("new", 2), message("m3", 3)]

    world.batch(*batch)
    world.batch(*batch)
    world.batch(batch[0])

    assert world.received("new") == ["connected", "m3", "m3"]
    assert world.received("old") == ["m1", "m3", "m1", "m3", "m1"]
    assert world.connections.player("2").missed_from is None


def test_a_replayed_message_is_not_missed_when_its_record_is_redelivered(world: World) -> None:
    world.register("2", "c")
    missed = message("m1", 1)
    world.store(missed)
    world.batch(missed, marker("c", 2))

    world.batch(missed)

    assert world.connections.player("2").missed_from is None


def test_a_redelivered_batch_makes_a_greeted_connection_live_after_a_crash(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.register("2", "c")
    make_live, crashes = world.connections.make_live, iter([True])

    def crash_first(*args: Any) -> PlayerConnections | None:
        if next(crashes, False):
            raise KeyboardInterrupt
        return make_live(*args)

    monkeypatch.setattr(world.connections, "make_live", crash_first)
    batch: list[Entry] = [marker("c", 5), message("m6", 6)]
    with pytest.raises(KeyboardInterrupt):
        world.batch(*batch)

    world.batch(*batch)

    assert world.received("c") == ["connected", "connected", "m6"]


def test_an_older_marker_does_not_replay_to_a_live_connection(world: World) -> None:
    world.register("2", "c")
    world.store(message("m1"))
    world.batch(marker("c", 5, after="0"))

    world.batch(marker("c", 4, after="0"))

    assert world.received("c") == ["m1", "connected"]
