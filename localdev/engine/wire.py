"""Requests and responses as JSON: binary is base64, and moments are seconds since the epoch."""

import base64
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from localdev.engine.errors import ApiError
from localdev.engine.items import Response

Call = Callable[[str, dict[str, Any]], Response]
"""Takes an operation's name and a request, returns a response, and raises ApiError."""

MALFORMED = (TypeError, ValueError, AttributeError, LookupError)
"""Raised by a request whose JSON does not have the types that boto3 checks before it sends one."""


def answer(call: Call, target: str, body: bytes | str) -> tuple[int, bytes]:
    """Return the HTTP status and the content for a request. `target` is the header X-Amz-Target."""
    try:
        return 200, content_of(call(target.rpartition(".")[2], request_of(body)))
    except ApiError as error:
        failure = error
    except MALFORMED as error:
        failure = ApiError("SerializationException", type(error).__name__)
    kind = f"com.amazonaws.dynamodb.v20120810#{failure.code}"
    return 400, content_of({"__type": kind, "message": failure.message, **failure.more})


def request_of(body: bytes | str) -> dict[str, Any]:
    """Raise ValueError for anything but an object in JSON, and for binary that isn't base64."""
    request = _decoded(json.loads(body))
    if not isinstance(request, dict):
        raise ValueError("not an object")
    return request


def content_of(response: dict[str, Any]) -> bytes:
    return json.dumps(response, default=_encoded).encode()


def _encoded(value: Any) -> str | float:
    return value.timestamp() if isinstance(value, datetime) else base64.b64encode(value).decode()


def _decoded(value: Any, kind: str = "") -> Any:
    """Return the value with binary for base64. `kind` is the key that it was found under."""
    if isinstance(value, dict):
        return {key: _decoded(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_decoded(each, "B" if kind == "BS" else "") for each in value]
    return base64.b64decode(value, validate=True) if kind == "B" and isinstance(value, str) else value
