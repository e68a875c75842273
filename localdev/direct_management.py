"""Passes the app's own calls to `@connections` directly to the gateway in this process, without HTTP.

Other programs use HTTP. Both paths call `Gateway.manage`, so the same limits apply.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

import boto3
from botocore.exceptions import ReadTimeoutError

from localdev import shortcut
from localdev.management import Answer, Request

METHODS = {"PostToConnection": "POST", "DeleteConnection": "DELETE"}
Manage = Callable[[Request], Answer]


def attach(session: boto3.Session, endpoint: str, manage: Manage, loop: asyncio.AbstractEventLoop) -> None:
    """Make every client that the session creates from now on call `manage` directly.

    This applies only to clients of `endpoint`. Their calls raise ReadTimeoutError after the client's timeout.
    """
    stage = urlsplit(endpoint).path

    def answer_for(client: Any, operation: str) -> shortcut.Answer | None:
        if operation not in METHODS or client.meta.endpoint_url != endpoint:
            return None
        return partial(answer, METHODS[operation], client.meta.config.read_timeout)

    def answer(method: str, seconds: float, parameters: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        path = f"{stage}/@connections/{quote(parameters['ConnectionId'], safe='')}"
        data = parameters.get("Data", b"")
        request = Request(method, path, True, data.encode() if isinstance(data, str) else bytes(data))
        answered: concurrent.futures.Future[Answer] = concurrent.futures.Future()
        loop.call_soon_threadsafe(_settle, answered, manage, request)
        try:
            return _parsed(answered.result(seconds))
        except concurrent.futures.TimeoutError:
            raise ReadTimeoutError(endpoint_url=endpoint) from None

    shortcut.attach(session, "apigatewaymanagementapi", answer_for)


def _settle(answered: "concurrent.futures.Future[Answer]", manage: Manage, request: Request) -> None:
    """Call `manage` on the event loop, and set its result or its exception."""
    try:
        answered.set_result(manage(request))
    except Exception as error:
        answered.set_exception(error)


def _parsed(answer: Answer) -> tuple[int, dict[str, Any]]:
    """Return the status, and the response as boto3 would parse it."""
    if answer.status < 300:
        return answer.status, {}
    message = str((answer.body or {}).get("message", ""))
    return answer.status, {"Error": {"Code": answer.error or str(answer.status), "Message": message}}
