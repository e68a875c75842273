"""The event source mapping from the Messages table's stream to `push_messages`.

Lambda refuses to change or delete a mapping while its state is Creating, Updating, Enabling, Disabling or
Deleting, and sometimes for a moment longer. So each change waits for the mapping to settle, and retries.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from deployment.stage import CannotDeploy

SETTLE_SECONDS = 180
POLL_SECONDS = 5
SETTLED = frozenset({"Enabled", "Disabled"})


class MappingBusy(CannotDeploy):
    """The mapping did not settle within SETTLE_SECONDS."""


@dataclass(frozen=True, slots=True)
class Mappings:
    """Reads and changes Lambda's event source mappings. `clock` and `sleep` use seconds."""

    client: Any
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def of_function(self, name: str) -> list[dict[str, Any]]:
        """Return every mapping of a function, or an empty list if the function doesn't exist."""
        pages = self.client.get_paginator("list_event_source_mappings").paginate(FunctionName=name)
        try:
            return [mapping for page in pages for mapping in page["EventSourceMappings"]]
        except self.client.exceptions.ResourceNotFoundException:
            return []

    def settled(self, uuid: str) -> dict[str, Any] | None:
        """Wait until the mapping can be changed, and return it, or None if it has been deleted.

        Raises MappingBusy.
        """
        return self._when_settled(uuid, lambda mapping: mapping)

    def set(self, uuid: str, wanted: Mapping[str, Any]) -> bool:
        """Update the settings that differ from `wanted`. Return whether any did. Raises MappingBusy."""

        def update(mapping: dict[str, Any]) -> dict[str, Any]:
            different = {
                name: value for name, value in wanted.items() if not _matches(mapping.get(name), value)
            }
            if different:
                self.client.update_event_source_mapping(UUID=uuid, **different)
            return different

        return bool(self._when_settled(uuid, update))

    def delete(self, uuid: str) -> None:
        """Delete the mapping, and wait until Lambda no longer lists it. Raises MappingBusy."""
        self._when_settled(uuid, lambda mapping: self.client.delete_event_source_mapping(UUID=uuid))
        self._when_settled(uuid, lambda mapping: None, settled=frozenset())

    def _when_settled(
        self,
        uuid: str,
        act: Callable[[dict[str, Any]], dict[str, Any] | None],
        settled: frozenset[str] = SETTLED,
    ) -> dict[str, Any] | None:
        """Call `act` once the state is in `settled`, and return its result, or None if there's no mapping.

        Raises MappingBusy.
        """
        deadline = self.clock() + SETTLE_SECONDS
        while True:
            try:
                mapping = self.client.get_event_source_mapping(UUID=uuid)
                if mapping["State"] in settled:
                    return act(mapping)
            except ClientError as failure:
                code = failure.response["Error"]["Code"]
                if code == "ResourceNotFoundException":
                    return None
                if code != "ResourceInUseException":
                    raise
            if self.clock() >= deadline:
                raise MappingBusy(
                    f"the event source mapping {uuid} was still {mapping['State']} after {SETTLE_SECONDS} s: "
                    "run the same command again"
                )
            self.say(f"Waiting for the event source mapping, which is {mapping['State']}")
            self.sleep(POLL_SECONDS)


def _matches(actual: Any, wanted: Any) -> bool:
    """Return whether a setting has the wanted value. Lambda can add keys and reformat JSON patterns."""
    if isinstance(wanted, dict):
        return isinstance(actual, dict) and all(_matches(actual.get(key), wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return isinstance(actual, list) and len(actual) == len(wanted) and all(map(_matches, actual, wanted))
    if isinstance(wanted, str) and wanted.startswith("{") and isinstance(actual, str):
        return bool(json.loads(actual) == json.loads(wanted))
    return bool(actual == wanted)
