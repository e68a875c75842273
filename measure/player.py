"""A player of a load test: connects, sends, and takes down what arrives and when."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from measure.observations import Connect, Observations, Send

GREETING_SECONDS = 60
"""As long as the protocol lets a connection take to go live."""


class NotConnected(Exception):
    """The handshake was refused, or the connection was never greeted; the text says which."""


class Player:
    """`credentials`: what the URL's query says about who this is."""

    def __init__(self, url: str, name: str, credentials: dict[str, str], observed: Observations) -> None:
        self.name = name
        self._url = url
        self._credentials = credentials
        self._observed = observed
        self._next_number = 0
        self._on_settled: Callable[[Send], None] | None = None
        self._position: str | None = None

    async def connect(self, resume: bool = False) -> None:
        """Until the greeting has come: only from then on is it sure to receive. Raises NotConnected.

        `resume`: from the position that it had reached before.
        """
        query = {**self._credentials, **({"after": self._position} if resume and self._position else {})}
        attempt = Connect(time.time())
        self._observed.connects.append(attempt)
        self._greeted = asyncio.get_running_loop().create_future()
        try:
            self._socket: ClientConnection = await connect(
                f"{self._url}?{urlencode(query)}", compression=None, ping_interval=None, open_timeout=60
            )
        except (OSError, InvalidHandshake, TimeoutError) as failure:
            self._observed.errors[_handshake_code(failure)] += 1
            raise NotConnected(_handshake_code(failure)) from failure
        attempt.accepted = time.time()
        self._reading = asyncio.ensure_future(self._read(attempt))
        try:
            await asyncio.wait_for(asyncio.shield(self._greeted), GREETING_SECONDS)
        except asyncio.TimeoutError as failure:
            self._observed.errors["not greeted"] += 1
            raise NotConnected("not greeted") from failure

    async def disconnect(self) -> None:
        await self._socket.close()
        await self._reading

    def drop(self) -> None:
        """End the connection without a word, as a phone in a tunnel does."""
        self._socket.transport.abort()

    async def send(self, to: str, due: float, message: str = "") -> Send:
        """Send the next message; it is written down, and settled when its reply and it itself arrive."""
        send = self._observed.send(self.name, self._next_number, due)
        self._next_number += 1
        frame = {
            "action": "sendmessage",
            "destinationPlayerId": to,
            "message": f"{send.number} {message}",
            "ackId": send.number,
        }
        try:
            await self._socket.send(json.dumps(frame))
        except ConnectionClosed:
            self._observed.fail(send, "connection closed")
        return send

    def on_settled(self, settled: Callable[[Send], None]) -> None:
        """Called with each send of somebody's that arrives here, and with each of its own that is refused."""
        self._on_settled = settled

    async def _read(self, attempt: Connect) -> None:
        try:
            async for text in self._socket:
                self._take(json.loads(text), attempt, time.time())
        except ConnectionClosed:
            pass
        finally:
            if not self._greeted.done():
                self._greeted.set_exception(NotConnected("closed before it was greeted"))
                self._observed.errors["closed before it was greeted"] += 1

    def _take(self, frame: dict[str, Any], attempt: Connect, now: float) -> None:
        kind = frame.get("type")
        if kind == "message":
            self._position = max(self._position or "", frame["messageId"])
            number = int(frame["message"].partition(" ")[0])
            send = self._observed.receive(self.name, frame["srcPlayerId"], number, now)
            if send is not None and self._on_settled is not None:
                self._on_settled(send)
        elif kind == "ack":
            send = self._observed.sends[self.name, frame["ackId"]]
            send.acknowledged, send.message_id = now, frame["messageId"]
        elif kind == "error":
            self._refuse(frame)
        elif frame.get("event") == "connected":
            self._position = max(self._position or "", frame["messageId"])
            attempt.greeted, attempt.connection_id = now, frame["connectionId"]
            self._greeted.set_result(None)
        else:
            self._observed.errors["a frame of the gateway's own"] += 1

    def _refuse(self, frame: dict[str, Any]) -> None:
        send = self._observed.sends.get((self.name, frame.get("ackId", -1)))
        if send is None:
            self._observed.errors[frame["code"]] += 1
            return
        self._observed.fail(send, frame["code"])
        if self._on_settled is not None:
            self._on_settled(send)


def _handshake_code(failure: Exception) -> str:
    response = getattr(failure, "response", None)
    return f"handshake {response.status_code}" if response is not None else type(failure).__name__
