"""Text files and pipes are read and written as UTF-8 in every locale."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent
FOLDERS = ("chalicelib", "clients", "deployment", "localdev", "measure", "specification", "tests")
SOURCES = [PROJECT / "app.py", *(path for folder in FOLDERS for path in (PROJECT / folder).rglob("*.py"))]


def calls_without_encoding(source: str) -> Iterator[int]:
    """Yield the line of each call that would use the locale's encoding."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            named = {keyword.arg: keyword.value for keyword in node.keywords}
            if "encoding" not in named and _is_text(node, named):
                yield node.lineno


def _is_text(call: ast.Call, named: dict[str | None, ast.expr]) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name in ("read_text", "write_text"):
        return True
    if name == "open" and isinstance(call.func, ast.Name):
        mode = named.get("mode", call.args[1] if len(call.args) > 1 else ast.Constant("r"))
        return "b" not in ast.literal_eval(mode)
    return "text" in named and name in ("run", "Popen", "check_output")


@pytest.mark.parametrize(
    "call",
    ["path.read_text()", "path.write_text(text)", "open(path)", "open(path, 'w')", "run(a, text=True)"],
)
def test_a_call_without_an_encoding_is_found(call: str) -> None:
    assert list(calls_without_encoding(call)) == [1]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_text_is_read_and_written_with_a_named_encoding(path: Path) -> None:
    assert list(calls_without_encoding(path.read_text(encoding="utf-8"))) == []
