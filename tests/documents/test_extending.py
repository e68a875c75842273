"""Each change in docs/extending.md applies and works, and its tests fail without its code."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.project_copy import PROJECT, DoesNotApply, apply, copy_project

TEXT = (PROJECT / "docs" / "extending.md").read_text(encoding="utf-8")
TESTS_OF_MODULES = [
    f"tests/{module}.py"
    for module in (
        "documents/test_architecture",
        "documents/test_documentation",
        "documents/test_specification",
        "integration/test_acceptance",
        "unit/test_bootstrap",
        "unit/test_messenger",
        "unit/test_protocol",
        "unit/test_push",
        "unit/test_settings",
    )
]
MAKE_SPECIFICATION = "sh -c '.venv/bin/python -m specification.asyncapi > docs/asyncapi.yaml'"


@dataclass(frozen=True, slots=True)
class Change:
    """A section with a diff and the command that runs the diff's new tests."""

    heading: str
    diff: str
    command: str

    @classmethod
    def read(cls, section: str) -> "Change":
        (diff,) = re.findall(r"^```diff\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        (command,) = re.findall(r"^    (\.venv/bin/pytest .*)$", section, re.MULTILINE)
        return cls(section.splitlines()[0], diff, command)

    def new_tests(self) -> set[str]:
        return set(re.findall(r"^\+def (test_\w+)", self.diff, re.MULTILINE))

    def failing_without_its_code(self) -> set[str]:
        """Return the new tests, or their module if it is new, because its imports fail."""
        modules = re.findall(r"^--- /dev/null\n\+\+\+ b/tests/(test_\w+)\.py$", self.diff, re.MULTILINE)
        return set(modules) or self.new_tests()

    def changed_modules(self) -> set[str]:
        return set(re.findall(r"^\+\+\+ b/(.*\.py)$", self.diff, re.MULTILINE))

    def apply_to(self, copy: Path, *options: str) -> None:
        try:
            apply(self.diff, copy, *options)
        except DoesNotApply as why:
            pytest.fail(
                f"docs/extending.md, section “{self.heading}”: its diff does not apply any more. Bring it up "
                f"to date, or take the section out if the change is made.\n{why}",
                pytrace=False,
            )


CHANGES = [Change.read(section) for section in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]]
CHANGED_MODULES = sorted(set().union(*(change.changed_modules() for change in CHANGES)))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the project with this virtual environment, so that the commands work as shown."""
    copy = copy_project(tmp_path / "copy")
    (copy / ".venv").symlink_to(sys.prefix)
    return copy


def run(command: str, copy: Path) -> str:
    """Run a command and return its output, with one line per test."""
    environ = os.environ | {"PYTEST_ADDOPTS": "-rA"}
    ran = subprocess.run(
        shlex.split(command), cwd=copy, env=environ, capture_output=True, text=True, encoding="utf-8"
    )
    return f"{ran.stdout}{ran.stderr}\nended with {ran.returncode}"


def succeeded(output: str) -> bool:
    return output.endswith("\nended with 0")


def passed(output: str) -> set[str]:
    return set(re.findall(r"^PASSED \S+::(test_\w+)", output, re.MULTILINE))


def failed(output: str) -> set[str]:
    """Return the failed tests, and the modules that could not be imported."""
    return set(re.findall(r"^(?:FAILED|ERROR) (?:\S+::|tests/)(test_\w+)", output, re.MULTILINE))


def test_every_change_applies(copy: Path) -> None:
    for change in CHANGES:
        change.apply_to(copy, "--check")


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.heading)
def test_a_change_works_as_it_is_shown(change: Change, copy: Path) -> None:
    change.apply_to(copy)
    run(MAKE_SPECIFICATION, copy)

    output = run(change.command, copy)

    assert succeeded(output), output
    assert passed(output) >= change.new_tests() != set(), output


@pytest.mark.slow
def test_the_new_tests_of_every_change_fail_without_its_code(copy: Path) -> None:
    for change in CHANGES:
        change.apply_to(copy, "--include=tests/*")
    new = " or ".join(test for change in CHANGES for test in change.new_tests())
    modules = " ".join(module for module in CHANGED_MODULES if module.startswith("tests/"))

    output = run(f".venv/bin/pytest --continue-on-collection-errors {modules} -k '{new}'", copy)

    assert passed(output) == set(), output
    for change in CHANGES:
        assert failed(output) >= change.failing_without_its_code(), f"{change.heading}\n{output}"


@pytest.mark.slow
def test_all_changes_together_keep_the_projects_own_rules(copy: Path, cache: pytest.Cache) -> None:
    """Keeps mypy's cache of the libraries, which takes longest to make."""
    for change in CHANGES:
        change.apply_to(copy)
    modules = " ".join(CHANGED_MODULES)

    for command in (
        MAKE_SPECIFICATION,
        f".venv/bin/ruff check {modules}",
        f".venv/bin/ruff format --check {modules}",
        f".venv/bin/mypy --cache-dir={cache.mkdir('mypy')} {modules}",
        f".venv/bin/pytest -rfE {' '.join(TESTS_OF_MODULES)}",
    ):
        output = run(command, copy)
        assert succeeded(output), output
