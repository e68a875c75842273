"""The tables of the template on the engine that the tests run on, under names that no other test uses."""

import os
from itertools import count
from threading import Lock
from typing import Any, NamedTuple

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from moto.core.botocore_stubber import BotocoreStubber

from localdev.dynamodb import create_tables
from localdev.embedded_dynamodb import EmbeddedDynamoDB

ENGINE = os.environ.get("DYNAMODB_ENGINE", "")
"""`moto`, or the URL of another engine; empty for the embedded one. `make test-dynamodb` sets it."""

IS_EMBEDDED = not ENGINE

_numbers = count(1)
_moto = BotocoreStubber()
_moto.enabled = True
_one_at_a_time = Lock()


class Tables(NamedTuple):
    client: Any
    session: boto3.Session
    websockets: str
    messages: str
    embedded: EmbeddedDynamoDB


def make_tables(directly: bool = True) -> Tables:
    """`directly`: with calls answered before they are HTTP, where a fault in their place would not be met.

    `embedded` is empty when the tests run on another engine.
    """
    session = boto3.Session("local", "local", region_name="us-east-1")
    embedded = EmbeddedDynamoDB(on_write=lambda: None)
    if ENGINE == "moto":
        for service in ("dynamodb", "dynamodb-streams"):
            session.events.register(f"before-send.{service}", ask_moto)
    elif IS_EMBEDDED:
        embedded.attach(session)
        if directly:
            embedded.attach_directly(session)
    client = client_of(session, ENGINE if ENGINE.startswith("http") else None)
    number = next(_numbers)
    tables = Tables(client, session, f"websockets-{number}", f"messages-{number}", embedded)
    create_tables(client, {"WebsocketsTable": tables.websockets, "MessagesTable": tables.messages})
    return tables


def client_of(session: boto3.Session, url: str | None) -> Any:
    """Return a client that tries each call once."""
    return session.client("dynamodb", endpoint_url=url, config=Config(retries={"total_max_attempts": 1}))


def count_calls(client: Any) -> list[str]:
    """Return a list to which the name of each later call of this client is added."""
    calls: list[str] = []
    client.meta.events.register("provide-client-params.dynamodb", lambda model, **_: calls.append(model.name))
    return calls


def ask_moto(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
    """Answer in place of the network: one request at a time, because moto is not thread-safe."""
    with _one_at_a_time:
        response = _moto("before-send", request)
    assert response is not None, f"moto does not know {request.url}"
    return response
