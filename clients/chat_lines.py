"""The texts of the chat: what a typed line says, and how events are shown."""

import json
from dataclasses import dataclass

from clients.player import Members, Presence

SYNTAX = "write @player text, #room text, /join room, /leave room or /members room"

JOINERS = "\u200c\u200d"
"""Invisible, but part of Persian words and of emoji."""


class NotUnderstood(Exception):
    """A line can't be sent. The text says what can."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a line says. `to`: a player, a room with its #, or "". `command`: join, leave, members or ""."""

    to: str
    text: str
    command: str = ""


def parsed(line: str) -> Line:
    """Return what a line says. Raises NotUnderstood.

    `@ID TEXT` and `@ID: TEXT`: the id ends at the first space, and one colon before that isn't part of it.
    `@ID:TEXT`, without a space: the id ends at the first colon. `@ID` and `@ID:` have no text; an id with a
    colon in it needs the second of these. The same holds for `#ROOM`. `/COMMAND ROOM` needs a room, with or
    without its #.
    """
    line = line.strip()
    if line.startswith("/"):
        command, _, room = line[1:].partition(" ")
        room = room.strip().removeprefix("#")
        if command not in ("join", "leave", "members") or not room:
            raise NotUnderstood(f"{SYNTAX}; a text that begins with / needs a name, as in: @2 /1")
        return Line(f"#{room}", "", command)
    if not line.startswith(("@", "#")):
        return Line("", line)
    word, _, text = line[1:].replace("\t", " ").partition(" ")
    name = word.removesuffix(":")
    if name == word and not text:
        name, _, text = word.partition(":")
    if not name:
        raise NotUnderstood(f"nobody is named; {SYNTAX}, as in: @2 Hello!")
    return Line(f"#{name}" if line.startswith("#") else name, text.strip())


def addressed(to: str | None) -> str:
    """Return the recipient. Raises NotUnderstood if there is none."""
    if not to:
        raise NotUnderstood("To whom? Write @player text, as in: @2 Hello!")
    return to


def is_typing(data: str) -> bool:
    """Return whether a signal's data says that its sender types. Other programs can send anything."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("typing") is True


def described(event: Presence | Members) -> str:
    """Return an event or a list of members as a sentence."""
    if isinstance(event, Members):
        names = [f"{name} (online)" if name in (event.online or ()) else name for name in event.members]
        return f"members of #{event.room_id}: {', '.join(names)}"
    if event.member is False:
        return f"#{event.room_id} {event.player_id} left"
    return f"#{event.room_id} {event.player_id} is {'online' if event.online else 'offline'}"


def visible(text: str) -> str:
    """Return the text with escapes for what can't be seen, so nothing that arrives steers the terminal."""
    return "".join(
        c if c.isprintable() or c in JOINERS else c.encode("unicode_escape").decode() for c in text
    )
