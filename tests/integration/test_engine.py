"""The engine of the embedded DynamoDB and its client."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.aws.connections import ConnectionsTable
from chalicelib.aws.directory import DirectoryTable
from chalicelib.aws.idempotency import IdempotencyTable
from chalicelib.aws.messages import MessagesTable
from chalicelib.core.model import Connection, Endpoint, Message, Send, StreamPosition, Unavailable
from chalicelib.core.rate_limit import RateLimit
from localdev.dynamodb import create_tables
from localdev.engine import ApiError, Client, DynamoDb

DAY = 24 * 60 * 60
M1 = "01a20b18-76be-73f4-9340-55bd1f3d9f6e"
KEY = {"id": {"S": "k"}}


@pytest.fixture
def engine() -> DynamoDb:
    engine = DynamoDb(clock=lambda: 1_790_000_000.0)
    create_tables(Client(engine.call), {"WebsocketsTable": "websockets", "MessagesTable": "messages"})
    return engine


@pytest.fixture
def client(engine: DynamoDb) -> Any:
    return Client(engine.call)


@pytest.mark.parametrize(
    ("operation", "request_", "code", "named"),
    [
        ("TransactWriteItems", {}, "UnknownOperationException", "TransactWriteItems"),
        ("GetItem", {"TableName": "websockets"}, "ValidationException", "Key"),
        ("Query", {"TableName": "websockets", "IndexName": "i"}, "ValidationException", "IndexName"),
        (
            "UpdateItem",
            {"TableName": "websockets", "Key": KEY, "ReturnValues": "UPDATED_NEW"},
            "ValidationException",
            "UPDATED_NEW",
        ),
        (
            "UpdateItem",
            {"TableName": "websockets", "Key": KEY, "UpdateExpression": "REMOVE a.b"},
            "ValidationException",
            "document paths",
        ),
        (
            "UpdateItem",
            {"TableName": "websockets", "Key": KEY, "UpdateExpression": "SET a = list_append(a, b)"},
            "ValidationException",
            "list_append",
        ),
    ],
)
def test_unsupported_features_are_refused_by_name(
    operation: str, request_: dict[str, Any], code: str, named: str, engine: DynamoDb
) -> None:
    with pytest.raises(ApiError) as caught:
        engine.call(operation, request_)

    assert caught.value.code == code
    assert named in caught.value.message


def test_the_stores_work_over_its_client(client: Any) -> None:
    connections = ConnectionsTable(
        client, "websockets", player_seconds=DAY, rate=RateLimit(10, 5), connections_per_player=1
    )
    messages, sends = (
        MessagesTable(client, "messages", 3650 * DAY),
        IdempotencyTable(client, "websockets", DAY),
    )
    message = Message(M1, "2", "1", "hi", 1000)

    connections.register(Connection("c", "1", Endpoint("api", "dev"), 1000, {}))
    messages.put(message)

    assert DirectoryTable(client, "websockets").read(["1"])[0]["1"].connections == {"c"}
    assert connections.make_live("1", "c", StreamPosition("s", 7))
    assert messages.page("2", "0", None, 10).messages == (message,)
    assert (
        sends.claim("1", "u", Send("2", M1)) == sends.claim("1", "u", Send("2", "another")) == Send("2", M1)
    )


def test_an_injected_fault_reaches_the_stores(engine: DynamoDb) -> None:
    def throttled(operation: str, request: dict[str, Any]) -> Any:
        raise ApiError("ProvisionedThroughputExceededException", "too fast")

    with pytest.raises(Unavailable, match="ProvisionedThroughputExceededException"):
        MessagesTable(Client(throttled), "messages", DAY).page("2", "0", None, 10)


def test_returned_values_are_copies(client: Any) -> None:
    client.put_item(TableName="websockets", Item=KEY | {"m": {"M": {"x": {"SS": ["a"]}}}})

    client.get_item(TableName="websockets", Key=KEY)["Item"]["m"]["M"]["x"]["SS"].append("b")

    item = client.get_item(TableName="websockets", Key=KEY)["Item"]
    assert item["m"] == {"M": {"x": {"SS": ["a"]}}}


def test_the_stream_has_a_record_for_each_change_only(client: Any) -> None:
    key = {"destinationPlayerId": {"S": "1"}, "messageId": {"S": "m"}}
    for text in ("a", "a", "b"):
        client.put_item(TableName="messages", Item=key | {"text": {"S": text}})
    client.delete_item(TableName="messages", Key=key)
    client.delete_item(TableName="messages", Key=key)

    records = read_stream(client)

    assert [record["eventName"] for record in records] == ["INSERT", "MODIFY", "REMOVE"]
    images = [record["dynamodb"].get("NewImage", {}).get("text") for record in records]
    assert images == [{"S": "a"}, {"S": "b"}, None]
    assert [record["dynamodb"]["Keys"] for record in records] == [key] * 3
    numbers = [int(record["dynamodb"]["SequenceNumber"]) for record in records]
    assert numbers == sorted(set(numbers))


def read_stream(client: Any) -> list[Any]:
    arn = client.describe_table(TableName="messages")["Table"]["LatestStreamArn"]
    (shard,) = client.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = client.get_shard_iterator(
        StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    return list(client.get_records(ShardIterator=iterator)["Records"])


def test_an_error_has_the_members_that_boto3_gives_it(client: Any) -> None:
    with pytest.raises(ClientError) as caught:
        client.get_item(TableName="nowhere", Key=KEY)

    assert caught.value.operation_name == "GetItem"
    assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
