"""A proxy between clients and the gateway that cuts connections where a test says."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a connection is cut: at this piece of the data `up` to the gateway or `down` from it.

    Piece 0 is the handshake, and each later one is a frame. `passed` is the share of the piece, from 0 to 1,
    that still gets through. With `silently` the connection stays open but passes nothing in either direction.
    """

    direction: str
    piece: int
    passed: float
    silently: bool


@dataclass(slots=True)
class Line:
    """A client's connection and the proxy's own to the gateway. `came_down` are the frames for the client."""

    player: str
    after: str | None
    cut: Cut | None
    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    is_silent: bool = False
    came_down: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class CuttingProxy:
    """Cuts the first `times` connections of each player that `cuts` names; `made` counts the cuts.

    `lines` are all connections of each player, in order.
    """

    gateway_port: int
    cuts: Mapping[str, Cut]
    times: int = 2
    made: Counter[str] = field(default_factory=Counter)
    lines: defaultdict[str, list[Line]] = field(default_factory=lambda: defaultdict(list))
    port: int = 0
    _server: asyncio.Server = field(init=False)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> "CuttingProxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._over.set()
        ended = await asyncio.gather(*self._serving, return_exceptions=True)
        for mistake in (each for each in ended if isinstance(each, BaseException)):
            raise mistake

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Serve one client's connection. When one end closes, the proxy closes the other."""
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        try:
            await self._connect(from_client, to_client)
        except OSError:
            pass
        finally:
            to_client.transport.abort()

    async def _connect(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        request = await _piece(from_client, 0)
        query = parse_qs(urlsplit(request.split(b" ")[1].decode()).query) if request else {}
        if not query:  # The client closed before it sent a request.
            return
        player = query["playerId"][0]
        from_gateway, to_gateway = await asyncio.open_connection("127.0.0.1", self.gateway_port)
        cut = self.cuts.get(player) if self.made[player] < self.times else None
        line = Line(player, query.get("after", [None])[0], cut, (to_client, to_gateway))
        self.lines[player].append(line)
        ways = (
            self._pass_on(line, "up", from_client, to_gateway, request),
            self._pass_on(line, "down", from_gateway, to_client),
        )
        for mistake in await asyncio.gather(*ways, return_exceptions=True):
            if isinstance(mistake, BaseException):
                raise mistake

    async def _pass_on(
        self,
        line: Line,
        direction: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        first: bytes = b"",
    ) -> None:
        """Pass on one direction until its cut or until an end closes, then end the other direction."""
        try:
            await self._pass_on_pieces(line, direction, reader, writer, first)
            if line.is_silent:
                await self._over.wait()
        finally:
            for each in line.writers:
                each.transport.abort()

    async def _pass_on_pieces(
        self,
        line: Line,
        direction: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        first: bytes,
    ) -> None:
        number, piece = 0, first or await _piece(reader, 0)
        while piece and not line.is_silent:
            cut = (
                line.cut if line.cut and (line.cut.direction, line.cut.piece) == (direction, number) else None
            )
            passed = piece if cut is None else piece[: round(cut.passed * len(piece))]
            writer.write(passed)
            if direction == "down" and passed == piece and b'{"' in piece:
                line.came_down.append(json.loads(piece[piece.index(b'{"') :]))
            if cut is not None:
                await self._cut(line, cut)
                return
            number += 1
            piece = await _piece(reader, number)

    async def _cut(self, line: Line, cut: Cut) -> None:
        self.made[line.player] += 1
        line.is_silent = cut.silently
        if not cut.silently:
            for writer in line.writers:
                with suppress(OSError):  # This end closed before its cut.
                    await writer.drain()


async def _piece(reader: asyncio.StreamReader, number: int) -> bytes:
    """Return the head of the handshake or one frame, or nothing at the end of the stream."""
    try:
        if number == 0:
            return await reader.readuntil(b"\r\n\r\n")
        head = await reader.readexactly(2)
        length, masked = head[1] & 127, head[1] >> 7
        more = await reader.readexactly({126: 2, 127: 8}.get(length, 0))
        length = int.from_bytes(more, "big") if more else length
        return head + more + await reader.readexactly(4 * masked + length)
    except (asyncio.IncompleteReadError, OSError):
        return b""
