"""The scenarios of the load tests."""

import asyncio
import math
import statistics
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from measure import attacks
from measure.loops import (
    Facts,
    Load,
    Settled,
    Stage,
    Write,
    connect_all,
    converse,
    drain,
    send_on_schedule,
    sleep_until,
    span,
)
from measure.observations import Send
from measure.player import LoadPlayer, NotConnected

CLIENTS_PER_WRITER, WRITES_PER_SECOND = 50, 500
"""The load of a storm. Each writer stays below the default rate limit of a player."""

UNDISTURBED_WARM_UP_SECONDS = 2

Scenario = Callable[[Stage, Load], Coroutine[Any, Any, Facts]]


async def pairs(stage: Stage, load: Load) -> Facts:
    """Send between many pairs concurrently: each sender has its own recipient."""
    players, loops = await _connected_pairs(stage, load)
    return await converse(stage, load, players, loops)


async def fan_in(stage: Stage, load: Load) -> Facts:
    """Send from many senders to the same recipient."""
    senders, recipient = [stage.player(f"s{n}") for n in range(load.clients)], stage.player("r")
    await connect_all(stage, [*senders, recipient])
    loops = [[partial(sender.send, recipient.name)] for sender in senders]
    return await converse(stage, load, [*senders, recipient], loops)


async def rooms(stage: Stage, load: Load) -> Facts:
    """Send to rooms. The members of each take turns as senders."""
    members = range(load.members or 1)
    rooms = [[stage.player(f"m{room}-{n}") for n in members] for room in range(load.clients)]
    by_id = {f"room-of-{room[0].name}": room for room in rooms}
    everybody = [player for room in rooms for player in room]
    await connect_all(stage, everybody)
    await asyncio.gather(*(each.join(room_id) for room_id, room in by_id.items() for each in room))
    loops = [
        [partial(each.send_to_room, room_id, len(room)) for each in room] for room_id, room in by_id.items()
    ]
    facts = await converse(stage, load, everybody, loops)
    copies = sum(len(send.received_by) for send in stage.observed.measured)
    return facts | {"copies_per_second": copies / facts["measured_seconds"]}


async def churn(stage: Stage, load: Load) -> Facts:
    """Repeatedly connect a client, send a message to itself, receive it, and disconnect."""
    begin, end = span(stage, load)
    stage.observed.connects_since = stage.observed.since
    if load.rate is None:
        await asyncio.gather(*(_visit_until(stage, f"c{n}", end) for n in range(load.clients)))
    else:
        total = round((end - begin) * load.rate)
        visits = []
        for number in range(total):
            await sleep_until(begin + number / load.rate)
            stage.progress.show(time.time() - begin, end - begin)
            visits.append(asyncio.ensure_future(_visit(stage, f"c{number}")))
        await asyncio.gather(*visits)
    return {"measured_seconds": time.time() - stage.observed.since}


async def storm(stage: Stage, load: Load) -> Facts:
    """Disconnect all players at once, send a message to each, and reconnect all at once."""
    players = [stage.player(f"p{n}") for n in range(load.clients)]
    writers = [stage.player(f"w{n}") for n in range(1 + load.clients // CLIENTS_PER_WRITER)]
    await connect_all(stage, [*players, *writers])
    await asyncio.gather(*(player.disconnect() for player in players))
    writes = [
        partial(writers[number % len(writers)].send, player.name) for number, player in enumerate(players)
    ]
    await send_on_schedule(stage, writes, WRITES_PER_SECOND, time.time())
    stage.observed.since = stage.observed.connects_since = began = time.time()
    for send in stage.observed.sends.values():
        send.due = began
    reconnecting = asyncio.gather(*(_reconnect(player) for player in players))
    while not reconnecting.done():
        stage.progress.show(
            sum(c.greeted is not None for c in stage.observed.measured_connects), load.clients
        )
        await asyncio.sleep(0.1)
    await reconnecting
    reconnect_seconds = time.time() - began
    await drain(stage)
    return {"measured_seconds": time.time() - began, "reconnect_seconds": reconnect_seconds}


async def idle(stage: Stage, load: Load) -> Facts:
    """Keep connections idle, then send one message to each."""
    before = stage.server_kib()
    players = [stage.player(f"i{n}") for n in range(load.clients)]
    await connect_all(stage, players)
    after = stage.server_kib()
    await asyncio.sleep(load.warm_up_seconds)
    stage.observed.since = begin = time.time()
    writes = [partial(player.send, players[number - 1].name) for number, player in enumerate(players)]
    await send_on_schedule(stage, writes, load.rate or 100.0, begin)
    await drain(stage)
    facts = {"measured_seconds": time.time() - begin}
    if before is not None and after is not None:
        facts["kib_per_connection"] = (after - before) / load.clients
    return facts


async def soak(stage: Stage, load: Load) -> Facts:
    """Run pairs at a steady rate for a long time, while other clients connect and disconnect."""
    before = stage.server_kib()
    visiting = asyncio.ensure_future(_visit_until(stage, "c", time.time() + load.seconds))
    facts = await pairs(stage, load)
    await visiting
    after = stage.server_kib()
    if before is not None and after is not None:
        facts |= {"kib_before": before, "kib_after": after}
    return facts


async def pairs_under(attack: attacks.Attack, stage: Stage, load: Load) -> Facts:
    """Run pairs undisturbed, and then in the same shard as an attacker. Only the pairs are measured.

    The facts compare the medians of the time from when a message was due until its recipient had it.
    """
    players, loops = await _connected_pairs(stage, load)
    undisturbed = replace(load, warm_up_seconds=UNDISTURBED_WARM_UP_SECONDS)
    await converse(stage, undisturbed, players, loops)
    before = _median_ms(stage.observed.measured)
    async with attacks.running(attack, stage.url, stage.attacker):
        facts = await converse(stage, load, players, loops)
    now = _median_ms(stage.observed.measured)
    return facts | {"undisturbed_median_ms": before, "median_ms": now, "slower_by_a_factor_of": now / before}


SCENARIOS: dict[str, tuple[Scenario, Load]] = {
    "pairs": (pairs, Load(50, 100, 20, 5)),
    "rooms": (rooms, Load(4, 10, 20, 5, 10)),
    "fan-in": (fan_in, Load(50, 100, 20, 5)),
    "churn": (churn, Load(20, 20, 20, 5)),
    "storm": (storm, Load(500, None, 0, 0)),
    "idle": (idle, Load(1000, 100, 0, 2)),
    "soak": (soak, Load(20, 20, 600, 5)),
    "undisturbed": (pairs, Load(5, 20, 20, 5)),
    "self-flood": (partial(pairs_under, attacks.flood_itself), Load(5, 20, 20, 20)),
    "aborted-handshakes": (partial(pairs_under, attacks.abort_handshakes), Load(5, 20, 20, 5)),
    "never-reads": (partial(pairs_under, attacks.never_read), Load(5, 20, 20, 35)),
    "long-backlog": (partial(pairs_under, attacks.long_backlog), Load(5, 20, 20, 40)),
}
"""Each scenario with its default load."""


async def _connected_pairs(stage: Stage, load: Load) -> tuple[list[LoadPlayer], list[list[Write]]]:
    senders = [stage.player(f"s{n}") for n in range(load.clients)]
    recipients = [stage.player(f"r{n}") for n in range(load.clients)]
    await connect_all(stage, [*senders, *recipients])
    loops: list[list[Write]] = [
        [partial(sender.send, recipient.name)] for sender, recipient in zip(senders, recipients, strict=True)
    ]
    return [*senders, *recipients], loops


def _median_ms(sends: Sequence[Send]) -> float:
    took = [send.received - send.due for send in sends if send.received is not None]
    return 1000 * statistics.median(took) if took else math.nan


async def _visit_until(stage: Stage, name: str, end: float) -> None:
    visit = 0
    while time.time() < end:
        await _visit(stage, f"{name}-{visit}")
        visit += 1


async def _visit(stage: Stage, name: str) -> None:
    player, settled = stage.player(name), Settled()
    player.on_settled(settled)
    try:
        await player.connect()
        await settled.of(player.send(player.name, time.time()))
        await player.disconnect()
    except (NotConnected, asyncio.TimeoutError):
        return  # The observations have counted it.


async def _reconnect(player: LoadPlayer) -> None:
    with suppress(NotConnected):
        await player.connect()
