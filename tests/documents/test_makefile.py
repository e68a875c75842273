"""The Makefile passes variables to programs unchanged."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.chalice_process import PROJECT
from tests.support.sockets import PATIENCE_SECONDS

PROGRAM = """#!{python}
import json, os, sys
with open({record!r}, "a", encoding="utf-8") as record:
    print(json.dumps([sys.argv[1:], os.environ.get("ACCEPT_URL")]), file=record)
"""

VALUES = [
    "a b",
    "ws://h/?x=1&y=2",
    "it's",
    'a "quoted" word',
    "$HOME and $$ and ${HOME}",
    "$(shell touch made-by-make)",
    "$(touch made-by-the-shell) `touch made-by-the-shell`",
    "a;b|c>d #e\\f%g*",
    "-h",
    "é ",
]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make on this machine")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the Makefile and programs that record their calls."""
    for file in (PROJECT / "Makefile", *PROJECT.glob("requirements*")):
        shutil.copy(file, tmp_path)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "chalice", "pytest"):
        text = PROGRAM.format(python=sys.executable, record=str(tmp_path / "record"))
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    for name in ("runs", "ready"):
        (tmp_path / ".venv" / name).touch()
    return tmp_path


def calls(folder: Path, *arguments: str, **variables: str) -> list[Any]:
    """Run make and return each call's arguments and ACCEPT_URL."""
    names = ("PATH", "HOME", "LANG")
    environment = {name: os.environ[name] for name in names if name in os.environ} | variables
    made = subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, timeout=PATIENCE_SECONDS
    )
    assert made.returncode == 0, made.stderr.decode()
    assert not list(folder.glob("made-by-*"))
    record = (folder / "record").read_text(encoding="utf-8")
    return [json.loads(line) for line in record.splitlines()]


@pytest.mark.parametrize("value", VALUES)
def test_every_variable_reaches_its_program_unchanged(folder: Path, value: str) -> None:
    chat = ["-m", "clients.chat", f"--to={value}", f"--url={value}", "--", value]
    expected = [
        (["chat", f"PLAYER={value}", f"TO={value}", f"URL={value}"], [[chat, None]]),
        (["token", f"PLAYER={value}"], [[["-m", "localdev.token", "--", value], None]]),
        (["accept", f"URL={value}"], [[["tests/integration/test_acceptance.py"], value]]),
        (
            ["simulate", f"SCHEDULES={value}"],
            [[["-m", "tests.simulation.prove", f"--schedules={value}"], None]],
        ),
        (["load", f"URL={value}"], [[["-m", "measure.load", "pairs", f"--url={value}"], None]]),
        (["load", f"SCENARIO={value}"], [[["-m", "measure.load", value], None]]),
        *(
            ([target, f"STAGE={value}"], [[["-m", "deployment", target, "--", value], None]])
            for target in ("deploy", "destroy", "notes")
        ),
    ]

    for arguments, recorded in expected:
        assert calls(folder, *arguments) == recorded, arguments
        (folder / "record").unlink()


@pytest.mark.parametrize("value", [value for value in VALUES if "/" not in value])
def test_a_stage_name_with_special_characters_is_packaged(folder: Path, value: str) -> None:
    template = f"build/{value}.json"

    assert calls(folder, "package", f"STAGE={value}") == [
        [["-m", "deployment", "template", "--", value], None],
        [["package", f"--stage={value}", f"--merge-template={template}", f"build/{value}"], None],
    ]
    assert (folder / template).exists()


def test_an_environment_variable_is_passed_unchanged(folder: Path) -> None:
    [[arguments, _]] = calls(folder, "chat", PLAYER="a b", URL="ws://h/?x=$1&y=2")

    assert arguments == ["-m", "clients.chat", "--url=ws://h/?x=$1&y=2", "--", "a b"]


def test_variables_that_are_not_given_have_their_defaults(folder: Path) -> None:
    for arguments, recorded in [
        (["chat"], ["-m", "clients.chat", "--", "1"]),
        (["token"], ["-m", "localdev.token", "--", "1"]),
        (["deploy"], ["-m", "deployment", "deploy", "--", "dev"]),
        (["load"], ["-m", "measure.load", "pairs"]),
        (["prove"], ["-m", "tests.simulation.prove", "--schedules=1000000"]),
    ]:
        assert calls(folder, *arguments) == [[recorded, None]]
        (folder / "record").unlink()


def test_options_are_words_for_the_shell(folder: Path) -> None:
    [[arguments, _]] = calls(folder, "load", "OPTIONS=--clients 5 --label 'a b'")

    assert arguments == ["-m", "measure.load", "pairs", "--clients", "5", "--label", "a b"]
