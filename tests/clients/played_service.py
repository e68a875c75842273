"""A service that a test plays: it greets clients and answers their frames as the test says."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from clients.player import Frame, Timing
from tests.support.sockets import PATIENCE_SECONDS

GREETING = {"type": "system", "event": "connected", "messageId": "01a", "connectionId": "c", "playerId": "1"}
IMPATIENT = Timing(retry=0.01, longest_retry=0.01)


def acknowledge(frame: Frame) -> Frame | None:
    kind = {"sendmessage": "ack", "ping": "pong"}[frame["action"]]
    echoed = {"ackId": frame["ackId"]} if "ackId" in frame else {}
    return {"type": kind, "messageId": "01b", **echoed}


@dataclass(slots=True)
class Service:
    """Greets connections and answers frames with `answer`. `statuses` are those of the first handshakes."""

    answer: Callable[[Frame], Frame | None] = acknowledge
    statuses: list[HTTPStatus] = field(default_factory=list)
    first_words: list[str | bytes] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    connections: list[ServerConnection] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    server: Server | None = None
    greeting: Frame | None = field(default_factory=lambda: GREETING)

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"ws://127.0.0.1:{next(iter(self.server.sockets)).getsockname()[1]}/dev/"

    @property
    def tokens(self) -> list[str | None]:
        return [request.headers.get("Authorization") for request in self.requests]

    def query(self, number: int) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.requests[number].path).query, keep_blank_values=True)

    def refuse(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        return connection.respond(self.statuses.pop(0), "no\n") if self.statuses else None

    async def serve(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        try:
            if self.greeting is not None:
                await connection.send(json.dumps(self.greeting))
            if self.first_words:
                await connection.send(self.first_words.pop(0))
            async for text in connection:
                frame = json.loads(text)
                self.frames.append(frame)
                reply = self.answer(frame)
                if reply is not None:
                    await connection.send(json.dumps(reply))
        except ConnectionClosed:
            return


S = TypeVar("S", bound=Service)


@asynccontextmanager
async def playing(service: S) -> AsyncIterator[S]:
    async with serve(service.serve, "127.0.0.1", 0, process_request=service.refuse) as service.server:
        yield service


def run(talk: Coroutine[Any, Any, None]) -> list[dict[str, Any]]:
    """Run the coroutine and return the errors that reached only the event loop's handler."""
    problems: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
        await asyncio.wait_for(talk, PATIENCE_SECONDS)
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(watched())
    gc.collect()
    return problems
