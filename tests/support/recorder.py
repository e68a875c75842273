"""Matches frames with the messages of docs/asyncapi.yaml, and records which were seen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match

from chalicelib.core.parsing import parse_object
from chalicelib.core.protocol import FrameError

PATH = Path(__file__).parent.parent.parent / "docs" / "asyncapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
MESSAGES: dict[str, dict[str, Any]] = DOCUMENT["components"]["messages"]


def _received_by_the_service() -> set[str]:
    operations = [each for each in DOCUMENT["operations"].values() if each["action"] == "receive"]
    return {reference["$ref"].rpartition("/")[2] for each in operations for reference in each["messages"]}


FROM_CLIENT = {name: Draft7Validator(MESSAGES[name]["payload"]) for name in _received_by_the_service()}
TO_CLIENT = {
    name: Draft7Validator(message["payload"] | {"additionalProperties": False})
    for name, message in MESSAGES.items()
    if name not in FROM_CLIENT
}
"""Clients ignore unknown keys, but the service must not send any."""


class Recorder:
    """Checks that each frame matches exactly one described message, and malformed ones match none."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def sent(self, text: str) -> str:
        return self._record(text, FROM_CLIENT)

    def received(self, text: str) -> str:
        return self._record(text, TO_CLIENT)

    def sent_malformed(self, text: str) -> None:
        described = [name for name, why in _differences(text, FROM_CLIENT).items() if why is None]
        assert not described, f"described, as {described[0]}, and yet sent as malformed: {text[:300]}"

    def _record(self, text: str, messages: Mapping[str, Draft7Validator]) -> str:
        differences = _differences(text, messages)
        names = [name for name, why in differences.items() if why is None]
        assert names, f"no described message: {text[:300]}\n" + "\n".join(
            f"  not {name}: {why}" for name, why in sorted(differences.items())
        )
        assert len(names) == 1, f"more than one described message, {names}: {text[:300]}"
        self.seen.add(names[0])
        return names[0]


def _differences(text: str, messages: Mapping[str, Draft7Validator]) -> dict[str, str | None]:
    """Return, per message, why the frame does not match it, or None if it does."""
    try:
        frame = parse_object(text)
    except FrameError as none:
        return dict.fromkeys(messages, none.detail)
    errors = {name: best_match(message.iter_errors(frame)) for name, message in messages.items()}
    return {name: error and error.message for name, error in errors.items()}
