"""The app's own calls to `@connections`, answered by the gateway in the same process without HTTP between.

Whoever else calls goes by HTTP. Both ways end in the same place, so the limits are the same; HTTP
to oneself took half of the time that a message needs here.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError

from localdev.management import Answer, Request

DIRECT = ("PostToConnection", "DeleteConnection")
Manage = Callable[[Request], Answer]


def attach(session: boto3.Session, endpoint: str, manage: Manage, loop: asyncio.AbstractEventLoop) -> None:
    """Every client that the session makes from now on posts directly, if it posts to this endpoint."""

    def answer(
        params: Mapping[str, Any], context: Mapping[str, Any], **_: Any
    ) -> tuple[AWSResponse, dict[str, Any]] | None:
        if not params["url"].startswith(endpoint):
            return None
        request = Request(params["method"], urlsplit(params["url"]).path, True, params["body"] or b"")
        answered: concurrent.futures.Future[Answer] = concurrent.futures.Future()
        loop.call_soon_threadsafe(_settle, answered, manage, request)
        try:
            return _parsed(params["url"], answered.result(context["client_config"].read_timeout))
        except concurrent.futures.TimeoutError:
            raise ReadTimeoutError(endpoint_url=params["url"]) from None

    for operation in DIRECT:
        session.events.register(f"before-call.apigatewaymanagementapi.{operation}", answer)


def _settle(answered: "concurrent.futures.Future[Answer]", manage: Manage, request: Request) -> None:
    """Answer on the event loop, in one turn of it. What `manage` raises is raised where it was called."""
    try:
        answered.set_result(manage(request))
    except Exception as error:
        answered.set_exception(error)


def _parsed(url: str, answer: Answer) -> tuple[AWSResponse, dict[str, Any]]:
    """As boto3 reads it off the wire."""
    parsed: dict[str, Any] = {"ResponseMetadata": {"HTTPStatusCode": answer.status, "HTTPHeaders": {}}}
    if answer.status >= 300:
        message = str((answer.body or {}).get("message", ""))
        parsed["Error"] = {"Code": answer.error or str(answer.status), "Message": message}
    return AWSResponse(url, answer.status, {}, None), parsed
