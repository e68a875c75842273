"""The documents agree with the code."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

from chalicelib.aws.telemetry import BATCH_UNITS, METRICS_BY_OUTCOME, UNITS
from chalicelib.core.client_frames import ACTIONS
from chalicelib.core.handshake import CLIENT_DATA_BYTES, CLIENT_DATA_PAIRS
from chalicelib.core.parsing import parse_frame, parse_object
from chalicelib.core.protocol import LARGEST_FRAME_BYTES, RETRYABLE, VERSION
from chalicelib.core.replay import OVERLAP_MS
from chalicelib.settings import SECRET_BYTES, Settings
from localdev.limits import Limits
from localdev.local_aws import DYNAMODB_PORT, WEBSOCKET_PORT
from tests.support.bad_input import CONNECTS, FRAMES, RECORDS
from tests.support.documents import table

PROJECT = Path(__file__).parent.parent.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")
TELEMETRY = (PROJECT / "docs" / "telemetry.md").read_text(encoding="utf-8")
PROTOCOL = (PROJECT / "docs" / "protocol.md").read_text(encoding="utf-8")
CONFIGURATION = (PROJECT / "docs" / "configuration.md").read_text(encoding="utf-8")
CONTRIBUTING = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
DESIGN = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
GUARANTEES = (PROJECT / "docs" / "guarantees.md").read_text(encoding="utf-8")
SECURITY = (PROJECT / "docs" / "security.md").read_text(encoding="utf-8")


def test_the_error_codes_are_those_that_can_happen() -> None:
    documented = table(PROTOCOL, "| error code")
    assert {code: cells[-1].startswith("true") for code, cells in documented.items()} == RETRYABLE


def test_the_actions_are_those_there_are() -> None:
    assert set(table(README, "| you send")) == set(ACTIONS)


def test_the_limits_of_the_protocol_are_those_enforced() -> None:
    assert f"at most {CLIENT_DATA_PAIRS} pairs, {CLIENT_DATA_BYTES:,} bytes" in PROTOCOL
    assert f"over {LARGEST_FRAME_BYTES:,} bytes" in PROTOCOL


def test_the_settings_of_the_local_aws_are_those_there_are() -> None:
    documented = {
        name: cells[0] for name, cells in table(CONFIGURATION, "## Settings of the local AWS").items()
    }
    limits = {f"WEBSOCKET_{f.name.upper()}": str(int(getattr(Limits(), f.name))) for f in fields(Limits)}
    ports = {"WEBSOCKET_PORT": str(WEBSOCKET_PORT), "DYNAMODB_PORT": str(DYNAMODB_PORT)}

    others = {
        "AWS_ENDPOINT_URL_DYNAMODB": "the embedded one",
        "KEEP_TABLES": "yes",
        "TELEMETRY_FILE": "none",
    }
    assert documented == limits | ports | others


def test_the_settings_of_a_stage_are_those_there_are_and_have_these_defaults() -> None:
    documented = table(CONFIGURATION, "## Settings of a stage")
    read: set[str] = set()

    class Environment(Mapping[str, str]):
        """Records the names that were read."""

        def __getitem__(self, name: str) -> str:
            read.add(name)
            return {"WEBSOCKETS_TABLE": "w", "MESSAGES_TABLE": "m", "JWT_SECRET": "s" * SECRET_BYTES}[name]

        def __iter__(self) -> Iterator[str]:
            raise AssertionError("settings are asked for by name")

        def __len__(self) -> int:
            return 2

    settings = Settings.from_environment(Environment())

    assert set(documented) == read | {"AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"}
    for name, field in ((name, name.lower()) for name in documented):
        if isinstance(getattr(settings, field, None), int):
            assert documented[name][0] == str(getattr(settings, field)), name
    assert settings.tokens is not None
    assert documented["JWT_AUDIENCE_CLAIM"][0] == settings.tokens.audience_claim
    assert documented["JWT_PLAYER_CLAIM"][0] == settings.tokens.player_claim
    assert documented["JWT_ROOMS_CLAIM"][0] == settings.tokens.rooms_claim


def test_the_metrics_and_the_outcomes_are_those_there_are() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (PROJECT / "chalicelib").rglob("*.py"))
    source += (PROJECT / "app.py").read_text(encoding="utf-8")
    noted = set(re.findall(r'\b_?note\(\s*"(\w+)"', source))
    one_of_two = {"stored", "duplicate", "gone", "closed"}

    assert set(table(TELEMETRY, "| outcome")) == noted | one_of_two
    assert set(table(TELEMETRY, "| metric")) == {*METRICS_BY_OUTCOME.values(), *UNITS, *BATCH_UNITS}


def test_the_layout_names_every_module_that_is_shipped_and_nothing_that_is_not_there() -> None:
    places = set(table(DESIGN, "## Layout"))

    assert {str(path.relative_to(PROJECT)) for path in (PROJECT / "chalicelib").rglob("[!_]*.py")} <= places
    assert [place for place in places if not (PROJECT / place).exists()] == []


def test_the_plain_commands_of_the_tests_are_those_of_make() -> None:
    making = subprocess.run(
        ["make", "--dry-run", "test"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    ).stdout.splitlines()
    documented = [line.strip() for line in CONTRIBUTING.splitlines() if line.startswith("    .venv/bin/")]

    tools = tuple(f".venv/bin/{tool}" for tool in ("ruff", "mypy", "pytest"))
    checks = [line for line in making if line.startswith(tools)]
    assert checks
    assert set(checks) <= set(documented)


def test_the_frames_of_the_readme_can_be_sent() -> None:
    frames = re.findall(r'^    (\{"action".*\})$', README + PROTOCOL, re.MULTILINE)

    actions = [parse_frame(parse_object(frame)).action for frame in frames]
    assert actions == [
        *("sendmessage", "sendmessage", "ping", "sync"),
        *("join", "sendmessage", "members", "leave", "signal", "presence"),
    ]


def test_the_number_of_bugs_that_must_be_found_is_right() -> None:
    patches = list((PROJECT / "tests" / "mutants").glob("*.patch"))

    assert f"{len(patches)} small bugs" in GUARANTEES


def test_the_number_of_kinds_of_bad_input_is_right() -> None:
    rows = len(CONNECTS) + len(FRAMES) + len(RECORDS)

    assert f"some {rows // 10 * 10} kinds of bad" in SECURITY


def test_the_overlap_covers_the_message_functions_time_out() -> None:
    stages = json.loads((PROJECT / ".chalice" / "config.json").read_text(encoding="utf-8"))["stages"]

    for stage in stages.values():
        seconds = stage["lambda_functions"]["websocket_message"]["lambda_timeout"]
        assert 1000 * seconds < OVERLAP_MS


def test_the_version_is_the_one_that_the_changelog_and_the_readme_say() -> None:
    latest = re.findall(
        r"^## (\S+) - \d{4}-\d\d-\d\d$", (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )[0]

    assert latest == VERSION
    assert f"This is {VERSION}." in README


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
            elsewhere = target.startswith(("https://", "../../actions/"))  # The latter are pages of GitHub.
            assert elsewhere or (document.parent / target).exists(), (document, target)


def test_stage_dev_is_deployed_under_the_api_stage_dev() -> None:
    config = json.loads((PROJECT / ".chalice" / "config.json").read_text(encoding="utf-8"))

    assert config["stages"]["dev"]["api_gateway_stage"] == "dev"


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= 160
