"""`.ci/run` runs the rehearsal beside the other commands, and passes only if all pass."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.chalice_process import PROJECT

MAKE = """#!/bin/sh
[ "$1" = rehearse ] && sleep 0.3
echo "begin $1"; echo "end $1"
[ "$1" != "$FAILING" ]
"""
IN_THIS_ORDER = (
    "test",
    "test-slow",
    "validate-specification",
    "test-moto",
    "test-dynamodb",
    "test-javascript",
    "test-typescript",
    "rehearse",
)


def run(tmp_path: Path, failing: str) -> tuple[int, list[str]]:
    """Run it with a fake `make` that prints its target and fails for one."""
    for command, script in (("make", MAKE), ("npm", "#!/bin/sh\n"), ("chromium", "#!/bin/sh\n")):
        (tmp_path / command).write_text(script, encoding="utf-8")
        (tmp_path / command).chmod(0o755)
    ran = subprocess.run(
        ["bash", str(PROJECT / ".ci" / "run")],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "FAILING": failing, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    return ran.returncode, ran.stdout.splitlines()


def test_it_runs_everything_and_prints_each_commands_output_in_one_piece(tmp_path: Path) -> None:
    code, printed = run(tmp_path, failing="")

    ended = [line.removeprefix("end ") for line in printed if line.startswith("end ")]
    assert code == 0
    assert [target for target in ended if target in IN_THIS_ORDER] == list(IN_THIS_ORDER)
    assert all(printed[printed.index(f"end {target}") - 1] == f"begin {target}" for target in ended)


@pytest.mark.parametrize("failing", IN_THIS_ORDER)
def test_it_fails_when_one_command_fails(failing: str, tmp_path: Path) -> None:
    code, printed = run(tmp_path, failing)

    assert code != 0
    assert f"end {failing}" in printed


def test_a_failure_does_not_hide_the_rehearsals_output(tmp_path: Path) -> None:
    _, printed = run(tmp_path, failing="test-slow")

    assert printed[-1] == "end rehearse"
