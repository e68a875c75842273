"""Copies of the project that tests change."""

import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).parent.parent.parent
FOLDERS = (
    ".chalice",
    "chalicelib",
    "clients",
    "deployment",
    "docs",
    "localdev",
    "measure",
    "specification",
    "tests",
)
FILES = (
    "app.py",
    "Makefile",
    "pyproject.toml",
    *(path.name for path in PROJECT.glob("requirements*")),
    *(path.name for path in PROJECT.glob("*.md")),
    "LICENSE",
)
NOT_OURS = shutil.ignore_patterns("__pycache__", "deployed", "deployments")


class DoesNotApply(Exception):
    """The diff's context is no longer in the project. The text is git's."""


def copy_project(copy: Path) -> Path:
    for folder in FOLDERS:
        shutil.copytree(PROJECT / folder, copy / folder, ignore=NOT_OURS)
    for file in FILES:
        shutil.copy(PROJECT / file, copy)
    return copy


def apply(diff: str, copy: Path, *options: str) -> None:
    """Apply a diff with these options of `git apply`. Raises DoesNotApply."""
    applied = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", *options, "-"],
        cwd=copy,
        input=diff,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if applied.returncode != 0:
        raise DoesNotApply(applied.stderr)
