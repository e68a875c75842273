"""Measures the replay of a long backlog: `python -m measure.backlog 24000 --client javascript`.

Starts its own `chalice local`; `--post-ms 12` makes its posts as slow as they might be on AWS. Checks that a
client that pings meanwhile receives every message exactly once, in order, and over a single connection. Then
counts the AWS calls of such a replay.
"""

import argparse
import asyncio
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3

from chalicelib.aws import telemetry
from chalicelib.core.message_id import MessageIds
from clients.player import Player, Timing
from measure import local
from measure.counted_aws import HERE, CountedAws

TABLE = "serverless-websockets-dev-messages"
ITEMS_PER_BATCH = 25
PING_SECONDS = 2
ANSWER_SECONDS = 600
PUSHED_SECONDS = 0.2
COUNTED = 1000

Received = tuple[list[str], Counter[str]]
"""The texts of the received messages, and counters of events and of replies to pings."""


def main(count: int, client: str, post_ms: float) -> str | None:
    """Replay `count` messages and print the result. Return an error message, or None."""
    port = local.free_port()
    slowly = (sys.executable, "measure/slow_posts.py", str(post_ms)) if post_ms else ()
    with local.running(slowly, dynamodb_port=port) as own:
        _store(_dynamodb(port), TABLE, count)
        while _lines(own.telemetry, "missed") < count:
            time.sleep(PUSHED_SECONDS)
        began = time.monotonic()
        received, events = CLIENTS[client](own.url, count)
        seconds = time.monotonic() - began
        pages = _lines(own.telemetry, "replayed")
    print(f"{client}: {count} messages in {seconds:.1f} s, {pages} pages, {dict(events)}")
    print(f"calls for {COUNTED:,} messages: {_calls_of_a_replay()}")
    if received != [str(number) for number in range(count)]:
        return "messages were lost, duplicated or out of order"
    return "the connection was replaced" if events["open"] != 1 else None


def _dynamodb(port: int) -> Any:
    return boto3.client(
        "dynamodb",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )


def _store(client: Any, table: str, count: int) -> None:
    new_message_id, expires = MessageIds(), str(int(time.time()) + 7 * 24 * 3600)
    for start in range(0, count, ITEMS_PER_BATCH):
        numbers = range(start, min(count, start + ITEMS_PER_BATCH))
        puts = [{"PutRequest": {"Item": _item(new_message_id(), n, expires)}} for n in numbers]
        client.batch_write_item(RequestItems={table: puts})


def _item(message_id: str, number: int, expires: str) -> dict[str, Any]:
    return {
        "destinationPlayerId": {"S": "hoarder"},
        "messageId": {"S": message_id},
        "srcPlayerId": {"S": "writer"},
        "message": {"S": str(number)},
        "sentAt": {"N": "1000"},
        "expiresAt": {"N": expires},
    }


def _lines(file: Path, outcome: str) -> int:
    return sum(f'"outcome": "{outcome}"' in line for line in file.open(encoding="utf-8"))


def _in_python(url: str, count: int) -> Received:
    return asyncio.run(_receive(url, count))


async def _receive(url: str, count: int) -> Received:
    events: Counter[str] = Counter()

    def observe(event: str, about: Any) -> None:
        if event == "open":
            events[event] += 1

    received: list[str] = []
    player = Player(url, "hoarder", after="0", timing=Timing(answer=ANSWER_SECONDS), observe=observe)
    connecting = asyncio.ensure_future(player.connect())
    await asyncio.sleep(0)  # Reading begins before the greeting, which comes after the backlog.
    pinging = asyncio.ensure_future(_ping(player, events))
    async for message in player:
        received.append(message["message"])
        if len(received) == count:
            break
    await connecting
    pinging.cancel()
    await player.close()
    return received, events


async def _ping(player: Player, events: Counter[str]) -> None:
    while True:
        await asyncio.sleep(PING_SECONDS)
        answer = await player.ask({"action": "ping"})
        events[answer.get("code") or answer["type"]] += 1


def _in_javascript(url: str, count: int) -> Received:
    node = shutil.which("node")
    if node is None:
        sys.exit("Node 20 or newer is required")
    plan = json.dumps({"url": url, "count": count, "ping": PING_SECONDS, "answer": ANSWER_SECONDS})
    ran = subprocess.run(
        [node, "--experimental-websocket", "--no-warnings", "measure/backlog.mjs", plan],
        cwd=local.PROJECT,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        check=True,
    )
    result = json.loads(ran.stdout)
    return result["received"], Counter(result["events"])


CLIENTS: dict[str, Callable[[str, int], Received]] = {"python": _in_python, "javascript": _in_javascript}


def _calls_of_a_replay() -> dict[str, int]:
    """Return the calls of a replay, which don't depend on the client. Posts are immediate here."""
    telemetry.lines.addHandler(logging.NullHandler())
    aws = CountedAws.start()
    _store(boto3.client("dynamodb"), "messages", COUNTED)
    aws.push()
    aws.service.registration.connect("c-hoarder", HERE, {"playerId": ["hoarder"], "after": ["0"]}, {})
    with aws.counting() as calls:
        posts = aws.calls["PostToConnection"] + COUNTED + 1  # The last one is the greeting.
        while aws.calls["PostToConnection"] < posts:
            aws.push()
    return dict(sorted(calls.items()))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m measure.backlog", description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, nargs="?", default=24_000, help="number of messages")
    parser.add_argument("--client", choices=CLIENTS, default="python")
    parser.add_argument("--post-ms", type=float, default=0, help="additional milliseconds per post")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("AWS_ACCOUNT_ID_ENDPOINT_MODE", "disabled")
    asked = _asked()
    sys.exit(main(asked.count, asked.client, asked.post_ms))
