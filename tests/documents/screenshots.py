"""Takes the README's screenshots of the playground again.

python -m tests.documents.screenshots
"""

import tempfile
from pathlib import Path

from measure import local
from tests.support.browser import Page, browsing
from tests.support.chalice_process import PROJECT
from tests.support.playground import ONE, TWO, TWO_ARE_CONNECTED, has_message, send, shows

DOCS = PROJECT / "docs"


def picture(page: Page, name: str) -> None:
    page.until("document.getAnimations().length === 0")
    page.screenshot(DOCS / f"{name}.png")


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


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as profile,
        local.running() as service,
        browsing(Path(profile)) as page,
    ):
        page.open(service.page)
        first_view(page)
        conversation(page)


if __name__ == "__main__":
    main()
