"""The local DynamoDB: the embedded one, or whatever AWS_ENDPOINT_URL_DYNAMODB names; and its tables."""

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
MADE_UP_CREDENTIALS = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
"""So that a person's own are never read."""


def use_named(endpoint: str) -> None:
    """Let every client have its DynamoDB and streams at this endpoint, with credentials if there are any."""
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ.setdefault("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", endpoint)
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        os.environ.setdefault(variable, REGION)
    if boto3.Session().get_credentials() is None:
        boto3.setup_default_session(**MADE_UP_CREDENTIALS)


def embed(on_write: Callable[[], None]) -> EmbeddedDynamoDB:
    """Let every client have its DynamoDB and streams in this process."""
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        if variable != "AWS_CHALICE_CLI_MODE":  # A profile or an endpoint of a person's own leads elsewhere.
            del os.environ[variable]
    os.environ.update(AWS_REGION=REGION, AWS_DEFAULT_REGION=REGION)
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    embedded = EmbeddedDynamoDB(on_write)
    boto3.setup_default_session(**MADE_UP_CREDENTIALS)
    embedded.attach(session())
    embedded.attach_directly(session())
    return embedded


def session() -> boto3.Session:
    """The one of every client that is made by boto3.client."""
    if boto3.DEFAULT_SESSION is None:
        boto3.setup_default_session()
    assert boto3.DEFAULT_SESSION is not None
    return boto3.DEFAULT_SESSION


def create_tables(client: Any, names: Mapping[str, str]) -> set[str]:
    """Make the template's tables, those that are missing: the logical ids of the ones made.

    `names`: what each logical id of the template is called here.
    """
    resources = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))["Resources"]
    made = set()
    for logical_id, name in names.items():
        if not _is_there(client, name):
            _create_table(client, name, resources[logical_id]["Properties"])
            made.add(logical_id)
    return made


def _is_there(client: Any, name: str) -> bool:
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
    return str(client.describe_table(TableName=table)["Table"]["LatestStreamArn"])
