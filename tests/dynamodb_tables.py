"""The tables of the template in an embedded DynamoDB, under names that no other test uses."""

from itertools import count
from typing import Any, NamedTuple

import boto3
from botocore.config import Config

from localdev.dynamodb import EmbeddedDynamoDB, create_tables

_numbers = count(1)


class Tables(NamedTuple):
    client: Any
    session: boto3.Session
    websockets: str
    messages: str


def make_tables() -> Tables:
    session = boto3.Session("local", "local", region_name="us-east-1")
    EmbeddedDynamoDB(on_write=lambda: None).attach(session)
    client = session.client("dynamodb", config=Config(retries={"total_max_attempts": 1}))
    number = next(_numbers)
    tables = Tables(client, session, f"websockets-{number}", f"messages-{number}")
    create_tables(client, {"WebsocketsTable": tables.websockets, "MessagesTable": tables.messages})
    return tables
