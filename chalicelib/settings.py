"""The settings of a stage, from the environment. The README has the same table."""

from collections.abc import Mapping
from dataclasses import dataclass

SECONDS_PER_DAY = 24 * 60 * 60


class SettingsError(Exception):
    """A setting is missing or makes no sense; the text says which, and what would be right."""


@dataclass(frozen=True, slots=True)
class Settings:
    websockets_table: str
    messages_table: str
    messages_stream_arn: str
    message_retention_days: int

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Raises SettingsError."""
        messages_table = _required(environ, "MESSAGES_TABLE")
        return cls(
            websockets_table=_required(environ, "WEBSOCKETS_TABLE"),
            messages_table=messages_table,
            messages_stream_arn=environ.get("MESSAGES_STREAM_ARN") or _unknown_stream(messages_table),
            message_retention_days=_days(environ, "MESSAGE_RETENTION_DAYS", default=7),
        )

    @property
    def message_retention_seconds(self) -> int:
        return self.message_retention_days * SECONDS_PER_DAY


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise SettingsError(
            f"{name} is not set: name the table under the stage's environment_variables "
            "in .chalice/config.json"
        )
    return value


def _days(environ: Mapping[str, str], name: str, default: int) -> int:
    value = environ.get(name, str(default))
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= 3650:
        raise SettingsError(f"{name} must be a whole number of days from 1 to 3650")
    return int(value)


def _unknown_stream(messages_table: str) -> str:
    """Well formed, so that the app can be packaged, and of no account, so that it cannot be mistaken."""
    return f"arn:aws:dynamodb:us-east-1:000000000000:table/{messages_table}/stream/not-created-yet"
