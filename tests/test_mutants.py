"""The tests notice bugs: each of these, put into a copy of the code, is found."""

from pathlib import Path

import pytest

from tests.mutants import Mutant, all_mutants


def test_there_are_many_of_them() -> None:
    assert len(all_mutants()) >= 20


@pytest.mark.parametrize("mutant", all_mutants(), ids=lambda mutant: mutant.patch.stem)
def test_a_bug_is_found(mutant: Mutant, tmp_path: Path) -> None:
    assert mutant.is_found(tmp_path)
