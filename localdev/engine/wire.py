"""Converts requests and responses from and to JSON. Binary is base64, and times are epoch seconds."""

import base64
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from localdev.engine.errors import ApiError
from localdev.engine.items import Response

Call = Callable[[str, dict[str, Any]], Response]
"""Takes an operation's name and a request, and returns a response. Raises ApiError."""

MALFORMED = (TypeError, ValueError, AttributeError, LookupError)
"""Raised for a request whose JSON has the wrong types. boto3 checks types before it sends a request."""


def answer(call: Call, target: str, body: bytes | str) -> tuple[int, bytes]:
    """Return the HTTP status and body of the response. `target` is the header X-Amz-Target."""
    try:
        return 200, content_of(call(target.rpartition(".")[2], request_of(body)))
    except ApiError as error:
        failure = error
    except MALFORMED as error:
        failure = ApiError("SerializationException", type(error).__name__)
    kind = f"com.amazonaws.dynamodb.v20120810#{failure.code}"
    return 400, content_of({"__type": kind, "message": failure.message, **failure.more})


def request_of(body: bytes | str) -> dict[str, Any]:
    """Return the request in a JSON text. Raises ValueError if it isn't an object, or binary isn't base64."""
    request = _decoded(json.loads(body))
    if not isinstance(request, dict):
        raise ValueError("not an object")
    return request


def content_of(response: dict[str, Any]) -> bytes:
    """Return the response as JSON."""
    return json.dumps(response, default=_encoded).encode()


def _encoded(value: Any) -> str | float:
    return value.timestamp() if isinstance(value, datetime) else base64.b64encode(value).decode()


def _decoded(value: Any, kind: str = "") -> Any:
    """Return the value with base64 decoded. `kind` is the key that holds the value."""
    if isinstance(value, dict):
        return {key: _decoded(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_decoded(each, "B" if kind == "BS" else "") for each in value]
    return base64.b64decode(value, validate=True) if kind == "B" and isinstance(value, str) else value
