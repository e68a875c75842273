"""A player's connection, kept: it connects again by itself, loses nothing, and shows nothing twice.

    async with Player("wss://…/dev/", player_id="1") as player:
        await player.send("2", "Hello!")
        async for message in player:
            print(message["srcPlayerId"], message["message"])

It needs `websockets`, and nothing else of this project: copy the file. docs/protocol.md has the frames.
"""

import asyncio
import itertools
import json
import random
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

Frame = dict[str, Any]

FOR_GOOD = frozenset({400, 401, 403, 404, 414})
"""Handshake statuses after which the same handshake cannot succeed."""

AFTER_WHICH_IT_IS_CLOSED = frozenset({"unauthorized", "unknown_connection"})

SEEN_MESSAGES = 100_000
"""How many messageIds are remembered, some 10 MB: a replay can begin long before the position."""


CLOSED = "closed"
"""Why a connection was lost that its player closed."""


class NotLetIn(Exception):
    """The handshake was refused, and would be again. `status` as docs/protocol.md lists them."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status


class Refused(Exception):
    """The service will not carry out a frame, however often it is sent. `code` and `detail` are its own."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


class Offline(Exception):
    """The player was closed."""


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds. API Gateway ends a connection after 10 minutes without a frame, and after two hours.

    `ping`: after so long without a frame. `answer`: how long any answer may take, a handshake too.
    `lifetime`: after so long, or up to a tenth sooner, it connects anew at a quiet moment.
    `retry`, `longest_retry`: at most so long before it connects again, at first and in the end.
    """

    ping: float = 120.0
    answer: float = 30.0
    lifetime: float = 6900.0
    retry: float = 1.0
    longest_retry: float = 30.0


class _Lost(Exception):
    """The connection is gone, or as good as gone. What was not answered is sent again over the next one."""


class Player:
    """`token`: a JWT, or what makes one, asked at every connect. `after`: the position to go on from.

    `observe` is called with "connecting" or "open" and None, "sent" or "received" and a frame, "lost" and
    why, "waiting" and the seconds until it connects again.
    It connects until it is closed or NotLetIn; an iteration and a send raise that.
    """

    def __init__(
        self,
        url: str,
        player_id: str | None = None,
        token: str | Callable[[], Awaitable[str]] | None = None,
        after: str | None = None,
        timing: Timing = Timing(),
        observe: Callable[[str, Any], None] = lambda event, about: None,
    ) -> None:
        self.position = after
        self._url = url
        self._player_id = player_id
        self._token = token
        self._timing = timing
        self._observe = observe
        self._socket: ClientConnection | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._ended: BaseException | None = Offline("not connected yet")
        self._has_tried = False
        self._is_greeted = False
        self._changed = asyncio.Event()
        self._one_send_at_a_time = asyncio.Lock()
        self._ack_ids = itertools.count(1)
        self._unanswered: dict[int, asyncio.Future[Frame]] = {}
        self._unread: deque[Frame] = deque()
        self._seen: dict[str, None] = {}

    async def connect(self) -> None:
        """Return when the service has said that the player receives. Raises NotLetIn; else it keeps trying.

        After `close` it goes on from where it was.
        """
        if self._keeping is None or self._keeping.done():
            self._ended = None
            self._keeping = asyncio.create_task(self._stay_connected())
            self._keeping.add_done_callback(self._end)
        try:
            await self._until(lambda: self._is_greeted)
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self) -> None:
        """Go offline. Sends that wait for their answer raise Offline, and so may or may not be stored."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])

    async def send(self, to: str, message: str, client_message_id: str | None = None) -> Frame:
        """Return the `ack`. Raises Refused, NotLetIn and Offline.

        Sent again until it is answered; its `clientMessageId`, made up unless given, stores it once.
        One is sent after the other, so they arrive in the order in which they were asked for.
        """
        frame = {
            "action": "sendmessage",
            "destinationPlayerId": to,
            "message": message,
            "clientMessageId": client_message_id or str(uuid.uuid4()),
        }
        async with self._one_send_at_a_time:
            for tries in itertools.count():
                answer = await self.ask(frame)
                if answer["type"] == "ack":
                    return answer
                if not answer["retryable"]:
                    raise Refused(answer["code"], answer["detail"])
                await asyncio.sleep(answer.get("retryAfterMs", 0) / 1000 + self._pause(tries))
        raise AssertionError("it is sent again until it is answered")

    async def ask(self, frame: Frame) -> Frame:
        """Return the answer to a frame, an `error` too. Raises NotLetIn and Offline.

        Asked again when the connection is lost before the answer, so for what can be asked twice.
        """
        while True:
            try:
                return await self._ask(frame)
            except _Lost:
                continue

    async def __aenter__(self) -> "Player":
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> "Player":
        return self

    async def __anext__(self) -> Frame:
        """The next message that was not seen before; ends when the player is closed."""
        try:
            await self._until(lambda: len(self._unread) > 0)
        except Offline:
            raise StopAsyncIteration from None
        return self._unread.popleft()

    # One connection after the other

    async def _stay_connected(self) -> None:
        failures = 0
        while True:
            self._observe("connecting", None)
            why = await self._converse()
            failures = 0 if self._is_greeted else failures + 1
            pause = self._pause(failures) if why else 0.0
            self._is_greeted = False
            self._observe("lost", why or "planned")
            self._observe("waiting", pause)
            await asyncio.sleep(pause)

    async def _converse(self) -> str:
        """Over one connection, until it is gone: why, or nothing if that was planned. Raises NotLetIn."""
        try:
            url, headers = await self._handshake()
            async with connect(
                url,
                additional_headers=headers,
                open_timeout=self._timing.answer,
                close_timeout=1,
                ping_interval=None,
            ) as socket:
                self._socket = socket
                self._observe("open", None)
                self._change()
                await self._read(socket)
                return ""
        except InvalidStatus as refused:
            status, body = refused.response.status_code, refused.response.body or b""
            if status in FOR_GOOD:
                raise NotLetIn(status, body.decode(errors="replace")) from None
            return f"refused with {status}"
        except (_Lost, OSError, InvalidHandshake, ConnectionClosed, asyncio.TimeoutError) as gone:
            return str(gone) or type(gone).__name__
        finally:
            self._lose()

    async def _handshake(self) -> tuple[str, dict[str, str]]:
        """The URL and headers. Whoever has no position after a first try asks for everything.

        What that try was sent may have been lost on the way, and nobody but its client knows.
        """
        after = self.position or ("0" if self._has_tried else None)
        self._has_tried = True
        query = {"playerId": self._player_id, "after": after}
        given = urlencode({name: value for name, value in query.items() if value is not None})
        token = await self._token() if callable(self._token) else self._token
        url = f"{self._url}{'&' if '?' in self._url else '?'}{given}" if given else self._url
        return url, {} if token is None else {"Authorization": f"Bearer {token}"}

    async def _read(self, socket: ClientConnection) -> None:
        """Until the planned end. When nothing has come for long, ask whether anybody is there."""
        timing = self._timing
        end = time.monotonic() + timing.lifetime * random.uniform(0.9, 1)
        due, asked = time.monotonic() + timing.ping, False
        while time.monotonic() < end:
            try:
                text = await asyncio.wait_for(socket.recv(), min(due, end) - time.monotonic())
            except asyncio.TimeoutError:
                if time.monotonic() < due:
                    continue
                if asked:
                    socket.transport.abort()
                    raise _Lost("no answer") from None
                await self._write(socket, {"action": "ping"})
                due, asked = time.monotonic() + timing.answer, True
                continue
            due, asked = time.monotonic() + timing.ping, False
            self._take(json.loads(text))

    def _take(self, frame: Frame) -> None:
        self._observe("received", frame)
        kind = frame.get("type")
        if kind in ("message", "system"):
            self.position = max(self.position or "", frame["messageId"])
        if kind == "message":
            self._keep(frame)
        elif frame.get("event") == "connected":
            self._is_greeted = True
            self._change()
        elif frame.get("code") in AFTER_WHICH_IT_IS_CLOSED:
            raise _Lost(frame["code"])
        elif kind is None:  # API Gateway's own, and it does not say to which frame.
            for ack_id in list(self._unanswered):
                self._answer(ack_id, {"type": "error", "retryable": True})
        elif "ackId" in frame:
            self._answer(frame["ackId"], frame)

    def _keep(self, message: Frame) -> None:
        if message["messageId"] in self._seen:
            return
        self._seen[message["messageId"]] = None
        if len(self._seen) > SEEN_MESSAGES:
            del self._seen[next(iter(self._seen))]
        self._unread.append(message)
        self._change()

    # Questions and answers

    async def _ask(self, frame: Frame) -> Frame:
        """Over one connection. Raises _Lost when there will be no answer."""
        await self._until(lambda: self._socket is not None)
        socket = self._socket
        assert socket is not None
        ack_id = next(self._ack_ids)
        answer = self._unanswered[ack_id] = asyncio.get_running_loop().create_future()
        try:
            await self._write(socket, {**frame, "ackId": ack_id})
            return await asyncio.wait_for(answer, self._timing.answer)
        except (asyncio.TimeoutError, ConnectionClosed):
            socket.transport.abort()
            await self._until(lambda: self._socket is not socket)
            raise _Lost from None
        finally:
            self._unanswered.pop(ack_id, None)

    async def _write(self, socket: ClientConnection, frame: Frame) -> None:
        self._observe("sent", frame)
        await socket.send(json.dumps(frame))

    def _answer(self, ack_id: int, frame: Frame) -> None:
        answer = self._unanswered.get(ack_id)
        if answer is not None and not answer.done():
            answer.set_result(frame)

    def _lose(self) -> None:
        self._socket = None
        self._change()
        for answer in self._unanswered.values():
            if not answer.done():
                answer.set_exception(_Lost())

    def _end(self, keeping: asyncio.Task[None]) -> None:
        self._ended = Offline(CLOSED) if keeping.cancelled() else keeping.exception()
        self._is_greeted = False
        self._observe("lost", str(self._ended))
        self._change()

    # Waiting

    def _change(self) -> None:
        """Whoever waits looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Raises what ended the player, if that comes first."""
        while not condition():
            if self._ended is not None:
                raise self._ended
            await self._changed.wait()

    def _pause(self, failures: int) -> float:
        """Seconds, by chance: many that were cut off together must not come back together."""
        most = min(self._timing.longest_retry, self._timing.retry * 2 ** min(failures, 10))
        return random.uniform(0, most)
