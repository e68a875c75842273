"""Rooms, presence and signals in the playground, in a real browser."""

import json
import secrets
from collections.abc import Iterator

import pytest

from tests.support.browser import Page, browsing, needs_browser
from tests.support.chalice_process import ChaliceLocal
from tests.support.playground import (
    ONE,
    THREE,
    TWO,
    TWO_ARE_CONNECTED,
    has_members,
    has_message,
    join,
    send,
    shows,
    submit,
    type_message,
)

pytestmark = pytest.mark.chalice_local("--no-autoreload")

OFFLINE_SECONDS = 10


@pytest.fixture(scope="module")
def opened(local: ChaliceLocal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(local: ChaliceLocal, opened: Page) -> Page:
    """Open the playground, and wait until its two players are connected."""
    opened.complaints.clear()
    opened.resize(1280, 900)
    opened.open(f"http://127.0.0.1:{local.http_port}/")
    opened.until(TWO_ARE_CONNECTED)
    return opened


@pytest.fixture
def room() -> str:
    """The id of a room that no other test uses."""
    return f"room-{secrets.token_hex(4)}"


def sees_typing(page: Page) -> None:
    """Go on typing as TWO until ONE sees it, because a signal can be lost to the rate limit."""
    type_on = f"{TWO}.querySelector('form.send').message.dispatchEvent(new Event('input'))"
    page.until(f"{typing(ONE)} === '2 is typing …' || ({type_on}, false)")


def typing(player: str) -> str:
    return f"{player}.querySelector('.typing').textContent"


@needs_browser
def test_one_click_opens_a_room_of_three_and_its_message_reaches_all_panels(page: Page) -> None:
    page.evaluate("document.getElementById('show-room').click()")

    for player in (ONE, TWO, THREE):
        has_message(page, player, "#lobby 1: Hello, everyone!")
        has_members(page, player, "1 online", "2 online", "3 online")
    assert page.complaints == []


def untitled(page: Page) -> list[str]:
    """Return the titles of messages whose frames the page hasn't seen."""
    titles = page.evaluate("[...document.querySelectorAll('#episodes h3')].map(title => title.textContent)")
    return [title for title in titles if title.startswith("Message …")]


@needs_browser
def test_the_fan_out_of_a_rooms_message_is_drawn_with_its_copies(page: Page, room: str) -> None:
    join(page, ONE, room)
    join(page, TWO, room)
    shows(page, f"Player 2 joins #{room}", "join")
    shows(page, f"Presence in #{room}", "presence")
    earlier = untitled(page)

    send(page, TWO, "to all of you")

    shows(page, f"“to all of you” from 2 to #{room}", "stored", "copied to 2 members")
    shows(page, "“to all of you”", "delivered to 1", "delivered to 2", "received by 1", "received by 2")
    assert untitled(page) == earlier


@needs_browser
def test_a_player_who_has_left_a_room_gets_no_more_of_it(page: Page, room: str) -> None:
    join(page, ONE, room)
    join(page, TWO, room)

    submit(page, TWO, "room")
    has_members(page, ONE, "1 online")
    page.until(f"{TWO}.querySelector('form.room button').textContent === 'Join'")
    send(page, ONE, "without you")
    send(page, TWO, "to you alone")

    has_message(page, ONE, "2: to you alone")
    has_message(page, ONE, "without you")
    assert "without you" not in page.evaluate(f"{TWO}.querySelector('.messages').textContent")


@needs_browser
def test_a_room_that_the_service_refuses_is_explained(page: Page) -> None:
    page.evaluate(f"{ONE}.querySelector('form.send').to.value = '#nobody-is-there'")

    send(page, ONE, "is anybody here?")

    page.until(f"{ONE}.querySelector('.failure').textContent.startsWith('Not sent: not_a_member')")


@needs_browser
def test_a_member_is_shown_offline_after_ten_seconds_and_online_at_once(page: Page, room: str) -> None:
    join(page, ONE, room)
    join(page, TWO, room)
    has_members(page, ONE, "1 online", "2 online")

    page.evaluate("window.leftAt = performance.now()")
    submit(page, TWO, "connect")
    has_members(page, ONE, "1 online", "2 offline")
    seconds = page.evaluate("(performance.now() - window.leftAt) / 1000")
    submit(page, TWO, "connect")
    has_members(page, ONE, "1 online", "2 online")

    assert seconds >= OFFLINE_SECONDS
    has_members(page, TWO, "1 online", "2 online")


@needs_browser
def test_typing_is_shown_to_the_room_and_ends(page: Page, room: str) -> None:
    join(page, ONE, room)
    join(page, TWO, room)

    type_message(page, TWO, "I am still thi")

    sees_typing(page)
    page.until(f"{typing(ONE)} === ''")
    assert page.evaluate(typing(TWO)) == ""


@needs_browser
def test_typing_is_shown_to_a_recipient_until_the_message_is_there(page: Page) -> None:
    type_message(page, TWO, "to you")
    sees_typing(page)

    page.press("Enter")

    has_message(page, ONE, "2: to you")
    page.until(f"{typing(ONE)} === ''")


@needs_browser
def test_at_most_one_typing_signal_is_sent_per_three_seconds(page: Page, room: str) -> None:
    due = page.evaluate(
        """(async () => {
            const {Typing} = await import("/page/typing.mjs"), typing = new Typing();
            return [0, 1, 2999, 3000, 5999, 6000].filter(now => typing.isDue(now));
        })()"""
    )

    assert due == [0, 3000, 6000]


@needs_browser
def test_signals_with_other_data_are_not_shown_as_typing(page: Page) -> None:
    page.evaluate(
        """(async () => {
            const {Player} = await import("/page/player.mjs"), {service} = await import("/page/service.mjs");
            const other = new Player((await service()).url, {playerId: "odd"});
            await other.connect();
            for (const data of ["typing", "null", "[]", '{"typing": "yes"}', '{"typing": false}']) {
              await other.signal("1", data);
            }
            await other.send("1", "that was all");
        })()"""
    )

    has_message(page, ONE, "odd: that was all")
    assert page.evaluate(typing(ONE)) == ""
    assert page.complaints == []


def states(page: Page, changes: str, now: int) -> object:
    """Return the states of a roster's members at a time, after the changes, which are JavaScript."""
    return page.evaluate(
        f"""(async () => {{
            const {{Roster}} = await import("/page/roster.mjs"), roster = new Roster();
            {changes}
            return Object.fromEntries(roster.states({now}));
        }})()"""
    )


@needs_browser
@pytest.mark.parametrize(
    ("changes", "now", "expected"),
    [
        ("", 60_001, {"1": "online", "2": "offline"}),
        ("", 60_002, {"1": "away", "2": "offline"}),
        ("roster.heard('1', 50_000)", 110_000, {"1": "online", "2": "offline"}),
        ("roster.change({playerId: '1', online: false})", 2, {"1": "offline", "2": "offline"}),
        ("roster.change({playerId: '2', online: true, lastSeenAt: 1})", 2, {"1": "online", "2": "online"}),
        ("roster.change({playerId: '2', member: false, online: true})", 2, {"1": "online"}),
        ("roster.replace({members: ['1'], online: {}}, 100)", 10_099, {"1": "online"}),
        ("roster.replace({members: ['1'], online: {}}, 100)", 10_100, {"1": "offline"}),
        ("roster.replace({members: ['constructor'], online: {}}, 1)", 1, {"constructor": "offline"}),
        ("roster.replace({members: ['1'], online: null}, 100)", 10_100, {"1": "offline"}),
    ],
)
def test_a_member_is_away_after_two_ping_intervals_and_offline_after_ten_seconds(
    page: Page, changes: str, now: int, expected: dict[str, str]
) -> None:
    known = f"roster.replace({json.dumps({'members': ['1', '2'], 'online': {'1': 1}})}, 1);"

    assert states(page, known + changes, now) == expected
