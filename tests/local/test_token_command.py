"""The command that makes development tokens: they are accepted, and errors are one line."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chalicelib.aws.tokens import LEEWAY_SECONDS, tokens_of
from chalicelib.settings import Settings
from localdev.token import main
from tests.support.tokens import SECRET, made

PROJECT = Path(__file__).parent.parent.parent
HOURS = "--hours must be a number from 0.001 to 1000000"
TABLES = {"WEBSOCKETS_TABLE": "w", "MESSAGES_TABLE": "m"}


def complaint(*arguments: str, **environ: str) -> str:
    """Return the error that it exits with. A shell sees exit code 1."""
    with pytest.raises(SystemExit) as ended:
        main(arguments, {"JWT_SECRET": SECRET} | environ)
    assert isinstance(ended.value.code, str)
    return ended.value.code


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"JWT_ISSUER": "https://issuer.example", "JWT_AUDIENCE": "game"},
        {"JWT_AUDIENCE": "game", "JWT_AUDIENCE_CLAIM": "client_id", "JWT_PLAYER_CLAIM": "username"},
    ],
)
def test_its_token_is_accepted_for_the_given_time(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"JWT_SECRET": SECRET} | environ

    main(["first.o'last@example.com", "--hours", "0.5"], environ)

    tokens = Settings.from_environment(TABLES | environ).tokens
    assert tokens is not None
    identity = tokens_of(tokens).identify(made(capsys.readouterr().out.strip()))
    assert identity.player_id == "first.o'last@example.com"
    assert identity.expires_at is not None
    assert abs(identity.expires_at - LEEWAY_SECONDS - time.time() - 1800) < 60


@pytest.mark.parametrize(
    "hours", ["inf", "-inf", "nan", "0", "-1", "-1e3", "1e-9", "1000001", "1e400", "many", "", "1h", "½"]
)
def test_invalid_hours_are_reported(hours: str) -> None:
    assert complaint("1", f"--hours={hours}") == f"{HOURS}, not {hours!r}"


@pytest.mark.parametrize("player", ["", "a b", "a#b", "a\n", "\u0430nn", "\udcff", "a" * 129])
def test_an_invalid_player_id_is_reported(player: str) -> None:
    assert complaint(player).startswith("a player id must be a string of 1 to 128 of A-Z a-z 0-9")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: player"),
        (["1", "2"], "unrecognized arguments: 2"),
        (["1", "--days", "1"], "unrecognized arguments: --days 1"),
        (["1", "--hours"], "argument --hours: expected one argument"),
        (["1", "--hours", "-inf"], "argument --hours: expected one argument"),
    ],
)
def test_missing_or_unknown_arguments_are_reported(arguments: list[str], said: str) -> None:
    assert complaint(*arguments) == said


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"JWT_SECRET": ""}, "JWT_SECRET is not set: "),
        ({"JWT_SECRET": "short"}, "JWT_SECRET must have at least 32 bytes: "),
        ({"JWT_SECRET": f"{SECRET}\n"}, "JWT_SECRET begins or ends with white space"),
        ({"JWT_SECRET": f"{SECRET}\udcff"}, "JWT_SECRET must be UTF-8"),
        ({"JWT_SECRET_NAME": "/s"}, "JWT_SECRET contradicts JWT_SECRET_NAME: "),
        ({"JWT_JWKS_URL": "https://issuer.example"}, "JWT_SECRET contradicts JWT_JWKS_URL: "),
        ({"AUTH_MODE": "open"}, "AUTH_MODE=open contradicts JWT_SECRET: "),
        ({"JWT_ALGORITHMS": "RS256"}, "JWT_ALGORITHMS with JWT_SECRET can only contain HS256"),
        ({"JWT_PLAYER_CLAIM": "exp"}, "JWT_PLAYER_CLAIM must be a claim that identifies the player"),
    ],
)
def test_wrong_settings_are_reported(environ: dict[str, str], said: str) -> None:
    assert complaint("1", **environ).startswith(said)


def test_an_error_is_one_line_on_standard_error_and_an_exit_code() -> None:
    environ = os.environ | {"JWT_SECRET": SECRET}

    ended = subprocess.run(
        [sys.executable, "-m", "localdev.token", "1", "--hours", "inf"],
        cwd=PROJECT,
        env=environ,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"{HOURS}, not 'inf'\n"
