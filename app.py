"""Lambda entry points: each one translates its event, calls the service and translates the result."""

import functools
import os
import threading
import time
from typing import Any, cast

local_aws = None
if "AWS_CHALICE_CLI_MODE" in os.environ:  # Not on Lambda. It prepares first, to outlive a broken import.
    from localdev import prepare

    local_aws = prepare()

from chalice import Chalice, Response
from chalice.app import DynamoDBEvent, WebsocketEvent

from chalicelib.aws.management_api import MAX_CONCURRENT_POSTS
from chalicelib.aws.message_items import UnreadableRecord, parse_record, written_at
from chalicelib.aws.telemetry import call, note
from chalicelib.bootstrap import access_of, wire
from chalicelib.core.handshake import HandshakeRejected
from chalicelib.core.model import Endpoint
from chalicelib.core.service import Service
from chalicelib.settings import Settings

app = Chalice(app_name="serverless-websockets")
app.experimental_feature_flags.update(["WEBSOCKETS"])  # Chalice requires this opt-in.
settings = Settings.from_environment(os.environ)
making_service = threading.Lock()


def service() -> Service:
    """Return the process's service; the first call builds it.

    Building it needs an AWS region, which `chalice deploy` and `chalice package` might not have. The lock
    is for the local AWS, which runs calls concurrently; Lambda runs one call at a time per process.
    """
    with making_service:
        return made_service()


@functools.cache
def made_service() -> Service:
    return wire(settings)


@app.on_ws_connect()
def websocket_connect(event: WebsocketEvent) -> Response:
    handshake = event.to_dict()
    query = all_values(handshake, "multiValueQueryStringParameters", "queryStringParameters")
    headers = all_values(handshake, "multiValueHeaders", "headers")
    try:
        with call("connect", name_of(event)):
            registration, endpoint = service().registration, endpoint_of(event)
            subprotocol = registration.connect(event.connection_id, endpoint, query, headers)
    except HandshakeRejected as refused:
        return Response(body=refused.detail, status_code=refused.status)
    return Response(body="", headers={"Sec-WebSocket-Protocol": subprotocol} if subprotocol else {})


@app.on_ws_message()
def websocket_message(event: WebsocketEvent) -> None:
    body = event.to_dict().get("body") or ""
    with call("message", name_of(event)):
        service().messenger.receive(event.connection_id, endpoint_of(event), body)


@app.on_ws_disconnect()
def websocket_disconnect(event: WebsocketEvent) -> None:
    with call("disconnect", name_of(event)):
        service().registration.disconnect(event.connection_id)


@app.on_dynamodb_record(
    stream_arn=settings.messages_stream_arn, batch_size=MAX_CONCURRENT_POSTS, starting_position="TRIM_HORIZON"
)
def push_messages(event: DynamoDBEvent) -> None:
    """Push one batch of the Messages table's stream. Raises Unavailable if Lambda must redeliver it.

    The function parses the records because Chalice's own iteration fails a batch with one unusual record.
    """
    records, context = event.to_dict()["Records"], cast(Any, event.context)
    age_ms = round(1000 * max(0, time.time() - written_at(records[-1]))) if records else 0
    with call("push", name_of(event), in_one_line=False, batch_size=len(records), iterator_age_ms=age_ms):
        entries = []
        for record in records:
            try:
                entry = parse_record(record)
            except UnreadableRecord as unreadable:
                note("unreadable", reason=str(unreadable))
                continue
            if entry is not None:
                entries.append(entry)
        service().push.batch(entries, lambda: context.get_remaining_time_in_millis() / 1000)


def name_of(event: WebsocketEvent | DynamoDBEvent) -> str:
    return str(cast(Any, event.context).function_name)


def all_values(event: dict[str, Any], multiple: str, single: str) -> dict[str, list[str]]:
    """Return all values of each header or query parameter, so that a repeated one can be rejected."""
    return event.get(multiple) or {name: [value] for name, value in (event.get(single) or {}).items()}


def endpoint_of(event: WebsocketEvent) -> Endpoint:
    """Return the API id and the stage. A custom domain's name in the event can't be posted to."""
    context: dict[str, Any] = event.to_dict()["requestContext"]
    return Endpoint(context["apiId"], context["stage"])


function_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
if function_name:  # Lambda imports this module with a full CPU, but runs calls with a share of one.
    service()
    if settings.tokens is not None and function_name.endswith("websocket_connect"):
        import chalicelib.aws.tokens  # noqa: F401

if local_aws is not None:
    local_aws.serve(app, access_of(settings))
