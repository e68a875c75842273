"""The guarantees hold while sockets are cut, paused and slowed, and the process is killed."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from localdev.embedded_dynamodb import EmbeddedDynamoDB
from measure.local import free_port
from tests.support.chalice_process import ChaliceLocal
from tests.support.project_copy import copy_project
from tests.support.sockets import PATIENCE_SECONDS, Socket

DOWN = (ConnectionClosed, InvalidHandshake, OSError, EOFError, asyncio.TimeoutError)


class Reader:
    """A client that reconnects with its cursor and drops duplicates."""

    def __init__(self, url: str, player_id: str) -> None:
        self.url = f"{url}?playerId={player_id}"
        self.position = "0"
        self.texts: list[str] = []
        self.connects = 0
        self.socket: ClientConnection | None = None
        self._seen: set[str] = set()

    async def read(self, count: int, pause: float = 0, cut_after: int | None = None) -> None:
        """Read until this many different messages have arrived, over as many connections as it takes.

        The first connection is cut after `cut_after` frames, and each later one after twice as many. A replay
        starts a few seconds back, so a connection must outlive these repeated messages to make progress.
        """
        while len(self.texts) < count:
            with suppress(*DOWN):
                async with connect(f"{self.url}&after={self.position}", max_queue=1) as self.socket:
                    self.connects += 1
                    left = cut_after
                    cut_after = None if cut_after is None else 2 * cut_after
                    while len(self.texts) < count:
                        frame = json.loads(await asyncio.wait_for(self.socket.recv(), PATIENCE_SECONDS))
                        self._take(frame)
                        if left is not None:
                            left -= 1
                            if left == 0:
                                self.socket.transport.abort()
                        await asyncio.sleep(pause)

    def _take(self, frame: dict[str, Any]) -> None:
        self.position = max(self.position, frame["messageId"])
        if frame["type"] == "message" and frame["messageId"] not in self._seen:
            self._seen.add(frame["messageId"])
            self.texts.append(frame["message"])


async def send_all(url: str, player_id: str, to: str, texts: list[str]) -> None:
    """Send each text until it is acknowledged, over as many connections as it takes."""
    waiting = list(texts)
    while waiting:
        with suppress(*DOWN):
            sender = await Socket.connect(url, player_id)
            while waiting:
                frame = {"action": "sendmessage", "destinationPlayerId": to, "message": waiting[0]}
                reply = await sender.ask(**frame, clientMessageId=waiting[0][:64])
                if reply["type"] == "ack":
                    waiting.pop(0)
            await sender.socket.close()


pytestmark = pytest.mark.chalice_local("--no-autoreload", WEBSOCKET_CLIENT_BUFFER_BYTES="200000")


def test_a_reader_whose_socket_is_cut_repeatedly_gets_everything_once_and_in_order(
    local: ChaliceLocal,
) -> None:
    texts = [f"m{number}" for number in range(150)]

    async def talk() -> Reader:
        reader = Reader(local.url, "cut")
        await asyncio.gather(
            send_all(local.url, "writer-1", "cut", texts),
            asyncio.wait_for(reader.read(len(texts), cut_after=5), 90),
        )
        return reader

    reader = asyncio.run(talk())

    assert reader.texts == texts
    assert reader.connects > 1


@pytest.mark.slow
def test_a_reader_that_pauses_is_closed_delays_nobody_and_gets_everything_later(
    local: ChaliceLocal,
) -> None:
    big = "x" * 30_000
    texts = [f"{number} {big}" for number in range(150)]

    async def talk() -> Reader:
        paused, other = Reader(local.url, "paused"), Reader(local.url, "brisk")
        reading = asyncio.create_task(paused.read(len(texts)))
        while not paused.connects:
            await asyncio.sleep(0.01)
        assert paused.socket is not None
        paused.socket.transport.pause_reading()
        stalled = paused.socket.transport
        await send_all(local.url, "writer-2", "paused", texts)
        await asyncio.gather(
            send_all(local.url, "writer-3", "brisk", ["at once"]),
            asyncio.wait_for(other.read(1), PATIENCE_SECONDS),
        )
        stalled.resume_reading()
        await asyncio.wait_for(reading, 60)
        return paused

    reader = asyncio.run(talk())

    assert reader.texts == texts
    assert reader.connects > 1


def test_a_slow_reader_gets_everything_in_order(local: ChaliceLocal) -> None:
    texts = [f"m{number}" for number in range(60)]

    async def talk() -> Reader:
        reader = Reader(local.url, "slow")
        await asyncio.gather(
            send_all(local.url, "writer-4", "slow", texts),
            asyncio.wait_for(reader.read(len(texts), pause=0.02), 60),
        )
        return reader

    assert asyncio.run(talk()).texts == texts


def test_killing_and_restarting_the_process_loses_and_duplicates_nothing(tmp_path: Path) -> None:
    dynamodb = EmbeddedDynamoDB(on_write=lambda: None).serve("127.0.0.1", 0)
    endpoint, port = f"http://127.0.0.1:{dynamodb}", str(free_port())

    def start() -> ChaliceLocal:
        starting = ChaliceLocal.start(
            tmp_path, "--no-autoreload", AWS_ENDPOINT_URL_DYNAMODB=endpoint, WEBSOCKET_PORT=port
        )
        return starting.started()

    texts = [f"m{number}" for number in range(120)]
    local = start()
    url = local.url

    async def kill_and_restart(reader: Reader) -> ChaliceLocal:
        while len(reader.texts) < 30:
            await asyncio.sleep(0.01)
        local.kill()
        return await asyncio.to_thread(start)

    async def talk() -> Reader:
        reader = Reader(url, "reader")
        restarting = asyncio.create_task(kill_and_restart(reader))
        await asyncio.gather(
            send_all(url, "writer", "reader", texts), asyncio.wait_for(reader.read(len(texts)), 90)
        )
        (await restarting).kill()
        return reader

    try:
        reader = asyncio.run(talk())
    finally:
        local.kill()

    assert reader.texts == texts
    assert reader.connects > 1


def test_restarts_after_edits_lose_and_duplicate_nothing(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    local = ChaliceLocal.start(tmp_path, project=copy_project(project)).started()
    source = project / "chalicelib" / "core" / "ports.py"
    texts = [f"m{number}" for number in range(200)]

    async def edit_twice(reader: Reader) -> None:
        for number in (1, 2):
            while len(reader.texts) < 40 * number:
                await asyncio.sleep(0.01)
            source.write_text(f"{source.read_text(encoding='utf-8')}\n# An edit.\n", encoding="utf-8")
            await asyncio.to_thread(local.started, times=number + 1)

    async def talk() -> Reader:
        reader = Reader(local.url, "reader")
        await asyncio.gather(
            edit_twice(reader),
            send_all(local.url, "writer", "reader", texts),
            asyncio.wait_for(reader.read(len(texts)), 120),
        )
        return reader

    try:
        reader = asyncio.run(talk())
    finally:
        local.kill()

    assert reader.texts == texts
    assert "Traceback" not in local.lines
