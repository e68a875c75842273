"""Takes the screenshots of the playground and the game in README.md and docs/ again.

python -m tests.documents.screenshots
"""

import tempfile
from pathlib import Path

from PIL import Image

from measure import local
from tests.support.browser import Page, browsing
from tests.support.chalice_process import PROJECT
from tests.support.playground import (
    ONE,
    THREE,
    TWO,
    TWO_ARE_CONNECTED,
    has_members,
    has_message,
    send,
    shows,
    submit,
    type_message,
)

DOCS = PROJECT / "docs"
COLORS = 64


def picture(page: Page, name: str) -> None:
    """Save the page as a picture of few colors, which is a third of the size."""
    page.until("document.getAnimations().length === 0")
    path = DOCS / f"{name}.png"
    page.screenshot(path)
    taken = Image.open(path).convert("RGB")
    few = taken.quantize(COLORS, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def first_view(page: Page) -> None:
    page.resize(1200, 760)
    page.until(TWO_ARE_CONNECTED)
    shows(page, "Player 2 connects", "connected")
    picture(page, "playground")


def conversation(page: Page) -> None:
    page.resize(1200, 1080)
    send(page, ONE, "Hello, from player 1!")
    has_message(page, TWO, "Hello, from player 1!")
    shows(page, "from 1 to 2", "received", "ack")
    send(page, TWO, "Hello! Your move.")
    has_message(page, ONE, "Your move.")
    page.evaluate("document.getElementById('show-gone').click()")
    shows(page, "Can you hear me?", "410 gone", "missed")
    has_message(page, TWO, "Can you hear me?")
    picture(page, "playground-conversation")


def room(page: Page) -> None:
    page.evaluate("document.getElementById('show-room').click()")
    shows(page, "Hello, everyone!", "received by 1", "received by 2", "received by 3", "ack")
    send(page, TWO, "Hello, room!")
    has_message(page, THREE, "Hello, room!")
    submit(page, THREE, "connect")
    has_members(page, ONE, "1 online", "2 online", "3 offline")
    send(page, ONE, "Player 3 reads this later.")
    shows(page, "reads this later", "received by 1", "received by 2", "missed", "ack")
    type_message(page, TWO, "Who begins?")
    page.until(f"{ONE}.querySelector('.typing').textContent === '2 is typing …'")
    shows(page, "Signals of player 2", "signal")
    page.evaluate("document.activeElement.blur()")
    picture(page, "playground-room")


def game(anna: Page, ben: Page, url: str) -> None:
    """Take the picture of a game in which each player has caught a star."""
    for page, player in ((anna, "anna"), (ben, "ben")):
        page.resize(900, 760)
        page.open(f"{url}game?player={player}")
        page.until("document.getElementById('star').style.left !== ''")
    anna.until("document.getElementById('news').textContent === 'ben started a game.'")
    for page, points in ((anna, "You ★ 1ben ★ 0"), (ben, "You ★ 1anna ★ 1")):
        with page.holding_finger(*page.place_of("#star")):
            page.until(f"document.getElementById('points').textContent === '{points}'")
    anna.until("document.querySelector('#star.ripe') !== null")
    picture(anna, "playground-game")


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as profile,
        tempfile.TemporaryDirectory() as other_profile,
        local.running() as service,
        browsing(Path(profile)) as page,
        browsing(Path(other_profile)) as other,
    ):
        page.open(service.page)
        first_view(page)
        conversation(page)
        page.open(service.page)
        page.until(TWO_ARE_CONNECTED)
        room(page)
        game(page, other, service.page)


if __name__ == "__main__":
    main()
