"""A WebSocket API as API Gateway has them: connections, routes to functions, `@connections`, and limits.

It says no where AWS says no. docs/local-aws.md lists where it is known to differ.
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

FUNCTIONS_AT_ONCE = 128
FRAMES_AT_ONCE = 32
"""Of one connection; further ones wait in its socket, so that a client that floods slows itself."""
HANDSHAKE_SECONDS = 10

_quiet = logging.getLogger("localdev.websockets")
_quiet.setLevel(logging.CRITICAL)
"""Clients that break off are everyday life, and the service's own steps say who came and went."""


@dataclass(slots=True)
class OpenConnection:
    origin: Origin
    socket: ServerConnection
    last_active_at: float = field(default_factory=time.monotonic)
    frames: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(FRAMES_AT_ONCE))
    has_vanished: bool = False
    ending: asyncio.TimerHandle = field(init=False)


@dataclass(eq=False)
class OpeningConnection:
    """A connection whose `$connect` has returned, and whose handshake goes on. `posts` are sent after it."""

    origin: Origin
    posts: list[bytes] = field(default_factory=list)


class FunctionFailed(Exception):
    """A function raised an exception, which has been shown already."""


class Gateway:
    """Serves one stage of one API. All of it but `start` and `stop` runs on the event loop."""

    def __init__(
        self,
        api_id: str,
        stage: str,
        routes: Mapping[str, Function],
        limits: Limits,
        allowed_origins: frozenset[str] = frozenset(),
    ) -> None:
        """`allowed_origins`: the stage's ALLOWED_ORIGINS, which can connect besides this machine's pages."""
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
        self._functions = ThreadPoolExecutor(FUNCTIONS_AT_ONCE, thread_name_prefix="lambda")

    async def start(self, host: str, port: int) -> int:
        """Serve, and return the port. Raises OSError when it cannot be bound."""
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
        """Return the refusal of a handshake, or None to let it through. `$connect` decides in the end."""
        try:
            return await self._decide(socket, request, response)
        except Exception as error:
            show_failure(error, route="$connect")
            return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR)

    async def _decide(
        self, socket: ServerConnection, request: Handshake, response: Response
    ) -> Response | None:
        headers = request.headers
        why = self._guard.refusal_of_player(headers.get_all("Host"), headers.get_all("Origin"))
        if why is not None:
            show("refused", status=403, reason=why)
            return _refusal(HTTPStatus.FORBIDDEN, why)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            return None
        if len(request.path) > self._limits.url_characters:
            return _refusal(HTTPStatus.REQUEST_URI_TOO_LONG)
        stage = request.path.partition("?")[0].strip("/")
        if stage != self._stage:
            show("refused", status=403, reason="another path", served=f"/{self._stage}/")
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
        if subprotocol is not None:  # The one header of the answer that reaches the client.
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
            (socket.remote_address or ("unknown",))[0],  # None when the client has left already.
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
        """Look again when it would be idle or too old, if nothing has come by then."""
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
        with suppress(FunctionFailed, asyncio.TimeoutError):  # Nobody is left to be told.
            await self._call("$disconnect", event)

    async def vanish(self, connection_id: str) -> None:
        """End a connection without a word and without `$disconnect`, which AWS does not promise to call."""
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
        """Call a function in a thread, concurrently with all others, also those for the same connection.

        Returns what it returns. Raises FunctionFailed, and TimeoutError when it takes too long; an exception
        that it raises after that is shown too.
        """

        def invoke() -> Any:
            try:
                return self._routes[route_key](event)
            except BaseException as error:  # sys.exit() ends a function, not the gateway.
                show_failure(error, route=route_key)
                raise FunctionFailed from None

        try:
            running = asyncio.get_running_loop().run_in_executor(self._functions, invoke)
        except RuntimeError:  # No thread is started any more: the process is ending.
            raise asyncio.CancelledError from None
        return await asyncio.wait_for(running, self._limits.integration_seconds)

    def _start(self, connection: OpenConnection, work: Coroutine[Any, Any, None]) -> None:
        """Do this for the connection in the background. An exception is shown and ends the connection."""
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
        """Answer a request to `@connections`, however it came here."""
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
        """Send without waiting: what the client does not read stays in a buffer, which has room for it."""
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
    """Eleven bytes in base64: what else is asked for was never a connection."""
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
    """The status a function answered with; what is no answer at all is a bad gateway to the client."""
    status = answer.get("statusCode") if isinstance(answer, dict) else None
    return status if isinstance(status, int) and 100 <= status <= 599 else HTTPStatus.BAD_GATEWAY


def _header(answer: Mapping[str, Any], name: str) -> str | None:
    headers = answer.get("headers") or {}
    return next((v for k, v in headers.items() if k.lower() == name.lower()), None)


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
