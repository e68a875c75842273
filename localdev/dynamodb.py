"""Configures the local DynamoDB, embedded or at AWS_ENDPOINT_URL_DYNAMODB, and creates its tables."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.exceptions import ClientError

from localdev.embedded_dynamodb import EmbeddedDynamoDB
from localdev.engine import REGION

TEMPLATE = Path(__file__).parent.parent / "deployment" / "tables.yaml"
FAKE_CREDENTIALS = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
"""Credentials that keep boto3 from looking for the user's own."""


def use_endpoint(endpoint: str) -> None:
    """Make every client use the DynamoDB at this endpoint, with the user's credentials if they exist."""
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ.setdefault("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", endpoint)
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        os.environ.setdefault(variable, REGION)
    if boto3.Session().get_credentials() is None:
        boto3.setup_default_session(**FAKE_CREDENTIALS)


def embed(on_write: Callable[[], None]) -> EmbeddedDynamoDB:
    """Make every client use a new DynamoDB in this process, and return that DynamoDB.

    `on_write` is called after each change that a stream records.
    """
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        if variable != "AWS_CHALICE_CLI_MODE":  # The user's profile or endpoint would lead elsewhere.
            del os.environ[variable]
    os.environ.update(AWS_REGION=REGION, AWS_DEFAULT_REGION=REGION)
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    embedded = EmbeddedDynamoDB(on_write)
    boto3.setup_default_session(**FAKE_CREDENTIALS)
    embedded.attach(session())
    embedded.attach_directly(session())
    return embedded


def session() -> boto3.Session:
    """Return the session that boto3.client uses."""
    if boto3.DEFAULT_SESSION is None:
        boto3.setup_default_session()
    assert boto3.DEFAULT_SESSION is not None
    return boto3.DEFAULT_SESSION


def create_tables(client: Any, names: Mapping[str, str]) -> set[str]:
    """Create the template's missing tables, and return their logical ids.

    `names` maps the template's logical ids to table names.
    """
    resources = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))["Resources"]
    created = set()
    for logical_id, name in names.items():
        if not _exists(client, name):
            _create_table(client, name, resources[logical_id]["Properties"])
            created.add(logical_id)
    return created


def _exists(client: Any, name: str) -> bool:
    try:
        client.describe_table(TableName=name)
    except ClientError as failure:
        if failure.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        return False
    return True


def _create_table(client: Any, name: str, properties: Mapping[str, Any]) -> None:
    request = {key: properties[key] for key in ("AttributeDefinitions", "KeySchema", "BillingMode")}
    if "StreamSpecification" in properties:
        request["StreamSpecification"] = {
            "StreamEnabled": True,
            **properties["StreamSpecification"],
        }
    table = client.create_table(TableName=name, **request)["TableDescription"]
    if table["TableStatus"] != "ACTIVE":
        client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    client.update_time_to_live(TableName=name, TimeToLiveSpecification=properties["TimeToLiveSpecification"])


def stream_arn(client: Any, table: str) -> str:
    """Return the ARN of the table's stream. Raises KeyError if it has none."""
    return str(client.describe_table(TableName=table)["Table"]["LatestStreamArn"])
