"""Which modules import which."""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent
SHIPPED = sorted((PROJECT / "chalicelib").rglob("*.py"))
IO = {"boto3", "botocore", "chalice", "os", "socket", "urllib3"}
TEST_CODE = sorted((PROJECT / "tests").rglob("*.py"))
NOT_SHIPPED = {
    "app",
    "clients",
    "deployment",
    "h11",
    "localdev",
    "measure",
    "moto",
    "specification",
    "tests",
} | {
    "websockets",
    "yaml",
}


def imported_by(path: Path) -> set[str]:
    """Return the modules that a file imports, by their full names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts)


@pytest.mark.parametrize("path", SHIPPED, ids=name_of)
def test_the_core_does_no_io_and_shipped_code_imports_only_shipped_code(path: Path) -> None:
    modules = imported_by(path)
    roots = {module.partition(".")[0] for module in modules}

    assert not roots & NOT_SHIPPED
    if path.parent.name == "core":
        assert not roots & IO
        assert [
            m for m in modules if m.startswith("chalicelib") and not m.startswith("chalicelib.core.")
        ] == []


def test_imports_go_in_one_direction() -> None:
    modules = {name_of(path) for path in SHIPPED}
    imports = {name_of(path): imported_by(path) & modules for path in SHIPPED}
    settled: set[str] = set()
    while ready := {name for name in imports.keys() - settled if imports[name] <= settled}:
        settled |= ready

    assert settled == set(imports)


def test_one_module_per_aws_service_imports_boto3() -> None:
    users = {path.stem for path in SHIPPED if imported_by(path) & {"boto3", "botocore.config"}}

    assert users == {"dynamodb", "management_api", "tokens"}


@pytest.mark.parametrize("path", TEST_CODE, ids=name_of)
def test_no_test_module_is_imported_by_another_module(path: Path) -> None:
    assert [name for name in imported_by(path) if ".test_" in name] == []
