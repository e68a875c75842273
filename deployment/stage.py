"""Reads a stage from .chalice/config.json, and derives the names of its resources."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parent.parent
APP = "serverless-websockets"
FUNCTIONS = ("websocket_connect", "websocket_message", "websocket_disconnect", "push_messages")

THROWAWAY = frozenset({"dev"})
"""Stages whose tables `make destroy` deletes. The tables of every other stage are always kept."""

PYTHONS = ((3, 10), (3, 14))
"""The oldest and newest Python that Lambda and Chalice support. Chalice deploys for the Python it runs on."""


class CannotDeploy(Exception):
    """A deployment cannot proceed. The text says why, and how to fix it."""


class UnknownStage(CannotDeploy):
    """The configuration lacks the stage or the names of its tables."""


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> None:
    """Raise CannotDeploy for a Python version that Lambda doesn't support."""
    first, last = PYTHONS
    if not first <= version <= last:
        raise CannotDeploy(
            f"Lambda does not support Python {version[0]}.{version[1]}: recreate .venv with Python "
            f"{first[0]}.{first[1]} to {last[0]}.{last[1]} (make clean, then PYTHON=python3.12)"
        )


def _config(project: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((project / ".chalice" / "config.json").read_text(encoding="utf-8"))
    return config


def stage_names(project: Path = PROJECT) -> list[str]:
    """Return the names of all stages of the project."""
    return list(_config(project)["stages"])


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of .chalice/config.json. `secret_name` is the parameter that has its JWT secret, if any."""

    name: str
    websockets_table: str
    messages_table: str
    api_gateway_stage: str = "api"
    alarm_topic_arn: str | None = None
    architecture: str = "x86_64"
    has_tracing: bool = False
    secret_name: str | None = None
    project: Path = PROJECT

    @classmethod
    def of(cls, name: str, project: Path = PROJECT) -> "Stage":
        """Read a stage of the project. Raises UnknownStage."""
        config = _config(project)
        stages = config["stages"]
        if name not in stages:
            raise UnknownStage(
                f"there is no stage {name} in .chalice/config.json; its stages are {', '.join(stages)}"
            )
        settings = {**config, **stages[name]}
        environment = settings.get("environment_variables", {})
        for table in ("WEBSOCKETS_TABLE", "MESSAGES_TABLE"):
            if not environment.get(table):
                raise UnknownStage(
                    f"stage {name} lacks {table} under environment_variables in .chalice/config.json"
                )
        return cls(
            name,
            environment["WEBSOCKETS_TABLE"],
            environment["MESSAGES_TABLE"],
            api_gateway_stage=settings.get("api_gateway_stage", "api"),
            alarm_topic_arn=settings.get("alarm_topic_arn"),
            architecture=settings.get("lambda_architecture", "x86_64"),
            has_tracing=settings.get("xray", False),
            secret_name=environment.get("JWT_SECRET_NAME"),
            project=project,
        )

    @property
    def is_throwaway(self) -> bool:
        return self.name in THROWAWAY

    @property
    def machine(self) -> str:
        """The architecture as the file names of wheels spell it."""
        return "aarch64" if self.architecture == "arm64" else self.architecture

    @property
    def tables_stack(self) -> str:
        return f"{APP}-{self.name}-tables"

    @property
    def failed_batches_queue(self) -> str:
        return f"{APP}-{self.name}-failed-batches"

    @property
    def api_name(self) -> str:
        """The name that Chalice gives the WebSocket API."""
        return f"{APP}-{self.name}-websocket-api"

    @property
    def notes_path(self) -> Path:
        """The path of Chalice's notes of its deployed resources."""
        return self.project / ".chalice" / "deployed" / f"{self.name}.json"

    def function_name(self, function: str) -> str:
        """Return the name that Chalice gives a function on AWS, and the function's role."""
        return f"{APP}-{self.name}-{function}"
