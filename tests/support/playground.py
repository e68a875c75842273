"""Using the playground as a person does."""

import json

from tests.support.browser import Page

TWO_ARE_CONNECTED = "document.querySelectorAll('.state.connected').length === 2"
ONE, TWO, THREE = (f"document.querySelectorAll('.player')[{number}]" for number in range(3))


def shows(page: Page, about: str, *steps: str) -> None:
    """Wait until the page shows all of these steps below a title that contains `about`."""
    page.until(
        f"""[...document.querySelectorAll("#episodes > li")].some(item =>
            item.querySelector("h3").textContent.includes({json.dumps(about)}) &&
            {json.dumps(steps)}.every(step => item.textContent.includes(step)))"""
    )


def submit(page: Page, player: str, form: str) -> None:
    """Submit a player's form: connect, room or send."""
    page.evaluate(f"{player}.querySelector('form.{form}').requestSubmit()")


def join(page: Page, player: str, room: str) -> None:
    """Join a room, and wait until the player is a member."""
    page.evaluate(f"{player}.querySelector('form.room').room.value = {json.dumps(room)}")
    submit(page, player, "room")
    page.until(f"{player}.querySelector('form.room button').textContent === 'Leave'")


def has_members(page: Page, player: str, *members: str) -> None:
    """Wait until a player sees exactly these members, each as its id and its state."""
    page.until(
        f"""JSON.stringify([...{player}.querySelectorAll(".members li")].map(item => item.textContent)) ===
            JSON.stringify({json.dumps(members)})"""
    )


def type_message(page: Page, player: str, text: str) -> None:
    """Type a message as a player, and don't send it."""
    page.evaluate(f"{player}.querySelector('form.send').message.select()")
    page.type(text)


def send(page: Page, player: str, text: str) -> None:
    """Send a message as a player, to the recipient or the room in the form."""
    page.evaluate(
        f"""{player}.querySelector("form.send").message.value = {json.dumps(text)};
            {player}.querySelector("form.send").requestSubmit()"""
    )


def has_message(page: Page, player: str, text: str) -> None:
    """Wait until a player shows a message that contains the text."""
    page.until(f"{player}.querySelector('.messages').textContent.includes({json.dumps(text)})")
