"""Measures the replay of a long backlog: `python -m measure.backlog 24000`.

Starts its own `chalice local`. Checks that a client that pings meanwhile receives every message exactly once,
in order, and over a single connection.
"""

import asyncio
import os
import sys
import time
from collections import Counter
from typing import Any

import boto3

from chalicelib.core.message_id import MessageIds
from clients.player import Player, Timing
from measure import local

TABLE = "serverless-websockets-dev-messages"
ITEMS_PER_BATCH = 25
PING_SECONDS = 10


def main(count: int) -> str | None:
    """Replay `count` messages and print the result. Return an error message, or None."""
    port = local.free_port()
    with local.running(dynamodb_port=port) as own:
        _store(port, count)
        events: Counter[str] = Counter()
        began = time.monotonic()
        received = asyncio.run(_receive(own.url, count, events))
        seconds = time.monotonic() - began
        pages = sum('"replayed"' in line for line in own.telemetry.open(encoding="utf-8"))
    print(f"{count} messages in {seconds:.0f} s, {pages} pages, {events['open']} connections, {dict(events)}")
    if received != [str(number) for number in range(count)]:
        return "messages were lost, duplicated or out of order"
    return "the connection was replaced" if events["open"] != 1 else None


def _store(port: int, count: int) -> None:
    client = boto3.client(
        "dynamodb",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    new_message_id, expires = MessageIds(), str(int(time.time()) + 7 * 24 * 3600)
    for start in range(0, count, ITEMS_PER_BATCH):
        numbers = range(start, min(count, start + ITEMS_PER_BATCH))
        puts = [{"PutRequest": {"Item": _item(new_message_id(), n, expires)}} for n in numbers]
        client.batch_write_item(RequestItems={TABLE: puts})


def _item(message_id: str, number: int, expires: str) -> dict[str, Any]:
    return {
        "destinationPlayerId": {"S": "hoarder"},
        "messageId": {"S": message_id},
        "srcPlayerId": {"S": "writer"},
        "message": {"S": str(number)},
        "sentAt": {"N": "1000"},
        "expiresAt": {"N": expires},
    }


async def _receive(url: str, count: int, events: Counter[str]) -> list[str]:
    def observe(event: str, about: Any) -> None:
        if event in ("open", "lost"):
            events[event] += 1

    received: list[str] = []
    player = Player(url, "hoarder", after="0", timing=Timing(answer=600), observe=observe)
    pinging = asyncio.ensure_future(_ping(player, events))
    await player.connect()
    async for message in player:
        received.append(message["message"])
        if len(received) == count:
            break
    pinging.cancel()
    await player.close()
    return received


async def _ping(player: Player, events: Counter[str]) -> None:
    while True:
        await asyncio.sleep(PING_SECONDS)
        answer = await player.ask({"action": "ping"})
        events[answer.get("code") or answer["type"]] += 1


if __name__ == "__main__":
    os.environ.setdefault("AWS_ACCOUNT_ID_ENDPOINT_MODE", "disabled")
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 24_000))
