"""A player's connection that sends and receives JSON."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

PATIENCE_SECONDS = 60
"""How long a test waits for a condition. Only a failing test waits so long."""


class Socket:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._arrived: deque[dict[str, Any]] = deque()

    @classmethod
    async def connect(cls, url: str, player_id: str, **options: Any) -> "Socket":
        """Connect, and wait for the greeting."""
        player = cls(await connect(f"{url}?playerId={player_id}", **options))
        greeting = await player.frame()
        assert (greeting["type"], greeting["event"]) == ("system", "connected"), greeting
        return player

    async def send(self, text: str) -> None:
        await self.socket.send(text)

    async def receive(self) -> str:
        return await asyncio.wait_for(self.socket.recv(decode=True), PATIENCE_SECONDS)

    async def frame(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await self.receive())
        return frame

    async def ask(self, **frame: Any) -> dict[str, Any]:
        """Send a frame and return the reply. Messages that arrive before it are kept for `message`."""
        await self.send(json.dumps(frame))
        while (reply := await self.frame())["type"] == "message":
            self._arrived.append(reply)
        return reply

    async def send_message(self, to: str, message: str) -> dict[str, Any]:
        return await self.ask(action="sendmessage", destinationPlayerId=to, message=message)

    async def messages(self, count: int) -> list[dict[str, Any]]:
        return [await self.message() for _ in range(count)]

    async def message(self) -> dict[str, Any]:
        """Return the next message."""
        if self._arrived:
            return self._arrived.popleft()
        while (frame := await self.frame())["type"] != "message":
            pass
        return frame

    async def close_code(self) -> int:
        await asyncio.wait_for(self.socket.wait_closed(), PATIENCE_SECONDS)
        assert self.socket.close_code is not None
        return self.socket.close_code


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition is true."""

    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(poll(), PATIENCE_SECONDS)
