"""What .chalice/config.json says about a stage, and what follows from it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parent.parent
APP = "serverless-websockets"
FUNCTIONS = ("websocket_connect", "websocket_message", "websocket_disconnect", "push_messages")

THROWAWAY = frozenset({"dev"})
"""Stages whose tables go when they are torn down. Those of every other stage are kept, whatever happens."""


class UnknownStage(Exception):
    """The configuration does not name it; the text says which stages there are."""


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    websockets_table: str
    messages_table: str

    @classmethod
    def of(cls, name: str, project: Path = PROJECT) -> "Stage":
        """Raises UnknownStage."""
        stages: dict[str, Any] = json.loads((project / ".chalice" / "config.json").read_text())["stages"]
        if name not in stages:
            raise UnknownStage(
                f"there is no stage {name} in .chalice/config.json: there are {', '.join(stages)}"
            )
        environment = stages[name]["environment_variables"]
        return cls(name, environment["WEBSOCKETS_TABLE"], environment["MESSAGES_TABLE"])

    @property
    def is_throwaway(self) -> bool:
        return self.name in THROWAWAY

    @property
    def tables_stack(self) -> str:
        return f"{APP}-{self.name}-tables"

    @property
    def failed_batches_queue(self) -> str:
        return f"{APP}-{self.name}-failed-batches"

    def function_name(self, function: str) -> str:
        """As Chalice calls it on AWS."""
        return f"{APP}-{self.name}-{function}"
