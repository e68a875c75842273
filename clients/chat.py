"""A player in the terminal: what you type goes to another player or to a room, what others send appears.

python -m clients.chat PLAYER --to PLAYER --url wss://…/dev/

A stage with tokens wants one in the environment variable TOKEN.
When standard input or output isn't a terminal, each line is sent when the one before is answered. Lines that
were not sent are named on standard error, and the exit code is then 1.
"""

import argparse
import asyncio
import io
import json
import math
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

from clients.chat_lines import Line, NotUnderstood, addressed, described, is_typing, parsed, visible
from clients.player import CannotConnect, Kicked, NotLetIn, Offline, Player, Refused

URL = f"ws://127.0.0.1:{os.environ.get('WEBSOCKET_PORT', '8001')}/dev/"
LAST_WORDS_SECONDS = 5
"""How long what was typed just before leaving may take to be stored."""

LINES_NAMED = 20
"""The most unsent lines that the summary at the end names."""

INSTRUCTIONS = (
    "@PLAYER and a text writes to that player, #ROOM and a text to a room, a text alone to the last one; "
    "/join ROOM, /leave ROOM, /members ROOM; Ctrl-D leaves."
)

TYPING = json.dumps({"typing": True})
"""The data of the signal that says that somebody types."""

TYPING_INTERVAL_SECONDS = 3
"""The shortest time between two of these signals."""

TYPING_SECONDS = 10
"""How long somebody counts as typing after such a signal."""


@dataclass(slots=True)
class Chat:
    """One player's conversation.

    `to`: the player or, with a #, the room that a text without a name goes to. `unsent`: numbers of lines.
    `typing`: who was last said to type, and when.
    """

    url: str
    name: str
    to: str | None
    is_terminal: bool
    is_down: bool = False
    lines: int = 0
    last_stored: int = 0
    unsent: list[int] = field(default_factory=list)
    sending: set[asyncio.Task[None]] = field(default_factory=set)
    typing: dict[str, float] = field(default_factory=dict)
    told_typing_at: float = -math.inf
    player: Player = field(init=False)

    def __post_init__(self) -> None:
        self.player = Player(self.url, self.name, os.environ.get("TOKEN"), observe=self._observe)

    async def run(self) -> None:
        """Run until the input ends.

        Raises NotLetIn, CannotConnect, Kicked, and OSError if the input is broken.
        """
        with patch_stdout() if self.is_terminal else nullcontext():
            receiving = asyncio.ensure_future(self._receive_all() if self.is_terminal else self._receive())
            speaking = asyncio.ensure_future(self._type() if self.is_terminal else self._read())
            await asyncio.wait([receiving, speaking], return_when=asyncio.FIRST_COMPLETED)
            speaking.cancel()
            if speaking.done():
                speaking.result()
            if self.sending:
                await asyncio.wait(self.sending, timeout=LAST_WORDS_SECONDS)
            await self.player.close()
            with suppress(Offline):  # Left before it was connected.
                await receiving

    async def _receive_all(self) -> None:
        """Show messages, who types, and who comes and goes."""
        await self.player.connect()
        await asyncio.gather(self._receive(), self._watch_typing(), self._watch_presence())

    async def _receive(self) -> None:
        await self.player.connect()
        async for message in self.player:
            sender, room = message["srcPlayerId"], message.get("roomId")
            place = f"#{room} " if room else ""
            if not self.to and not sender.startswith("#"):  # The backend's names begin with it.
                self.to = f"#{room}" if room else sender
            self.typing.pop(f"{place}{sender}", None)
            show(f"{place}{sender}: {message['message']}")

    async def _watch_typing(self) -> None:
        async for signal in self.player.signals():
            name = f"#{signal.room_id} {signal.src_player_id}" if signal.room_id else signal.src_player_id
            now = time.monotonic()
            self.typing = {who: at for who, at in self.typing.items() if now - at < TYPING_SECONDS}
            if is_typing(signal.data):
                if name not in self.typing:
                    show(f"  {name} is typing …")
                self.typing[name] = now

    async def _watch_presence(self) -> None:
        async for event in self.player.presence_events():
            show(f"  {described(event)}")

    def _type_on(self, line: str) -> None:
        """Tell the recipient of a half-typed line that this player types, at most once per interval."""
        now = time.monotonic()
        with suppress(NotUnderstood):
            so_far = parsed(line)
            is_named = not so_far.to or " " in line.strip()  # Until the space, the name can go on.
            to = so_far.to or self.to
            if to and so_far.text and is_named and now - self.told_typing_at >= TYPING_INTERVAL_SECONDS:
                self.told_typing_at = now
                task = asyncio.create_task(self._tell_typing(to))
                self.sending.add(task)
                task.add_done_callback(self.sending.discard)

    async def _tell_typing(self, to: str) -> None:
        with suppress(Refused, Offline, NotLetIn, CannotConnect, Kicked):
            if to.startswith("#"):
                await self.player.signal_to_room(to[1:], TYPING)
            else:
                await self.player.signal(to, TYPING)

    async def _type(self) -> None:
        """Send what is typed; the person can type on while it is sent."""
        show(INSTRUCTIONS)
        session: PromptSession[str] = PromptSession()
        session.default_buffer.on_text_changed += lambda buffer: self._type_on(buffer.text)
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
            understood = parsed(line)
            if understood.command:
                show(f"  {await self._carry_out(understood)}")
                self.last_stored = number
                return
            self.to = to = understood.to or self.to
            if understood.text:
                await self._send(addressed(to), understood.text)
                self.last_stored = number
                show(f"  stored for {to} after {1000 * (time.perf_counter() - began):.0f} ms")
            elif understood.to:
                show(f"  nothing sent; what you write goes to {to} now")
        except (Refused, Offline, NotLetIn, CannotConnect, Kicked, NotUnderstood) as failure:
            self.unsent.append(number)
            if self.is_terminal:
                show(f"  not sent: {failure}")
            else:
                show(f"line {number} not sent: {failure}", sys.stderr)

    async def _send(self, to: str, text: str) -> None:
        if to.startswith("#"):
            await self.player.send_to_room(to[1:], text)
        else:
            await self.player.send(to, text)

    async def _carry_out(self, line: Line) -> str:
        """Carry out a command, and return what to show."""
        room = line.to[1:]
        if line.command == "join":
            count = await self.player.join(room, presence=self.is_terminal or None)
            self.to = line.to
            return f"joined {line.to}, members: {count}; what you write goes there now"
        if line.command == "leave":
            await self.player.leave(room)
            self.to = None if self.to == line.to else self.to
            return f"left {line.to}"
        return described(await self.player.members(room))

    def _observe(self, event: str, about: Any) -> None:
        """Show the beginning and the end of an outage."""
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
    parser.add_argument("--to", help="whom you write to: a player, or a room with its #")
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
    except Kicked as kicked:
        return f"the service ended the connection: {kicked}{chat.cut_short()}"
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
