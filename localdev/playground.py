"""Serves the playground at `/`: a page with players, the steps of their messages, and the tables.

Serves a game for two players at `/game`.

It is for browsers on this machine: `guard` refuses the requests of other sites' pages. Deployments don't have
it, because only `chalice local` adds its routes.
"""

import base64
import re
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chalice import Chalice, Response
from chalice.app import Request
from chalice.local import ChaliceRequestHandler, ThreadedHTTPServer

from localdev.guard import Guard, host_without_port

PAGE = Path(__file__).parent / "page"
CLIENT = Path(__file__).parent.parent / "clients" / "player.mjs"
CONTENT_TYPES = {".html": "text/html", ".css": "text/css", ".mjs": "text/javascript"}
PAGES = {"/": PAGE / "index.html", "/game": PAGE / "game.html"}
OWN_PATHS = re.compile(r"/|/game|/page/[^/]*|/service|/tables|/steps|/vanish")

STEPS_KEPT = 1000
WAIT_SECONDS = 20.0
ROWS_SHOWN = 100


@dataclass(slots=True)
class Steps:
    """Keeps the latest steps, numbered from 1. `run` identifies this process, which an edit replaces."""

    run: str = field(default_factory=lambda: secrets.token_hex(4))
    _count: int = 0
    _kept: deque[dict[str, object]] = field(default_factory=lambda: deque(maxlen=STEPS_KEPT))
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, step: str, about: Mapping[str, object]) -> None:
        """Append a step, and wake up the requests that wait for one."""
        with self._changed:
            self._count += 1
            at = round(1000 * time.time(), 1)
            self._kept.append({"number": self._count, "at": at, "step": step, **about})
            self._changed.notify_all()

    def after(self, number: int, wait_seconds: float = WAIT_SECONDS) -> list[dict[str, object]]:
        """Return the steps after a number. Wait for one if there are none, for at most `wait_seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self._count > number, wait_seconds)
            return [step for step in self._kept if step["number"] > number]  # type: ignore[operator]


@dataclass(frozen=True, slots=True)
class Playground:
    """Adds the playground's routes to an app.

    `tables` maps each title on the page to a table's name. `vanish` takes a connection id and ends the
    connection without a close frame or `$disconnect`.
    """

    websocket_url: str
    is_open: bool
    host: str
    tables: Mapping[str, str]
    dynamodb: Any
    steps: Steps
    vanish: Callable[[str], None]

    def add_to(self, app: Chalice) -> None:
        """Add the routes to the app. Requests to them aren't logged: they aren't steps of the service."""

        def route(path: str, answer: Callable[..., Response], method: str = "GET") -> None:
            def view(**parameters: str) -> Response:
                request = app.current_request
                assert request is not None
                refusal = self._refusal(path, request.headers)
                if refusal is not None:
                    return refusal
                response = answer(request, **parameters)
                response.headers |= self._security_headers(request.headers)
                return response

            app.route(path, methods=[method], name=f"playground {path}")(view)

        for path, file in PAGES.items():
            route(path, lambda request, file=file: _file(file))
        route("/page/{name}", self._file_of_page)
        route("/service", self._service)
        route("/tables", self._rows)
        route("/steps", self._steps)
        route("/vanish", self._vanish, "POST")
        _silence_log(OWN_PATHS)

    def _refusal(self, path: str, headers: Mapping[str, str]) -> Response | None:
        """Return a 403 for a request from another site's page, otherwise None. Links to pages are allowed."""
        hosts, origins = ([headers[name]] if name in headers else [] for name in ("host", "origin"))
        refusal = Guard(self.host).refusal_of_page(hosts, origins)
        is_link = path in PAGES and headers.get("sec-fetch-dest") == "document"
        site = "none" if is_link else headers.get("sec-fetch-site", "none")
        if refusal is None and site not in ("none", "same-origin"):
            refusal = "Only the playground's own page can request this: open / in the browser."
        return None if refusal is None else _text(403, refusal)

    def _security_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return headers that limit the page to its own files and sockets, in case a script is injected."""
        host, port = host_without_port(headers.get("host", "")), urlsplit(self.websocket_url).port
        sockets = "" if host is None else f" ws://{host}:{port}"
        if host is not None and host.startswith("["):  # A Content-Security-Policy can't name an IPv6 address.
            sockets = " ws:"
        return {
            "Content-Security-Policy": (
                f"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'{sockets}; "
                "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            ),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }

    def _file_of_page(self, _request: Request, name: str) -> Response:
        files = {path.name: path for path in (*PAGE.iterdir(), CLIENT)}
        return _file(files[name]) if name in files else _text(404, "No such file.")

    def _service(self, _request: Request) -> Response:
        url = urlsplit(self.websocket_url)
        return Response({"port": url.port, "path": url.path, "isOpen": self.is_open})

    def _steps(self, request: Request) -> Response:
        query: Mapping[str, str] = request.query_params or {}
        number = query.get("after", "")
        known = (
            int(number) if re.fullmatch("[0-9]{1,15}", number) and query.get("run") == self.steps.run else 0
        )
        return Response({"run": self.steps.run, "steps": self.steps.after(known)})

    def _rows(self, _request: Request) -> Response:
        return Response({name: self._rows_of(table) for name, table in self.tables.items()})

    def _rows_of(self, table: str) -> dict[str, object]:
        """Return the count and the latest rows of the table's first megabyte. Message ids sort by time."""
        items = self.dynamodb.scan(TableName=table)["Items"]
        rows = [{name: _without_type(value) for name, value in item.items()} for item in items]
        rows.sort(key=lambda row: str(row.get("messageId")).rpartition("#")[2], reverse=True)
        return {"count": len(rows), "rows": rows[:ROWS_SHOWN]}

    def _vanish(self, request: Request) -> Response:
        asked = request.json_body
        if not isinstance(asked, dict) or not isinstance(asked.get("connectionId"), str):
            return _text(400, "The body must be a JSON object with a connectionId.")
        self.vanish(asked["connectionId"])
        return Response({})


def _file(path: Path) -> Response:
    return Response(
        path.read_text(encoding="utf-8"), {"Content-Type": f"{CONTENT_TYPES[path.suffix]}; charset=utf-8"}
    )


def _text(status: int, text: str) -> Response:
    return Response(f"{text}\n", {"Content-Type": "text/plain"}, status)


def _without_type(attribute: Mapping[str, Any]) -> object:
    """Return an attribute as JSON without its type. Numbers become strings: JavaScript would round them."""
    if not attribute:
        return None
    kind, value = next(iter(attribute.items()))
    if kind == "B":
        return f"base64:{base64.b64encode(value).decode()}"
    if kind == "M":
        return {name: _without_type(each) for name, each in value.items()}
    if kind == "L":
        return [_without_type(each) for each in value]
    if kind in ("SS", "NS", "BS"):
        return sorted(str(_without_type({kind[0]: each})) for each in value)
    if kind == "NULL":
        return None
    return value if kind == "BOOL" else str(value)


def _silence_log(paths: re.Pattern[str]) -> None:
    """Make Chalice's server log no requests to these paths, and no traceback when a browser disconnects."""
    log, fail = ChaliceRequestHandler.log_request, ThreadedHTTPServer.handle_error

    def log_others(self: ChaliceRequestHandler, code: int | str = "-", size: int | str = "-") -> None:
        if not paths.fullmatch(getattr(self, "path", "").partition("?")[0]):  # Malformed HTTP has no path.
            log(self, code, size)

    def handle_error(self: ThreadedHTTPServer, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            fail(self, request, client_address)

    setattr(ChaliceRequestHandler, "log_request", log_others)  # noqa: B010  # mypy rejects an assignment.
    setattr(ThreadedHTTPServer, "handle_error", handle_error)  # noqa: B010
