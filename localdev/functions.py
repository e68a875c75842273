"""Calls the app's Lambda functions as Lambda does: with an event from JSON, and a context."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from chalice import Chalice
from chalice.local import LambdaContext

Event = dict[str, Any]
Function = Callable[[Event], Any]

MEMORY_MB = 512
TIMEOUT_MS = 30_000


def function(app: Chalice, name: str) -> Function:
    """Return a callable that invokes the named function. The function's exceptions reach the caller."""
    handler = app.handler_map[name]

    def invoke(event: Event) -> Any:
        context = LambdaContext(name, MEMORY_MB, TIMEOUT_MS)
        return handler(json.loads(json.dumps(event)), context)

    return invoke


def websocket_routes(app: Chalice) -> Mapping[str, Function]:
    """Return the WebSocket API's functions by route key: `$connect`, `$default`, `$disconnect`."""
    return {route_key: function(app, config.name) for route_key, config in app.websocket_handlers.items()}
