"""A player of a load test, which connects, sends, and records what it receives and when."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from clients import player
from measure.observations import Connect, Observations, Send

GREETING_SECONDS = 60
"""The longest time that the protocol allows from the handshake to the greeting."""


class NotConnected(Exception):
    """The handshake was refused, or the greeting never came. The text says which."""


class LoadPlayer:
    """`client` takes an observer and returns the client, which reports its events to the observer."""

    def __init__(
        self,
        name: str,
        client: Callable[[Callable[[str, Any], None]], player.Player],
        observed: Observations,
    ) -> None:
        self.name = name
        self._client = client(self._observe)
        self._observed = observed
        self._next_number = 0
        self._on_settled: Callable[[Send], None] | None = None
        self._attempt = Connect(0)
        self._greeted: asyncio.Future[None] | None = None
        self._reading: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Connect, and wait for the greeting, because the connection is live only then. Raises NotConnected.

        After `disconnect`, continue from the last position.
        """
        self._greeted = asyncio.get_running_loop().create_future()
        connecting = asyncio.ensure_future(self._client.connect())
        try:
            await asyncio.wait_for(self._greeted, GREETING_SECONDS)
            await connecting
        except asyncio.TimeoutError as failure:
            self._observed.errors["not greeted"] += 1
            raise NotConnected("not greeted") from failure
        finally:
            connecting.cancel()

    async def disconnect(self) -> None:
        await self._client.close()

    async def send(self, to: str, due: float, message: str = "") -> Send:
        """Send the next message, retrying until it is acknowledged or refused, and return its record."""
        send = self._observed.send(self.name, self._next_number, due)
        return await self._until_answered(send, self._client.send(to, f"{send.number} {message}"))

    async def join(self, room_id: str) -> None:
        """Join a room. Raises player.Refused."""
        await self._carry_out({"action": "join", "roomId": room_id})

    async def send_to_room(self, room_id: str, members: int, due: float) -> Send:
        """Send the next message to a room. See `send`."""
        send = self._observed.send(self.name, self._next_number, due, room_id, members)
        frame = {"action": "sendmessage", "roomId": room_id, "message": str(send.number)}
        unique = {"clientMessageId": f"{self.name}-{send.number}"}
        return await self._until_answered(send, self._carry_out(frame | unique))

    async def _carry_out(self, frame: player.Frame) -> player.Frame:
        """Return the frame's reply. Retries retryable errors, and raises player.Refused for others."""
        while (reply := await self._client.ask(frame))["type"] == "error":
            if not reply.get("retryable", True):
                raise player.Refused(reply["code"], reply["detail"])
            await asyncio.sleep(reply.get("retryAfterMs", 0) / 1000)
        return reply

    async def _until_answered(self, send: Send, answer: Awaitable[player.Frame]) -> Send:
        self._next_number += 1
        try:
            await answer
        except (player.Refused, player.Offline, player.NotLetIn) as failure:
            self._observed.fail(send, str(failure))
            self._settle(send)
        return send

    def on_settled(self, settled: Callable[[Send], None]) -> None:
        """Call `settled` with each message received here, and with each own message that is refused."""
        self._on_settled = settled

    def _observe(self, event: str, about: Any) -> None:
        now = time.time()
        if event == "connecting":
            self._attempt = Connect(now)
            self._observed.connects.append(self._attempt)
        elif event == "open":
            self._attempt.accepted = now
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read())
        elif event == "received":
            self._record(about, now)
        elif event == "lost" and about != player.CLOSED:
            self._observed.errors[about] += 1
            if self._greeted is not None and not self._greeted.done():
                self._greeted.set_exception(NotConnected(about))

    async def _read(self) -> None:
        """Discard messages, which `_observe` records. A full queue would disconnect the client."""
        with suppress(player.NotLetIn, player.CannotConnect):
            async for _ in self._client:
                pass

    def _record(self, frame: dict[str, Any], now: float) -> None:
        kind = frame.get("type")
        if kind == "message":
            send = self._observed.receive(self.name, frame["srcPlayerId"], _number(frame), now)
            if send is not None:
                self._settle(send)
        elif kind == "ack":
            send = self._observed.sends[self.name, _number(frame)]
            send.acknowledged, send.message_id = now, frame["messageId"]
        elif kind == "error":
            self._observed.errors[frame["code"]] += 1
        elif frame.get("event") == "connected":
            self._attempt.greeted, self._attempt.connection_id = now, frame["connectionId"]
            if self._greeted is not None and not self._greeted.done():
                self._greeted.set_result(None)
        elif kind is None:
            self._observed.errors["API Gateway failure"] += 1

    def _settle(self, send: Send) -> None:
        if self._on_settled is not None:
            self._on_settled(send)


def _number(frame: dict[str, Any]) -> int:
    return int(frame["message"].partition(" ")[0])
