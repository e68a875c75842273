"""Direct calls to the local AWS have the same answers as calls over HTTP."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ParamValidationError, ReadTimeoutError

from localdev import direct_management
from localdev.dynamodb import stream_arn
from localdev.limits import Limits
from localdev.management import Answer, Request
from tests.support.api import Api, an_api
from tests.support.dynamodb_tables import IS_EMBEDDED, Tables, make_tables

KEY = {"destinationPlayerId": {"S": "1"}, "messageId": {"S": "m1"}}

BINARY: dict[str, Any] = {
    "destinationPlayerId": {"S": "b"},
    "messageId": {"S": "m1"},
    "bits": {"B": b"\x00"},
    "many": {"BS": [b"\x00"]},
    "listed": {"L": [{"B": b"\x00"}, {"M": {"binary": {"B": b"\xff"}}}]},
}


def messages(tables: Tables) -> list[tuple[str, dict[str, Any]]]:
    """Return calls of every kind that the app makes, valid and refused, one update twice."""
    update = {
        "TableName": tables.messages,
        "Key": KEY,
        "UpdateExpression": "ADD many :set SET #text = :text",
        "ConditionExpression": "attribute_exists(messageId)",
        "ExpressionAttributeNames": {"#text": "message"},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    values = {":set": {"SS": ["a", "b"]}, ":text": {"S": "é"}}
    query = {
        "TableName": tables.messages,
        "KeyConditionExpression": "destinationPlayerId = :player AND messageId >= :since",
        "ExpressionAttributeValues": {":player": {"S": "2"}, ":since": {"S": "m2"}},
        "Limit": 2,
    }
    compared = {
        "TableName": tables.messages,
        "KeyConditionExpression": "destinationPlayerId = :player",
        "FilterExpression": "many > :number OR listed < :number OR bits >= :number",
    }
    nobody = {**KEY, "messageId": {"S": "nobody"}}
    return [
        ("put_item", {"TableName": tables.messages, "Item": {**KEY, "n": {"N": "1"}}}),
        ("update_item", {**update, "ExpressionAttributeValues": values, "ReturnValues": "ALL_NEW"}),
        ("update_item", {**update, "ExpressionAttributeValues": values, "ReturnValues": "ALL_NEW"}),
        ("update_item", {**update, "ExpressionAttributeValues": values}),
        ("update_item", {**update, "ExpressionAttributeValues": values}),
        ("update_item", {**update, "ExpressionAttributeValues": values, "Key": nobody}),
        ("update_item", {**update, "ExpressionAttributeValues": {**values, ":unused": {"S": "x"}}}),
        ("update_item", {**update, "ExpressionAttributeValues": values, "TableName": "no-such-table"}),
        ("update_item", {**update, "ExpressionAttributeValues": values, "Key": {**KEY, "id": {"S": "1"}}}),
        ("get_item", {"TableName": tables.messages, "Key": KEY, "ConsistentRead": True}),
        ("get_item", {"TableName": tables.messages, "Key": nobody}),
        ("batch_get_item", {"RequestItems": {tables.messages: {"Keys": [KEY, nobody]}}}),
        *(
            (
                "put_item",
                {
                    "TableName": tables.messages,
                    "Item": {"destinationPlayerId": {"S": player}, "messageId": {"S": message}},
                },
            )
            for message in ("m3", "m1", "m4", "m2")
            for player in ("2", "3")
        ),
        ("query", query),
        ("query", {**query, "ExclusiveStartKey": {**KEY, "destinationPlayerId": {"S": "2"}}}),
        ("query", {**query, "ExpressionAttributeValues": {":player": {"S": "9"}, ":since": {"S": "m"}}}),
        ("put_item", {"TableName": tables.messages, "Item": BINARY}),
        ("query", {**query, "ExpressionAttributeValues": {":player": {"S": "b"}, ":since": {"S": "m"}}}),
        ("query", {**compared, "ExpressionAttributeValues": {":player": {"S": "b"}, ":number": {"N": "1"}}}),
        ("delete_item", {"TableName": tables.messages, "Key": KEY}),
        ("get_item", {"TableName": tables.messages, "Key": KEY}),
    ]


def answers(tables: Tables) -> list[Any]:
    """Return each call's answer or error, without table names and metadata."""
    found: list[Any] = []
    for method, arguments in messages(tables):
        try:
            answer = getattr(tables.client, method)(**arguments)
        except ClientError as refusal:
            found.append((refusal.response["Error"]["Code"], refusal.response.get("Item")))
        else:
            answer.pop("ResponseMetadata")
            answer.pop("ConsumedCapacity", None)  # Only moto returns it without being asked.
            found.append(_without_order(answer, tables.messages))
    return found


def _without_order(value: Any, table: str) -> Any:
    if isinstance(value, dict):
        return {k.replace(table, "table"): _without_order(v, table) for k, v in value.items()}
    if isinstance(value, list):
        each = [_without_order(v, table) for v in value]
        return sorted(each) if all(isinstance(v, str) for v in each) else each
    return value


@pytest.mark.skipif(not IS_EMBEDDED, reason="of the embedded DynamoDB")
def test_direct_calls_to_dynamodb_have_the_same_answers_as_http() -> None:
    directly, over_http = answers(make_tables()), answers(make_tables(directly=False))

    assert directly == over_http
    assert [answer[0] for answer in directly if isinstance(answer, tuple)] == [
        "ConditionalCheckFailedException",
        "ValidationException",
        "ResourceNotFoundException",
        "ValidationException",
    ]


@pytest.mark.parametrize("item", [{"id": {"S": 1}}, {"id": "k"}, "k"])
def test_boto3_checks_the_parameters_of_every_call(item: Any) -> None:
    tables = make_tables()
    tables.client.put_item(TableName=tables.websockets, Item={"id": {"S": "k"}})

    with pytest.raises(ParamValidationError):
        tables.client.put_item(TableName=tables.websockets, Item=item)


@pytest.mark.skipif(not IS_EMBEDDED, reason="of the embedded DynamoDB")
def test_direct_calls_to_streams_have_the_same_answers_as_http() -> None:
    def records(tables: Tables) -> list[Any]:
        tables.client.put_item(TableName=tables.messages, Item=BINARY)
        streams = tables.session.client("dynamodbstreams")
        arn = stream_arn(tables.client, tables.messages)
        (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        iterator = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )
        found = streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
        for record in found:
            assert abs(time.time() - record["dynamodb"]["ApproximateCreationDateTime"].timestamp()) < 60
            del record["dynamodb"]["ApproximateCreationDateTime"], record["dynamodb"]["SizeBytes"]
        return [record["dynamodb"] for record in found]

    directly = records(make_tables())

    assert directly == records(make_tables(directly=False))
    assert directly[0]["NewImage"] == BINARY


def direct(api: Api, read_timeout: float = 5) -> Any:
    """Return a client of the same API that posts without HTTP."""
    session = boto3.Session("local", "local", region_name="us-east-1")
    endpoint = f"http://127.0.0.1:{api.port}/dev"
    direct_management.attach(session, endpoint, api.gateway.manage, asyncio.get_running_loop())
    return session.client(
        "apigatewaymanagementapi",
        endpoint_url=endpoint,
        config=Config(read_timeout=read_timeout, retries={"total_max_attempts": 1}),
    )


def test_direct_management_calls_have_the_same_answers_as_http() -> None:
    async def outcome(call: Callable[..., Any], **arguments: Any) -> tuple[int, str]:
        try:
            answer = await asyncio.to_thread(call, **arguments)
        except ClientError as refusal:
            metadata = refusal.response["ResponseMetadata"]
            return metadata["HTTPStatusCode"], refusal.response["Error"]["Code"]
        return answer["ResponseMetadata"]["HTTPStatusCode"], ""

    async def outcomes(api: Api, client: Any) -> list[tuple[int, str]]:
        socket, connection_id = await api.connected()
        found = [
            await outcome(client.post_to_connection, ConnectionId=connection_id, Data=b"hi"),
            await outcome(client.post_to_connection, ConnectionId=connection_id, Data=b"x" * 2000),
            await outcome(client.post_to_connection, ConnectionId="no id", Data=b"hi"),
            await outcome(client.get_connection, ConnectionId=connection_id),
            await outcome(client.delete_connection, ConnectionId=connection_id),
            await outcome(client.post_to_connection, ConnectionId=connection_id, Data=b"hi"),
        ]
        assert await socket.recv() == "hi"
        await socket.wait_closed()
        return found

    async def compare() -> None:
        async with an_api(Limits(message_bytes=1000, frame_bytes=1000)) as api:
            found = await outcomes(api, direct(api))

            assert found == await outcomes(api, api.management)
            assert [status for status, _ in found] == [200, 413, 400, 200, 204, 410]

    asyncio.run(compare())


def test_a_direct_call_times_out_as_over_http() -> None:
    session = boto3.Session("local", "local", region_name="us-east-1")
    stuck = asyncio.new_event_loop()
    direct_management.attach(session, "http://here", lambda request: Answer(200), stuck)
    config = Config(read_timeout=0.05, retries={"total_max_attempts": 1})
    client = session.client("apigatewaymanagementapi", endpoint_url="http://here", config=config)

    with pytest.raises(ReadTimeoutError):
        client.post_to_connection(ConnectionId="c", Data=b"hi")
    stuck.close()


def test_a_bug_of_the_gateway_is_raised_where_the_function_posts() -> None:
    async def test() -> None:
        session = boto3.Session("local", "local", region_name="us-east-1")
        direct_management.attach(session, "http://here", broken, asyncio.get_running_loop())
        client = session.client("apigatewaymanagementapi", endpoint_url="http://here")
        with pytest.raises(NotImplementedError):
            await asyncio.to_thread(client.post_to_connection, ConnectionId="c", Data=b"hi")

    def broken(request: Request) -> Answer:
        raise NotImplementedError

    asyncio.run(test())
