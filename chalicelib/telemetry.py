"""One line of JSON for each step that happens, on standard output, where Lambda's log is."""

import json
import logging
import sys

steps = logging.getLogger("chalicelib.steps")
"""Whoever shows the steps in another way adds a handler of its own: a record's `ids` has what it is about."""


class JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        ids: dict[str, str | int] = getattr(record, "ids", {})
        return json.dumps({"step": record.getMessage(), **ids})


def log_steps() -> None:
    """Write steps to standard output, unless they are being shown already."""
    steps.setLevel(logging.INFO)
    steps.propagate = False
    if not steps.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(JsonLine())
        steps.addHandler(handler)


def note(step: str, /, **ids: str | int) -> None:
    steps.info(step, extra={"ids": ids})
