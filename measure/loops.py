"""Connects the players of a load test, and sends their messages: on schedule, or in closed loops."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from measure.observations import Observations, Send
from measure.player import LoadPlayer
from measure.progress import Progress

CONCURRENT_CONNECTS = 32

DRAIN_SECONDS = 60
"""A message that takes longer than this counts as lost."""


@dataclass(frozen=True, slots=True)
class Load:
    """The load of a scenario.

    `clients` is the number of pairs, senders, connections or rooms, and `members` that of a room's members.
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


async def connect_all(stage: Stage, players: Sequence[LoadPlayer]) -> None:
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


async def converse(
    stage: Stage, load: Load, players: Sequence[LoadPlayer], loops: Sequence[Sequence[Write]]
) -> Facts:
    """Make the writes of all loops in turn, at the load's rate, and wait until the messages are received.

    Without a rate, each loop makes its next write when its previous message has been received. `players` are
    all senders and recipients.
    """
    begin, end = span(stage, load)
    if load.rate is None:
        settled = Settled()
        for player in players:
            player.on_settled(settled)
        await asyncio.gather(*(_send_in_turn(stage, settled, writes, begin, end) for writes in loops))
    else:
        in_turn = itertools.cycle(write for turn in zip(*loops, strict=True) for write in turn)
        writes = itertools.islice(in_turn, round((end - begin) * load.rate))
        await send_on_schedule(stage, list(writes), load.rate, begin)
    measured = time.time() - stage.observed.since
    await drain(stage)
    return {"measured_seconds": measured}


async def send_on_schedule(stage: Stage, writes: Sequence[Write], rate: float, begin: float) -> None:
    """Send `rate` messages per second, and wait until all of them are acknowledged or refused."""
    sending: set[asyncio.Task[Send]] = set()
    for number, write in enumerate(writes):
        due = begin + number / rate
        await sleep_until(due)
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


def span(stage: Stage, load: Load) -> tuple[float, float]:
    """Return the begin and the end in epoch seconds, and set the time at which the warm-up ends."""
    begin = time.time()
    stage.observed.since = begin + load.warm_up_seconds
    return begin, stage.observed.since + load.seconds


async def sleep_until(due: float) -> None:
    if (wait := due - time.time()) > 0:
        await asyncio.sleep(wait)


async def drain(stage: Stage) -> None:
    await settle(lambda: stage.observed.unsettled)


async def settle(left: Callable[[], int]) -> None:
    deadline = time.time() + DRAIN_SECONDS
    while left() and time.time() < deadline:
        await asyncio.sleep(0.1)
