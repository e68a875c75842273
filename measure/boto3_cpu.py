"""Measures the CPU time that boto3 takes for the calls of one message. No request leaves the process.

python -m measure.boto3_cpu
"""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config

CALLS, ROUNDS, WARM_UP = 400, 5, 50

UPDATE: dict[str, Any] = {
    "TableName": "websockets",
    "Key": {"id": {"S": "player#1"}},
    "UpdateExpression": "ADD #used :cost",
    "ConditionExpression": "contains(connections, :connection) AND #used <= :left",
    "ExpressionAttributeNames": {"#used": "used:1790000000000"},
    "ExpressionAttributeValues": {":cost": {"N": "1"}, ":connection": {"S": "c"}, ":left": {"N": "59"}},
    "ReturnValues": "ALL_NEW",
}
PUT: dict[str, Any] = {
    "TableName": "messages",
    "Item": {
        "destinationPlayerId": {"S": "2"},
        "messageId": {"S": "01a22503-d3a8-75e6-893d-8934d4f120ec"},
        "srcPlayerId": {"S": "1"},
        "message": {"S": "x" * 100},
        "sentAt": {"N": "1790000000000"},
        "expiresAt": {"N": "1790000000"},
    },
}
POST: dict[str, Any] = {"ConnectionId": "c=", "Data": b"x" * 250}
ANSWER = b'{"Attributes": {"id": {"S": "player#1"}, "connections": {"SS": ["c"]}, "used:1": {"N": "1"}}}'


class Body:
    """A response's body, as botocore reads it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content


def client_of(service: str, content: bytes, **options: Any) -> Any:
    """Return a client whose requests are answered before they are sent."""
    endpoint = None if service == "dynamodb" else "https://nowhere.invalid"
    client = boto3.client(service, endpoint_url=endpoint, config=Config(**options))
    client.meta.events.register_first(
        "before-send", lambda request, **_: AWSResponse(request.url, 200, {}, Body(content))
    )
    return client


def microseconds(call: Callable[[], Any]) -> float:
    """Return the least CPU time per call of several rounds."""
    for _ in range(WARM_UP):
        call()
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(CALLS):
            call()
        rounds.append(1e6 * (time.process_time() - started) / CALLS)
    return min(rounds)


def main() -> None:
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }
    for validates in (True, False):
        dynamodb = client_of("dynamodb", ANSWER, parameter_validation=validates)
        api = client_of("apigatewaymanagementapi", b"", parameter_validation=validates)
        update = microseconds(lambda: dynamodb.update_item(**UPDATE))  # noqa: B023  # Called at once.
        put = microseconds(lambda: dynamodb.put_item(**PUT))  # noqa: B023
        post = microseconds(lambda: api.post_to_connection(**POST))  # noqa: B023
        print(
            f"parameter_validation={validates}: UpdateItem {update:.0f} µs, PutItem {put:.0f}, "
            f"PostToConnection {post:.0f}; a message with clientMessageId {update + 2 * put + 2 * post:.0f}"
        )


if __name__ == "__main__":
    main()
