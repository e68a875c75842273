"""Models how long a room's message takes to its members, on shards that are otherwise quiet.

The room's shard is polled, and one call copies the message to the members. Then each of the shards that hold
the copies is polled, and its calls post them. So every message waits for two polls.
"""

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass

from measure.shard import Parameters, posted_at

MEMBERS = (10, 100, 250, 1000)
MESSAGES = 1000
PUTS_PER_CALL = 25
CONCURRENT_COPIES = 8


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from stored to posted, for a message's median member and for its last one."""

    median_p50: float
    median_p99: float
    last_p50: float
    last_p99: float


def simulate(members: int, parameters: Parameters, seed: int = 1) -> Latency:
    """Simulate MESSAGES messages to a room, far apart in time."""
    chance = random.Random(seed)
    medians, lasts = [], []
    for _ in range(MESSAGES):
        ends = sorted(_one_message(members, parameters, chance))
        medians.append(ends[members // 2])
        lasts.append(ends[-1])
    return Latency(*(_percentile(each, percent) for each in (medians, lasts) for percent in (50, 99)))


def _one_message(members: int, parameters: Parameters, chance: random.Random) -> list[float]:
    """Return when each member's copy is posted, in milliseconds after the message was stored."""
    shards: dict[int, list[float]] = {}
    for stored in _copied_at(members, parameters, chance):
        shards.setdefault(chance.randrange(parameters.shards), []).append(stored)
    return [end for stored in shards.values() for end in _posted_from_shard(stored, parameters, chance)]


def _copied_at(members: int, parameters: Parameters, chance: random.Random) -> list[float]:
    """Return when each copy is stored. Calls wait for DynamoDB concurrently, but there is only one CPU."""
    begin = chance.uniform(0, parameters.poll_ms) + parameters.invoke_ms + parameters.look_up_ms
    processor, free, stored = begin, [begin] * CONCURRENT_COPIES, []
    for start in range(0, members, PUTS_PER_CALL):
        copies = min(PUTS_PER_CALL, members - start)
        processor = max(processor, heapq.heappop(free)) + copies * parameters.copy_ms
        end = processor + parameters.write_ms * chance.lognormvariate(0, parameters.post_spread)
        heapq.heappush(free, end)
        stored += [end] * copies
    return stored


def _posted_from_shard(stored: list[float], parameters: Parameters, chance: random.Random) -> list[float]:
    waiting, ends = deque(sorted(stored)), []
    now = waiting[0] + chance.uniform(0, parameters.poll_ms)
    while waiting:
        batch: list[tuple[float, int]] = []
        while waiting and waiting[0] <= now and len(batch) < parameters.batch_size:
            batch.append((waiting.popleft(), len(batch)))
        if not batch:
            now += parameters.poll_ms
            continue
        took = posted_at(batch, parameters, chance)
        ends += [now + each for each in took]
        now += max(took)
    return ends


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def table(parameters: Parameters) -> str:
    rows = [f"{'members':>18}{'member p50':>12}{'member p99':>12}{'last p50':>10}{'last p99':>10}"]
    for members in MEMBERS:
        latency = simulate(members, parameters)
        rows.append(
            f"{members:>18,}{latency.median_p50:>12,.0f}{latency.median_p99:>12,.0f}"
            f"{latency.last_p50:>10,.0f}{latency.last_p99:>10,.0f}"
        )
    return "\n".join(rows)
