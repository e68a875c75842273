"""Reads a stage's settings from the environment. docs/configuration.md documents them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from chalicelib.core.protocol import LARGEST_FRAME_BYTES

SECONDS_PER_DAY = 24 * 60 * 60
SECRET_BYTES = 32
"""The minimum length of an HS256 key (RFC 7518, 3.2)."""

KEYS = ("JWT_SECRET", "JWT_SECRET_NAME", "JWT_JWKS_URL")
FURTHER_JWT_SETTINGS = (
    "JWT_ALGORITHMS",
    "JWT_ISSUER",
    "JWT_AUDIENCE",
    "JWT_AUDIENCE_CLAIM",
    "JWT_PLAYER_CLAIM",
    "JWT_ROOMS_CLAIM",
)
REQUIRED_WITH_JWKS = {
    "JWT_ISSUER": "JWT_ISSUER, the iss of your players' tokens",
    "JWT_AUDIENCE": "JWT_AUDIENCE, their aud, or the value of the claim that JWT_AUDIENCE_CLAIM names "
    "(client_id in Cognito's access tokens)",
}
"""Required with JWT_JWKS_URL, because a provider signs other apps' and tenants' tokens with the same keys."""

SHARED_CLAIMS = ("iss", "aud", "exp", "nbf", "iat")
SECRET_ALGORITHMS = ("HS256",)
PUBLISHED_KEY_ALGORITHMS = ("RS256", "ES256")

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9.\[\]:_-]+")


class SettingsError(Exception):
    """Raised for a missing or invalid setting. The text names the setting and the valid values."""


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """How tokens are verified. Exactly one of `secret`, `secret_name` and `jwks_url` is set."""

    secret: str | None
    secret_name: str | None
    jwks_url: str | None
    algorithms: tuple[str, ...]
    issuer: str | None
    audience: str | None
    audience_claim: str
    player_claim: str
    rooms_claim: str


@dataclass(frozen=True, slots=True)
class Settings:
    """A stage's settings. Without authentication settings, `tokens` is None and `is_open` is False."""

    websockets_table: str
    messages_table: str
    messages_stream_arn: str
    message_retention_seconds: int
    max_message_bytes: int
    messages_per_second: int
    message_burst: int
    connections_per_player: int
    room_members: int
    room_messages_per_second: int
    max_room_message_bytes: int
    room_seconds: int
    is_open: bool
    tokens: TokenSettings | None
    allowed_origins: frozenset[str]

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Return the settings. Raises SettingsError."""
        messages_table = _required(environ, "MESSAGES_TABLE")
        is_open, tokens = authentication(environ)
        retention_days = _whole(environ, "MESSAGE_RETENTION_DAYS", 7, "days", 1, 3650)
        return cls(
            websockets_table=_required(environ, "WEBSOCKETS_TABLE"),
            messages_table=messages_table,
            messages_stream_arn=_get(environ, "MESSAGES_STREAM_ARN") or _unknown_stream(messages_table),
            message_retention_seconds=SECONDS_PER_DAY * retention_days,
            max_message_bytes=_whole(
                environ, "MAX_MESSAGE_BYTES", LARGEST_FRAME_BYTES, "bytes", 1024, LARGEST_FRAME_BYTES
            ),
            messages_per_second=_whole(environ, "MESSAGES_PER_SECOND", 20, "units", 1, 1000),
            message_burst=_whole(environ, "MESSAGE_BURST", 60, "units", 1, 10_000),
            connections_per_player=_whole(environ, "CONNECTIONS_PER_PLAYER", 10, "connections", 1, 100),
            room_members=_whole(environ, "ROOM_MEMBERS", 250, "members", 2, 1000),
            room_messages_per_second=_whole(environ, "ROOM_MESSAGES_PER_SECOND", 10, "messages", 1, 1000),
            max_room_message_bytes=_whole(
                environ, "MAX_ROOM_MESSAGE_BYTES", 8192, "bytes", 1024, LARGEST_FRAME_BYTES
            ),
            room_seconds=SECONDS_PER_DAY * _whole(environ, "ROOM_DAYS", retention_days, "days", 1, 3650),
            is_open=is_open,
            tokens=tokens,
            allowed_origins=_origins(environ),
        )

    @property
    def message_retention_days(self) -> int:
        return self.message_retention_seconds // SECONDS_PER_DAY

    @property
    def room_days(self) -> int:
        return self.room_seconds // SECONDS_PER_DAY


def _get(environ: Mapping[str, str], name: str) -> str | None:
    """Return a variable's value, or None if it is unset or empty."""
    return environ.get(name) or None


def _required(environ: Mapping[str, str], name: str) -> str:
    value = _get(environ, name)
    if value is None:
        raise SettingsError(
            f"{name} is not set: name the table under the stage's environment_variables "
            "in .chalice/config.json"
        )
    return value


def _whole(
    environ: Mapping[str, str], name: str, default: int, unit: str, smallest: int, largest: int
) -> int:
    value = _get(environ, name) or str(default)
    if not re.fullmatch("[0-9]{1,9}", value) or not smallest <= int(value) <= largest:
        raise SettingsError(f"{name} must be a whole number of {unit} from {smallest} to {largest}")
    return int(value)


def _unknown_stream(messages_table: str) -> str:
    """Return a placeholder ARN: valid, so that the app can be packaged, but of no real account."""
    return f"arn:aws:dynamodb:us-east-1:000000000000:table/{messages_table}/stream/not-created-yet"


def authentication(environ: Mapping[str, str]) -> tuple[bool, TokenSettings | None]:
    """Return whether the stage is open, and its token settings: `(False, None)` refuses every connection.

    Raises SettingsError.
    """
    mode = _get(environ, "AUTH_MODE")
    given = [name for name in (*KEYS, *FURTHER_JWT_SETTINGS) if _get(environ, name)]
    if mode not in (None, "jwt", "open"):
        raise SettingsError("AUTH_MODE must be jwt or open")
    if mode == "open" and given:
        raise SettingsError(f"AUTH_MODE=open contradicts {given[0]}: remove one")
    if mode == "jwt" or given:
        return False, _tokens(environ)
    return mode == "open", None


def _tokens(environ: Mapping[str, str]) -> TokenSettings:
    keys = [name for name in KEYS if _get(environ, name)]
    if not keys:
        raise SettingsError(f"AUTH_MODE=jwt needs one of {', '.join(KEYS)}")
    if len(keys) > 1:
        raise SettingsError(f"{keys[0]} contradicts {keys[1]}: remove one")
    secret, jwks_url = _get(environ, "JWT_SECRET"), _get(environ, "JWT_JWKS_URL")
    fault = None if secret is None else fault_of_secret(secret)
    if fault is not None:
        raise SettingsError(f"JWT_SECRET {fault}")
    if jwks_url is not None and not _is_safe(jwks_url):
        raise SettingsError("JWT_JWKS_URL must be an https URL")
    missing = [why for name, why in REQUIRED_WITH_JWKS.items() if not _get(environ, name)]
    if jwks_url is not None and missing:
        raise SettingsError(f"JWT_JWKS_URL needs {', and '.join(missing)}")
    if _get(environ, "JWT_AUDIENCE_CLAIM") and not _get(environ, "JWT_AUDIENCE"):
        raise SettingsError("JWT_AUDIENCE_CLAIM needs JWT_AUDIENCE, the value that the claim must have")
    return TokenSettings(
        secret=secret,
        secret_name=_get(environ, "JWT_SECRET_NAME"),
        jwks_url=jwks_url,
        algorithms=_algorithms(environ, keys[0]),
        issuer=_get(environ, "JWT_ISSUER"),
        audience=_get(environ, "JWT_AUDIENCE"),
        audience_claim=_get(environ, "JWT_AUDIENCE_CLAIM") or "aud",
        player_claim=_player_claim(environ),
        rooms_claim=_get(environ, "JWT_ROOMS_CLAIM") or "rooms",
    )


def fault_of_secret(secret: str) -> str | None:
    """Return what is wrong with a secret, phrased to follow its name, or None if it is valid.

    White space around a secret is an error. It isn't stripped, because the tokens' issuer might sign with it.
    """
    if secret != secret.strip():
        return "begins or ends with white space, such as a pasted line break: store it without"
    if len(secret.encode(errors="replace")) < SECRET_BYTES:
        return f"must have at least {SECRET_BYTES} bytes: generate one with openssl rand -hex 32"
    if any("\ud800" <= character <= "\udfff" for character in secret):
        return "must be UTF-8"
    return None


def _player_claim(environ: Mapping[str, str]) -> str:
    """Return the claim that holds the player id. Raises SettingsError for a claim that players share."""
    claim = _get(environ, "JWT_PLAYER_CLAIM") or "sub"
    if claim in (*SHARED_CLAIMS, _get(environ, "JWT_AUDIENCE_CLAIM")):
        raise SettingsError(f"JWT_PLAYER_CLAIM must be a claim that identifies the player, not {claim}")
    return claim


def _algorithms(environ: Mapping[str, str], key: str) -> tuple[str, ...]:
    """Return the accepted algorithms. Raises SettingsError.

    A secret and published keys never share an algorithm, so a public key can't be used as a secret.
    """
    possible = PUBLISHED_KEY_ALGORITHMS if key == "JWT_JWKS_URL" else SECRET_ALGORITHMS
    given = tuple(_listed(environ, "JWT_ALGORITHMS")) or possible[:1]
    if not set(given) <= set(possible):
        raise SettingsError(f"JWT_ALGORITHMS with {key} can only contain {', '.join(possible)}")
    return given


def _origins(environ: Mapping[str, str]) -> frozenset[str]:
    given = _get(environ, "ALLOWED_ORIGINS")
    origins = frozenset(_listed(environ, "ALLOWED_ORIGINS"))
    if (given is not None and not origins) or not all(_is_origin(origin) for origin in origins):
        raise SettingsError(
            "ALLOWED_ORIGINS must be a comma-separated list of origins as browsers send them: such as "
            "https://game.example, in lowercase, without a path and without the default port"
        )
    return origins


def _is_origin(text: str) -> bool:
    usual = re.fullmatch(r"https://.*:443|http://.*:80", text) is not None
    return _ORIGIN.fullmatch(text) is not None and not usual


def _listed(environ: Mapping[str, str], name: str) -> list[str]:
    return [part.strip() for part in (_get(environ, name) or "").split(",") if part.strip()]


def _is_safe(url: str) -> bool:
    """Return whether keys from the URL can be trusted: https, or http on the loopback interface."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if parts.scheme == "http":
        return parts.hostname in ("127.0.0.1", "localhost", "::1")
    return parts.scheme == "https" and bool(parts.hostname)
