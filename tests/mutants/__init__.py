"""One-line bugs, as patches, that tests must find. Each begins with the test or schedule that finds it."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.project_copy import apply, copy_project

SEARCHED_SEEDS = 30_000


@dataclass(frozen=True, slots=True)
class Mutant:
    """`seed`: of the schedule that finds it; None when it is `tests` that do."""

    patch: Path
    seed: int | None
    tests: str | None

    @classmethod
    def read(cls, patch: Path) -> "Mutant":
        finder = patch.read_text(encoding="utf-8").splitlines()[0].removeprefix("Found by: ")
        if finder.startswith("schedule "):
            return cls(patch, int(finder.removeprefix("schedule ")), None)
        return cls(patch, None, finder)

    def is_found(self, directory: Path) -> bool:
        """Break a copy of the code in that directory, and see whether anybody notices."""
        copy = copy_project(directory / self.patch.stem)
        apply(self.patch.read_text(encoding="utf-8"), copy)
        if self.tests is not None:
            return _fails(copy, "-m", "pytest", "-x", self.tests)
        return _fails(copy, "-m", "tests.simulation.prove", "--seed", str(self.seed)) or _fails(
            copy, "-m", "tests.simulation.prove", "--schedules", str(SEARCHED_SEEDS), "--stop-at-first"
        )


def all_mutants() -> list[Mutant]:
    return [Mutant.read(patch) for patch in sorted(Path(__file__).parent.glob("*.patch"))]


def _fails(directory: Path, *arguments: str) -> bool:
    ran = subprocess.run(
        [sys.executable, *arguments], cwd=directory, capture_output=True, text=True, encoding="utf-8"
    )
    crashed = ran.returncode not in (0, 1) or "Traceback" in ran.stderr
    assert not crashed, ran.stdout + ran.stderr
    return ran.returncode == 1
