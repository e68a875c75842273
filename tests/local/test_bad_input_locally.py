"""The same bad input through the real `chalice local` with tokens."""

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count, cycle
from string import ascii_letters
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from chalicelib.core.messenger import REFUSALS_UNTIL_CLOSED
from localdev.limits import Limits
from tests.support.bad_input import CONNECTS, FRAMES, MAX_MESSAGE_BYTES, Connect, Frame
from tests.support.chalice_process import ChaliceLocal, Start
from tests.support.sockets import PATIENCE_SECONDS, Socket
from tests.support.tokens import SECRET, token

ORIGIN = "https://game.example"
_numbers = count(100)
_one_letter = cycle(ascii_letters)
"""Player ids of one letter, like the sender's id for which the sizes of the rows were computed."""
OF_A_STRICTER_STAGE = ("token: for another audience", "token: from another issuer")


pytestmark = pytest.mark.chalice_local(
    "--stage",
    "tokens",
    JWT_SECRET=SECRET,
    ALLOWED_ORIGINS=ORIGIN,
    MAX_MESSAGE_BYTES=str(MAX_MESSAGE_BYTES),
    MESSAGES_PER_SECOND="10",  # One player connects for every row, and pays for the replays.
    MESSAGE_BURST="10000",
)


@asynccontextmanager
async def player(local: ChaliceLocal, player_id: str) -> AsyncIterator[Socket]:
    headers = {"Authorization": f"Bearer {token(sub=player_id)}", "Origin": ORIGIN}
    async with connect(local.url, additional_headers=headers) as socket:
        connected = Socket(socket)
        assert (await connected.frame())["event"] == "connected"
        yield connected


@pytest.mark.parametrize(
    "row", [row for row in CONNECTS if row.name not in OF_A_STRICTER_STAGE], ids=lambda row: row.name
)
def test_a_bad_handshake_is_refused(row: Connect, local: ChaliceLocal) -> None:
    async def shake_hands() -> int:
        headers = [(name, value()) for name, value in row.headers]
        if all(name != "Origin" for name, _ in headers):
            headers.append(("Origin", ORIGIN))
        url = f"{local.url}?{row.query()}"
        with pytest.raises(InvalidStatus) as caught:
            await connect(url, additional_headers=headers)
        answered = caught.value.response.status_code
        return row.status if answered == 414 and len(url) > Limits().url_characters else answered

    assert asyncio.run(shake_hands()) == row.status


@pytest.mark.parametrize("row", FRAMES, ids=lambda row: row.name)
def test_a_bad_frame_gets_its_error_and_the_next_one_its_answer(row: Frame, local: ChaliceLocal) -> None:
    async def converse() -> None:
        async with player(local, "2") as bystander, player(local, next(_one_letter)) as sender:
            await sender.socket.send(row.body)
            reply = await sender.frame()
            assert (reply["type"], reply.get("code")) == (
                "error" if row.code else "ack" if row.stores else "pong",
                row.code,
            )
            assert (await sender.ask(action="ping", ackId="still there"))["ackId"] == "still there"
            assert len(await bystander.messages(row.stores)) == row.stores
            assert await bystander.ask(action="ping") == {"type": "pong"}

    asyncio.run(converse())


def test_a_flooding_player_is_refused_then_closed_and_others_are_unaffected(start: Start) -> None:
    """A window lasts 48 seconds, so even on a slow machine the flood spans at most two."""
    local = start(MESSAGES_PER_SECOND="1", MESSAGE_BURST="60").started()
    hello = json.dumps({"action": "sendmessage", "message": "hi", "destinationPlayerId": "victim"})

    async def flood(url: str) -> list[dict[str, Any]]:
        victim = await Socket.connect(url, "victim")
        flooder = await Socket.connect(url, "flooder")
        replies: list[dict[str, Any]] = []

        async def read() -> None:
            with suppress(ConnectionClosed):
                while True:
                    replies.append(await flooder.frame())

        reading = asyncio.create_task(read())
        with suppress(ConnectionClosed):
            while not reading.done():
                await flooder.send(hello)
                await asyncio.sleep(0.001)
        await reading
        taken = [reply for reply in replies if reply["type"] == "ack"]
        assert len(await victim.messages(len(taken))) == len(taken)
        assert await victim.ask(action="ping") == {"type": "pong"}
        await victim.socket.close()
        return replies

    replies = asyncio.run(asyncio.wait_for(flood(local.url), 2 * PATIENCE_SECONDS))
    refused = [reply for reply in replies if reply["type"] == "error"]

    assert 0 < len(replies) - len(refused) <= 2 * 60
    assert {reply["code"] for reply in refused} == {"rate_limited"}
    assert all(0 < reply["retryAfterMs"] <= 48_000 for reply in refused)
    assert len(refused) >= REFUSALS_UNTIL_CLOSED


def test_a_player_cannot_end_another_players_connection(local: ChaliceLocal) -> None:
    async def attack() -> None:
        async with player(local, "target") as target, player(local, "attacker") as attacker:
            for frame in (
                {"action": "$disconnect", "playerId": "target"},
                {"action": "ping", "playerId": "target"},
                {"action": "sync", "connectionId": "x"},
            ):
                assert (await attacker.ask(**frame))["type"] == "error"
            with pytest.raises(InvalidStatus):
                await connect(
                    f"{local.url}?playerId=target",
                    additional_headers={"Authorization": f"Bearer {token(sub='attacker')}", "Origin": ORIGIN},
                )
            await attacker.socket.close()
            assert await target.ask(action="ping") == {"type": "pong"}

    asyncio.run(attack())


def test_a_token_that_expires_ends_the_connection_at_its_next_frame(local: ChaliceLocal) -> None:
    async def outlive() -> None:
        headers = {"Authorization": f"Bearer {token(sub='short', exp=_in_seconds(6))}", "Origin": ORIGIN}
        async with connect(local.url, additional_headers=headers) as socket:
            short = Socket(socket)
            assert (await short.frame())["event"] == "connected"
            while (reply := await short.ask(action="ping"))["type"] == "pong":
                await asyncio.sleep(0.1)
            assert reply["code"] == "unauthorized"
            assert await short.close_code() == 1000

    asyncio.run(outlive())


def _in_seconds(seconds: int) -> int:
    return int(time.time()) + seconds


# Malformed handshakes


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /tokens/ HTTP/1.1\r\nHost: localhost\r\n\r\n", None),
        (b"POST /tokens/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\ncanary", None),
        (
            b"GET /tokens/ HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            None,
        ),
        (b"canary\r\n\r\n", None),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", None),
        (b"GET /tokens/" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", None),
        (b"POST /tokens/@connections/canary HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 403),
        (
            b"POST /tokens/@connections/AAAAAAAAAAAAAAA= HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 0\r\n\r\n",
            403,
        ),
        (
            b"POST /tokens/@connections/%2e%2e%2f HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
            403,
        ),
        (
            b"POST /tokens/@connections/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            403,
        ),
        (b"POST /tokens/@connections/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
    ],
)
def test_malformed_handshakes_are_refused_or_disconnected_and_the_gateway_goes_on(
    local: ChaliceLocal, request_: bytes, status: int | None
) -> None:
    with socket.create_connection(("127.0.0.1", local.websocket_port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(request_)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    match = re.match(rb"HTTP/1\.1 ([0-9]{3}) ", answer)
    answered = int(match[1]) if match else None

    assert answered == status or (status is None and answered in (None, 400, 405, 414, 426, 431, 500))
    assert b"Traceback" not in answer

    async def goes_on() -> None:
        async with player(local, f"p{next(_numbers)}") as someone:
            assert await someone.ask(action="ping") == {"type": "pong"}

    asyncio.run(goes_on())


def test_slow_handshakes_delay_nobody(local: ChaliceLocal) -> None:
    slow = [socket.create_connection(("127.0.0.1", local.websocket_port)) for _ in range(200)]
    for client in slow:
        client.sendall(b"GET /tokens/ HT")

    async def connect_meanwhile() -> None:
        async with player(local, f"p{next(_numbers)}") as someone:
            assert await someone.ask(action="ping") == {"type": "pong"}

    asyncio.run(connect_meanwhile())
    for client in slow:
        client.close()
