"""The tests notice bugs: each of these, put into a copy of the code, is found."""

from pathlib import Path

import pytest

from tests.mutants import Mutant, all_mutants

MUTANTS = all_mutants()
SAMPLE = MUTANTS[::9]
"""The mutants that the fast tests try."""


def test_there_are_many_of_them() -> None:
    assert len(MUTANTS) >= 20


@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(mutant, id=mutant.patch.stem, marks=() if mutant in SAMPLE else pytest.mark.slow)
        for mutant in MUTANTS
    ],
)
def test_a_bug_is_found(mutant: Mutant, tmp_path: Path) -> None:
    assert mutant.is_found(tmp_path)
