"""A client that keeps a player connected: it reconnects, loses no message, and yields none twice.

    async with Player("wss://…/dev/", player_id="1") as player:
        await player.send("2", "Hello!")
        async for message in player:
            print(message["srcPlayerId"], message["message"])

It requires `websockets` 15 or newer, and nothing else of this project, so you can copy the file.
docs/protocol.md explains the frames.
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
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
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
"""Handshake statuses, from the service or a proxy, after which a retry can't succeed."""

TOKEN_ATTEMPTS = 3
"""The player gives up after this many consecutive rejected tokens from its token function."""

ATTEMPT_INTERVAL_SECONDS = 0.5
"""The minimum time between the starts of two connection attempts, regardless of the timing."""

LONGEST_PAUSE_SECONDS = 2_147_483.0
"""The longest pause: 24 days, which is JavaScript's longest timer. Both clients use it."""

WITHOUT_EFFECT = (ConnectionRefusedError, socket.gaierror)
"""Connection errors after which the service can't have sent anything."""

MESSAGE_BYTES = 128 * 1024
FRAGMENT_CHARACTERS = 8 * 1024
"""API Gateway accepts 128 KB per message and 32 KB per WebSocket frame. A character has up to 4 bytes."""

CLOSE_SECONDS = 1.0

CLOSING_ERRORS = frozenset({"unauthorized", "unknown_connection"})

GREETING_SECONDS = 60.0
"""A connection without a greeting is pinged after this time, because the service closes stuck connections."""

SEEN_MESSAGES = 100_000
"""How many messageIds are kept to drop duplicates: about 10 MB. Replays begin before the position."""

UNREAD_MESSAGES = 1000
"""How many messages are buffered until the program reads them."""

UNREAD_SIGNALS = 100
UNREAD_PRESENCE = 1000
"""How many signals and presence events are buffered until the program reads them. The oldest are dropped."""

TOO_MANY_UNREAD = "too many unread messages"

PING: Frame = {"action": "ping"}

PROXY_IS_WRONG = "the proxy of the environment can't be used; one is as http://proxy.example.com:3128"

SIGNAL_BYTES = 4096

SIGNAL_PREFIX = "signal-"
"""The `ackId`s of signals begin with this. Only a refused signal is answered, so none of them is stored."""

PRESENCE_PLAYERS = 100
"""The most players that one presence query can name."""

ROOM_ID = re.compile(r"[A-Za-z0-9._@|:+!'/=-]{1,64}")

STRINGS = {
    "message": ("messageId", "srcPlayerId", "message"),
    "system": ("messageId", "event"),
    "error": ("code", "detail"),
    "ack": ("messageId",),
    "signal": ("srcPlayerId", "data"),
    "members": ("roomId",),
    "closing": ("reason",),
}
"""The keys that must have a string value, by the service's frame type."""

POSITIONED = frozenset({"message", "system"})
"""Frame types that move the position, which is in the next URL."""

SOMETIMES_OF_ROOMS = frozenset({"message", "signal", "presence"})
"""Frame types that have a `roomId` only if they are about a room."""

CLOSED = "closed"
"""The reason that `observe` gets when the player itself has closed the connection."""


class NotLetIn(Exception):
    """Raised if the handshake was refused and a retry can't succeed. docs/protocol.md lists each `status`."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status


class CannotConnect(ValueError):
    """Raised for a wrong URL, token or proxy, with which no attempt can succeed. The text names the fix."""


class Refused(Exception):
    """Raised if a retry of the frame can't succeed. `code` and `detail` come from the service's error.

    The client also raises it, with one of the service's codes, for frames that it can't send.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


class Offline(Exception):
    """Raised if the player was closed."""


class Kicked(Exception):
    """Raised if the service's backend ended the connection, for example to ban the player.

    `until` is when the player can return, in milliseconds since the epoch, or None. The player reconnects
    only if the program calls `connect`, which then waits until that time.
    """

    def __init__(self, reason: str, until: int | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.until = until


@dataclass(frozen=True, slots=True)
class Signal:
    """What a player sent with `signal`. `room_id` is None if it was sent to this player alone."""

    data: str
    src_player_id: str
    room_id: str | None = None


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether a player has a live connection, and when the service last heard from it.

    `last_seen_at` is in milliseconds since the epoch. An event also has `room_id`, and `member`: whether the
    player is a member of that room. In the reply to a query both are None.
    """

    player_id: str
    online: bool
    last_seen_at: int | None
    room_id: str | None = None
    member: bool | None = None


@dataclass(frozen=True, slots=True)
class Members:
    """A room's members. `online` has the `last_seen_at` of those who have a live connection.

    It is None if the room is too large for presence.
    """

    room_id: str
    members: list[str]
    online: dict[str, int] | None


@dataclass(frozen=True, slots=True)
class Timing:
    """Timeouts and intervals in seconds. Each is a number above 0, or `math.inf`; others raise ValueError.

    API Gateway closes a connection after 10 minutes without a frame, and after two hours in any case.
    `ping`: a ping is sent after this time without a frame. `answer`: the timeout of every reply, and of the
    handshake. `lifetime`: the player reconnects after this time, or up to a tenth earlier.
    `retry` and `longest_retry`: the upper limits of the first and the longest backoff. Attempts start at
    least ATTEMPT_INTERVAL_SECONDS apart. `offline`: a member who goes offline is reported after this time,
    unless it is back by then.
    """

    ping: float = 300.0
    answer: float = 30.0
    lifetime: float = 6900.0
    retry: float = 1.0
    longest_retry: float = 30.0
    offline: float = 10.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not float(value) > 0:  # NaN is not above 0 either.
                raise ValueError(f"{field.name} must be a number of seconds above 0, not {value!r}")


class _Lost(Exception):
    """Raised if the connection is lost. Unanswered requests are retried on the next connection."""


@dataclass(slots=True, eq=False)
class _Session:
    """The time from a `connect` to its end. Requests of one session don't continue in the next."""

    ended: BaseException | None = None


class _PresenceEvents:
    """The presence events that wait for the program. A member's going offline is added with a delay."""

    def __init__(self, delay_seconds: float, on_change: Callable[[], None]) -> None:
        self.waiting: deque[Presence | Members] = deque(maxlen=UNREAD_PRESENCE)
        self._delay_seconds = min(delay_seconds, LONGEST_PAUSE_SECONDS)
        self._on_change = on_change
        self._delayed: dict[tuple[str | None, str], asyncio.TimerHandle] = {}

    def add(self, presence: Presence) -> None:
        """Add an event. A member's return drops the delayed events about it, in all rooms."""
        room_id, player_id = presence.room_id, presence.player_id
        if presence.online:
            self._drop([key for key in self._delayed if key[1] == player_id])
        elif presence.member is not False:
            if (room_id, player_id) not in self._delayed:
                timer = asyncio.get_running_loop().call_later(
                    self._delay_seconds, self._add_delayed, presence
                )
                self._delayed[room_id, player_id] = timer
            return
        self._drop([(room_id, player_id)])
        self._append(presence)

    def replace(self, members: Members) -> None:
        """Add a room's members, and drop the delayed events of the room, which are older."""
        self._drop([key for key in self._delayed if key[0] == members.room_id])
        self._append(members)

    def stop(self) -> None:
        self._drop(list(self._delayed))

    def _add_delayed(self, presence: Presence) -> None:
        self._drop([(presence.room_id, presence.player_id)])
        self._append(presence)

    def _append(self, event: Presence | Members) -> None:
        self.waiting.append(event)
        self._on_change()

    def _drop(self, keys: list[tuple[str | None, str]]) -> None:
        for key in keys:
            if key in self._delayed:
                self._delayed.pop(key).cancel()


class Player:
    """A player that stays connected until it is closed, or until NotLetIn, CannotConnect or Kicked.

    `token`: a JWT, or a function that returns or awaits one and is called at each connection attempt. If its
    token is rejected, the function is called again, up to TOKEN_ATTEMPTS times in a row. `after`: the
    position to continue from. An empty `player_id`, `token` or `after` is ignored.

    `observe` is called with "connecting" or "open" and None, with "sent" or "received" and a frame, with
    "lost" and the reason, with "waiting" and the seconds until the next attempt, and with "refused" and the
    `error` for a signal, whose `ackId` is the signal's.

    Iterating and sending raise NotLetIn, CannotConnect or Kicked. Proxies come from the environment, except
    for addresses of this machine.

    At most UNREAD_MESSAGES are buffered. Later ones are dropped, and replayed over the next connection. The
    player opens it once half of the buffer has been read, or to send. Until then it is offline, unless its
    old connection still waits for replies.
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
        self._signals: deque[Signal] = deque(maxlen=UNREAD_SIGNALS)
        self._presence = _PresenceEvents(self._timing.offline, self._change)
        self._watched_rooms: set[str] = set()
        self._stale_rooms: set[str] = set()
        self._refreshing: asyncio.Future[None] | None = None
        self._return_at = 0.0

    async def connect(self) -> None:
        """Connect, and return when the connection is live, or when too many messages are unread.

        Raises NotLetIn, CannotConnect and Kicked, and retries after every other failure. After `close`, it
        continues from the last position. After Kicked, it first waits until the time that the service gave.
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
        """Disconnect. Unanswered sends raise Offline; their messages might be stored or not."""
        self._is_closing = True
        while self._keeping is not None and not self._keeping.done():
            self._keeping.cancel()
            await asyncio.wait([self._keeping], timeout=2 * CLOSE_SECONDS)

    async def send(self, to: str, message: str, client_message_id: str | None = None) -> Frame:
        """Send a message to a player and return its `ack`.

        Raises Refused, NotLetIn, CannotConnect, Kicked and Offline, and TypeError for bytes. Retries until
        there is a reply; the `clientMessageId`, which is generated unless given, makes the retries
        idempotent. Messages, joins and leaves are sent one at a time, so they take effect in order. The
        message of a cancelled send might be stored or not. It isn't retried, and the next send waits for its
        reply or the end of its connection.
        """
        return await self._send({"destinationPlayerId": to}, message, client_message_id)

    async def send_to_room(self, room_id: str, message: str, client_message_id: str | None = None) -> Frame:
        """Send a message to all members of a room, which includes this player. See `send`."""
        return await self._send({"roomId": _checked_room(room_id)}, message, client_message_id)

    async def join(self, room_id: str, presence: bool | None = None) -> int:
        """Join a room, and return how many members it has. Raises what `send` raises.

        The player stays a member until it leaves or is removed, whether it is connected or not. If
        `presence` is True, the members are told when this player comes and goes, and `presence_events` gives
        the room's Members after each reconnection. False ends the latter; a `leave` ends both.
        """
        told = {} if presence is None else {"presence": presence}
        joined = await self._in_order({"action": "join", "roomId": _checked_room(room_id), **told}, "joined")
        if presence:
            self._watched_rooms.add(room_id)
        elif presence is not None:
            self._watched_rooms.discard(room_id)
        return int(joined["members"])

    async def leave(self, room_id: str) -> None:
        """Leave a room. Leaving a room again has no effect. Raises what `send` raises."""
        await self._in_order({"action": "leave", "roomId": _checked_room(room_id)}, "left")
        self._watched_rooms.discard(room_id)

    async def members(self, room_id: str) -> Members:
        """Return a room's members. The player must be one of them. Raises what `send` raises."""
        return await self._members(self._session, _checked_room(room_id))

    async def presence(self, player_ids: Collection[str]) -> list[Presence]:
        """Return the presence of 1 to PRESENCE_PLAYERS players. Raises what `send` raises.

        Players whose presence this player can't see are left out.
        """
        if isinstance(player_ids, str) or not 1 <= len(player_ids) <= PRESENCE_PLAYERS:
            raise Refused("invalid_frame", f"player_ids must be a list of 1 to {PRESENCE_PLAYERS} player ids")
        frame = {"action": "presence", "playerIds": list(player_ids)}
        return _presences(await self._query(self._session, frame, "presence"))

    async def signal(self, to: str, data: str) -> bool:
        """Send 1 to SIGNAL_BYTES bytes to a player's live connections, at most once.

        Returns whether the signal was sent. It is False while the player reconnects, because a signal is
        never sent later or again. Raises Refused before sending, and what ended the player. If the service
        refuses a signal, `observe` is called with "refused".
        """
        if not isinstance(to, str) or not to:
            raise Refused("invalid_frame", "to must be a player's id; signal_to_room signals a room")
        return await self._signal({"destinationPlayerId": to}, data)

    async def signal_to_room(self, room_id: str, data: str) -> bool:
        """Send 1 to SIGNAL_BYTES bytes to the members' live connections, except this one. See `signal`."""
        return await self._signal({"roomId": _checked_room(room_id)}, data)

    def signals(self) -> AsyncIterator[Signal]:
        """Iterate over new signals until the player is closed. Raises what iterating the player raises.

        At most UNREAD_SIGNALS wait for the program. A further one replaces the oldest.
        """
        return self._each(self._signals)

    def presence_events(self) -> AsyncIterator[Presence | Members]:
        """Iterate over who comes and goes in the player's rooms, until the player is closed.

        A member who goes offline is reported after `Timing.offline` seconds, unless it is back by then. After
        a reconnection, the Members of each room that was joined with presence replace what was known before.
        Raises what iterating the player raises. At most UNREAD_PRESENCE wait for the program. A further one
        replaces the oldest.
        """
        return self._each(self._presence.waiting)

    async def ask(self, frame: Frame) -> Frame:
        """Send a frame and return its reply, which can be an `error`.

        Raises NotLetIn, CannotConnect, Kicked and Offline. Before sending, raises Refused if the frame is
        too long or contains a lone surrogate, and TypeError or ValueError if it can't be JSON. Use this for
        idempotent frames only, because a frame whose connection is lost before the reply is sent again.
        """
        frame = self._numbered(frame)
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
        """Return the next new message. Raises StopAsyncIteration when the player is closed."""
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
        if (left := self._return_at - time.time()) > 0:
            await self._wait(left)
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
            await self._wait(pause)

    async def _wait(self, seconds: float) -> None:
        seconds = min(seconds, LONGEST_PAUSE_SECONDS)
        self._tell("waiting", seconds)
        await asyncio.sleep(seconds)

    async def _converse(self) -> str:
        """Open a connection, read it until it ends, and return why.

        Raises NotLetIn, CannotConnect and Kicked.
        """
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
        """Return the URL with the player's id and position, if known. Raises CannotConnect.

        Without a position after a first attempt, the player requests all stored messages, because messages
        that the service sent on that attempt might be lost.
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
        """End the connection after its lifetime, and ping after a time without frames."""
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
            self.position = max(self.position or "", str(frame.get("position", frame["messageId"])))
        if kind == "system" and frame["event"] == "connected":
            self._is_greeted = True
            self._change()
            self._refresh_rooms()
        elif kind == "signal":
            self._signals.append(Signal(frame["data"], frame["srcPlayerId"], frame.get("roomId")))
            self._change()
        elif kind == "presence" and "roomId" in frame:
            for presence in _presences(frame):
                self._presence.add(presence)
        elif kind == "closing":
            until = frame.get("until")
            self._return_at = (until or 0) / 1000
            raise Kicked(frame["reason"], until)
        elif kind == "error" and frame["code"] in CLOSING_ERRORS:
            raise _Lost(frame["code"])
        elif kind is None:  # API Gateway's own, and it does not say to which frame.
            for ack_id in list(self._unanswered):
                self._answer(ack_id, {"type": "error", "retryable": True})
        elif kind == "error" and str(frame.get("ackId", "")).startswith(SIGNAL_PREFIX):
            self._tell("refused", frame)
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
        """Reconnect, so that the dropped messages are replayed."""
        self._change()
        if self._socket is not None:
            self._is_planned = True
            self._leaving = _start(_leave(self._socket))

    # Signals and presence

    async def _each(self, waiting: deque[T]) -> AsyncIterator[T]:
        while True:
            try:
                await self._until(self._session, lambda: len(waiting) > 0)
            except Offline:
                return
            yield waiting.popleft()

    def _refresh_rooms(self) -> None:
        self._stale_rooms |= self._watched_rooms
        if self._stale_rooms and (self._refreshing is None or self._refreshing.done()):
            self._refreshing = _start(self._refresh(self._session))

    async def _refresh(self, session: _Session) -> None:
        """Report the members of one room after the other. A room that refuses isn't watched any more."""
        while self._stale_rooms:
            room_id = self._stale_rooms.pop()
            try:
                members = await self._members(session, room_id)
            except Refused:
                self._watched_rooms.discard(room_id)
                continue
            self._presence.replace(members)

    # Questions and answers

    async def _send(self, destination: Frame, message: str, client_message_id: str | None) -> Frame:
        unique = client_message_id or str(uuid.uuid4())
        frame = {"action": "sendmessage", **destination, "message": message, "clientMessageId": unique}
        return await self._in_order(frame, "ack")

    async def _in_order(self, frame: Frame, kind: str) -> Frame:
        """Send a frame after the replies to the earlier ones, and return its reply."""
        frame, session = self._numbered(frame), self._session
        text = _encode(frame)
        async with self._one_send_at_a_time:
            await self._settle(self._last_send)  # Two frames of one connection can overtake each other.
            self._last_send = frame["ackId"]
            return await self._until_carried_out(session, frame, text, kind)

    async def _query(self, session: _Session, frame: Frame, kind: str) -> Frame:
        frame = self._numbered(frame)
        return await self._until_carried_out(session, frame, _encode(frame), kind)

    async def _members(self, session: _Session, room_id: str) -> Members:
        answer = await self._query(session, {"action": "members", "roomId": room_id}, "members")
        return Members(answer["roomId"], answer["members"], answer.get("online"))

    async def _until_carried_out(self, session: _Session, frame: Frame, text: str, kind: str) -> Frame:
        """Return the reply of a type. Retries, and raises Refused if a retry can't succeed."""
        for tries in itertools.count():
            answer = await self._ask(session, frame, text)
            if answer["type"] == kind:
                return answer
            if not answer.get("retryable", True):
                raise Refused(answer["code"], answer["detail"])
            await self._rest(session, answer.get("retryAfterMs", 0) / 1000 + self._pause(tries))
        raise AssertionError("it is sent again until it is answered")

    def _numbered(self, frame: Frame) -> Frame:
        return {**frame, "ackId": next(self._ack_ids)}

    async def _signal(self, destination: Frame, data: str) -> bool:
        ack_id = f"{SIGNAL_PREFIX}{next(self._ack_ids)}"
        frame = {"action": "signal", **destination, "data": _checked_data(data), "ackId": ack_id}
        text = _encode(frame)
        if self._session.ended is not None:
            raise self._session.ended
        if self._socket is None:
            return False
        try:
            await self._write(self._socket, frame, text)
        except (_Lost, ConnectionClosed):
            return False
        return True

    async def _ask(self, session: _Session, frame: Frame, text: str) -> Frame:
        """Return the reply to a frame, whose JSON is `text`. Retries until there is one."""
        self._asking += 1
        self._change()
        try:
            while (answer := await self._ask_once(session, frame, text)) is None:
                continue
        finally:
            self._asking -= 1
        return answer

    async def _ask_once(self, session: _Session, frame: Frame, text: str) -> Frame | None:
        """Return the reply from one connection, or None if the connection was lost first."""
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
        """Wait for the reply to a sent frame, or the end of its connection.

        The connection counts as lost if the reply times out.
        """
        if ack_id not in self._unanswered:
            return
        opened, answer = self._unanswered[ack_id]
        await asyncio.wait([answer], timeout=self._timing.answer)
        if not answer.done():
            opened.transport.abort()
            await asyncio.wait([answer])

    async def _write(self, opened: ClientConnection, frame: Frame, text: str) -> None:
        """Write a frame, whose JSON is `text`. Raises ConnectionClosed, and _Lost if writing times out."""
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
        self._presence.stop()
        self._change()
        self._tell("lost", str(session.ended))

    def _tell(self, event: str, about: Any) -> None:
        """Call `observe`. Its exceptions go to the event loop's handler and don't affect the player."""
        try:
            self._observe(event, about)
        except Exception as failure:
            problem = {"message": f"observe failed at {event}", "exception": failure}
            asyncio.get_running_loop().call_exception_handler(problem)

    # Waiting

    def _change(self) -> None:
        """Wake all waiting tasks, so that they check their conditions."""
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
        """Return a backoff in seconds with jitter, so that players cut off together don't return together."""
        longest = min(self._timing.longest_retry, LONGEST_PAUSE_SECONDS)
        return random.uniform(0, min(longest, self._timing.retry * 2 ** min(failures, 10)))


async def _leave(opened: ClientConnection) -> None:
    """Close the connection with a closing handshake, or without one after CLOSE_SECONDS."""
    closing = _start(opened.close())
    try:
        await asyncio.wait([closing], timeout=CLOSE_SECONDS)
    finally:
        opened.transport.abort()


def _start(work: Awaitable[T]) -> "asyncio.Future[T]":
    """Start a task for one caller. Its exception is dropped if that caller is cancelled."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


def _encode(frame: Frame) -> str:
    """Return a frame's JSON. Raises Refused if the service can't accept it, and TypeError or ValueError."""
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
    """Return a frame from the service. Raises _Lost if the text isn't a valid frame."""
    frame = None
    with suppress(ValueError, RecursionError):
        frame = json.loads(text) if isinstance(text, str) else None
    if not isinstance(frame, dict) or not _is_well_formed(frame):
        raise _Lost("a malformed frame")
    return frame


def _is_well_formed(frame: Frame) -> bool:
    """Return whether the keys that the client reads have values of the right types."""
    kind, retry_after_ms = frame.get("type"), frame.get("retryAfterMs", 0)
    return (
        isinstance(kind, str | None)
        and all(isinstance(frame.get(name), str) for name in STRINGS.get(kind or "", ()))
        and (kind not in POSITIONED or _is_position(frame["messageId"]))
        and (kind not in POSITIONED or _is_position(frame.get("position", "0")))
        and (kind not in SOMETIMES_OF_ROOMS or isinstance(frame.get("roomId", ""), str))
        and (kind != "joined" or isinstance(frame.get("members"), int))
        and (kind != "members" or _is_list_of(str, frame.get("members")))
        and (kind != "members" or isinstance(frame.get("online", {}), dict))
        and (kind != "presence" or _is_list_of(dict, frame.get("players")))
        and (kind != "presence" or all(map(_is_presence, frame["players"])))
        and (kind != "closing" or isinstance(frame.get("until"), int | None))
        and isinstance(frame.get("ackId", 0), str | int)
        and isinstance(retry_after_ms, int | float)
        and 0 <= retry_after_ms <= 1000 * LONGEST_PAUSE_SECONDS
    )


def _is_position(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[!-~]+", value) is not None


def _is_list_of(kind: type, value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, kind) for each in value)


def _is_presence(player: Frame) -> bool:
    return (
        isinstance(player.get("playerId"), str)
        and isinstance(player.get("online"), bool)
        and isinstance(player.get("lastSeenAt"), int | None)
        and isinstance(player.get("member"), bool | None)
    )


def _presences(frame: Frame) -> list[Presence]:
    return [
        Presence(
            player["playerId"],
            player["online"],
            player.get("lastSeenAt"),
            frame.get("roomId"),
            player.get("member"),
        )
        for player in frame["players"]
    ]


def _checked_room(room_id: object) -> str:
    """Return the id. Raises Refused if no room can have it."""
    if not isinstance(room_id, str) or not ROOM_ID.fullmatch(room_id):
        raise Refused("invalid_frame", "room_id must be 1 to 64 of A-Z a-z 0-9 . _ - @ | : + ! ' / =")
    return room_id


def _checked_data(data: object) -> str:
    """Return a signal's data. Raises Refused if it isn't a string of 1 to SIGNAL_BYTES bytes."""
    if not isinstance(data, str) or not 1 <= len(data.encode(errors="replace")) <= SIGNAL_BYTES:
        raise Refused("invalid_frame", f"data must be a string of 1 to {SIGNAL_BYTES} bytes")
    return data


def _checked_token(token: object) -> str | None:
    """Return the token, or None if it is empty. Raises CannotConnect, without the token in its text."""
    if token is None or token == "":
        return None
    if not isinstance(token, str) or not re.fullmatch("[!-~]+", token):
        raise CannotConnect("the token is wrong: it must be an ASCII string without spaces and line breaks")
    return token


def _check_url(url: str) -> None:
    """Raise CannotConnect if the URL is invalid. The text leaves out the query, which can contain a token."""
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
