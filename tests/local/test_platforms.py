"""Chalice's commands work on Windows, and the documented Python version is the tested one."""

import ast
import re
from collections.abc import Iterator

import yaml

from chalicelib.core.protocol import VERSION
from deployment.stage import PYTHONS
from tests.support.chalice_process import PROJECT

POSIX_ONLY = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}
IMPORTED = (
    PROJECT / "app.py",
    *(f for d in ("chalicelib", "localdev", "deployment", "clients") for f in (PROJECT / d).rglob("*.py")),
)


def imports_of(node: ast.AST) -> Iterator[str]:
    """Return the modules imported outside `try`. Those inside can be missing."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (name.name.partition(".")[0] for name in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield (child.module or "").partition(".")[0]
        elif not isinstance(child, ast.Try):
            yield from imports_of(child)


def test_no_module_imports_one_that_windows_lacks() -> None:
    for path in IMPORTED:
        needed = set(imports_of(ast.parse(path.read_text(encoding="utf-8"))))
        assert not needed & POSIX_ONLY, path


def test_the_project_states_its_version_and_the_oldest_python_that_lambda_and_the_checks_have() -> None:
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    project = dict(re.findall(r'^(version|requires-python) = "(.*?)"', text, re.MULTILINE))
    workflow = yaml.safe_load((PROJECT / ".github" / "workflows" / "check.yml").read_text(encoding="utf-8"))
    checked = workflow["jobs"]["check"]["strategy"]["matrix"]["python"]

    assert project["version"] == VERSION
    assert project["requires-python"] == f">={'.'.join(map(str, PYTHONS[0]))}" == f">={min(checked)}"
