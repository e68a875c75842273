"""Parses and validates clients' frames, as strict JSON."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from chalicelib.core.client_frames import ACTIONS, Action
from chalicelib.core.protocol import ACK_IDS, FrameError

UNKNOWN_KEYS_NAMED = 3


def parse_object(body: str) -> dict[str, Any]:
    """Return the body's JSON object. Raises FrameError `invalid_json`, also for NaN and duplicate keys."""
    try:
        value = json.loads(body, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise FrameError("invalid_json", "a frame must be a JSON object without duplicate keys") from None
    if not isinstance(value, dict):
        raise FrameError("invalid_json", "a frame must be a JSON object")
    return value


def parse_frame(frame: dict[str, Any]) -> Action:
    """Return the frame as its action's model. Raises FrameError `unknown_action` or `invalid_frame`."""
    action = frame.get("action")
    model = ACTIONS.get(action) if isinstance(action, str) else None
    if model is None:
        raise FrameError("unknown_action", f"action must be one of: {', '.join(ACTIONS)}")
    known = {field.alias for field in model.model_fields.values()}
    if unknown := [key for key in frame if key not in known]:
        raise FrameError("invalid_frame", _name_unknown(unknown))
    try:
        return model.model_validate(frame)
    except ValidationError as invalid:
        raise FrameError("invalid_frame", describe(invalid)) from None


def read_ack_id(body: str) -> str | int | None:
    """Return the `ackId` of a refused frame, or None if it has no valid one.

    This validates nothing else, so it is much cheaper than `parse_frame`.
    """
    try:
        frame = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return ack_id_of(frame) if isinstance(frame, dict) else None


def ack_id_of(frame: Mapping[str, Any]) -> str | int | None:
    """Return the frame's `ackId`, or None if it is missing or invalid."""
    try:
        return ACK_IDS.validate_python(frame.get("ackId"))
    except ValidationError:
        return None


def describe(invalid: ValidationError) -> str:
    """Return the first validation error as `key: message`. An error of several keys names them itself."""
    error: ErrorDetails = invalid.errors(include_input=False, include_url=False)[0]
    return f"{error['loc'][0]}: {error['msg']}" if error["loc"] else error["msg"]


def _name_unknown(keys: list[str]) -> str:
    """Return an error text that names the first few unknown keys, so that clients' typos are noticed."""
    named = ", ".join(key[:64] for key in keys[:UNKNOWN_KEYS_NAMED])
    if len(keys) == 1:
        return f"{named}: unknown key"
    more = len(keys) - UNKNOWN_KEYS_NAMED
    return f"{named} and {more} more: unknown keys" if more > 0 else f"{named}: unknown keys"


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("duplicate key")
    "".join(unique).encode()  # Raises for a lone surrogate, such as "\ud800": a reply couldn't name that key.
    return unique


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
