"""The scenarios of the load tests."""

import asyncio
import itertools
import math
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from measure import attacks
from measure.observations import Observations, Send
from measure.player import LoadPlayer, NotConnected
from measure.progress import Progress

CONCURRENT_CONNECTS = 32
CLIENTS_PER_WRITER, WRITES_PER_SECOND = 50, 500
"""The load of a storm. Each writer stays below the default rate limit of a player."""

UNDISTURBED_WARM_UP_SECONDS = 2

DRAIN_SECONDS = 60
"""A message that takes longer than this counts as lost."""


@dataclass(frozen=True, slots=True)
class Load:
    """The load of a scenario. `clients` is the number of pairs, senders, connections or rooms.

    `members` is the number of members of each room.

    `rate` is the number of messages (in churn, of connects) per second, sent on schedule whatever the service
    does. Without it the loop is closed: each client sends when its previous message has arrived.
    """

    clients: int
    rate: float | None
    seconds: float
    warm_up_seconds: float
    members: int | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """The context of a scenario.

    `player` takes a name and returns a player. `server_kib` returns the server's memory in KiB, if known. An
    attacker connects to `url` as the player `attacker`.
    """

    player: Callable[[str], LoadPlayer]
    observed: Observations
    progress: Progress
    server_kib: Callable[[], int | None]
    url: str = ""
    attacker: str = ""


Write = Callable[[float], Coroutine[Any, Any, Send]]
"""Sends a message that is due at the given time, in epoch seconds."""

Facts = dict[str, float]
Scenario = Callable[[Stage, Load], Coroutine[Any, Any, Facts]]


async def pairs(stage: Stage, load: Load) -> Facts:
    """Send between many pairs concurrently: each sender has its own recipient."""
    senders, recipients = await _connected_pairs(stage, load)
    return await _converse(stage, load, senders, recipients)


async def fan_in(stage: Stage, load: Load) -> Facts:
    """Send from many senders to the same recipient."""
    senders, recipient = [stage.player(f"s{n}") for n in range(load.clients)], stage.player("r")
    await _connect(stage, [*senders, recipient])
    return await _converse(stage, load, senders, [recipient] * load.clients)


async def rooms(stage: Stage, load: Load) -> Facts:
    """Send to rooms. The members of each take turns as senders."""
    members = range(load.members or 1)
    rooms = [[stage.player(f"m{room}-{n}") for n in members] for room in range(load.clients)]
    by_id = {f"room-of-{room[0].name}": room for room in rooms}
    everybody = [player for room in rooms for player in room]
    await _connect(stage, everybody)
    await asyncio.gather(*(player.join(room_id) for room_id, room in by_id.items() for player in room))
    writes = {
        room_id: [partial(player.send_to_room, room_id, len(room)) for player in room]
        for room_id, room in by_id.items()
    }
    begin, end = _span(stage, load)
    if load.rate is None:
        settled = Settled()
        for player in everybody:
            player.on_settled(settled)
        await asyncio.gather(*(_send_in_turn(stage, settled, each, begin, end) for each in writes.values()))
    else:
        total = round((end - begin) * load.rate)
        in_turn = itertools.cycle(write for turn in zip(*writes.values(), strict=True) for write in turn)
        await _send_on_schedule(stage, list(itertools.islice(in_turn, total)), load.rate, begin)
    seconds = time.time() - stage.observed.since
    await _drain(stage)
    copies = sum(len(send.received_by) for send in stage.observed.measured)
    return {"measured_seconds": seconds, "copies_per_second": copies / seconds}


async def churn(stage: Stage, load: Load) -> Facts:
    """Repeatedly connect a client, send a message to itself, receive it, and disconnect."""
    begin, end = _span(stage, load)
    stage.observed.connects_since = stage.observed.since
    if load.rate is None:
        await asyncio.gather(*(_visit_until(stage, f"c{n}", end) for n in range(load.clients)))
    else:
        total = round((end - begin) * load.rate)
        visits = []
        for number in range(total):
            await _sleep_until(begin + number / load.rate)
            stage.progress.show(time.time() - begin, end - begin)
            visits.append(asyncio.ensure_future(_visit(stage, f"c{number}")))
        await asyncio.gather(*visits)
    return {"measured_seconds": time.time() - stage.observed.since}


async def storm(stage: Stage, load: Load) -> Facts:
    """Disconnect all players at once, send a message to each, and reconnect all at once."""
    players = [stage.player(f"p{n}") for n in range(load.clients)]
    writers = [stage.player(f"w{n}") for n in range(1 + load.clients // CLIENTS_PER_WRITER)]
    await _connect(stage, [*players, *writers])
    await asyncio.gather(*(player.disconnect() for player in players))
    writes = [
        partial(writers[number % len(writers)].send, player.name) for number, player in enumerate(players)
    ]
    await _send_on_schedule(stage, writes, WRITES_PER_SECOND, time.time())
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
    await _drain(stage)
    return {"measured_seconds": time.time() - began, "reconnect_seconds": reconnect_seconds}


async def idle(stage: Stage, load: Load) -> Facts:
    """Keep connections idle, then send one message to each."""
    before = stage.server_kib()
    players = [stage.player(f"i{n}") for n in range(load.clients)]
    await _connect(stage, players)
    after = stage.server_kib()
    await asyncio.sleep(load.warm_up_seconds)
    stage.observed.since = begin = time.time()
    writes = [partial(player.send, players[number - 1].name) for number, player in enumerate(players)]
    await _send_on_schedule(stage, writes, load.rate or 100.0, begin)
    await _drain(stage)
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
    senders, recipients = await _connected_pairs(stage, load)
    undisturbed = replace(load, warm_up_seconds=UNDISTURBED_WARM_UP_SECONDS)
    await _converse(stage, undisturbed, senders, recipients)
    before = _median_ms(stage.observed.measured)
    async with attacks.running(attack, stage.url, stage.attacker):
        facts = await _converse(stage, load, senders, recipients)
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


async def _connected_pairs(stage: Stage, load: Load) -> tuple[list[LoadPlayer], list[LoadPlayer]]:
    senders = [stage.player(f"s{n}") for n in range(load.clients)]
    recipients = [stage.player(f"r{n}") for n in range(load.clients)]
    await _connect(stage, [*senders, *recipients])
    return senders, recipients


async def _connect(stage: Stage, players: Sequence[LoadPlayer]) -> None:
    """Connect a few players at a time, because this doesn't measure connects. Raises NotConnected."""
    slots = asyncio.Semaphore(CONCURRENT_CONNECTS)
    connected = 0

    async def connect(player: LoadPlayer) -> None:
        nonlocal connected
        async with slots:
            await player.connect()
        connected += 1
        stage.progress.show(connected, len(players), "connecting")

    await asyncio.gather(*map(connect, players))


async def _converse(
    stage: Stage, load: Load, senders: Sequence[LoadPlayer], recipients: Sequence[LoadPlayer]
) -> Facts:
    begin, end = _span(stage, load)
    all_pairs = [partial(one.send, other.name) for one, other in zip(senders, recipients, strict=True)]
    if load.rate is None:
        settled = Settled()
        for player in {*senders, *recipients}:
            player.on_settled(settled)
        await asyncio.gather(*(_send_in_turn(stage, settled, [write], begin, end) for write in all_pairs))
    else:
        writes = [all_pairs[number % len(all_pairs)] for number in range(round((end - begin) * load.rate))]
        await _send_on_schedule(stage, writes, load.rate, begin)
    measured = time.time() - stage.observed.since
    await _drain(stage)
    return {"measured_seconds": measured}


def _median_ms(sends: Sequence[Send]) -> float:
    took = [send.received - send.due for send in sends if send.received is not None]
    return 1000 * statistics.median(took) if took else math.nan


async def _send_on_schedule(stage: Stage, writes: Sequence[Write], rate: float, begin: float) -> None:
    """Send `rate` messages per second, and wait until all of them are acknowledged or refused."""
    sending: set[asyncio.Task[Send]] = set()
    for number, write in enumerate(writes):
        due = begin + number / rate
        await _sleep_until(due)
        task = asyncio.ensure_future(write(due))
        sending.add(task)
        task.add_done_callback(sending.discard)
        stage.progress.show(number, len(writes))
    await asyncio.gather(*sending)


class Settled:
    """Lets a sender wait until its message has been received or refused."""

    def __init__(self) -> None:
        self._awaited: dict[tuple[str, int], asyncio.Future[None]] = {}

    def __call__(self, send: Send) -> None:
        waiting = self._awaited.pop((send.sender, send.number), None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def of(self, sending: Awaitable[Send]) -> None:
        send = await sending
        if send.received is None and send.error is None:
            waiting = self._awaited[send.sender, send.number] = asyncio.get_running_loop().create_future()
            await asyncio.wait_for(waiting, DRAIN_SECONDS)


async def _send_in_turn(
    stage: Stage, settled: Settled, writes: Sequence[Write], begin: float, end: float
) -> None:
    """Make one write after the other, again and again, each when the previous message has been received."""
    for write in itertools.cycle(writes):
        if (now := time.time()) >= end:
            return
        stage.progress.show(now - begin, end - begin)
        with suppress(asyncio.TimeoutError):  # The observations count it as lost or unanswered.
            await settled.of(write(now))


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


def _span(stage: Stage, load: Load) -> tuple[float, float]:
    """Return the begin and the end in epoch seconds, and set the time at which the warm-up ends."""
    begin = time.time()
    stage.observed.since = begin + load.warm_up_seconds
    return begin, stage.observed.since + load.seconds


async def _sleep_until(due: float) -> None:
    if (wait := due - time.time()) > 0:
        await asyncio.sleep(wait)


async def _drain(stage: Stage) -> None:
    await _settle(lambda: stage.observed.unsettled)


async def _settle(left: Callable[[], int]) -> None:
    deadline = time.time() + DRAIN_SECONDS
    while left() and time.time() < deadline:
        await asyncio.sleep(0.1)
