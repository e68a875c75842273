"""A room keeps its promises to clients whose connections break."""

import asyncio
import random
from collections.abc import Mapping

import pytest

from clients.player import Frame, Player, Timing
from tests.support.chalice_process import ChaliceLocal
from tests.support.cutting_proxy import Cut, CuttingProxy

MEMBERS, MESSAGES, CUT_MEMBERS, CUTS_PER_MEMBER = 10, 20, 3, 3
TIMING = Timing(ping=1, answer=3, retry=0.2)
ROOM_SECONDS = 300
"""How long a test waits for a room. Only a failing test waits so long."""

pytestmark = pytest.mark.chalice_local(
    "--no-autoreload", ROOM_MESSAGES_PER_SECOND="1000", MESSAGES_PER_SECOND="1000", MESSAGE_BURST="10000"
)


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))])
def test_every_member_receives_all_messages_in_one_order_although_three_are_cut(
    local: ChaliceLocal, seed: int
) -> None:
    members = [f"{seed}-{number}" for number in range(MEMBERS)]
    chance = random.Random(seed)
    cuts = {member: cut_by(chance) for member in chance.sample(members, CUT_MEMBERS)}

    acks, received, made = asyncio.run(converse(local, members, cuts))

    first = received[members[0]]
    assert all(theirs == first for theirs in received.values()), cuts
    for member in members:
        own = [text for text in first if text.startswith(f"{member}: ")]
        assert own == [f"{member}: {number}" for number in range(MESSAGES)], cuts
    assert len({ack["messageId"] for ack in acks}) == MEMBERS * MESSAGES
    assert all(made[member] >= 1 for member in cuts), f"not cut: {cuts} {made}"


def cut_by(chance: random.Random) -> Cut:
    """Return a cut that the first connection of a member reaches."""
    direction, pieces = chance.choice([("up", MESSAGES // 2), ("down", MEMBERS * MESSAGES // 2)])
    return Cut(direction, chance.randrange(pieces), chance.choice([0, 0.5, 1]), chance.choice([False, True]))


async def converse(
    local: ChaliceLocal, members: list[str], cuts: Mapping[str, Cut]
) -> tuple[list[Frame], dict[str, list[str]], Mapping[str, int]]:
    """Let all members write to one room. Return the acks, what each received, and the cuts of each."""
    async with CuttingProxy(local.websocket_port, cuts, times=CUTS_PER_MEMBER) as proxy:
        players = {
            member: Player(f"ws://127.0.0.1:{proxy.port}/dev/", member, timing=TIMING) for member in members
        }
        try:
            acks, received = await asyncio.wait_for(talk(players), ROOM_SECONDS)
        finally:  # The proxy waits for the end of every connection.
            await asyncio.gather(*(player.close() for player in players.values()))
    return acks, received, proxy.made


async def talk(players: Mapping[str, Player]) -> tuple[list[Frame], dict[str, list[str]]]:
    """Let the players join a room and write to it. Return the acks, and what each received."""
    room_id = f"room-{next(iter(players))}"
    await asyncio.gather(*(player.connect() for player in players.values()))
    await asyncio.gather(*(carry_out(player, action="join", roomId=room_id) for player in players.values()))
    listening = asyncio.gather(*map(listen, players.values()))
    acks = await asyncio.gather(*(write(player, member, room_id) for member, player in players.items()))
    received = dict(zip(players, await listening, strict=True))
    return [ack for theirs in acks for ack in theirs], received


async def write(player: Player, member: str, room_id: str) -> list[Frame]:
    acks = []
    for number in range(MESSAGES):
        text = f"{member}: {number}"
        acks.append(
            await carry_out(
                player, action="sendmessage", roomId=room_id, message=text, clientMessageId=f"m-{number}"
            )
        )
    return acks


async def listen(player: Player) -> list[str]:
    received = []
    async for message in player:
        received.append(message["message"])
        if len(received) == MEMBERS * MESSAGES:
            break
    return received


async def carry_out(player: Player, **frame: str) -> Frame:
    """Return the reply of a frame, which is sent again until it isn't an error."""
    while (reply := await player.ask(frame))["type"] == "error":
        assert reply.get("retryable", True), reply
        await asyncio.sleep(reply.get("retryAfterMs", 0) / 1000)
    return reply
