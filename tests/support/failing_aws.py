"""A proxy in front of an emulator of AWS that fails the calls that a rehearsal names."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import parse_qs, urlsplit

IN_USE = ("ResourceInUseException", "Cannot change the event source mapping because it is in use.")
DENIED = ("AccessDeniedException", "The rehearsal fails this call.")
PATHS = (
    (r"POST /2015-03-31/functions", "CreateFunction"),
    (r"POST /2015-03-31/functions/[^/]+/policy", "AddPermission"),
    (r"POST /2015-03-31/event-source-mappings", "CreateEventSourceMapping"),
    (r"PUT /2015-03-31/event-source-mappings/[^/]+", "UpdateEventSourceMapping"),
    (r"DELETE /2015-03-31/event-source-mappings/[^/]+", "DeleteEventSourceMapping"),
    (r"POST /v2/apis", "CreateApi"),
    (r"POST /v2/apis/[^/]+/integrations", "CreateIntegration"),
    (r"POST /v2/apis/[^/]+/routes", "CreateRoute"),
    (r"POST /v2/apis/[^/]+/deployments", "CreateDeployment"),
    (r"POST /v2/apis/[^/]+/stages", "CreateStage"),
    (r"PATCH /v2/apis/[^/]+/stages/[^/]+", "UpdateStage"),
)


@dataclass(slots=True)
class Failure:
    """Fail `times` calls of an operation after the first `passing` ones.

    With `done` the emulator performs the call, and only its answer is lost.
    """

    operation: str
    passing: int = 0
    times: int = 1
    error: tuple[str, str] = DENIED
    done: bool = False


@dataclass(slots=True)
class FailingAws:
    """`url` of the proxy. `failed` counts the failed calls by operation, `calls` all of them."""

    url: str
    failures: list[Failure] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    lock: Lock = field(default_factory=Lock)

    def failure_of(self, operation: str) -> Failure | None:
        with self.lock:
            self.calls[operation] += 1
            for failure in self.failures:
                if failure.operation == operation and failure.times > 0:
                    if failure.passing > 0:
                        failure.passing -= 1
                        return None
                    failure.times -= 1
                    self.failed[operation] += 1
                    return failure
        return None


@contextmanager
def failing(emulator_url: str) -> Iterator[FailingAws]:
    """Serve on a free port of loopback."""
    emulator = urlsplit(emulator_url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # The name that http.server calls.
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            failure = aws.failure_of(operation_of(self.command, self.path, dict(self.headers), body))
            if failure is None:
                self._answer(*self._forwarded(body))
                return
            if failure.done:
                self._forwarded(body)
            code, message = failure.error
            if body.startswith(b"Action="):
                error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
                document = f"<ErrorResponse>{error}</ErrorResponse>"
                self._answer(400, {"Content-Type": "text/xml"}, document.encode())
            else:
                document = json.dumps({"__type": code, "message": message})
                as_json = {"Content-Type": "application/json", "x-amzn-ErrorType": code}
                self._answer(400, as_json, document.encode())

        do_GET = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_POST  # noqa: N815

        def _forwarded(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            connection = HTTPConnection(emulator.hostname or "", emulator.port, timeout=120)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            return answer.status, dict(answer.getheaders()), content

        def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Print nothing: the rehearsal's output is for its own steps."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    aws = FailingAws(f"http://127.0.0.1:{server.server_address[1]}")
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield aws
    finally:
        server.shutdown()
        server.server_close()


def operation_of(method: str, path: str, headers: Mapping[str, str], body: bytes) -> str:
    """Return AWS's name of the call, or method and path for one that `PATHS` does not list."""
    if target := headers.get("X-Amz-Target"):
        return target.rpartition(".")[2]
    if body.startswith(b"Action="):
        return parse_qs(body.decode())["Action"][0]
    call = f"{method} {urlsplit(path).path.rstrip('/')}"
    return next((name for pattern, name in PATHS if re.fullmatch(pattern, call)), call)
