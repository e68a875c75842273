"""API Gateway's quotas for WebSocket APIs. Each can be set lower, so that nobody has to wait to meet one."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


class LimitError(Exception):
    """A limit was set to what is no positive number; the text names the variable."""


@dataclass(frozen=True, slots=True)
class Limits:
    """In the unit that each name ends with."""

    frame_bytes: int = 32 * 1024
    message_bytes: int = 128 * 1024
    idle_seconds: float = 600.0
    lifetime_seconds: float = 7200.0
    integration_seconds: float = 29.0
    url_characters: int = 4096
    client_buffer_bytes: int = 4 * 1024 * 1024
    """What may wait to be sent to one client before a post gets 429: AWS names no number for it."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Limits":
        """Each limit by the variable WEBSOCKET_<NAME>. Raises LimitError."""
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
