"""Conversations by clients/player.py."""

import asyncio
import json
import sys
from collections import Counter
from typing import Any

from clients.player import Player, Refused, Timing


async def converse(plan: dict[str, Any], asking: str, answering: str) -> dict[str, Any]:
    opened: Counter[str] = Counter()
    heard: dict[str, list[str]] = {asking: [], answering: []}
    acks: list[str] = []
    errors: list[str] = []
    refused: list[str] = []

    def player(name: str) -> Player:
        async def token() -> str:
            return str(plan["tokens"][name])

        def observe(event: str, about: Any) -> None:
            opened[name] += event == "open"
            if event == "received" and about.get("type") == "error":
                errors.append(about["code"])

        timing = Timing(**plan["timing"])
        return Player(plan["url"], name, token if "tokens" in plan else None, timing=timing, observe=observe)

    async def send_back() -> None:
        async for message in two:
            heard[answering].append(message["message"])
            await two.send(asking, f"{message['message']} too")
            if len(heard[answering]) == len(lines):
                return

    async def listen() -> None:
        async for message in one:
            heard[asking].append(message["message"])
            if len(heard[asking]) == len(lines):
                return

    async def say() -> None:
        await asyncio.sleep(plan.get("quiet_seconds", 0))
        for nobody in plan.get("refused", []):
            try:
                await one.send(nobody, "hello")
            except Refused as refusal:
                refused.append(refusal.code)
        for line in lines:
            acks.append((await one.send(answering, line))["messageId"])

    one, two, lines = player(asking), player(answering), plan["lines"]
    await asyncio.gather(one.connect(), two.connect(), say(), listen(), send_back())
    await asyncio.gather(one.close(), two.close())
    return {"heard": heard, "acks": acks, "opened": opened, "errors": errors, "refused": refused}


async def meet(plan: dict[str, Any], room: str, members: list[str]) -> dict[str, list[str]]:
    """Let all members join a room, and each send all lines to it. Return what each member received."""
    heard: dict[str, list[str]] = {name: [] for name in members}
    players = {name: Player(plan["url"], name, timing=Timing(**plan["timing"])) for name in members}

    async def listen(name: str) -> None:
        async for message in players[name]:
            assert message["roomId"] == room
            heard[name].append(message["message"])
            if len(heard[name]) == len(members) * len(plan["lines"]):
                return

    async def say(name: str) -> None:
        for line in plan["lines"]:
            await players[name].send_to_room(room, f"{name} {line}")

    await asyncio.gather(*(player.connect() for player in players.values()))
    await asyncio.gather(*(player.join(room) for player in players.values()))
    await asyncio.gather(*(do(name) for name in members for do in (listen, say)))
    await asyncio.gather(*(player.close() for player in players.values()))
    return heard


async def main(plan: dict[str, Any]) -> None:
    pairs = [converse(plan, *pair) for pair in plan["pairs"]]
    rooms = [meet(plan, room, members) for room, members in plan.get("rooms", {}).items()]
    print(json.dumps(await asyncio.gather(*pairs, *rooms)))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
