"""Builds the events that API Gateway sends to the functions of a WebSocket API, field by field."""

import base64
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

Event = dict[str, Any]

CLOSE_REASONS = {
    1001: "Going away",
    1003: "Unsupported data",
    1005: "Client-side close frame status not set",
    1006: "Connection Closed Abnormally",
    1009: "Message too big",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """The fields that every event of a connection shares. `connected_at` is in epoch milliseconds."""

    api_id: str
    stage: str
    domain_name: str
    connection_id: str
    connected_at: int
    source_ip: str
    user_agent: str | None


def connect_event(origin: Origin, target: str, headers: Iterable[tuple[str, str]], now: int) -> Event:
    """Return a `$connect` event. `target` is the handshake's path and query, `now` epoch milliseconds.

    If a header or parameter is repeated, the single-value fields have the last value.
    """
    multi_headers = _grouped(headers)
    multi_query = _grouped(parse_qsl(target.partition("?")[2], keep_blank_values=True))
    event: Event = {
        "headers": {name: values[-1] for name, values in multi_headers.items()},
        "multiValueHeaders": multi_headers,
        "requestContext": _context(origin, "$connect", "CONNECT", now),
        "isBase64Encoded": False,
    }
    if multi_query:
        event["queryStringParameters"] = {name: values[-1] for name, values in multi_query.items()}
        event["multiValueQueryStringParameters"] = multi_query
    return event


def message_event(origin: Origin, route_key: str, body: str, now: int) -> Event:
    """Return the event of a frame from a client. `now` is in epoch milliseconds."""
    return {
        "requestContext": {
            **_context(origin, route_key, "MESSAGE", now),
            "messageId": new_id(),
        },
        "body": body,
        "isBase64Encoded": False,
    }


def disconnect_event(origin: Origin, code: int, reason: str, now: int) -> Event:
    """Return a `$disconnect` event. `now` is in epoch milliseconds."""
    headers = {"Host": origin.domain_name, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""}
    return {
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "requestContext": {
            **_context(origin, "$disconnect", "DISCONNECT", now),
            "disconnectStatusCode": code,
            "disconnectReason": reason or CLOSE_REASONS.get(code, ""),
        },
        "isBase64Encoded": False,
    }


def failure_frame(message: str, connection_id: str) -> dict[str, str]:
    """Return the frame that API Gateway itself sends when a function fails."""
    return {"message": message, "connectionId": connection_id, "requestId": new_id()}


def reason_phrase(status: int) -> str:
    """Return the reason phrase of an HTTP status, or "Refused" for an unknown one."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Refused"


def new_id() -> str:
    """Return a random id in API Gateway's format for connections and requests: 11 bytes in base64."""
    return base64.urlsafe_b64encode(os.urandom(11)).decode()


def _context(origin: Origin, route_key: str, event_type: str, now: int) -> Event:
    request_id = new_id()
    identity = {"sourceIp": origin.source_ip}
    if origin.user_agent is not None:
        identity["userAgent"] = origin.user_agent
    return {
        "routeKey": route_key,
        "eventType": event_type,
        "extendedRequestId": request_id,
        "requestTime": datetime.fromtimestamp(now / 1000, timezone.utc).strftime("%d/%b/%Y:%H:%M:%S %z"),
        "messageDirection": "IN",
        "stage": origin.stage,
        "connectedAt": origin.connected_at,
        "requestTimeEpoch": now,
        "identity": identity,
        "requestId": request_id,
        "domainName": origin.domain_name,
        "connectionId": origin.connection_id,
        "apiId": origin.api_id,
    }


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, value in pairs:
        grouped.setdefault(name, []).append(value)
    return grouped
