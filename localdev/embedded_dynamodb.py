"""moto, asked in place of the network: a DynamoDB in this process.

Its most frequent calls skip HTTP, moto's serializers and its second reading of expressions: they took two
thirds of the time that a message costs here. docs/local-aws.md says what that leaves out.
"""

import base64
import json
import re
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
from botocore import xform_name
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.model import OperationModel
from moto.core.botocore_stubber import BotocoreStubber
from moto.core.exceptions import ServiceException
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.core.responses import ActionResult
from moto.dynamodb.comparisons import OpGreaterThan, OpGreaterThanOrEqual, OpLessThan, OpLessThanOrEqual
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.responses import DynamoHandler, DynamoResult
from moto.dynamodbstreams.models import dynamodbstreams_backends
from werkzeug.exceptions import HTTPException

from localdev import threads
from localdev.addresses import resolve
from localdev.guard import Guard

REGION = "us-east-1"
"""moto's streams live in this region alone."""

JSON = "application/x-amz-json-1.0"
DIRECT = ("GetItem", "BatchGetItem", "PutItem", "UpdateItem", "DeleteItem", "Query")
MOST_RECORDS = 1000
"""`GetRecords` returns at most this many."""

READS = ("Get", "BatchGet", "Query", "Scan", "Describe", "List")

Wording = tuple[str, frozenset[str], str | None, str | None, frozenset[str], frozenset[str]]
"""Of an update: its table, the names of its key, its two expressions, and what these are given by name."""


def _compare_any_types() -> None:
    """Let moto answer, as DynamoDB does, that a number is neither less nor greater than a text. It raises."""

    def answering(compare: Callable[..., bool]) -> Callable[..., bool]:
        def answer(*args: Any) -> bool:
            try:
                return compare(*args)
            except (TypeError, ArithmeticError):
                return False

        return answer

    for comparison in (OpGreaterThan, OpGreaterThanOrEqual, OpLessThan, OpLessThanOrEqual):
        setattr(comparison, "expr", answering(comparison.expr))  # noqa: B010  # mypy forbids it plainly.


_compare_any_types()


class _Handler(DynamoHandler):
    """moto's functions. It reads and checks the expressions of an update twice; here each wording once."""

    def __init__(self, checked: set[Wording]) -> None:
        super().__init__()
        self._checked = checked

    def update_item(self) -> ActionResult:
        body = self.body
        names, values = body.get("ExpressionAttributeNames", {}), self._get_expr_attr_values()
        wording = (
            body["TableName"],
            frozenset(body["Key"]),
            body.get("UpdateExpression"),
            body.get("ConditionExpression"),
            frozenset(names),
            frozenset(values),
        )
        returned = body.get("ReturnValues", "NONE")
        if wording not in self._checked or returned not in ("NONE", "ALL_NEW"):
            result = super().update_item()
            self._checked.add(wording)
            return result
        item = self.dynamodb_backend.update_item(
            body["TableName"],
            body["Key"],
            update_expression=body["UpdateExpression"],
            expression_attribute_names=names,
            expression_attribute_values=values,
            condition_expression=body.get("ConditionExpression"),
            return_values_on_condition_check_failure=body.get("ReturnValuesOnConditionCheckFailure"),
        )
        return DynamoResult(item.to_json() if returned == "ALL_NEW" else {})

    def query(self) -> ActionResult:
        """moto walks and sorts a whole table for it; here it is shown the partition that was asked for."""
        table = self.dynamodb_backend.get_table(self.body["TableName"])
        equals = rf"(?:^|[ (]){table.hash_key_attr}\s*=\s*(:\w+)"
        asked = re.search(equals, self.body.get("KeyConditionExpression", ""))
        if asked is None or "IndexName" in self.body:
            return super().query()
        partition = DynamoType(self._get_expr_attr_values()[asked[1]])
        everything = table.items
        table.items = defaultdict(dict, {partition: everything.get(partition, {})})
        try:
            return super().query()
        finally:
            table.items = everything


class EmbeddedDynamoDB:
    """moto, called in place of the network: one request at a time, because it is not thread-safe.

    `on_write` is called after every request that may have changed a table.
    """

    def __init__(self, on_write: Callable[[], None]) -> None:
        self._moto = BotocoreStubber()
        self._moto.enabled = True
        self._one_at_a_time = threading.Lock()
        self._on_write = on_write
        self._checked: set[Wording] = set()

    def attach(self, session: boto3.Session) -> None:
        """Every client that the session makes from now on has its DynamoDB here."""
        for service in ("dynamodb", "dynamodb-streams"):
            session.events.register(f"before-send.{service}", self.answer)

    def attach_directly(self, session: boto3.Session) -> None:
        """Its most frequent calls even sooner, before they are made into HTTP."""
        for operation in DIRECT:
            session.events.register(f"before-call.dynamodb.{operation}", self.answer_directly)
        session.events.register("before-call.dynamodb-streams.GetRecords", self.get_records_directly)

    def answer_directly(
        self, model: OperationModel, params: Mapping[str, Any], **_: Any
    ) -> tuple[AWSResponse, dict[str, Any]] | None:
        """What moto's function for the operation answers, without HTTP in between; None when it refuses.

        A refusal has changed nothing, so it can be asked again by `answer`, which knows how errors look.
        """
        handler = _Handler(self._checked)
        handler.region, handler.current_account = REGION, DEFAULT_ACCOUNT_ID
        handler.body = json.loads(params["body"])
        with self._one_at_a_time:
            try:
                result = getattr(handler, xform_name(model.name))().result
            except (ServiceException, HTTPException):
                return None
            answer = _copied({k: result[k] for k in model.output_shape.members if k in result})
        if not model.name.startswith(READS):
            self._on_write()
        return _parsed(params, answer)

    def answer(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        with self._one_at_a_time:
            response = self._moto("before-send", request)
        assert response is not None, f"moto does not know {request.url}"
        target = request.headers.get("X-Amz-Target", b"")
        operation = (target.decode() if isinstance(target, bytes) else target).rpartition(".")[2]
        if not operation.startswith(READS):
            self._on_write()
        return response

    def get_records_directly(
        self, params: Mapping[str, Any], **_: Any
    ) -> tuple[AWSResponse, dict[str, Any]] | None:
        """As above. moto keeps every iterator that it ever made; one that has been used is let go here."""
        asked = json.loads(params["body"])
        streams = dynamodbstreams_backends[DEFAULT_ACCOUNT_ID][REGION]
        with self._one_at_a_time:
            iterator = streams.shard_iterators.pop(asked["ShardIterator"], None)
            if iterator is None:
                return None
            answer = _copied(iterator.get(asked.get("Limit", MOST_RECORDS)))
        return _parsed(params, answer)

    def serve(self, host: str, port: int) -> int:
        """Let curl and the AWS CLI look in, over HTTP; returns the port. Raises OSError."""
        family, address = resolve(host, port)
        server_class = type("Server", (_Server,), {"address_family": family})
        server = server_class(address, _door_to(self, Guard(host)))
        threads.start("dynamodb", server.serve_forever)
        return int(server.server_address[1])


def _parsed(params: Mapping[str, Any], answer: dict[str, Any]) -> tuple[AWSResponse, dict[str, Any]]:
    metadata = {"HTTPStatusCode": 200, "HTTPHeaders": {}, "RetryAttempts": 0}
    return AWSResponse(params["url"], 200, {}, None), {**answer, "ResponseMetadata": metadata}


def _copied(value: Any) -> Any:
    """Return moto's own values as boto3 would read them off the wire.

    moto's times are UTC without a zone, and its binary is base64 as it came in. Raises ValueError for
    binary that isn't base64.
    """
    if isinstance(value, dict):
        return {name: _decoded(name, _copied(each)) for name, each in value.items()}
    if isinstance(value, list):
        return [_copied(each) for each in value]
    return value.replace(tzinfo=timezone.utc) if isinstance(value, datetime) else value


def _decoded(kind: str, value: Any) -> Any:
    """Return the content of an attribute value of this type."""
    if kind == "B" and isinstance(value, str):
        return base64.b64decode(value, validate=True)
    if kind == "BS" and isinstance(value, list):
        return [_decoded("B", each) for each in value]
    return value


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print no traceback when a client leaves while it is answered."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _door_to(dynamodb: EmbeddedDynamoDB, guard: Guard) -> type[BaseHTTPRequestHandler]:
    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def parse_request(self) -> bool:
            """Read the head of a request, of whatever method. Return False when it has been answered."""
            if not super().parse_request():
                return False
            hosts, origins = (self.headers.get_all(name, []) for name in ("Host", "Origin"))
            refusal = guard.refusal_of_program(hosts, origins)
            if refusal is not None:
                self._refuse(403, "AccessDeniedException", refusal)
            return refusal is None

        def do_POST(self) -> None:
            try:
                status, content = self._ask()
            except Exception as error:  # What moto cannot take, AWS would call a bad request.
                self._refuse(400, "SerializationException", type(error).__name__)
            else:
                self._answer(status, content)

        def _refuse(self, status: int, kind: str, message: str) -> None:
            """Answer, and end the connection, because the request may not have been read to its end."""
            self.close_connection = True
            self._answer(status, json.dumps({"__type": kind, "message": message}).encode())

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            if self.close_connection:
                self.send_header("Connection", "close")
            self.send_header("Content-Type", JSON)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _ask(self) -> tuple[int, bytes]:
            length = max(0, int(self.headers.get("Content-Length", 0)))
            body = self.rfile.read(length)
            _copied(json.loads(body))  # moto stores binary that is not base64, and then cannot return it.
            streams = self.headers.get("X-Amz-Target", "").startswith("DynamoDBStreams_")
            host = "streams.dynamodb" if streams else "dynamodb"
            headers = HTTPHeaders.from_dict({**self.headers, "Content-Type": JSON})
            url = f"https://{host}.us-east-1.amazonaws.com/"
            response = dynamodb.answer(AWSPreparedRequest("POST", url, headers, body, False))
            return response.status_code, response.content

        def log_message(self, format: str, *args: object) -> None:
            """Requests that look in are nobody's steps."""

    return Door
