"""A player's connection, kept: it connects again by itself, loses nothing, and shows nothing twice.

    async with Player("wss://…/dev/", player_id="1") as player:
        await player.send("2", "Hello!")
        async for message in player:
            print(message["srcPlayerId"], message["message"])

It needs `websockets`, and nothing else of this project: copy the file. docs/protocol.md has the frames.
"""

import asyncio
import inspect
import itertools
import json
import random
import socket
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

WITHOUT_EFFECT = (ConnectionRefusedError, socket.gaierror, InvalidStatus)
"""Failures to connect after which the service cannot have sent anything."""

MESSAGE_BYTES = 128 * 1024
FRAGMENT_CHARACTERS = 8 * 1024
"""API Gateway takes messages of 128 KB, in frames of 32 KB: a character is four bytes at most."""

CLOSE_SECONDS = 1.0

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
    `lifetime`: after so long, or up to a tenth sooner, it connects anew.
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
    """`token`: a JWT, or what makes one, asked at every connect. `after`: where to go on.

    `observe` is called with "connecting" or "open" and None, "sent" or "received" and a frame, "lost" and
    why, "waiting" and the seconds until it connects again.
    It connects until it is closed or NotLetIn; an iteration and a send raise that.
    """

    def __init__(
        self,
        url: str,
        player_id: str | None = None,
        token: str | Callable[[], str | Awaitable[str]] | None = None,
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
        self._is_closing = False
        self._is_greeted = False
        self._is_planned = False
        self._heard_at = 0.0
        self._heard = asyncio.Event()
        self._changed = asyncio.Event()
        self._one_send_at_a_time = asyncio.Lock()
        self._ack_ids = itertools.count(1)
        self._unanswered: dict[int, asyncio.Future[Frame | None]] = {}
        self._unread: deque[Frame] = deque()
        self._seen: dict[str, None] = {}

    async def connect(self) -> None:
        """Return when the service has said that the player receives. Raises NotLetIn; else it keeps trying.

        After `close` it goes on from where it was.
        """
        if self._keeping is not None and self._is_closing:
            await asyncio.wait([self._keeping])
        starts = self._keeping is None or self._keeping.done()
        if starts:
            self._ended, self._is_closing = None, False
            self._keeping = asyncio.create_task(self._stay_connected())
            self._keeping.add_done_callback(self._end)
        try:
            await self._until(lambda: self._is_greeted)
        except asyncio.CancelledError:
            if starts:
                await self.close()
            raise

    async def close(self) -> None:
        """Go offline. Sends that wait for their answer raise Offline, and so may or may not be stored."""
        self._is_closing = True
        while self._keeping is not None and not self._keeping.done():
            self._keeping.cancel()
            await asyncio.wait([self._keeping], timeout=2 * CLOSE_SECONDS)

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
                if not answer.get("retryable", True):
                    raise Refused(answer["code"], answer["detail"])
                await self._rest(answer.get("retryAfterMs", 0) / 1000 + self._pause(tries))
        raise AssertionError("it is sent again until it is answered")

    async def ask(self, frame: Frame) -> Frame:
        """Return the answer to a frame, an `error` too. Raises Refused if it is too long, NotLetIn, Offline.

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
            self._tell("connecting", None)
            why = await self._converse()
            failures = 0 if self._is_greeted else failures + 1
            pause = 0.0 if self._is_planned else self._pause(failures)
            self._is_greeted = False
            self._tell("lost", why)
            self._tell("waiting", pause)
            await asyncio.sleep(pause)

    async def _converse(self) -> str:
        """Over one connection, until it is gone: why. Raises NotLetIn."""
        self._is_planned = False
        try:
            token = await self._fetch_token()
        except Exception as failure:  # Whatever the library raises that fetches it.
            return f"no token: {failure or type(failure).__name__}"
        try:
            opened = await self._open(token)
            self._has_tried = True
            try:
                return await self._read(opened)
            finally:
                await _leave(opened)
        except InvalidStatus as refused:
            status, body = refused.response.status_code, refused.response.body or b""
            if status in FOR_GOOD:
                raise NotLetIn(status, body.decode(errors="replace")) from None
            return f"refused with {status}"
        except (_Lost, OSError, InvalidHandshake, ConnectionClosed, asyncio.TimeoutError) as gone:
            self._has_tried = self._has_tried or not isinstance(gone, WITHOUT_EFFECT)
            return str(gone) or type(gone).__name__
        finally:
            self._lose()

    async def _fetch_token(self) -> str | None:
        token = self._token() if callable(self._token) else self._token
        if inspect.isawaitable(token):
            return await asyncio.wait_for(token, self._timing.answer)
        return token

    async def _open(self, token: str | None) -> ClientConnection:
        """Whoever has no position after a first try asks for everything.

        What that try was sent may have been lost on the way, and nobody but its client knows.
        """
        after = self.position or ("0" if self._has_tried else None)
        query = {"playerId": self._player_id, "after": after}
        given = urlencode({name: value for name, value in query.items() if value is not None})
        return await connect(
            f"{self._url}{'&' if '?' in self._url else '?'}{given}" if given else self._url,
            additional_headers={} if token is None else {"Authorization": f"Bearer {token}"},
            open_timeout=self._timing.answer,
            ping_interval=None,
        )

    async def _read(self, opened: ClientConnection) -> str:
        self._socket, self._heard_at = opened, time.monotonic()
        self._tell("open", None)
        self._change()
        watching = asyncio.create_task(self._watch(opened))
        try:
            async for text in opened:
                self._heard_at = time.monotonic()
                self._heard.set()
                self._take(json.loads(text))
        finally:
            watching.cancel()
        return "planned" if self._is_planned else f"closed with {opened.close_code}"

    async def _watch(self, opened: ClientConnection) -> None:
        """End it as planned. When nothing has come for long, ask whether anybody is there."""
        timing = self._timing
        end = time.monotonic() + timing.lifetime * random.uniform(0.9, 1)
        while (now := time.monotonic()) < end:
            due = self._heard_at + timing.ping
            if now < due:
                await asyncio.sleep(min(due, end) - now)
                continue
            self._heard.clear()
            asking = asyncio.ensure_future(self._write(opened, {"action": "ping"}))
            hearing = asyncio.ensure_future(self._heard.wait())
            await asyncio.wait([hearing], timeout=timing.answer)
            asking.cancel()
            hearing.cancel()
            if not self._heard.is_set():
                opened.transport.abort()
                return
        self._is_planned = True
        await _leave(opened)

    def _take(self, frame: Frame) -> None:
        self._tell("received", frame)
        kind = frame.get("type")
        if kind in ("message", "system"):
            self.position = max(self.position or "", frame["messageId"])
        if kind == "message":
            self._keep(frame)
        elif kind == "system" and frame["event"] == "connected":
            self._is_greeted = True
            self._change()
        elif kind == "error" and frame["code"] in AFTER_WHICH_IT_IS_CLOSED:
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
        asked_over, ack_id = self._socket, next(self._ack_ids)
        assert asked_over is not None
        answer = self._unanswered[ack_id] = asyncio.get_running_loop().create_future()
        try:
            await self._write(asked_over, {**frame, "ackId": ack_id})
            await asyncio.wait([answer], timeout=self._timing.answer)
            if not answer.done():
                asked_over.transport.abort()
                raise _Lost
        except (_Lost, ConnectionClosed):
            await self._until(lambda: self._socket is not asked_over)
        finally:
            del self._unanswered[ack_id]
        if not answer.done() or answer.result() is None:
            raise _Lost
        given: Frame = answer.result()
        return given

    async def _write(self, opened: ClientConnection, frame: Frame) -> None:
        """Raises Refused for what is too long, and _Lost when the line takes no more of it."""
        text = json.dumps(frame, ensure_ascii=False)
        if len(text.encode()) > MESSAGE_BYTES:
            raise Refused("too_large", f"a message and its envelope may take {MESSAGE_BYTES} bytes")
        self._tell("sent", frame)
        fragments = [text[at : at + FRAGMENT_CHARACTERS] for at in range(0, len(text), FRAGMENT_CHARACTERS)]
        writing = asyncio.ensure_future(opened.send(fragments if len(fragments) > 1 else text))
        await asyncio.wait([writing], timeout=self._timing.answer)
        if not writing.done():
            opened.transport.abort()
            raise _Lost("no answer")
        writing.result()

    def _answer(self, ack_id: int, frame: Frame) -> None:
        answer = self._unanswered.get(ack_id)
        if answer is not None and not answer.done():
            answer.set_result(frame)

    def _lose(self) -> None:
        self._socket = None
        self._change()
        for answer in self._unanswered.values():
            if not answer.done():
                answer.set_result(None)

    def _end(self, keeping: "asyncio.Task[None]") -> None:
        self._ended = Offline(CLOSED) if keeping.cancelled() else keeping.exception()
        self._is_greeted = False
        self._change()
        self._tell("lost", str(self._ended))

    def _tell(self, event: str, about: Any) -> None:
        """What watches must not disturb: what it raises is the event loop's to report."""
        try:
            self._observe(event, about)
        except Exception as failure:
            problem = {"message": f"observe failed at {event}", "exception": failure}
            asyncio.get_running_loop().call_exception_handler(problem)

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

    async def _rest(self, seconds: float) -> None:
        """Raises what ends the player, if that comes first."""
        changes = asyncio.ensure_future(self._until(lambda: False))
        try:
            await asyncio.wait([changes], timeout=seconds)
            if changes.done():
                changes.result()
        finally:
            changes.cancel()

    def _pause(self, failures: int) -> float:
        """Seconds, by chance: many that were cut off together must not come back together."""
        most = min(self._timing.longest_retry, self._timing.retry * 2 ** min(failures, 10))
        return random.uniform(0, most)


async def _leave(opened: ClientConnection) -> None:
    """With a good-bye, if that is possible soon."""
    closing = asyncio.ensure_future(opened.close())
    await asyncio.wait([closing], timeout=CLOSE_SECONDS)
    opened.transport.abort()
