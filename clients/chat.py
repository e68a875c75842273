"""A player in the terminal: what you type goes to another player, what others send appears.

python -m clients.chat PLAYER --to PLAYER --url wss://…/dev/

A stage with tokens wants one in the environment variable TOKEN.
When standard input or output isn't a terminal, each line is sent when the one before is answered. Lines that
were not sent are named on standard error, and the exit code is then 1.
"""

import argparse
import asyncio
import io
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.patch_stdout import patch_stdout

from clients.player import CannotConnect, NotLetIn, Offline, Player, Refused

URL = f"ws://127.0.0.1:{os.environ.get('WEBSOCKET_PORT', '8001')}/dev/"
LAST_WORDS_SECONDS = 5
"""How long what was typed just before leaving may take to be stored."""

LINES_NAMED = 20
"""The most unsent lines that the summary at the end names."""

INSTRUCTIONS = "@PLAYER and a text writes to that player, a text alone to the last one; Ctrl-D leaves."

JOINERS = "\u200c\u200d"
"""Invisible, but part of Persian words and of emoji."""


@dataclass(slots=True)
class Chat:
    """One player's conversation. `to`: whom a text without a name goes to. `unsent`: numbers of lines."""

    url: str
    name: str
    to: str | None
    is_terminal: bool
    is_down: bool = False
    lines: int = 0
    last_stored: int = 0
    unsent: list[int] = field(default_factory=list)
    sending: set[asyncio.Task[None]] = field(default_factory=set)
    player: Player = field(init=False)

    def __post_init__(self) -> None:
        self.player = Player(self.url, self.name, os.environ.get("TOKEN"), observe=self._observe)

    async def run(self) -> None:
        """Until the input ends. Raises NotLetIn, CannotConnect, and OSError if the input is broken."""
        with patch_stdout() if self.is_terminal else nullcontext():
            receiving = asyncio.create_task(self._receive())
            speaking = asyncio.create_task(self._type() if self.is_terminal else self._read())
            await asyncio.wait([receiving, speaking], return_when=asyncio.FIRST_COMPLETED)
            speaking.cancel()
            if speaking.done():
                speaking.result()
            if self.sending:
                await asyncio.wait(self.sending, timeout=LAST_WORDS_SECONDS)
            await self.player.close()
            with suppress(Offline):  # Left before it was connected.
                await receiving

    async def _receive(self) -> None:
        await self.player.connect()
        async for message in self.player:
            self.to = self.to or message["srcPlayerId"]
            show(f"{message['srcPlayerId']}: {message['message']}")

    async def _type(self) -> None:
        """Send what is typed; the person can type on while it is sent."""
        show(INSTRUCTIONS)
        session: PromptSession[str] = PromptSession()
        while True:
            try:
                line = await session.prompt_async(lambda: visible(f"{self.name} → {self.to or '?'} > "))
            except (EOFError, KeyboardInterrupt):
                return
            task = asyncio.create_task(self._say(line))
            self.sending.add(task)
            task.add_done_callback(self.sending.discard)
            await asyncio.sleep(0)  # It begins, so the next prompt names its recipient.

    async def _read(self) -> None:
        """Send each line of standard input when the one before is answered."""
        if sys.stdin is None:
            return
        # Closing it would wait for a thread that waits for a line.
        lines = open(0, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        while line := await in_background(lines.readline):
            await self._say(line)

    async def _say(self, line: str) -> None:
        """Send a line, and show what came of it."""
        self.lines += 1
        number, began = self.lines, time.perf_counter()
        try:
            named, text = understood(line)
            self.to = to = named or self.to
            if text:
                await self.player.send(addressed(to), text)
                self.last_stored = number
                show(f"  stored for {to} after {1000 * (time.perf_counter() - began):.0f} ms")
            elif named:
                show(f"  nothing sent; what you write goes to {to} now")
        except (Refused, Offline, NotLetIn, CannotConnect, NotUnderstood) as failure:
            self.unsent.append(number)
            if self.is_terminal:
                show(f"  not sent: {failure}")
            else:
                show(f"line {number} not sent: {failure}", sys.stderr)

    def _observe(self, event: str, about: Any) -> None:
        """Of one outage, its beginning and its end."""
        if event == "received" and about.get("event") == "connected":
            self.is_down = False
            show(f"  connected as {self.name}")
        elif event == "waiting" and not self.is_down and about > 0:
            self.is_down = True
            hint = " Does `make run` run in another terminal?" if self.url == URL else ""
            show(f"  not connected to {self.url}; trying again.{hint}")

    def outcome(self) -> str | None:
        """Return which lines were not sent, if any were not."""
        if not self.unsent:
            return None
        named = ", ".join(map(str, sorted(self.unsent)[:LINES_NAMED]))
        more = ", …" if len(self.unsent) > LINES_NAMED else ""
        return f"{len(self.unsent)} not sent, of {self.lines} lines: {named}{more}"

    def cut_short(self) -> str:
        """Return what to say of the lines when the input was not read to its end."""
        return "" if self.is_terminal else f"; no line after line {self.last_stored} was stored"


class NotUnderstood(Exception):
    """A line can't be sent. The text says what can."""


def understood(line: str) -> tuple[str, str]:
    """Return the player whom a line names, or "", and its text, which can be empty too. Raises NotUnderstood.

    `@ID TEXT` and `@ID: TEXT`: the id ends at the first space, and one colon before that isn't part of it.
    `@ID:TEXT`, without a space: the id ends at the first colon. `@ID` and `@ID:` have no text; an id with a
    colon in it needs the second of these. Lines that begin with # or / are kept for commands to come.
    """
    line = line.strip()
    if line.startswith(("#", "/")):
        raise NotUnderstood(f"a line can't begin with {line[0]}; write @player text, as in: @2 {line[0]}1")
    if not line.startswith("@"):
        return "", line
    word, _, text = line[1:].replace("\t", " ").partition(" ")
    player = word.removesuffix(":")
    if player == word and not text:
        player, _, text = word.partition(":")
    if not player:
        raise NotUnderstood("no player is named; write @player text, as in: @2 Hello!")
    return player, text.strip()


def addressed(to: str | None) -> str:
    """Return the recipient. Raises NotUnderstood if there is none."""
    if not to:
        raise NotUnderstood("To whom? Write @player text, as in: @2 Hello!")
    return to


def visible(text: str) -> str:
    """Return the text with escapes for what can't be seen, so nothing that arrives steers the terminal."""
    return "".join(
        c if c.isprintable() or c in JOINERS else c.encode("unicode_escape").decode() for c in text
    )


def show(text: str, stream: TextIO | None = None) -> None:
    """Print to a stream, by default standard output. A closed pipe doesn't stop the chat."""
    stream = stream or sys.stdout
    try:
        print(visible(text), file=stream, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def in_background(read: Callable[[], str]) -> "asyncio.Future[str]":
    """Read in a thread that doesn't keep the program from ending."""
    outcome: Future[str] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(read())
        except OSError as failure:
            outcome.set_exception(failure)

    threading.Thread(target=run, daemon=True).start()
    return asyncio.wrap_future(outcome)


def main() -> str | None:
    """Return what went wrong, if something did."""
    parser = argparse.ArgumentParser(prog="python -m clients.chat", description="A player in the terminal.")
    parser.add_argument("player", help="who you are")
    parser.add_argument("--to", help="whom you write to")
    parser.add_argument("--url", default=URL, help=f"of the WebSocket API ({URL})")
    asked = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8")  # What is typed, as what is piped: whatever the locale.
    chat = Chat(
        asked.url, asked.player, asked.to, is_terminal=is_terminal(sys.stdin) and is_terminal(sys.stdout)
    )
    try:
        asyncio.run(chat.run())
    except NotLetIn as refusal:
        return f"not let in: {refusal}{chat.cut_short()}"
    except CannotConnect as wrong:
        return f"{wrong}{chat.cut_short()}"
    except OSError as failure:
        return f"standard input can't be read: {failure}"
    except KeyboardInterrupt:
        return f"interrupted{chat.cut_short()}"
    return chat.outcome()


def is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


if __name__ == "__main__":
    wrong = main()
    sys.exit(None if wrong is None else visible(wrong.strip()))
