"""The search of the logs finds message texts and tokens."""

import logging

import pytest

from chalicelib.aws.telemetry import log_lines, note
from tests.support import logs
from tests.support.tokens import token


def test_a_line_with_a_message_text_or_part_of_a_token_is_found() -> None:
    signature = token(sub="somebody").rpartition(".")[2]

    assert logs.offending(f"well\nand canary\nwith {signature} in it") == [
        "and canary",
        f"with {signature} in it",
    ]


@pytest.mark.parametrize("speak", [lambda text: note("step", about=text), logging.getLogger("x").warning])
def test_all_log_lines_are_searched(speak: object, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    monkeypatch.setattr(logs, "search", found.append)
    log_lines()

    assert callable(speak)
    speak("a text")

    assert any("a text" in line for line in found)
