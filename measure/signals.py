"""Compares the latency of signals with that of messages: `python -m measure.signals`.

Starts its own `chalice local` and two players. Latency is from the sender's send to the recipient's receipt.
One frame is under way at a time.
"""

import argparse
import asyncio
import json
import statistics
import time
from typing import Any

import websockets

from measure import local

WARM_UP = 3
ANSWER_SECONDS = 30
PAUSE_SECONDS = 0.15
"""Keeps the sender below the rates of a player and of a room."""

ROOM = {"roomId": "room"}
PLAYER = {"destinationPlayerId": "guest"}
KINDS: dict[str, dict[str, str]] = {
    "message to a player": {"action": "sendmessage", "message": "hi", **PLAYER},
    "signal to a player": {"action": "signal", "data": "hi", **PLAYER},
    "message to a room of 2": {"action": "sendmessage", "message": "hi", **ROOM},
    "signal to a room of 2": {"action": "signal", "data": "hi", **ROOM},
}


async def main(url: str, count: int) -> None:
    """Measure `count` frames of each kind, and print the results."""
    async with (
        websockets.connect(f"{url}?playerId=host") as host,
        websockets.connect(f"{url}?playerId=guest") as guest,
    ):
        for each in (host, guest):
            await _until(each, "system")
            await each.send(json.dumps({"action": "join", **ROOM}))
            await _until(each, "joined")
        milliseconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for _ in range(WARM_UP + count):
            for kind, frame in KINDS.items():
                milliseconds[kind].append(await _milliseconds(host, guest, frame))
                await asyncio.sleep(PAUSE_SECONDS)
    for kind, times in milliseconds.items():
        measured = times[WARM_UP:]
        print(f"{kind}: median {statistics.median(measured):.1f} ms, longest {max(measured):.1f} ms")


async def _milliseconds(sender: Any, recipient: Any, frame: dict[str, str]) -> float:
    started = time.perf_counter()
    await sender.send(json.dumps(frame))
    await _until(recipient, "message" if frame["action"] == "sendmessage" else "signal")
    return 1000 * (time.perf_counter() - started)


async def _until(connection: Any, kind: str) -> None:
    """Read frames until one has this type. Raises TimeoutError if no frame comes."""
    while json.loads(await asyncio.wait_for(connection.recv(), ANSWER_SECONDS))["type"] != kind:
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=50, help="frames of each kind (default: 50)")
    asked = parser.parse_args()
    with local.running() as own:
        asyncio.run(main(own.url, asked.count))
