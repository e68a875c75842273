"""A player of a load test: connects, sends, and takes down what arrives and when."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from clients import player
from measure.observations import Connect, Observations, Send

GREETING_SECONDS = 60
"""As long as the protocol lets a connection take to go live."""


class NotConnected(Exception):
    """The handshake was refused, or the connection was never greeted; the text says which."""


class LoadPlayer:
    """`client` makes the connection, which it is to tell of by the function that it is given."""

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
        """Until the greeting has come: only from then on is it sure to receive. Raises NotConnected.

        After `disconnect`, it goes on from where it was.
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
        """Send the next message until it is acknowledged or refused; it is written down with its times."""
        send = self._observed.send(self.name, self._next_number, due)
        self._next_number += 1
        try:
            await self._client.send(to, f"{send.number} {message}")
        except (player.Refused, player.Offline, player.NotLetIn) as failure:
            self._observed.fail(send, str(failure))
            self._settle(send)
        return send

    def on_settled(self, settled: Callable[[Send], None]) -> None:
        """Called with each send of somebody's that arrives here, and with each of its own that is refused."""
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
            self._take(about, now)
        elif event == "lost" and about != player.CLOSED:
            self._observed.errors[about] += 1
            if self._greeted is not None and not self._greeted.done():
                self._greeted.set_exception(NotConnected(about))

    async def _read(self) -> None:
        """Read what `_observe` has seen: too many unread messages would take the client offline."""
        with suppress(player.NotLetIn, player.CannotConnect):
            async for _ in self._client:
                pass

    def _take(self, frame: dict[str, Any], now: float) -> None:
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
            self._observed.errors["a frame of the gateway's own"] += 1

    def _settle(self, send: Send) -> None:
        if self._on_settled is not None:
            self._on_settled(send)


def _number(frame: dict[str, Any]) -> int:
    return int(frame["message"].partition(" ")[0])
