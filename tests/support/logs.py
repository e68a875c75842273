"""Everything that was logged while the tests ran, searched for what must never be logged."""

import logging
from collections.abc import Iterator

from chalicelib.aws.telemetry import lines
from tests.support.tokens import MADE

CANARY = "canary"
"""Every text and secret of the tests that might come out somewhere says this, or is a token that was made."""

PART_CHARACTERS = 40
"""A part of a token that is so long is nobody else's."""

_found: list[str] = []


def offending(text: str) -> list[str]:
    """The lines that hold a text or a token."""
    secrets = [part for token in MADE for part in token.split(".") if len(part) > PART_CHARACTERS]
    return [line for line in text.splitlines() if CANARY in line or any(part in line for part in secrets)]


def search(text: str) -> None:
    _found.extend(offending(text))


class Searching(logging.Handler):
    """A handler of the loggers that propagate, and a filter of the one that does not."""

    def emit(self, record: logging.LogRecord) -> None:
        search(record.getMessage())

    def filter(self, record: logging.LogRecord) -> bool:
        self.emit(record)
        return True


def watch() -> Iterator[None]:
    """Search whatever is logged in this process from now on, and fail in the end if anything was found."""
    handler = Searching()
    logging.getLogger().addHandler(handler)
    lines.addFilter(handler)
    yield
    assert not _found, _found[:5]
