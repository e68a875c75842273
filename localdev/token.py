"""Makes a token for a player, signed with the JWT_SECRET of the shell: for development.

JWT_SECRET=… python -m localdev.token PLAYER
"""

import argparse
import os
import re
import sys
import time

import jwt

from chalicelib.protocol import PLAYER_ID
from chalicelib.settings import SettingsError, TokenSettings, authentication


def make(settings: TokenSettings, player: str, hours: float, now: float) -> str:
    """A token that the settings let in."""
    claims: dict[str, str | int] = {settings.player_claim: player, "exp": int(now + 3600 * hours)}
    if settings.issuer is not None:
        claims["iss"] = settings.issuer
    if settings.audience is not None:
        claims["aud"] = settings.audience
    return jwt.encode(claims, settings.secret or "", settings.algorithms[0])


def main() -> str | None:
    """What went wrong, if something did."""
    parser = argparse.ArgumentParser(prog="python -m localdev.token", description="Make a development token.")
    parser.add_argument("player", help="whose token it is")
    parser.add_argument("--hours", type=float, default=1, help="how long it is valid (1)")
    asked = parser.parse_args()
    if not 0 < asked.hours < 1e6:
        return "--hours must be a number of hours"
    if not re.fullmatch(PLAYER_ID, asked.player):
        return "a player id is 1 to 128 of A-Z a-z 0-9 . _ - @ | : +"
    if not os.environ.get("JWT_SECRET"):
        return "JWT_SECRET is not set: tokens are signed with the secret that the service checks them with"
    try:
        _, settings = authentication(os.environ)
    except SettingsError as wrong:
        return str(wrong)
    assert settings is not None
    print(make(settings, asked.player, asked.hours, time.time()))
    return None


if __name__ == "__main__":
    sys.exit(main())
