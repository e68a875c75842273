"""The game for two players, in two real browsers."""

import json
import secrets
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.support.browser import Page, browsing, needs_browser
from tests.support.chalice_process import ChaliceLocal, Start
from tests.support.tokens import SECRET

pytestmark = pytest.mark.chalice_local("--no-autoreload")

POINTS = "document.getElementById('points').textContent.replace(/-[0-9a-f]{8}/g, '')"
"""The points, without the room's random digits at the end of each player's id."""

STAR_IS_THERE = "document.getElementById('star').style.left !== '' && !document.getElementById('star').hidden"
TWO_SKATERS = "document.querySelectorAll('.skater').length === 2"


@pytest.fixture(scope="module")
def browsers(local: ChaliceLocal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, Page]]:
    with (
        browsing(tmp_path_factory.mktemp("profile")) as one,
        browsing(tmp_path_factory.mktemp("profile")) as other,
    ):
        yield one, other


@pytest.fixture
def room() -> str:
    """The id of a room that no other test uses. Each player's id ends with it: players have a rate limit."""
    return secrets.token_hex(4)


def open_game(page: Page, local: ChaliceLocal, player: str, room: str) -> None:
    """Open the game as a player, and wait until there is a star to catch."""
    page.complaints.clear()
    page.resize(900, 760)
    page.open(f"http://127.0.0.1:{local.http_port}/game?player={player}-{room}&room={room}")
    page.until(STAR_IS_THERE)


@pytest.fixture
def pages(browsers: tuple[Page, Page], local: ChaliceLocal, room: str) -> tuple[Page, Page]:
    """Open the game as anna and ben, each in a browser. Wait until both see one star and two skaters."""
    anna, ben = browsers
    open_game(anna, local, "anna", room)
    open_game(ben, local, "ben", room)
    anna.until(f"document.getElementById('news').textContent === 'ben-{room} started a game.'")
    for page in browsers:
        page.until(TWO_SKATERS)
    return browsers


def catch_star(page: Page, points: str) -> None:
    """Skate to the star with a finger, until the page shows these points and the skater rests there.

    A skater that glides on could catch the next star.
    """
    page.until(STAR_IS_THERE)
    x, y = page.place_of("#star")
    with page.holding_finger(x, y):
        page.until(f"{POINTS} === {json.dumps(points)}")
        page.until(
            f"""new Promise(done => {{
                const frames = [];
                requestAnimationFrame(function look() {{
                    const {{left, top, width, height}} =
                      document.querySelector(".skater.mine").getBoundingClientRect();
                    frames.push(Math.hypot(left + width / 2 - {x}, top + height / 2 - {y}));
                    if (frames.length < 5) requestAnimationFrame(look);
                    else done(frames.every(distance => distance < 5));
                }});
            }})"""
        )


@needs_browser
@pytest.mark.parametrize("key", ["ArrowRight", "d"])
def test_a_skater_who_moves_in_one_page_moves_in_the_other(pages: tuple[Page, Page], key: str) -> None:
    anna, ben = pages
    start, _ = ben.place_of(".skater:not(.mine)")

    with anna.holding_key(key):
        ben.until(
            f"document.querySelector('.skater:not(.mine)').getBoundingClientRect().left > {start} + 100"
        )

    assert anna.complaints == ben.complaints == []


@needs_browser
def test_a_catch_counts_in_both_pages_and_after_a_reload(
    pages: tuple[Page, Page], local: ChaliceLocal, room: str
) -> None:
    anna, ben = pages
    catch_star(anna, "You ★ 1ben ★ 0")
    ben.until(f"{POINTS} === 'You ★ 0anna ★ 1'")
    catch_star(ben, "You ★ 1anna ★ 1")
    star = ben.place_of("#star")

    open_game(anna, local, "anna", room)
    anna.until(f"{POINTS} === 'You ★ 1ben ★ 1'")

    assert anna.place_of("#star") == pytest.approx(star, abs=1)
    assert ben.evaluate(POINTS) == "You ★ 1anna ★ 1"


@needs_browser
def test_a_player_who_closes_the_page_leaves_the_ice_and_keeps_the_points(
    pages: tuple[Page, Page],
) -> None:
    anna, ben = pages
    catch_star(anna, "You ★ 1ben ★ 0")

    anna.open("about:blank")

    ben.until("document.querySelectorAll('.skater').length === 1")
    assert ben.evaluate(POINTS) == "You ★ 0anna ★ 1"


@needs_browser
def test_a_new_game_begins_for_both(pages: tuple[Page, Page]) -> None:
    anna, ben = pages
    catch_star(anna, "You ★ 1ben ★ 0")
    ben.until(f"{POINTS} === 'You ★ 0anna ★ 1'")

    ben.evaluate("document.getElementById('new-game').click()")

    anna.until(f"{POINTS} === 'You ★ 0ben ★ 0'")
    ben.until(f"{POINTS} === 'You ★ 0anna ★ 0'")


@needs_browser
def test_a_new_star_is_far_from_the_star_that_was_caught(
    browsers: tuple[Page, Page], local: ChaliceLocal
) -> None:
    page, _ = browsers
    page.open(f"http://127.0.0.1:{local.http_port}/page/rules.mjs")

    nearest, widest = page.evaluate(
        """(async () => {
            const {Game, HEIGHT, WIDTH} = await import("/page/rules.mjs"), game = new Game();
            const moves = [], ids = Array.from({length: 2000}, () => crypto.randomUUID());
            for (const messageId of ids) {
              const before = game.place, move = before === null || game.winner ? "start" : "catch";
              const message = JSON.stringify({move, star: game.star});
              game.count({messageId, srcPlayerId: "1", message});
              const {x, y} = game.place;
              if (move === "catch") moves.push(Math.hypot(x - before.x, y - before.y));
              if (x < 0.3 || y < 0.3 || x > WIDTH - 0.3 || y > HEIGHT - 0.3) return [0, 0];
            }
            return [Math.min(...moves), Math.max(...moves)];
        })()"""
    )

    assert nearest > 0.5
    assert widest > 3


Move = tuple[str, str, str, str | None]
START: Move = ("1", "anna", "start", None)


def won(player: str) -> list[Move]:
    stars = ["1", *(f"w{number}" for number in range(7))]
    return [(now, player, "catch", star) for star, now in pairwise(stars)]


def counted(page: Page, moves: list[Move]) -> Any:
    """Return the points after these messages: each has an id, a sender, a move and the star that it names."""
    messages = [
        {"messageId": name, "srcPlayerId": player, "message": json.dumps({"move": move, "star": star})}
        for name, player, move, star in moves
    ]
    return page.evaluate(
        f"""(async () => {{
            const {{Game}} = await import("/page/rules.mjs"), game = new Game();
            for (const message of {json.dumps(messages)}) game.count(message);
            return Object.fromEntries(game.points);
        }})()"""
    )


@needs_browser
@pytest.mark.parametrize(
    ("moves", "points"),
    [
        ([START, ("2", "ben", "catch", "1")], {"ben": 1}),
        ([START, ("2", "ben", "catch", "1"), ("3", "anna", "catch", "1")], {"ben": 1}),
        ([START, ("2", "ben", "catch", "1"), ("3", "anna", "catch", "2")], {"ben": 1, "anna": 1}),
        ([START, ("2", "ben", "catch", "1"), ("3", "anna", "start", "2")], {}),
        ([START, ("2", "ben", "catch", "1"), ("3", "anna", "start", "1")], {"ben": 1}),
        ([START, ("2", "ben", "catch", "1"), ("3", "new", "start", None)], {}),
        ([("2", "ben", "catch", "1"), ("3", "ben", "catch", None)], {}),
        ([START, *won("ben"), ("9", "anna", "catch", "w6")], {"ben": 7}),
    ],
)
def test_the_first_catch_of_a_star_counts_and_no_other(
    browsers: tuple[Page, Page], local: ChaliceLocal, moves: list[Move], points: dict[str, int]
) -> None:
    page, _ = browsers
    page.open(f"http://127.0.0.1:{local.http_port}/page/rules.mjs")

    assert counted(page, moves) == points


ODD_TEXTS = ["null", "7", "[1]", '{"move": "catch"}', "[1,2,3,4,5]", "[1,2,3,4,5,null]", "<b>x</b>"]


@needs_browser
def test_odd_messages_and_signals_of_others_change_nothing(
    pages: tuple[Page, Page], local: ChaliceLocal, room: str
) -> None:
    anna, ben = pages
    ben.evaluate(
        f"""(async () => {{
            const {{Player}} = await import("/page/player.mjs");
            const {{service}} = await import("/page/service.mjs");
            const odd = new Player((await service()).url, {{playerId: "odd"}}), room = {json.dumps(room)};
            await odd.connect();
            await odd.join(room);
            for (const text of {json.dumps(ODD_TEXTS)}) {{
              await odd.signalToRoom(room, text);
              await odd.sendToRoom(room, text);
            }}
        }})()"""
    )

    catch_star(anna, "You ★ 1ben ★ 0odd ★ 0")

    assert anna.complaints == ben.complaints == []


@needs_browser
def test_the_game_fits_a_phone_and_follows_the_systems_dark_mode(
    browsers: tuple[Page, Page], local: ChaliceLocal, room: str
) -> None:
    page, _ = browsers
    open_game(page, local, "anna", room)
    background = "getComputedStyle(document.body).backgroundColor"
    bright = page.evaluate(background)

    page.resize(390, 844, dark=True)

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(background) != bright


@needs_browser
def test_each_window_without_a_player_is_a_new_one_and_stays_it(
    browsers: tuple[Page, Page], local: ChaliceLocal
) -> None:
    page, _ = browsers
    page.open(f"http://127.0.0.1:{local.http_port}/game")
    page.until("location.search.startsWith('?player=skater-')")

    address = page.evaluate("location.href")
    page.open(address)

    page.until(STAR_IS_THERE)
    assert page.evaluate("location.href") == address
    assert "player=" not in page.evaluate("document.getElementById('invite').href")


@needs_browser
def test_the_game_says_that_it_needs_a_stage_without_tokens(
    browsers: tuple[Page, Page], start: Start
) -> None:
    local = start("--no-autoreload", "--stage", "tokens", JWT_SECRET=SECRET).started()
    page, _ = browsers

    page.open(f"http://127.0.0.1:{local.http_port}/game")

    page.until("document.getElementById('news').textContent === 'This game needs a stage without tokens.'")
