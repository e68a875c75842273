"""The local DynamoDB: moto in this process, or whatever AWS_ENDPOINT_URL_DYNAMODB names; and its tables."""

import json
import os
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from moto.core.botocore_stubber import BotocoreStubber

TEMPLATE = Path(__file__).parent.parent / "cloudformation" / "tables.yaml"
JSON = "application/x-amz-json-1.0"
READS = ("Get", "BatchGet", "Query", "Scan", "Describe", "List")


REGION = "us-east-1"
"""moto's streams live in this region alone."""


def use_named(endpoint: str) -> None:
    """Let every client have its DynamoDB and streams at this endpoint, with credentials if there are any."""
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ.setdefault("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", endpoint)
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        os.environ.setdefault(variable, REGION)
    if boto3.Session().get_credentials() is None:
        _use_made_up_credentials()


def embed(on_write: Callable[[], None]) -> "EmbeddedDynamoDB":
    """Let every client have its DynamoDB and streams in this process."""
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        if variable != "AWS_CHALICE_CLI_MODE":  # A profile or an endpoint of a person's own leads elsewhere.
            del os.environ[variable]
    os.environ.update(AWS_REGION=REGION, AWS_DEFAULT_REGION=REGION)
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    os.environ["AWS_ACCOUNT_ID_ENDPOINT_MODE"] = "disabled"  # moto knows no such endpoints.
    embedded = EmbeddedDynamoDB(on_write)
    embedded.attach(_use_made_up_credentials())
    return embedded


def _use_made_up_credentials() -> boto3.Session:
    """The session of every client made by boto3.client: it never reads a person's own credentials."""
    boto3.setup_default_session(aws_access_key_id="local", aws_secret_access_key="local")
    assert boto3.DEFAULT_SESSION is not None
    return boto3.DEFAULT_SESSION


class EmbeddedDynamoDB:
    """moto, called in place of the network: one request at a time, because it is not thread-safe.

    `on_write` is called after every request that may have changed a table.
    """

    def __init__(self, on_write: Callable[[], None]) -> None:
        self._moto = BotocoreStubber()
        self._moto.enabled = True
        self._one_at_a_time = threading.Lock()
        self._on_write = on_write

    def attach(self, session: boto3.Session) -> None:
        """Every client that the session makes from now on has its DynamoDB here."""
        for service in ("dynamodb", "dynamodb-streams"):
            session.events.register(f"before-send.{service}", self.answer)

    def answer(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        with self._one_at_a_time:
            response = self._moto("before-send", request)
        assert response is not None, f"moto does not know {request.url}"
        target = request.headers.get("X-Amz-Target", b"")
        operation = (target.decode() if isinstance(target, bytes) else target).rpartition(".")[2]
        if not operation.startswith(READS):
            self._on_write()
        return response

    def serve(self, host: str, port: int) -> int:
        """Let curl and the AWS CLI look in, over HTTP; returns the port. Raises OSError."""
        server = ThreadingHTTPServer((host, port), _door_to(self))
        threading.Thread(target=server.serve_forever, name="dynamodb", daemon=True).start()
        return int(server.server_address[1])


def _door_to(dynamodb: EmbeddedDynamoDB) -> type[BaseHTTPRequestHandler]:
    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            try:
                status, content = self._ask()
            except Exception as error:  # What moto cannot take, AWS would call a bad request.
                status = 400
                reason = {"__type": "SerializationException", "message": type(error).__name__}
                content = json.dumps(reason).encode()
            self.send_response(status)
            self.send_header("Content-Type", JSON)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _ask(self) -> tuple[int, bytes]:
            length = max(0, int(self.headers.get("Content-Length", 0)))
            body = self.rfile.read(length)
            streams = self.headers.get("X-Amz-Target", "").startswith("DynamoDBStreams_")
            host = "streams.dynamodb" if streams else "dynamodb"
            headers = HTTPHeaders.from_dict({**self.headers, "Content-Type": JSON})
            url = f"https://{host}.us-east-1.amazonaws.com/"
            response = dynamodb.answer(AWSPreparedRequest("POST", url, headers, body, False))
            return response.status_code, response.content

        def log_message(self, format: str, *args: object) -> None:
            """Requests that look in are nobody's steps."""

    return Door


def create_tables(client: Any, names: Mapping[str, str]) -> set[str]:
    """Make the template's tables, those that are missing: the logical ids of the ones made.

    `names`: what each logical id of the template is called here.
    """
    resources = yaml.safe_load(TEMPLATE.read_text())["Resources"]
    pages = client.get_paginator("list_tables").paginate()
    existing = {name for page in pages for name in page["TableNames"]}
    made = set()
    for logical_id, name in names.items():
        if name not in existing:
            _create_table(client, name, resources[logical_id]["Properties"])
            made.add(logical_id)
    return made


def _create_table(client: Any, name: str, properties: Mapping[str, Any]) -> None:
    request = {key: properties[key] for key in ("AttributeDefinitions", "KeySchema", "BillingMode")}
    if "StreamSpecification" in properties:
        request["StreamSpecification"] = {
            "StreamEnabled": True,
            **properties["StreamSpecification"],
        }
    client.create_table(TableName=name, **request)
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    client.update_time_to_live(TableName=name, TimeToLiveSpecification=properties["TimeToLiveSpecification"])


def stream_arn(client: Any, table: str) -> str:
    return str(client.describe_table(TableName=table)["Table"]["LatestStreamArn"])
