"""A player in the terminal: what you type goes to another player, what others send appears.

python -m clients.chat PLAYER --to PLAYER --url wss://…/dev/

A stage with tokens wants one in the environment variable TOKEN.
"""

import argparse
import asyncio
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.patch_stdout import patch_stdout

from clients.player import CannotConnect, NotLetIn, Offline, Player, Refused

URL = f"ws://127.0.0.1:{os.environ.get('WEBSOCKET_PORT', '8001')}/dev/"
LAST_WORDS_SECONDS = 5
"""How long what was typed just before leaving may take to be stored."""

INSTRUCTIONS = "@PLAYER and a text writes to that player, a text alone to the last one; Ctrl-D leaves."


@dataclass(slots=True)
class Chat:
    """One player's conversation. `to`: whom a text without a name goes to."""

    url: str
    name: str
    to: str | None
    is_down: bool = False
    unsent: int = 0
    sending: set[asyncio.Task[None]] = field(default_factory=set)
    player: Player = field(init=False)

    def __post_init__(self) -> None:
        self.player = Player(self.url, self.name, os.environ.get("TOKEN"), observe=self._observe)

    async def run(self) -> None:
        """Until the person leaves. Raises NotLetIn and CannotConnect."""
        print(INSTRUCTIONS)
        with patch_stdout():
            receiving = asyncio.create_task(self._receive())
            typing = asyncio.create_task(self._type())
            await asyncio.wait([receiving, typing], return_when=asyncio.FIRST_COMPLETED)
            typing.cancel()
            if typing.done():
                typing.result()
            if self.sending:
                await asyncio.wait(self.sending, timeout=LAST_WORDS_SECONDS)
            await self.player.close()
            with suppress(Offline):  # Left before it was connected.
                await receiving

    async def _receive(self) -> None:
        await self.player.connect()
        async for message in self.player:
            self.to = self.to or message["srcPlayerId"]
            print(f"{message['srcPlayerId']}: {_printable(message['message'])}")

    async def _type(self) -> None:
        session: PromptSession[str] = PromptSession()
        while True:
            try:
                line = await session.prompt_async(lambda: f"{self.name} → {self.to or '?'} > ")
            except (EOFError, KeyboardInterrupt):
                return
            self._say(line.strip())

    def _say(self, line: str) -> None:
        if line.startswith("@"):
            self.to, _, line = line[1:].partition(" ")
        if not line:
            return
        if not self.to:
            print("To whom? Begin with @ and the player's id, as in: @2 Hello!")
            return
        task = asyncio.create_task(self._send(self.to, line))
        self.sending.add(task)
        task.add_done_callback(self.sending.discard)

    async def _send(self, to: str, text: str) -> None:
        began = time.perf_counter()
        try:
            await self.player.send(to, text)
        except (Refused, Offline, NotLetIn, CannotConnect) as failure:
            self.unsent += 1
            print(f"  not sent: {failure}")
        else:
            print(f"  stored after {1000 * (time.perf_counter() - began):.0f} ms")

    def _observe(self, event: str, about: Any) -> None:
        """Of one outage, its beginning and its end."""
        if event == "received" and about.get("event") == "connected":
            self.is_down = False
            print(f"  connected as {self.name}")
        elif event == "waiting" and not self.is_down and about > 0:
            self.is_down = True
            hint = " Does `make run` run in another terminal?" if self.url == URL else ""
            print(f"  not connected to {self.url}; trying again.{hint}")


def _printable(text: str) -> str:
    """What a stranger sent must not be able to steer the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def main() -> str | None:
    """What went wrong, if something did."""
    parser = argparse.ArgumentParser(prog="python -m clients.chat", description="A player in the terminal.")
    parser.add_argument("player", help="who you are")
    parser.add_argument("--to", help="whom you write to")
    parser.add_argument("--url", default=URL, help=f"of the WebSocket API ({URL})")
    asked = parser.parse_args()
    chat = Chat(asked.url, asked.player, asked.to)
    try:
        asyncio.run(chat.run())
    except NotLetIn as refusal:
        return f"not let in: {refusal}"
    except CannotConnect as wrong:
        return str(wrong)
    return f"{chat.unsent} not sent" if chat.unsent else None


if __name__ == "__main__":
    sys.exit(main())
