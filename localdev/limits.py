"""Defines API Gateway's quotas for WebSocket APIs. A lower value lets a test reach one quickly."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


class LimitError(Exception):
    """A limit isn't a positive number. The text names the variable."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The quotas. Each name ends with its unit."""

    frame_bytes: int = 32 * 1024
    message_bytes: int = 128 * 1024
    idle_seconds: float = 600.0
    lifetime_seconds: float = 7200.0
    integration_seconds: float = 29.0
    url_characters: int = 4096
    client_buffer_bytes: int = 4 * 1024 * 1024
    """The unsent bytes per client above which a post gets 429. AWS documents no number."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Limits":
        """Read each limit from the variable WEBSOCKET_<NAME>, if it is set. Raises LimitError."""
        given: dict[str, Any] = {}
        for limit in fields(cls):
            variable = f"WEBSOCKET_{limit.name.upper()}"
            if variable in environ:
                given[limit.name] = _positive(variable, environ[variable], type(limit.default))
        return cls(**given)


def _positive(variable: str, text: str, kind: Any) -> Any:
    try:
        number = kind(text)
    except ValueError:
        number = 0
    if not number > 0:
        raise LimitError(f"{variable} must be a positive number, not {text!r}")
    return number
