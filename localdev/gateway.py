"""Emulates a WebSocket API of API Gateway: connections, routes to functions, `@connections`, and quotas.

It refuses the same input as AWS does. docs/local-aws.md lists the known differences.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote
from weakref import WeakKeyDictionary, WeakValueDictionary

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as Handshake
from websockets.http11 import Response
from websockets.protocol import State

from localdev import management
from localdev.addresses import in_url
from localdev.events import (
    Event,
    Origin,
    connect_event,
    disconnect_event,
    failure_frame,
    message_event,
    new_id,
    reason_phrase,
)
from localdev.functions import Function
from localdev.guard import Guard
from localdev.limits import Limits
from localdev.management import Answer
from localdev.terminal import show, show_failure

CONCURRENT_FUNCTIONS = 128
CONCURRENT_FRAMES = 32
"""The limit per connection. Further frames wait in the socket, so a flood slows down only its sender."""

HANDSHAKE_SECONDS = 10

_quiet = logging.getLogger("localdev.websockets")
_quiet.setLevel(logging.CRITICAL)
"""Discards `websockets`' log of broken connections, because the steps show each connection's end."""


@dataclass(slots=True)
class OpenConnection:
    """A connection whose handshake has succeeded. `last_active_at` is in seconds of the monotonic clock."""

    origin: Origin
    socket: ServerConnection
    last_active_at: float = field(default_factory=time.monotonic)
    frames: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONCURRENT_FRAMES))
    has_vanished: bool = False
    ending: asyncio.TimerHandle = field(init=False)


@dataclass(eq=False)
class OpeningConnection:
    """A connection in its handshake, after `$connect` has returned. `posts` are sent after it."""

    origin: Origin
    posts: list[bytes] = field(default_factory=list)


class FunctionFailed(Exception):
    """A function raised an exception, which has already been shown."""


class Gateway:
    """Serves one stage of one API. Its methods must run on the event loop."""

    def __init__(
        self,
        api_id: str,
        stage: str,
        routes: Mapping[str, Function],
        limits: Limits,
        allowed_origins: frozenset[str] = frozenset(),
    ) -> None:
        """Create a gateway. `allowed_origins` can connect in addition to pages of this machine."""
        self._allowed_origins = allowed_origins
        self._api_id = api_id
        self._stage = stage
        self._routes = routes
        self._limits = limits
        self._connections: dict[str, OpenConnection] = {}
        self._accepted: WeakKeyDictionary[ServerConnection, OpeningConnection] = WeakKeyDictionary()
        self._opening: WeakValueDictionary[str, OpeningConnection] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._management_transports: set[asyncio.Transport] = set()
        self._functions = ThreadPoolExecutor(CONCURRENT_FUNCTIONS, thread_name_prefix="lambda")

    async def start(self, host: str, port: int) -> int:
        """Start serving, and return the port. Raises OSError if the port can't be bound."""
        limits = self._limits
        self._guard = Guard(host, self._allowed_origins)
        self._server: Server = await serve(
            self._converse,
            host,
            port,
            process_response=self._answer_handshake,
            create_connection=self._first_line,  # type: ignore[arg-type]  # a wrapper, as its documentation allows
            compression=None,
            ping_interval=None,
            open_timeout=limits.integration_seconds + HANDSHAKE_SECONDS,
            max_size=(limits.message_bytes, limits.frame_bytes),
            write_limit=limits.client_buffer_bytes,
            logger=_quiet,
        )
        self._host, self._port = host, int(self._server.sockets[0].getsockname()[1])
        return self._port

    async def stop(self) -> None:
        """Close all connections, and wait until their functions have finished."""
        for transport in list(self._management_transports):
            transport.close()
        self._server.close()
        await self._server.wait_closed()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._functions.shutdown()

    # Handshake

    async def _answer_handshake(
        self, socket: ServerConnection, request: Handshake, response: Response
    ) -> Response | None:
        """Return the response that refuses the handshake, or None if `$connect` accepts it."""
        try:
            return await self._decide(socket, request, response)
        except Exception as error:
            show_failure(error, route="$connect")
            return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR)

    async def _decide(
        self, socket: ServerConnection, request: Handshake, response: Response
    ) -> Response | None:
        headers = request.headers
        reason = self._guard.refusal_of_player(headers.get_all("Host"), headers.get_all("Origin"))
        if reason is not None:
            show("refused", status=403, reason=reason)
            return _refusal(HTTPStatus.FORBIDDEN, reason)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            return None
        if len(request.path) > self._limits.url_characters:
            return _refusal(HTTPStatus.REQUEST_URI_TOO_LONG)
        stage = request.path.partition("?")[0].strip("/")
        if stage != self._stage:
            show("refused", status=403, reason="wrong path", served=f"/{self._stage}/")
            return _refusal(HTTPStatus.FORBIDDEN)
        return await self._connect(socket, request, response)

    async def _connect(
        self, socket: ServerConnection, request: Handshake, response: Response
    ) -> Response | None:
        origin = self._origin(socket, request)
        headers = [*request.headers.raw_items(), ("X-Forwarded-For", origin.source_ip)]
        event = connect_event(origin, request.path, headers, _milliseconds())
        try:
            answer = await self._call("$connect", event)
        except asyncio.TimeoutError:
            return _refusal(HTTPStatus.GATEWAY_TIMEOUT)
        except FunctionFailed:
            return _refusal(HTTPStatus.BAD_GATEWAY)
        status = _status(answer)
        if not 200 <= status <= 299:
            return _refusal(status)
        subprotocol = _header(answer, "Sec-WebSocket-Protocol")
        if subprotocol is not None:  # API Gateway passes only this header on to the client.
            response.headers["Sec-WebSocket-Protocol"] = subprotocol
        self._accepted[socket] = self._opening[origin.connection_id] = OpeningConnection(origin)
        return None

    def _origin(self, socket: ServerConnection, request: Handshake) -> Origin:
        return Origin(
            self._api_id,
            self._stage,
            f"{in_url(self._host)}:{self._port}",
            new_id(),
            _milliseconds(),
            (socket.remote_address or ("unknown",))[0],  # None if the client has already disconnected.
            next(iter(request.headers.get_all("User-Agent")), None),
        )

    # Conversation

    async def _converse(self, socket: ServerConnection) -> None:
        opening = self._accepted.pop(socket)
        origin = opening.origin
        connection = OpenConnection(origin, socket)
        self._connections[origin.connection_id] = connection
        self._opening.pop(origin.connection_id)
        for data in opening.posts:
            self._post(connection, data)
        self._end_when_due(connection, time.monotonic() + self._limits.lifetime_seconds)
        try:
            await self._read(connection)
        except ConnectionClosed:
            pass
        except Exception as error:
            show_failure(error, connection=origin.connection_id)
            raise  # `websockets` closes the connection with 1011.
        finally:
            connection.ending.cancel()
            self._connections.pop(origin.connection_id, None)
            if not connection.has_vanished:
                self._start(connection, self._disconnect(connection))

    async def _read(self, connection: OpenConnection) -> None:
        while True:
            body = await connection.socket.recv()
            connection.last_active_at = time.monotonic()
            if isinstance(body, bytes):
                await connection.socket.close(1003)
                return
            await connection.frames.acquire()
            self._start(connection, self._message(connection, body))

    def _end_when_due(self, connection: OpenConnection, end_of_life: float) -> None:
        """Close the connection if it is idle or too old. Otherwise check again when it could be."""
        idle_at = connection.last_active_at + self._limits.idle_seconds
        left = min(idle_at, end_of_life) - time.monotonic()
        if left <= 0:
            self._start(connection, connection.socket.close(1001, "Going away"))
            return
        loop = asyncio.get_running_loop()
        connection.ending = loop.call_later(left, self._end_when_due, connection, end_of_life)

    async def _message(self, connection: OpenConnection, body: str) -> None:
        event = message_event(connection.origin, "$default", body, _milliseconds())
        try:
            await self._call("$default", event)
        except asyncio.TimeoutError:
            await self._tell_failure(connection, "Endpoint request timed out")
        except FunctionFailed:
            await self._tell_failure(connection, "Internal server error")
        finally:
            connection.frames.release()

    async def _disconnect(self, connection: OpenConnection) -> None:
        socket = connection.socket
        code, reason = socket.close_code or 1006, socket.close_reason or ""
        event = disconnect_event(connection.origin, code, reason, _milliseconds())
        with suppress(FunctionFailed, asyncio.TimeoutError):  # There is no client to notify.
            await self._call("$disconnect", event)

    async def vanish(self, connection_id: str) -> None:
        """End a connection without a close frame and without `$disconnect`, which AWS doesn't guarantee."""
        connection = self._connections.pop(connection_id, None)
        if connection is not None:
            connection.has_vanished = True
            connection.socket.transport.abort()

    async def _tell_failure(self, connection: OpenConnection, message: str) -> None:
        frame = failure_frame(message, connection.origin.connection_id)
        try:
            await connection.socket.send(json.dumps(frame))
        except ConnectionClosed:
            return

    async def _call(self, route_key: str, event: Event) -> Any:
        """Call a function in a thread, and return its result. Raises FunctionFailed and asyncio.TimeoutError.

        All functions run concurrently, including those of the same connection. An exception that a function
        raises after its timeout is shown too.
        """

        def invoke() -> Any:
            try:
                return self._routes[route_key](event)
            except BaseException as error:  # sys.exit() ends a function, not the gateway.
                show_failure(error, route=route_key)
                raise FunctionFailed from None

        try:
            running = asyncio.get_running_loop().run_in_executor(self._functions, invoke)
        except RuntimeError:  # The executor accepts no more calls, because the process is ending.
            raise asyncio.CancelledError from None
        return await asyncio.wait_for(running, self._limits.integration_seconds)

    def _start(self, connection: OpenConnection, work: Coroutine[Any, Any, None]) -> None:
        """Run work for the connection in the background. An exception is shown, and ends the connection."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, connection))

    def _done(self, connection: OpenConnection, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            show_failure(error, connection=connection.origin.connection_id)
            connection.socket.transport.abort()

    # @connections

    def manage(self, request: management.Request) -> Answer:
        """Answer a request to `@connections`, from HTTP or from this process."""
        if not request.signed:
            return Answer(403, {"message": "Missing Authentication Token"})
        stage, _, connection_id = unquote(request.path).lstrip("/").partition("/@connections/")
        if stage != self._stage:
            return Answer(403, {"message": "Forbidden"}, "ForbiddenException")
        if not _is_connection_id(connection_id):
            return Answer(400, {"message": f"Invalid connectionId: {connection_id}"}, "BadRequestException")
        if len(request.body) > self._limits.message_bytes:
            return Answer(413, {"message": "Payload too large"}, "PayloadTooLargeException")
        opening = self._opening.get(connection_id)
        if opening is not None and request.method == "POST":
            return self._post_later(opening, request.body)
        connection = self._connections.get(connection_id)
        if connection is None:
            return Answer(410, error="GoneException")
        if request.method == "POST":
            return self._post(connection, request.body)
        if request.method == "GET":
            return Answer(200, _description(connection))
        if request.method == "DELETE":
            self._connections.pop(connection_id)
            self._start(connection, connection.socket.close())
            return Answer(204)
        return Answer(403, {"message": "Missing Authentication Token"})

    def _post(self, connection: OpenConnection, data: bytes) -> Answer:
        """Send the frame without waiting. If the client's buffer has no room for it, return a 429."""
        waiting = connection.socket.transport.get_write_buffer_size()
        if waiting + len(data) > self._limits.client_buffer_bytes:
            return Answer(429, {"message": "Too many requests"}, "LimitExceededException")
        if connection.socket.state is not State.OPEN:
            return Answer(410, error="GoneException")
        broadcast((connection.socket,), data, text=True)
        connection.last_active_at = time.monotonic()
        return Answer(200)

    def _post_later(self, opening: OpeningConnection, data: bytes) -> Answer:
        if sum(map(len, opening.posts)) + len(data) > self._limits.client_buffer_bytes:
            return Answer(429, {"message": "Too many requests"}, "LimitExceededException")
        opening.posts.append(data)
        return Answer(200)

    def _first_line(self, *args: Any, **kwargs: Any) -> asyncio.Protocol:
        return management.FirstLine(
            ServerConnection(*args, **kwargs),
            partial(
                management.Management,
                self.manage,
                self._guard,
                self._limits.message_bytes,
                self._management_transports,
            ),
            HANDSHAKE_SECONDS,
        )


def _description(connection: OpenConnection) -> dict[str, object]:
    idle = time.monotonic() - connection.last_active_at
    identity = {"sourceIp": connection.origin.source_ip}
    if connection.origin.user_agent is not None:
        identity["userAgent"] = connection.origin.user_agent
    return {
        "connectedAt": _iso(connection.origin.connected_at / 1000),
        "lastActiveAt": _iso(time.time() - idle),
        "identity": identity,
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def _is_connection_id(text: str) -> bool:
    """Return whether the text has the format of `new_id`: 11 bytes in base64."""
    return re.fullmatch(r"[A-Za-z0-9_-]{15}=", text) is not None


def _refusal(status: int, message: str | None = None) -> Response:
    body = json.dumps({"message": message or reason_phrase(status)}).encode()
    headers = Headers(
        {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
    )
    return Response(status, reason_phrase(status), headers, body)


def _status(answer: Any) -> int:
    """Return the status in a function's result, or 502 if the result isn't valid."""
    status = answer.get("statusCode") if isinstance(answer, dict) else None
    return status if isinstance(status, int) and 100 <= status <= 599 else HTTPStatus.BAD_GATEWAY


def _header(answer: Mapping[str, Any], name: str) -> str | None:
    headers = answer.get("headers") or {}
    return next((v for k, v in headers.items() if k.lower() == name.lower()), None)


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
