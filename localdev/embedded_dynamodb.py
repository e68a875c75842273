"""Embeds the DynamoDB engine in this process, for boto3 clients here and for other programs over HTTP."""

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from localdev import shortcut, threads
from localdev.addresses import resolve
from localdev.engine import ApiError, DynamoDb, wire
from localdev.engine.snapshot import snapshot_of, tables_of
from localdev.guard import Guard

JSON = "application/x-amz-json-1.0"
SERVICES = ("dynamodb", "dynamodb-streams")


class EmbeddedDynamoDB:
    """Calls the engine behind a lock. `on_write` is called after each change that a stream records."""

    def __init__(self, on_write: Callable[[], object]) -> None:
        self._on_write = on_write
        self._engine = DynamoDb(on_change=on_write)
        self._one_at_a_time = threading.Lock()
        self._is_frozen = False

    def call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Return the response to a request, both in boto3's format. Raises ApiError."""
        with self._one_at_a_time:
            if self._is_frozen:
                raise ApiError("InternalServerError", "the process is ending")
            return self._engine.call(operation, request)

    def freeze(self, taken: Mapping[str, int]) -> bytes:
        """Return a snapshot of all tables. Every later call fails, so that no acknowledged write is lost."""
        with self._one_at_a_time:
            self._is_frozen = True
            return snapshot_of(self._engine.tables, taken)

    def restore(self, snapshot: bytes) -> None:
        """Replace the tables by those of a snapshot. Raises an exception if this version can't read it."""
        tables = tables_of(snapshot)
        for table in tables.values():
            table.on_change = self._on_write
        self._engine.tables = tables

    def attach(self, session: boto3.Session) -> None:
        """Make every client that the session creates from now on call this engine instead of the network."""
        for service in SERVICES:
            session.events.register(f"before-send.{service}", self._answer)

    def attach_directly(self, session: boto3.Session) -> None:
        """Like `attach`, but answer calls before boto3 serializes them, which is faster."""
        for service in SERVICES:
            shortcut.attach(
                session, service, lambda client, operation: partial(self._answer_directly, operation)
            )

    def _answer(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        target = request.headers["X-Amz-Target"]
        status, content = wire.answer(
            self.call, target.decode() if isinstance(target, bytes) else target, request.body
        )
        return AWSResponse(request.url, status, {"Content-Type": JSON}, _Raw(content))

    def _answer_directly(self, operation: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            return 200, self.call(operation, request)
        except ApiError as error:
            return 400, {"Error": {"Code": error.code, "Message": error.message}, **error.more}

    def serve(self, host: str, port: int) -> int:
        """Serve HTTP clients such as curl and the AWS CLI, and return the port. Raises OSError."""
        family, address = resolve(host, port)
        server_class = type("Server", (_Server,), {"address_family": family})
        server = server_class(address, _handler_class(self.call, Guard(host)))
        threads.start("dynamodb", server.serve_forever)
        return int(server.server_address[1])


class _Raw:
    """The body of a response, with the interface that botocore reads."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._content


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print a traceback, unless the client disconnected during the response."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _handler_class(call: wire.Call, guard: Guard) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def parse_request(self) -> bool:
            """Read a request's head. Return False if the request has already been answered."""
            if not super().parse_request():
                return False
            hosts, origins = (self.headers.get_all(name, []) for name in ("Host", "Origin"))
            refusal = guard.refusal_of_program(hosts, origins)
            if refusal is not None:
                # The body is still unread, so the connection can't be reused.
                self.close_connection = True
                self._answer(
                    403, json.dumps({"__type": "AccessDeniedException", "message": refusal}).encode()
                )
            return refusal is None

        def do_POST(self) -> None:
            length = max(0, int(self.headers.get("Content-Length", 0)))
            self._answer(*wire.answer(call, self.headers.get("X-Amz-Target", ""), self.rfile.read(length)))

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            if self.close_connection:
                self.send_header("Connection", "close")
            self.send_header("Content-Type", JSON)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing: these requests aren't steps of the service."""

    return Handler
