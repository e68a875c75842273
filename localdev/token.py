"""Creates a development token for a player, signed with the environment's JWT_SECRET.

JWT_SECRET=… python -m localdev.token PLAYER
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NoReturn

import jwt

from chalicelib.core.protocol import ID_CHARACTERS_IN_WORDS, PLAYER_ID
from chalicelib.settings import SettingsError, TokenSettings, authentication

LEAST_HOURS = 0.001
MOST_HOURS = 1_000_000


class CommandLine(argparse.ArgumentParser):
    """Reports an error in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        sys.exit(message)


def make(settings: TokenSettings, player: str, hours: float, now: float) -> str:
    """Return a token that a service with these settings accepts for `hours`. `now` is in epoch seconds."""
    claims: dict[str, str | int] = {settings.player_claim: player, "exp": int(now + 3600 * hours)}
    if settings.issuer is not None:
        claims["iss"] = settings.issuer
    if settings.audience is not None:
        claims[settings.audience_claim] = settings.audience
    return jwt.encode(claims, settings.secret or "", settings.algorithms[0])


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Print a token. Raises SystemExit with an error message in one line."""
    parser = CommandLine(prog="python -m localdev.token", description="Create a development token.")
    parser.add_argument("player", help="id of the player")
    parser.add_argument("--hours", default="1", help="hours until it expires (default: 1)")
    asked = parser.parse_args(arguments)
    hours = _hours(asked.hours)
    if not re.fullmatch(PLAYER_ID, asked.player):
        sys.exit(f"a player id must be a string of 1 to 128 of {ID_CHARACTERS_IN_WORDS}")
    if not environ.get("JWT_SECRET"):
        sys.exit("JWT_SECRET is not set: set it to the secret with which the service verifies tokens")
    try:
        _, settings = authentication(environ)
    except SettingsError as wrong:
        sys.exit(str(wrong))
    assert settings is not None
    print(make(settings, asked.player, hours, time.time()))


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not LEAST_HOURS <= hours <= MOST_HOURS:
        sys.exit(f"--hours must be a number from {LEAST_HOURS} to {MOST_HOURS}, not {text!r}")
    return hours


if __name__ == "__main__":
    main(sys.argv[1:], os.environ)
