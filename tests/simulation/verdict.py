"""The verdict on a schedule."""

from collections import Counter
from dataclasses import dataclass, field

VIOLATIONS = (
    "lost",
    "incomplete",
    "shown twice",
    "out of order",
    "misdelivered",
    "misplaced",
    "stranger",
    "never sent",
    "unreachable",
    "stuck",
    "expired",
    "presence",
)
"""`incomplete`: a room's message was stored, wasn't acknowledged, and didn't reach all members.

`misplaced`: a message's frame names a position at which its recipient has no message.

`stranger`: a player who isn't a member was shown a room's message, or sent one.
"""


@dataclass(slots=True)
class Verdict:
    """How many sends had each outcome, and a line for each violation of a guarantee."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, outcome: str, about: str) -> None:
        self.counts[outcome] += 1
        self.violations.append(f"{outcome}: {about}")
