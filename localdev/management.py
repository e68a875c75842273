"""Serves `@connections` over HTTP on the port of the WebSocket API, as AWS does."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import h11

from localdev.guard import Guard
from localdev.terminal import show_failure

FIRST_LINE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `body` has at most one byte more than the limit, so a too long body is still detected."""

    method: str
    path: str
    signed: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. `error` goes into the header from which AWS's clients derive the exception."""

    status: int
    body: dict[str, object] | None = None
    error: str | None = None


class FirstLine(asyncio.Protocol):
    """Reads a connection's first line, and passes the connection to the management API or the handshake."""

    def __init__(
        self,
        handshake: asyncio.Protocol,
        management: Callable[[], asyncio.Protocol],
        timeout: float,
    ) -> None:
        self._handshake = handshake
        self._management = management
        self._timeout = timeout
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(self._timeout, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._received += data
        line, newline, _ = self._received.partition(b"\n")
        if not newline and len(line) < FIRST_LINE_BYTES:
            return
        self._timer.cancel()
        path = line.partition(b" ")[2].partition(b"?")[0]
        for_management = b"/@connections" in path or b"/%40connections" in path
        protocol = self._management() if for_management else self._handshake
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._received)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()


class Management(asyncio.Protocol):
    """An HTTP connection. `answer` answers its requests, one at a time."""

    def __init__(
        self,
        answer: Callable[[Request], Answer],
        guard: Guard,
        body_bytes: int,
        open_transports: set[asyncio.Transport],
    ) -> None:
        self._answer = answer
        self._guard = guard
        self._body_bytes = body_bytes
        self._open_transports = open_transports
        self._http = h11.Connection(h11.SERVER)
        self._head: h11.Request | None = None
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open_transports.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._advance()

    def eof_received(self) -> bool:
        """Handle the end of the client's requests. Return True, so that pending responses are still sent."""
        self._http.receive_data(b"")
        self._advance()
        return True

    def _advance(self) -> None:
        try:
            self._read_events()
        except h11.RemoteProtocolError as malformed:
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                self._send(Answer(malformed.error_status_hint, {"message": "Bad Request"}))
            self._transport.close()

    def _read_events(self) -> None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._head, self._body = event, bytearray()
                if self._http.they_are_waiting_for_100_continue:
                    self._write(h11.InformationalResponse(status_code=100, headers=[]))
            elif isinstance(event, h11.Data):
                room = self._body_bytes + 1 - len(self._body)
                self._body += event.data[:room]
            elif isinstance(event, h11.EndOfMessage):
                if not self._respond():
                    return
            elif isinstance(event, h11.ConnectionClosed):
                if self._http.our_state is not h11.SEND_RESPONSE:
                    self._transport.close()
                return
            else:
                return

    def _respond(self) -> bool:
        """Answer the request. Return whether the connection can be reused."""
        assert self._head is not None
        try:
            self._send(self._answer_to(self._head))
        except Exception as error:  # Close the connection, or the client would wait for its timeout.
            show_failure(error, api="@connections")
            self._transport.abort()
            return False
        if self._http.our_state is h11.MUST_CLOSE:
            self._transport.close()
            return False
        self._http.start_next_cycle()
        return True

    def _answer_to(self, head: h11.Request) -> Answer:
        headers = dict(head.headers)
        hosts, origins = (
            [value.decode("latin-1") for name, value in head.headers if name == wanted]
            for wanted in (b"host", b"origin")
        )
        refusal = self._guard.refusal_of_program(hosts, origins)
        if refusal is not None:
            return Answer(403, {"message": refusal}, "ForbiddenException")
        request = Request(
            head.method.decode("ascii"),
            head.target.decode("ascii").partition("?")[0],
            headers.get(b"authorization", b"").startswith(b"AWS4-HMAC-SHA256 "),
            bytes(self._body),
        )
        return self._answer(request)

    def _send(self, answer: Answer) -> None:
        to_head = self._head is not None and self._head.method == b"HEAD"
        body = b"" if answer.body is None or to_head else json.dumps(answer.body).encode()
        headers = [("Content-Type", "application/json")] if body else []
        if answer.status != HTTPStatus.NO_CONTENT:
            headers.append(("Content-Length", str(len(body))))
        if answer.error is not None:
            headers.append(("x-amzn-ErrorType", answer.error))
        self._write(
            h11.Response(status_code=answer.status, headers=headers, reason=HTTPStatus(answer.status).phrase)
        )
        self._write(h11.Data(data=body))
        self._write(h11.EndOfMessage())

    def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data and not self._transport.is_closing():
            self._transport.write(data)
