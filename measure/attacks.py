"""Attackers for load tests, which try to delay all other players of their shard. For open stages only."""

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

FLOOD_FRAMES_PER_SECOND = 17
"""Just under the default rate limit, because each reconnection counts against it too."""

ABORTS_PER_SECOND = 5
LARGE_MESSAGE = "x" * 30_000
LARGE_MESSAGES = 450
"""Together larger than the buffers between the service and a client."""

BACKLOG_WRITERS, MESSAGES_PER_WRITER = 10, 500
"""They need half a minute. The replay of all that takes longer than a window of the rate limit."""

RESET = struct.pack("ii", 1, 0)
"""The SO_LINGER option with which `close` sends a TCP reset immediately."""

CANCEL_SECONDS = 1.0
GREETING_SECONDS = 30
GREETING = '"event":"connected"'

Attack = Callable[[str, str], Awaitable[None]]


@asynccontextmanager
async def running(attack: Attack, url: str, name: str) -> AsyncIterator[None]:
    """Run the attack until the block ends. Raises the attack's exception if it failed."""
    attacking = asyncio.ensure_future(attack(url, name))
    try:
        yield
    finally:
        if attacking.done():
            attacking.result()
        while not attacking.done():  # Before Python 3.12, `wait_for` can swallow a cancellation.
            attacking.cancel()
            await asyncio.wait([attacking], timeout=CANCEL_SECONDS)


async def flood_itself(url: str, name: str) -> None:
    """Write to itself, and reconnect continuously with the latest position."""
    latest = "0"
    async with _connected(url, name) as writer:
        writing = asyncio.ensure_future(_write(writer, name, "x", FLOOD_FRAMES_PER_SECOND))
        while not writing.done():
            with suppress(OSError, WebSocketException, asyncio.TimeoutError):
                async with _connected(url, name, latest) as reader:
                    latest = await _greeting(reader)
            await asyncio.sleep(0.1)
        writing.result()


async def abort_handshakes(url: str, name: str) -> None:
    """Send handshake after handshake, and reset each connection immediately."""
    target = urlsplit(url)
    number = 0
    while True:
        query = urlencode({"playerId": f"{name}-{number}"})
        request = (
            f"GET {target.path}?{query} HTTP/1.1\r\nHost: {target.netloc}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        with socket.create_connection((target.hostname or "", target.port or 80)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.sendall(request.encode())
        number += 1
        await asyncio.sleep(1 / ABORTS_PER_SECOND)


async def never_read(url: str, name: str) -> None:
    """Store large messages, then reconnect for all of them continuously without reading any."""
    async with _connected(url, f"{name}-writer") as writer:
        await _write(writer, name, LARGE_MESSAGE, FLOOD_FRAMES_PER_SECOND, LARGE_MESSAGES)
    while True:
        with suppress(OSError, WebSocketException, asyncio.TimeoutError):
            async with _connected(url, name, "0", max_queue=1) as silent:
                await asyncio.wait_for(silent.wait_closed(), 5)


async def long_backlog(url: str, name: str) -> None:
    """Let several writers store a backlog, then reconnect for all of it continuously."""
    await asyncio.gather(*(_store(url, name, f"{name}-writer-{n}") for n in range(BACKLOG_WRITERS)))
    while True:
        with suppress(OSError, WebSocketException, asyncio.TimeoutError):
            async with _connected(url, name, "0") as reader:
                await _greeting(reader)


async def _store(url: str, name: str, writer_name: str) -> None:
    async with _connected(url, writer_name) as writer:
        await _write(writer, name, "x", FLOOD_FRAMES_PER_SECOND, MESSAGES_PER_WRITER)


def _connected(url: str, name: str, after: str | None = None, **options: Any) -> connect:
    query = {"playerId": name} | ({"after": after} if after is not None else {})
    return connect(f"{url}?{urlencode(query)}", proxy=None, ping_interval=None, close_timeout=0.1, **options)


async def _greeting(client: ClientConnection) -> str:
    """Read until the greeting, and return its messageId. Raises TimeoutError."""
    return await asyncio.wait_for(_read_greeting(client), GREETING_SECONDS)


async def _read_greeting(client: ClientConnection) -> str:
    while True:
        text = await client.recv()
        if GREETING in str(text):  # Parsing each message would take time from the measured pairs.
            return str(json.loads(text)["messageId"])


async def _write(
    client: ClientConnection, to: str, text: str, per_second: float, count: int | None = None
) -> None:
    frame = json.dumps({"action": "sendmessage", "destinationPlayerId": to, "message": text})
    reading = asyncio.ensure_future(_read_all(client))
    began, number = time.monotonic(), 0
    while count is None or number < count:
        await client.send(frame)
        number += 1
        await asyncio.sleep(max(0, began + number / per_second - time.monotonic()))
    reading.cancel()


async def _read_all(client: ClientConnection) -> None:
    async for _ in client:
        pass
