"""The proxy survives clients and gateways that end at any time."""

import asyncio
from contextlib import suppress

import pytest

from tests.support.cutting_proxy import Cut, CuttingProxy
from tests.support.sockets import PATIENCE_SECONDS

HANDSHAKE = b"GET /dev/?playerId=1 HTTP/1.1\r\n\r\n"
UP_FRAME, DOWN_FRAME = b"\x81\x82\0\0\0\0{}", b"\x81\x02{}"
CUTS = [
    Cut(direction, piece, passed, silently)
    for direction in ("up", "down")
    for piece in (0, 1, 2)
    for passed in (0.0, 0.5, 1.0)
    for silently in (False, True)
]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept a client and send it frames, as a gateway does."""
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + 3 * DOWN_FRAME)
    with suppress(ConnectionError):
        while await reader.read(1000):
            writer.write(DOWN_FRAME)
    writer.close()


async def leave_soon(port: int, after: int) -> None:
    """Connect, send, and disconnect after this many iterations of the event loop."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HANDSHAKE + 2 * UP_FRAME)
    for _ in range(after):
        await asyncio.sleep(0)
    writer.transport.abort()


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_a_client_that_leaves_before_its_cut_ends_its_own_connection_and_nothing_else(cut: Cut) -> None:
    async def leave_at_every_moment() -> None:
        gateway = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with CuttingProxy(gateway.sockets[0].getsockname()[1], {"1": cut}, times=1000) as proxy:
            for after in range(25):
                await leave_soon(proxy.port, after)
        gateway.close()

    asyncio.run(asyncio.wait_for(leave_at_every_moment(), PATIENCE_SECONDS))


def test_a_client_is_disconnected_when_the_gateway_does_not_answer() -> None:
    async def connect() -> bytes:
        closed = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = closed.sockets[0].getsockname()[1]
        closed.close()
        await closed.wait_closed()
        async with CuttingProxy(port, {}) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(HANDSHAKE)
            try:
                return await reader.read()
            except ConnectionError:
                return b""
            finally:
                writer.close()

    assert asyncio.run(asyncio.wait_for(connect(), PATIENCE_SECONDS)) == b""


def test_a_bug_in_the_proxy_fails_its_test_and_disconnects_the_client() -> None:
    async def send_what_the_proxy_cannot_read() -> bytes:
        gateway = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with CuttingProxy(gateway.sockets[0].getsockname()[1], {}) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(HANDSHAKE.replace(b"playerId", b"x"))
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        return b""

    with pytest.raises(KeyError):
        asyncio.run(asyncio.wait_for(send_what_the_proxy_cannot_read(), PATIENCE_SECONDS))
