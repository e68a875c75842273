"""Run seeded schedules on all cores and count the outcomes of all sends.

python -m tests.simulation.prove --schedules 1000000
python -m tests.simulation.prove --seed 1172          repeats one schedule
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from measure.progress import Progress
from tests.simulation.run import Result, run
from tests.simulation.verdict import VIOLATIONS

CHUNK = 200


@dataclass(slots=True)
class Total:
    """`failed` has the results of the schedules that violated a guarantee."""

    schedules: int = 0
    calls: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    failed: list[Result] = field(default_factory=list)

    def add(self, other: "Total") -> None:
        self.schedules += other.schedules
        self.calls += other.calls
        self.outcomes += other.outcomes
        self.faults += other.faults
        self.failed += other.failed


def run_seeds(seeds: Iterable[int]) -> Total:
    total = Total()
    for seed in seeds:
        try:
            result = run(seed)
        except Exception as error:  # Names the seed, and can be pickled.
            raise RuntimeError(f"seed {seed}: {error!r}") from None
        wrong = [result] if result.violations else []
        total.add(Total(1, result.calls, result.outcomes, result.faults, wrong))
    return total


def run_all(schedules: int, first_seed: int, processes: int, stop_at_first: bool = False) -> Total:
    seeds = range(first_seed, first_seed + schedules)
    chunks = [seeds[start : start + CHUNK] for start in range(0, schedules, CHUNK)]
    total, started, progress = Total(), time.monotonic(), Progress("")
    with multiprocessing.Pool(processes) as pool:
        for part in pool.imap_unordered(run_seeds, chunks):
            total.add(part)
            left = (time.monotonic() - started) * (schedules / total.schedules - 1)
            progress.show(total.schedules, schedules, f"{total.schedules:,} done, {left:,.0f} s left")
            if stop_at_first and total.failed:
                break
    progress.end()
    return total


def report(total: Total) -> str:
    lines = [
        f"schedules      {total.schedules:>12,}",
        f"AWS calls      {total.calls:>12,}",
        f"faults         {total.faults.total():>12,}",
        f"sends          {sum(total.outcomes[o] for o in ('ok', 'unknown', 'lost')):>12,}",
    ]
    for outcome in ("ok", "unknown", *VIOLATIONS):
        lines.append(f"  {outcome:<12} {total.outcomes[outcome]:>12,}")
    lines.append(f"to rooms, ok   {total.outcomes['ok in rooms']:>12,}")
    lines.append(f"  due at       {total.outcomes['due in rooms']:>12,} devices")
    for kind, count in sorted(_by_kind(total.faults).items()):
        lines.append(f"fault {kind:<14} {count:>6,}")
    for result in total.failed[:10]:
        lines.append(f"seed {result.seed}: {result.violations[0]}")
    return "\n".join(lines)


def _by_kind(faults: Counter[str]) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for name, count in faults.items():
        kinds[name.partition(": ")[2]] += count
    return kinds


def main() -> int:
    parser = argparse.ArgumentParser(description="Test the guarantees with seeded schedules.")
    parser.add_argument("--schedules", type=int, default=1_000_000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--stop-at-first", action="store_true", help="stop at the first violation")
    parser.add_argument("--seed", type=int, help="run only this schedule")
    options = parser.parse_args()
    if options.seed is None:
        total = run_all(options.schedules, options.first_seed, options.processes, options.stop_at_first)
    else:
        total = run_seeds([options.seed])
    print(report(total))
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
