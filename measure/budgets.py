"""The lines of the budgets' report."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the report. `most` is the budget, or None if the line has none."""

    name: str
    measured: float
    most: float | None
    detail: str = ""

    @property
    def is_kept(self) -> bool:
        return self.most is None or self.measured <= self.most


def table(rows: Iterable[Row]) -> str:
    lines = [f"{'':<66}{'measured':>10}{'at most':>10}"]
    for row in rows:
        most = "" if row.most is None else f"{row.most:g}"
        exceeded = "" if row.is_kept else "  EXCEEDED"
        lines.append(f"{row.name:<66}{row.measured:>10.4g}{most:>10}  {row.detail}{exceeded}".rstrip())
    return "\n".join(lines)


def total(calls: Counter[str]) -> int:
    return sum(calls.values())


def by_operation(calls: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(calls.items()))
