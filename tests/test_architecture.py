"""Who may import whom."""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
USE_CASES = (
    "access",
    "delivery",
    "handshake",
    "message_id",
    "messenger",
    "ports",
    "protocol",
    "push",
    "rate_limit",
    "replay",
)
STANDARD_LIBRARY_OF_USE_CASES = {
    "collections",
    "contextlib",
    "dataclasses",
    "enum",
    "functools",
    "json",
    "re",
    "secrets",
    "threading",
    "time",
    "typing",
    "uuid",
}


def imported_by(path: Path) -> set[str]:
    """The modules that a file imports, by their full names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def shipped() -> list[Path]:
    return sorted((PROJECT / "chalicelib").glob("*.py"))


@pytest.mark.parametrize("name", USE_CASES)
def test_the_use_cases_and_the_protocol_know_no_aws_no_chalice_and_no_environment(name: str) -> None:
    path = PROJECT / "chalicelib" / f"{name}.py"
    known = {f"chalicelib.{use_case}" for use_case in USE_CASES}

    foreign = {
        module
        for module in imported_by(path) - known
        if module.partition(".")[0] not in STANDARD_LIBRARY_OF_USE_CASES | {"pydantic", "pydantic_core"}
    }

    assert foreign == set()


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_nothing_that_is_shipped_knows_of_what_is_not(path: Path) -> None:
    roots = {module.partition(".")[0] for module in imported_by(path)}

    assert not roots & {"localdev", "specification", "moto", "websockets", "h11", "yaml", "tests", "app"}


def test_imports_go_in_one_direction() -> None:
    imports = {
        path.stem: {m.removeprefix("chalicelib.") for m in imported_by(path) if m.startswith("chalicelib.")}
        for path in shipped()
    }
    settled: set[str] = set()
    while ready := {name for name in imports.keys() - settled if imports[name] <= settled}:
        settled |= ready

    assert settled == set(imports)


def test_boto3_is_known_to_one_module_a_service() -> None:
    users = {path.stem for path in shipped() if imported_by(path) & {"boto3", "botocore.config"}}

    assert users == {"dynamodb", "posting", "tokens"}
