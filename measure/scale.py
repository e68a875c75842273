"""Models how latency and cost grow with load: python -m measure.scale

The model is a discrete-event simulation of one shard. Lambda polls an empty shard four times per second. It
passes the records, at most one batch, to one call of `push_messages`, and the next batch waits until that
call ends. A call looks up its players. It posts to different players concurrently, and to one player in
order. The random numbers are seeded, so each run prints the same figures.
"""

import argparse
import random
import statistics
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from measure import costs, room_scale
from measure.progress import Progress
from measure.shard import Parameters, posted_at

LOADS = (1, 10, 50, 100, 200, 400, 600, 800, 1000, 1200, 1500, 2000)
SECONDS = 60.0
PINGS = (60, 120, 300, 480)
ID_CHARACTERS = (12, 36)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a simulation. Latencies are in milliseconds, from stored to posted.

    `batch` is the mean number of records per batch, `backlog` the records left at the end.
    """

    load: float
    p50: float
    p99: float
    batch: float
    backlog: int

    @property
    def keeps_up(self) -> bool:
        """Whether the shard keeps up with the load: its backlog at the end is under two seconds of load."""
        return self.backlog < 2 * self.load


def simulate(load: float, parameters: Parameters, seed: int = 1) -> Outcome:
    """Simulate one shard at `load` messages per second, a Poisson process with uniformly chosen players."""
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
        ends = posted_at(batch, parameters, chance)
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


def sweep(parameters: Parameters, progress: Progress) -> list[Outcome]:
    outcomes = []
    for number, load in enumerate(LOADS):
        progress.show(number, len(LOADS))
        outcomes.append(simulate(load, parameters))
        if not outcomes[-1].keeps_up:  # With a higher load, latency depends only on the simulated duration.
            break
    return outcomes


def table(outcomes: list[Outcome]) -> str:
    rows = [f"{'messages/s':>18}{'p50 ms':>10}{'p99 ms':>10}{'per batch':>10}"]
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
    axes.set_xlabel("messages per second and shard")
    axes.set_ylabel("milliseconds from stored to posted")
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return made


def cases(parameters: Parameters) -> dict[str, Parameters]:
    return {
        "many recipients": parameters,
        "one recipient (fan-in)": replace(parameters, players=1),
        "one record per call": replace(parameters, batch_size=1),
    }


def main() -> None:
    usual = Parameters()
    parser = argparse.ArgumentParser(prog="python -m measure.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--post-ms", type=float, default=usual.post_ms, help="median duration of a post")
    parser.add_argument("--cpu-ms", type=float, default=usual.cpu_ms, help="CPU time of a post")
    parser.add_argument("--plot", type=Path, default=Path("build/scaling.svg"), help="path of the plot")
    asked = parser.parse_args()
    progress = Progress("scale")
    parameters = replace(usual, post_ms=asked.post_ms, cpu_ms=asked.cpu_ms)
    swept = {name: sweep(case, progress) for name, case in cases(parameters).items()}
    progress.end()
    for name, outcomes in swept.items():
        print(f"{name}\n{table(outcomes)}\n")
    print(f"a message to a room, quiet shards\n{room_scale.table(parameters)}\n")
    prices, use = costs.Prices(), costs.Use()
    for design in (costs.ours, costs.original, costs.broadcast_by_scan):
        name = design.__name__.replace("_", " ")
        print(f"Dollars per million messages, {name}\n{costs.table(design(prices, use))}\n")
    for members in room_scale.MEMBERS:
        for characters in ID_CHARACTERS:
            print(f"Dollars per million messages to a room of {members:,}, ids of {characters} characters")
            print(f"{costs.table(costs.room(prices, use, members, characters))}\n")
    print(f"Dollars per month and stage\n{costs.table(costs.each_month(prices, use))}\n")
    for seconds in PINGS:
        pinging = replace(use, ping_seconds=seconds)
        print(f"Dollars per million idle minutes, one ping every {seconds} s")
        print(f"{costs.table(costs.idle(prices, pinging))}\n")
    print("Prices are those of us-east-1; measure/costs.py has the source and date of each")
    asked.plot.parent.mkdir(parents=True, exist_ok=True)
    figure(swept).savefig(asked.plot, metadata={"Date": None})
    print(asked.plot)


if __name__ == "__main__":
    main()
