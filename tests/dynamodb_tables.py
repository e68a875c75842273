"""The tables of the template under names that no other test uses: embedded, or on another engine."""

import os
from itertools import count
from typing import Any, NamedTuple

import boto3
from botocore.config import Config

from localdev.dynamodb import create_tables
from localdev.embedded_dynamodb import EmbeddedDynamoDB

ENGINE_URL = os.environ.get("DYNAMODB_ENGINE_URL")
"""URL of the engine that the tests run on; None for the embedded DynamoDB. `make test-dynamodb` sets it."""

_numbers = count(1)


class Tables(NamedTuple):
    client: Any
    session: boto3.Session
    websockets: str
    messages: str


def make_tables(directly: bool = True) -> Tables:
    """`directly`: with calls answered before they are HTTP, where a fault in their place would not be met."""
    session = boto3.Session("local", "local", region_name="us-east-1")
    if ENGINE_URL is None:
        embedded = EmbeddedDynamoDB(on_write=lambda: None)
        embedded.attach(session)
        if directly:
            embedded.attach_directly(session)
    client = session.client(
        "dynamodb", endpoint_url=ENGINE_URL, config=Config(retries={"total_max_attempts": 1})
    )
    number = next(_numbers)
    tables = Tables(client, session, f"websockets-{number}", f"messages-{number}")
    create_tables(client, {"WebsocketsTable": tables.websockets, "MessagesTable": tables.messages})
    return tables
