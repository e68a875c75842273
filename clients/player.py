"""A player's connection, kept: it connects again by itself, loses nothing, and shows nothing twice.

    async with Player("wss://…/dev/", player_id="1") as player:
        await player.send("2", "Hello!")
        async for message in player:
            print(message["srcPlayerId"], message["message"])

It needs `websockets` 15 or newer, and nothing else of this project: copy the file.
docs/protocol.md has the frames.
"""

import asyncio
import inspect
import ipaddress
import itertools
import json
import random
import re
import socket
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
)
from websockets.uri import parse_uri

Frame = dict[str, Any]
T = TypeVar("T")

FOR_GOOD = frozenset({400, 401, 403, 404, 405, 407, 414, 501})
"""Handshake statuses, of the service or of a proxy, after which the same handshake cannot succeed."""

TOKEN_ATTEMPTS = 3
"""How many tokens of a function can be rejected in a row before the player gives up."""

ATTEMPT_INTERVAL_SECONDS = 0.5
"""Two attempts of one `connect` begin at least this far apart, whatever the timing says."""

LONGEST_PAUSE_SECONDS = 2_147_483.0
"""24 days, the longest timer of JavaScript: no pause is longer, in this client as in the other."""

WITHOUT_EFFECT = (ConnectionRefusedError, socket.gaierror)
"""Failures to connect after which the service cannot have sent anything."""

MESSAGE_BYTES = 128 * 1024
FRAGMENT_CHARACTERS = 8 * 1024
"""API Gateway takes messages of 128 KB, in frames of 32 KB: a character is four bytes at most."""

CLOSE_SECONDS = 1.0

CLOSING_ERRORS = frozenset({"unauthorized", "unknown_connection"})

GREETING_SECONDS = 60.0
"""A connection that was not greeted is pinged so soon: the service closes one that should be live by then."""

SEEN_MESSAGES = 100_000
"""How many messageIds are remembered, some 10 MB: a replay can begin long before the position."""

UNREAD_MESSAGES = 1000
"""How many messages can wait for the program to read them."""

TOO_MANY_UNREAD = "too many unread messages"

PING: Frame = {"action": "ping"}

PROXY_IS_WRONG = "the proxy of the environment can't be used; one is as http://proxy.example.com:3128"

STRINGS = {
    "message": ("messageId", "srcPlayerId", "message"),
    "system": ("messageId", "event"),
    "error": ("code", "detail"),
    "ack": ("messageId",),
}
"""The keys that must hold a string, by the type of the service's frame."""

POSITIONED = frozenset({"message", "system"})
"""Frames whose messageId becomes part of the next URL."""

CLOSED = "closed"
"""Why a connection was lost that its player closed."""


class NotLetIn(Exception):
    """The handshake was refused, and would be again. `status` as docs/protocol.md lists them."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status


class CannotConnect(ValueError):
    """The URL, the token or the proxy is wrong, so no attempt can succeed. The text says what is right."""


class Refused(Exception):
    """The service will not carry out a frame, however often it is sent. `code` and `detail` are its own.

    The client also raises it, with the service's code, for frames that it cannot send at all.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


class Offline(Exception):
    """The player was closed."""


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds. API Gateway ends a connection after 10 minutes without a frame, and after two hours.

    `ping`: after so long without a frame. `answer`: how long any answer may take, a handshake too.
    `lifetime`: after so long, or up to a tenth sooner, the player connects again.
    `retry`, `longest_retry`: at most so long before it connects again, at first and in the end; no less than
    ATTEMPT_INTERVAL_SECONDS after the attempt before.
    Each is a number above 0; `math.inf` is as long as possible. Anything else raises ValueError.
    """

    ping: float = 300.0
    answer: float = 30.0
    lifetime: float = 6900.0
    retry: float = 1.0
    longest_retry: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not float(value) > 0:  # NaN is not above 0 either.
                raise ValueError(f"{field.name} must be a number of seconds above 0, not {value!r}")


class _Lost(Exception):
    """The connection is gone, or as good as gone. What was not answered is sent again over the next one."""


@dataclass(slots=True, eq=False)
class _Session:
    """From a `connect` to what ended it. What begins in one session doesn't go on in the next."""

    ended: BaseException | None = None


class Player:
    """`token`: a JWT, or a function that returns or awaits one, called at every attempt to connect.
    `after`: the position to go on from. An empty `player_id`, `token` or `after` is the same as none.

    `observe` is called with "connecting" or "open" and None, "sent" or "received" and a frame, "lost" and
    why, "waiting" and the seconds until it connects again.
    The player connects until it is closed, or until NotLetIn or CannotConnect; an iteration and a send raise
    these. A function's token that is rejected is fetched again, unless it is the third in a row.
    Proxies are taken from the environment, except for addresses of this machine.

    UNREAD_MESSAGES wait for an iteration; those that come then are dropped, and come again over the next
    connection. The player makes that when half has been read, or when it must send. Until then it's offline,
    unless it has sent or asked over its connection: that one stays, for the replies.
    """

    def __init__(
        self,
        url: str,
        player_id: str | int | None = None,
        token: str | Callable[[], str | Awaitable[str | None] | None] | None = None,
        after: str | None = None,
        timing: Timing | None = None,
        observe: Callable[[str, Any], None] | None = None,
    ) -> None:
        if not isinstance(player_id, str | int | None) or isinstance(player_id, bool):
            raise TypeError(f"player_id must be a string, an int or None, not {type(player_id).__name__}")
        if not isinstance(after, str | None):
            raise TypeError(f"after must be a messageId as a string, or None, not {type(after).__name__}")
        if not isinstance(token, str | None) and not callable(token):
            raise TypeError(f"token must be a string or a function, not {type(token).__name__}")
        if not isinstance(timing, Timing | None):
            raise TypeError(f"timing must be a Timing or None, not {type(timing).__name__}")
        if not (observe is None or callable(observe)) or inspect.iscoroutinefunction(observe):
            raise TypeError("observe must be a function that isn't async, or None")
        self.position = after or None
        self._url = url
        self._player_id = None if player_id == "" else player_id
        self._token = token
        self._timing = timing or Timing()
        self._observe = observe or (lambda event, about: None)
        self._socket: ClientConnection | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._session = _Session(Offline("not connected yet"))
        self._has_tried = False
        self._is_closing = False
        self._is_greeted = False
        self._is_planned = False
        self._is_full = False
        self._has_asked = False
        self._asking = 0
        self._leaving: asyncio.Future[None] | None = None
        self._rejected_tokens = 0
        self._heard_at = 0.0
        self._heard = asyncio.Event()
        self._changed = asyncio.Event()
        self._one_send_at_a_time = asyncio.Lock()
        self._ack_ids = itertools.count(1)
        self._last_send = 0
        self._unanswered: dict[int, tuple[ClientConnection, asyncio.Future[Frame | None]]] = {}
        self._unread: deque[Frame] = deque()
        self._seen: dict[str, None] = {}

    async def connect(self) -> None:
        """Return when the service has said that the player receives, or when too many messages are unread.

        Raises NotLetIn and CannotConnect; every other failure is followed by another attempt.
        After `close` it goes on from where it was.
        """
        if self._keeping is not None and self._is_closing:
            await asyncio.wait([self._keeping])
        starts = self._keeping is None or self._keeping.done()
        if starts:
            self._session, self._is_closing, self._rejected_tokens = _Session(), False, 0
            self._is_greeted = self._is_full = False
            self._keeping = asyncio.create_task(self._stay_connected(self._session))
            self._keeping.add_done_callback(partial(self._end, self._session))
        session = self._session
        try:
            await self._until(session, lambda: session.ended is None and (self._is_greeted or self._is_full))
        except asyncio.CancelledError:
            if starts and session is self._session:
                await self.close()
            raise

    async def close(self) -> None:
        """Go offline. Sends that wait for their answer raise Offline, and so may or may not be stored."""
        self._is_closing = True
        while self._keeping is not None and not self._keeping.done():
            self._keeping.cancel()
            await asyncio.wait([self._keeping], timeout=2 * CLOSE_SECONDS)

    async def send(self, to: str, message: str, client_message_id: str | None = None) -> Frame:
        """Return the `ack`. Raises Refused, NotLetIn, CannotConnect and Offline; TypeError for bytes.

        Sent again until it is answered; its `clientMessageId`, made up unless given, stores it once.
        One is sent after the other, so they arrive in the order in which they were asked for.
        A send that is cancelled may be stored or not. It isn't sent again, and the next one waits until it is
        answered or its connection is lost.
        """
        ack_id = next(self._ack_ids)
        frame = {
            "action": "sendmessage",
            "destinationPlayerId": to,
            "message": message,
            "clientMessageId": client_message_id or str(uuid.uuid4()),
            "ackId": ack_id,
        }
        text, session = _encode(frame), self._session
        async with self._one_send_at_a_time:
            await self._settle(self._last_send)  # Two frames of one connection can overtake each other.
            self._last_send = ack_id
            for tries in itertools.count():
                answer = await self._ask(session, frame, text)
                if answer["type"] == "ack":
                    return answer
                if not answer.get("retryable", True):
                    raise Refused(answer["code"], answer["detail"])
                await self._rest(session, answer.get("retryAfterMs", 0) / 1000 + self._pause(tries))
        raise AssertionError("it is sent again until it is answered")

    async def ask(self, frame: Frame) -> Frame:
        """Return the answer to a frame, an `error` too. Raises NotLetIn, CannotConnect and Offline.

        Before anything is sent, it raises Refused if the frame is too long or holds a lone surrogate, and
        TypeError or ValueError if the frame can't be JSON.
        Asked again if the connection is lost before the answer, so for frames that can be asked twice.
        """
        frame = {**frame, "ackId": next(self._ack_ids)}
        return await self._ask(self._session, frame, _encode(frame))

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
            await self._until(self._session, lambda: len(self._unread) > 0)
        except Offline:
            raise StopAsyncIteration from None
        message = self._unread.popleft()
        if self._is_full and len(self._unread) == UNREAD_MESSAGES // 2:
            self._make_room()
        return message

    # One connection after the other

    async def _stay_connected(self, session: _Session) -> None:
        failures = 0
        while True:
            next_attempt_at = time.monotonic() + ATTEMPT_INTERVAL_SECONDS
            self._tell("connecting", None)
            why = await self._converse()
            failures = 0 if self._is_greeted else failures + 1
            pause = 0.0 if self._is_planned else self._pause(failures)
            pause = max(pause, next_attempt_at - time.monotonic())
            self._is_greeted = False
            self._tell("lost", why)
            if self._is_full:
                await self._until(
                    session, lambda: len(self._unread) <= UNREAD_MESSAGES // 2 or self._asking > 0
                )
            self._tell("waiting", pause)
            await asyncio.sleep(pause)

    async def _converse(self) -> str:
        """Hold one connection until it is gone, and return why. Raises NotLetIn and CannotConnect."""
        self._is_planned = self._is_full = self._has_asked = False
        try:
            token = _checked_token(await self._fetch_token())
        except CannotConnect as wrong:
            if not self._can_fetch_another_token():
                raise
            return f"no token: {wrong}"
        except Exception as failure:  # Whatever the library raises that fetches it.
            return f"no token: {str(failure) or type(failure).__name__}"
        try:
            opened = await self._open(token)
            self._has_tried = True
            self._rejected_tokens = 0
            try:
                return await self._read(opened)
            finally:
                await _leave(opened)
        except (InvalidStatus, InvalidProxyStatus) as refused:
            status, body = refused.response.status_code, refused.response.body or b""
            if status in FOR_GOOD and not (status == 401 and self._can_fetch_another_token()):
                raise NotLetIn(status, body.decode(errors="replace") or str(refused)) from None
            return f"refused with {status}"
        except (_Lost, OSError, InvalidHandshake, ConnectionClosed, asyncio.TimeoutError) as gone:
            self._has_tried = self._has_tried or not isinstance(gone, WITHOUT_EFFECT)
            return str(gone) or type(gone).__name__
        finally:
            self._lose()

    def _can_fetch_another_token(self) -> bool:
        """Count a token that was rejected, and return whether another one is worth an attempt."""
        self._rejected_tokens += 1
        return callable(self._token) and self._rejected_tokens < TOKEN_ATTEMPTS

    async def _fetch_token(self) -> object:
        """Return the token. Raises what its function raises, or TimeoutError."""
        token = self._token() if callable(self._token) else self._token
        if not inspect.isawaitable(token):
            return token
        fetching = _start(token)
        try:
            await asyncio.wait([fetching], timeout=self._timing.answer)
            if not fetching.done():
                raise asyncio.TimeoutError("it took too long")
        finally:
            fetching.cancel()
        if fetching.cancelled():  # By the function itself: this task goes on.
            raise RuntimeError("its function was cancelled")
        return fetching.result()

    async def _open(self, token: str | None) -> ClientConnection:
        """Open a connection. Raises CannotConnect; after any other exception, another try can succeed."""
        _check_url(self._url)
        url = self._url_to_open()
        try:
            return await connect(
                url,
                additional_headers={} if token is None else {"Authorization": f"Bearer {token}"},
                open_timeout=self._timing.answer,
                ping_interval=None,
                proxy=None if _is_loopback(parse_uri(url).host) else True,
            )
        except InvalidURI as elsewhere:  # The player's own URL is valid: it was sent to this one.
            raise _Lost(f"redirected to another URL: {elsewhere.msg}") from None
        except InvalidProxy as wrong:
            raise CannotConnect(f"{PROXY_IS_WRONG}: {wrong.msg}") from None
        except ImportError as missing:
            raise CannotConnect(f"{PROXY_IS_WRONG}: {missing}") from None
        except OSError:  # A certificate that is not trusted is a ValueError too.
            raise
        except ValueError as wrong:
            raise CannotConnect(f"{PROXY_IS_WRONG}: {wrong}") from None

    def _url_to_open(self) -> str:
        """Return the URL, with the player's id and position for those that it has. Raises CannotConnect.

        Without a position after a first try, the player asks for everything. The messages that it was sent on
        that try may be lost, and only the client can know it.
        """
        query = {"playerId": self._player_id, "after": self.position or ("0" if self._has_tried else None)}
        given = {name: value for name, value in query.items() if value is not None}
        parts = urlsplit(self._url)
        others = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] not in given]
        try:
            return urlunsplit(parts._replace(query=urlencode([*others, *given.items()])))
        except UnicodeEncodeError:
            raise CannotConnect("player_id and after must be text without lone surrogates") from None

    async def _read(self, opened: ClientConnection) -> str:
        self._socket, self._heard_at = opened, time.monotonic()
        self._tell("open", None)
        self._change()
        watching = asyncio.create_task(self._watch(opened))
        try:
            async for text in opened:
                self._heard_at = time.monotonic()
                self._heard.set()
                self._take(_decode(text))
        finally:
            watching.cancel()
        closed = f"closed with {opened.close_code}", opened.close_reason
        return "planned" if self._is_planned else ", ".join(filter(None, closed))

    async def _watch(self, opened: ClientConnection) -> None:
        """End it as planned. When nothing has come for long, ask whether anybody is there."""
        timing = self._timing
        end = time.monotonic() + timing.lifetime * random.uniform(0.9, 1)
        while (now := time.monotonic()) < end:
            due = self._heard_at + (timing.ping if self._is_greeted else min(timing.ping, GREETING_SECONDS))
            if now < due:
                await asyncio.sleep(min(due, end) - now)
                continue
            self._heard.clear()
            asking = _start(self._write(opened, PING, json.dumps(PING)))
            hearing = _start(self._heard.wait())
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
        if kind == "message":
            self._keep(frame)
        if kind in POSITIONED and not self._is_full:
            self.position = max(self.position or "", frame["messageId"])
        if kind == "system" and frame["event"] == "connected":
            self._is_greeted = True
            self._change()
        elif kind == "error" and frame["code"] in CLOSING_ERRORS:
            raise _Lost(frame["code"])
        elif kind is None:  # API Gateway's own, and it does not say to which frame.
            for ack_id in list(self._unanswered):
                self._answer(ack_id, {"type": "error", "retryable": True})
        elif kind == "error" and "ackId" not in frame and frame.get("retryable") is False:
            # The service couldn't read the frame that it refuses. Only one of several can be the refused one.
            waiting = list(self._unanswered)
            for ack_id in waiting:
                self._answer(ack_id, frame if len(waiting) == 1 else {"type": "error", "retryable": True})
        elif "ackId" in frame:
            self._answer(frame["ackId"], frame)

    def _keep(self, message: Frame) -> None:
        if message["messageId"] in self._seen:
            return
        if self._is_full or len(self._unread) >= UNREAD_MESSAGES:
            self._is_full = True  # From here on, over this connection, the position stands still.
            self._change()
            if not self._has_asked and self._asking == 0:
                self._is_planned = True
                raise _Lost(TOO_MANY_UNREAD)
            return
        self._seen[message["messageId"]] = None
        if len(self._seen) > SEEN_MESSAGES:
            del self._seen[next(iter(self._seen))]
        self._unread.append(message)
        self._change()

    def _make_room(self) -> None:
        """Let the messages that were dropped come again, over the next connection."""
        self._change()
        if self._socket is not None:
            self._is_planned = True
            self._leaving = _start(_leave(self._socket))

    # Questions and answers

    async def _ask(self, session: _Session, frame: Frame, text: str) -> Frame:
        """Return the answer to a frame, whose JSON is `text`. Asks again until there is one."""
        self._asking += 1
        self._change()
        try:
            while (answer := await self._ask_once(session, frame, text)) is None:
                continue
        finally:
            self._asking -= 1
        return answer

    async def _ask_once(self, session: _Session, frame: Frame, text: str) -> Frame | None:
        """Return the answer that came over one connection, or None if the connection was lost before."""
        await self._until(session, lambda: session.ended is None and self._socket is not None)
        self._has_asked = True
        opened, answer = self._socket, asyncio.get_running_loop().create_future()
        assert opened is not None
        self._unanswered[frame["ackId"]] = opened, answer
        with suppress(_Lost, ConnectionClosed):
            await self._write(opened, frame, text)
        await self._settle(frame["ackId"])
        given: Frame | None = answer.result()
        return given

    async def _settle(self, ack_id: int) -> None:
        """Return when a frame that was sent is answered, or its connection is lost.

        If no answer comes in time, the connection is taken for lost.
        """
        if ack_id not in self._unanswered:
            return
        opened, answer = self._unanswered[ack_id]
        await asyncio.wait([answer], timeout=self._timing.answer)
        if not answer.done():
            opened.transport.abort()
            await asyncio.wait([answer])

    async def _write(self, opened: ClientConnection, frame: Frame, text: str) -> None:
        """Write a frame, whose JSON is `text`. Raises ConnectionClosed; _Lost if the line takes no more."""
        self._tell("sent", frame)
        fragments = [text[at : at + FRAGMENT_CHARACTERS] for at in range(0, len(text), FRAGMENT_CHARACTERS)]
        writing = _start(opened.send(fragments if len(fragments) > 1 else text))
        await asyncio.wait([writing], timeout=self._timing.answer)
        if not writing.done():
            opened.transport.abort()
            raise _Lost("no answer")
        writing.result()

    def _answer(self, ack_id: Any, frame: Frame | None) -> None:
        if ack_id in self._unanswered:
            _, answer = self._unanswered.pop(ack_id)
            answer.set_result(frame)

    def _lose(self) -> None:
        self._socket = None
        for ack_id in list(self._unanswered):
            self._answer(ack_id, None)
        self._change()

    def _end(self, session: _Session, keeping: "asyncio.Task[None]") -> None:
        session.ended = Offline(CLOSED) if keeping.cancelled() else keeping.exception()
        self._change()
        self._tell("lost", str(session.ended))

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

    async def _until(self, session: _Session, condition: Callable[[], bool]) -> None:
        """Raises what ended the session, if that comes first."""
        while not condition():
            if session.ended is not None:
                raise session.ended
            await self._changed.wait()

    async def _rest(self, session: _Session, seconds: float) -> None:
        """Raises what ends the session, if that comes first."""
        resting = _start(asyncio.sleep(seconds))
        resting.add_done_callback(lambda _: self._change())
        try:
            await self._until(session, resting.done)
        finally:
            resting.cancel()

    def _pause(self, failures: int) -> float:
        """Seconds, by chance: many that were cut off together must not come back together."""
        longest = min(self._timing.longest_retry, LONGEST_PAUSE_SECONDS)
        return random.uniform(0, min(longest, self._timing.retry * 2 ** min(failures, 10)))


async def _leave(opened: ClientConnection) -> None:
    """Say good-bye, if that is possible soon, and end the connection."""
    closing = _start(opened.close())
    try:
        await asyncio.wait([closing], timeout=CLOSE_SECONDS)
    finally:
        opened.transport.abort()


def _start(work: Awaitable[T]) -> "asyncio.Future[T]":
    """Start a task for one caller. If that caller leaves, for example cancelled, its exception is dropped."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


def _encode(frame: Frame) -> str:
    """Return a frame's JSON. Raises Refused if no service takes it; TypeError, ValueError if it has none."""
    try:
        text = json.dumps(frame, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Refused("invalid_frame", "a lone surrogate (U+D800 to U+DFFF) isn't text") from None
    except (TypeError, RecursionError) as problem:
        raise TypeError(
            f"a frame can hold strings, numbers, booleans, None, lists and dicts: {problem}"
        ) from None
    if size > MESSAGE_BYTES:
        raise Refused("too_large", f"a message and its envelope may take {MESSAGE_BYTES} bytes")
    return text


def _decode(text: str | bytes) -> Frame:
    """Return a frame of the service. Raises _Lost if it isn't one: the connection can't be trusted then."""
    frame = None
    with suppress(ValueError, RecursionError):
        frame = json.loads(text) if isinstance(text, str) else None
    if not isinstance(frame, dict) or not _is_well_formed(frame):
        raise _Lost("a malformed frame")
    return frame


def _is_well_formed(frame: Frame) -> bool:
    """Return whether the keys that the client reads have values that it can work with."""
    kind, retry_after_ms = frame.get("type"), frame.get("retryAfterMs", 0)
    return (
        isinstance(kind, str | None)
        and all(isinstance(frame.get(name), str) for name in STRINGS.get(kind or "", ()))
        and (kind not in POSITIONED or re.fullmatch("[!-~]+", frame["messageId"]) is not None)
        and isinstance(frame.get("ackId", 0), str | int)
        and isinstance(retry_after_ms, int | float)
        and 0 <= retry_after_ms <= 1000 * LONGEST_PAUSE_SECONDS
    )


def _checked_token(token: object) -> str | None:
    """Return the token, or None if it is empty. Raises CannotConnect, without the token in its text."""
    if token is None or token == "":
        return None
    if not isinstance(token, str) or not re.fullmatch("[!-~]+", token):
        raise CannotConnect("the token is wrong: it must be an ASCII string without spaces and line breaks")
    return token


def _check_url(url: str) -> None:
    """Raise CannotConnect if no service can be at the URL, without its query: that can hold a token."""
    try:
        if not isinstance(url, str) or not url.isprintable() or " " in url:
            raise ValueError("it must be a string without spaces and control characters")
        parse_uri(url).host.encode("idna")
    except InvalidURI as wrong:
        reason = wrong.msg
    except ValueError as wrong:
        reason = str(wrong)
    else:
        return
    raise CannotConnect(f"the URL is wrong: {reason}; a WebSocket API is at ws:// or wss://")


def _is_loopback(host: str) -> bool:
    """Return whether a host is this machine, which no proxy can reach."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    with suppress(OSError):
        return socket.inet_aton(name)[0] == 127  # Also short forms, such as 127.1.
    with suppress(ValueError):
        address = ipaddress.IPv6Address(name)
        return (address.ipv4_mapped or address).is_loopback
    return False
