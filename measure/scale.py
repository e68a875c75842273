"""How latency grows with load: a discrete-event model of the stream and the push. python -m measure.scale

A shard is polled four times a second while it is empty; what is there, at most a batch, goes to one call
of the push function; the next batch waits for its end. A call looks its players up, and posts to different
players side by side, to one player in order. Seeded: the same numbers every time.
"""

import argparse
import heapq
import random
import statistics
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from measure import costs
from measure.progress import Progress

LOADS = (1, 10, 50, 100, 200, 400, 600, 800, 1000, 1200, 1500, 2000)
SECONDS = 60.0
PINGS = (60, 120, 300, 480)


@dataclass(frozen=True, slots=True)
class Parameters:
    """Milliseconds. `cpu_ms` of a post was measured by measure.bench, as what 100 posts of 20 ms took
    above 20; on Lambda's share of a core that is more. The others are assumptions: nothing here ran on AWS.
    """

    poll_ms: float = 250.0
    invoke_ms: float = 8.0
    look_up_ms: float = 6.0
    post_ms: float = 12.0
    post_spread: float = 0.5
    cpu_ms: float = 0.3
    batch_size: int = 100
    players: int = 1000

    def post(self, chance: random.Random) -> float:
        """Log-normal around its median: most are quick, some are slow."""
        return self.post_ms * chance.lognormvariate(0, self.post_spread)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Milliseconds from a message's being stored to its being posted, and records a batch."""

    load: float
    p50: float
    p99: float
    batch: float
    backlog: int

    @property
    def keeps_up(self) -> bool:
        """Whether what comes in a second goes out in a second: the backlog at the end is under two."""
        return self.backlog < 2 * self.load


def simulate(load: float, parameters: Parameters, seed: int = 1) -> Outcome:
    """One shard at so many messages a second, by Poisson, to players chosen evenly."""
    chance = random.Random(seed)
    arriving = _arrivals(load, parameters, chance)
    waiting: deque[tuple[float, int]] = deque()
    latencies: list[float] = []
    batches: list[int] = []
    following = next(arriving, None)
    now = 0.0
    while now < 1000 * SECONDS:
        while following is not None and following[0] <= now:
            waiting.append(following)
            following = next(arriving, None)
        if not waiting:
            now += parameters.poll_ms
            continue
        batch = [waiting.popleft() for _ in range(min(len(waiting), parameters.batch_size))]
        ends = _call(batch, parameters, chance)
        latencies += [now + end - stored for (stored, _), end in zip(batch, ends, strict=True)]
        batches.append(len(batch))
        now += max(ends)
    latencies.sort()
    return Outcome(
        load,
        latencies[len(latencies) // 2],
        latencies[len(latencies) * 99 // 100],
        statistics.mean(batches),
        len(waiting),
    )


def _arrivals(load: float, parameters: Parameters, chance: random.Random) -> Iterator[tuple[float, int]]:
    now = 0.0
    while now < 1000 * SECONDS:
        now += 1000 * chance.expovariate(load)
        yield now, chance.randrange(parameters.players)


def _call(batch: list[tuple[float, int]], parameters: Parameters, chance: random.Random) -> list[float]:
    """When each record's post has ended, from the call's beginning.

    Whoever is free first computes first: posts wait side by side, but there is one processor.
    """
    begin = parameters.invoke_ms + parameters.look_up_ms
    theirs: dict[int, deque[int]] = {}
    for index, (_, player) in enumerate(batch):
        theirs.setdefault(player, deque()).append(index)
    free = [(begin, player) for player in theirs]
    heapq.heapify(free)
    processor, ends = begin, [0.0] * len(batch)
    while free:
        ready, player = heapq.heappop(free)
        processor = max(processor, ready) + parameters.cpu_ms
        index = theirs[player].popleft()
        ends[index] = processor + parameters.post(chance)
        if theirs[player]:
            heapq.heappush(free, (ends[index], player))
    return ends


def sweep(parameters: Parameters, progress: Progress) -> list[Outcome]:
    outcomes = []
    for number, load in enumerate(LOADS):
        progress.show(number, len(LOADS))
        outcomes.append(simulate(load, parameters))
        if not outcomes[-1].keeps_up:  # Beyond that, latency is a matter of how long it goes on.
            break
    return outcomes


def table(outcomes: list[Outcome]) -> str:
    rows = [f"{'messages a second':>18}{'p50 ms':>10}{'p99 ms':>10}{'a batch':>10}"]
    for outcome in outcomes:
        behind = "" if outcome.keeps_up else "  falls behind"
        rows.append(
            f"{outcome.load:>18,}{outcome.p50:>10,.0f}{outcome.p99:>10,.0f}{outcome.batch:>10.1f}{behind}"
        )
    return "\n".join(rows)


def figure(cases: dict[str, list[Outcome]]) -> Any:
    from matplotlib.figure import Figure

    made = Figure(figsize=(9, 4.5), layout="constrained")
    axes = made.subplots()
    for number, (name, outcomes) in enumerate(cases.items()):
        loads = [outcome.load for outcome in outcomes]
        axes.plot(loads, [outcome.p99 for outcome in outcomes], f"C{number}-", label=f"{name}, p99")
        axes.plot(loads, [outcome.p50 for outcome in outcomes], f"C{number}--", label=f"{name}, p50")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("messages a second and shard")
    axes.set_ylabel("milliseconds from stored to posted")
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return made


def cases(parameters: Parameters) -> dict[str, Parameters]:
    return {
        "many recipients": parameters,
        "one recipient (fan-in)": replace(parameters, players=1),
        "one record a call": replace(parameters, batch_size=1),
    }


def main() -> None:
    usual = Parameters()
    parser = argparse.ArgumentParser(prog="python -m measure.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--post-ms", type=float, default=usual.post_ms, help="median of a post")
    parser.add_argument("--cpu-ms", type=float, default=usual.cpu_ms, help="computing of a post")
    parser.add_argument("--plot", type=Path, default=Path("build/scaling.svg"), help="where the plot goes")
    asked = parser.parse_args()
    progress = Progress("scale")
    parameters = replace(usual, post_ms=asked.post_ms, cpu_ms=asked.cpu_ms)
    swept = {name: sweep(case, progress) for name, case in cases(parameters).items()}
    progress.end()
    for name, outcomes in swept.items():
        print(f"{name}\n{table(outcomes)}\n")
    prices, use = costs.Prices(), costs.Use()
    for design in (costs.ours, costs.original, costs.broadcast_by_scan):
        name = design.__name__.replace("_", " ")
        print(f"Dollars for a million messages, {name}\n{costs.table(design(prices, use))}\n")
    print(f"Dollars a month, of a stage\n{costs.table(costs.each_month(prices, use))}\n")
    for seconds in PINGS:
        pinging = replace(use, ping_seconds=seconds)
        print(f"Dollars for a million idle minutes, a ping each {seconds} s")
        print(f"{costs.table(costs.idle(prices, pinging))}\n")
    print("Prices: us-east-1; measure/costs.py says where each is from and when it was checked")
    asked.plot.parent.mkdir(parents=True, exist_ok=True)
    figure(swept).savefig(asked.plot, metadata={"Date": None})
    print(asked.plot)


if __name__ == "__main__":
    main()
