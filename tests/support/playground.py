"""Using the playground as a person does."""

import json

from tests.support.browser import Page

TWO_ARE_CONNECTED = "document.querySelectorAll('.state.connected').length === 2"
ONE, TWO = "document.querySelectorAll('.player')[0]", "document.querySelectorAll('.player')[1]"


def shows(page: Page, about: str, *steps: str) -> None:
    """Wait until the page shows all of these steps below a title that contains `about`."""
    page.until(
        f"""[...document.querySelectorAll("#episodes > li")].some(item =>
            item.querySelector("h3").textContent.includes({json.dumps(about)}) &&
            {json.dumps(steps)}.every(step => item.textContent.includes(step)))"""
    )


def send(page: Page, player: str, text: str) -> None:
    """Send a message as ONE or TWO."""
    page.evaluate(
        f"""{player}.querySelector("form.send").message.value = {json.dumps(text)};
            {player}.querySelector("form.send").requestSubmit()"""
    )


def has_message(page: Page, player: str, text: str) -> None:
    """Wait until ONE or TWO shows a message that contains the text."""
    page.until(f"{player}.querySelector('.messages').textContent.includes({json.dumps(text)})")
