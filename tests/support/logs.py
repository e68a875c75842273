"""Searches all log lines of a test run for texts and tokens that must never be logged."""

import logging
from collections.abc import Iterator

from chalicelib.aws.telemetry import lines
from tests.support.tokens import MADE

CANARY = "canary"
"""All message texts and secrets of the tests contain this word, except tokens."""

PART_CHARACTERS = 40
"""Parts of tokens longer than this are unique."""

_found: list[str] = []


def offending(text: str) -> list[str]:
    """Return the lines with a message text or part of a token."""
    secrets = [part for token in MADE for part in token.split(".") if len(part) > PART_CHARACTERS]
    return [line for line in text.splitlines() if CANARY in line or any(part in line for part in secrets)]


def search(text: str) -> None:
    _found.extend(offending(text))


class Searching(logging.Handler):
    """A handler for loggers that propagate, and a filter for the one that does not."""

    def emit(self, record: logging.LogRecord) -> None:
        search(record.getMessage())

    def filter(self, record: logging.LogRecord) -> bool:
        self.emit(record)
        return True


def watch() -> Iterator[None]:
    """Search all later log lines of this process, and fail at the end if a secret was found."""
    handler = Searching()
    logging.getLogger().addHandler(handler)
    lines.addFilter(handler)
    yield
    assert not _found, _found[:5]
