"""The Lambda functions of the app, called as Lambda calls them: with JSON and a context."""

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
    """The function of that name. What it raises comes out: what follows from that is its caller's matter."""
    handler = app.handler_map[name]

    def invoke(event: Event) -> Any:
        context = LambdaContext(name, MEMORY_MB, TIMEOUT_MS)
        return handler(json.loads(json.dumps(event)), context)

    return invoke


def websocket_routes(app: Chalice) -> Mapping[str, Function]:
    """The functions of the WebSocket API by route key: `$connect`, `$default`, `$disconnect`."""
    return {route_key: function(app, config.name) for route_key, config in app.websocket_handlers.items()}
