"""Dispatches operations by name, and rejects unsupported operations and parameters."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from localdev.engine import batches, definitions, items, pages, streams
from localdev.engine.errors import ApiError, Invalid
from localdev.engine.items import Request, Response
from localdev.engine.tables import Table, Tables


class DynamoDb:
    """The engine. It isn't thread-safe, so the caller must make one call at a time.

    `clock` returns epoch seconds. `on_change` is called after each change to a table with a stream.
    """

    def __init__(
        self, clock: Callable[[], float] = time.time, on_change: Callable[[], object] = lambda: None
    ) -> None:
        self.tables = Tables()
        self.clock = clock
        self.on_change = on_change

    def call(self, operation: str, request: Request) -> Response:
        """Return the response to a request, both in boto3's format. Raises ApiError."""
        known = OPERATIONS.get(operation)
        if known is None:
            raise ApiError("UnknownOperationException", f"the local DynamoDB does not support {operation}")
        known.check(operation, request)
        return known.run(self, request)


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation and its parameters. `choices` has the supported values of restricted parameters."""

    run: Callable[[DynamoDb, Request], Response]
    required: frozenset[str]
    optional: frozenset[str]
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def check(self, name: str, request: Request) -> None:
        """Raise Invalid if a parameter is missing, or a parameter or its value isn't supported."""
        given = request.keys()
        if not self.required <= given:
            raise Invalid(f"{name} needs the parameter {min(self.required - given)}")
        if len(given) > len(self.required) and not given - self.required <= self.optional:
            unknown = min(given - self.required - self.optional)
            raise Invalid(f"the local DynamoDB does not support {name} with the parameter {unknown}")
        for parameter, values in self.choices.items():
            if request.get(parameter, values[0]) not in values:
                raise Invalid(
                    f"the local DynamoDB does not support {name} with {parameter} {request[parameter]!r}"
                )


def _create_table(db: DynamoDb, request: Request) -> Response:
    table = definitions.new_table(request, db.clock())
    if table.name in db.tables:
        raise ApiError("ResourceInUseException", f"Table already exists: {table.name}")
    table.on_change = db.on_change
    db.tables[table.name] = table
    return {"TableDescription": definitions.described(table)}


def _delete_table(db: DynamoDb, request: Request) -> Response:
    table = db.tables.pop(db.tables.find(request["TableName"]).name)
    return {"TableDescription": definitions.described(table)}


def _list_tables(db: DynamoDb, request: Request) -> Response:
    names = sorted(name for name in db.tables if name > request.get("ExclusiveStartTableName", ""))
    limit = request.get("Limit", 100)
    more = {"LastEvaluatedTableName": names[limit - 1]} if len(names) > limit else {}
    return {"TableNames": names[:limit], **more}


def _list_streams(db: DynamoDb, request: Request) -> Response:
    tables = [table for table in db.tables.values() if table.has_stream]
    wanted = request.get("TableName")
    return {"Streams": [streams.listed(table) for table in tables if wanted in (None, table.name)]}


def _describe_stream(db: DynamoDb, request: Request) -> Response:
    return streams.described(db.tables.with_stream(request["StreamArn"]), request)


def _shard_iterator(db: DynamoDb, request: Request) -> Response:
    return streams.shard_iterator(db.tables.with_stream(request["StreamArn"]), request)


def _records(db: DynamoDb, request: Request) -> Response:
    arn, place = streams.stream_of(request["ShardIterator"])
    return streams.records(db.tables.with_stream(arn), place, request.get("Limit", streams.MAX_RECORDS))


def _on_table(
    operate: Callable[[Table, Request, float], Response],
) -> Callable[[DynamoDb, Request], Response]:
    return lambda db, request: operate(db.tables.find(request["TableName"]), request, db.clock())


def _on_tables(
    operate: Callable[[Tables, Request, float], Response],
) -> Callable[[DynamoDb, Request], Response]:
    return lambda db, request: operate(db.tables, request, db.clock())


_NAMES = frozenset({"ExpressionAttributeNames"})
_PROJECTION = _NAMES | {"ConsistentRead", "ProjectionExpression"}
_CONDITION = _NAMES | {
    "ConditionExpression",
    "ExpressionAttributeValues",
    "ReturnValues",
    "ReturnValuesOnConditionCheckFailure",
}
_PAGE = _PROJECTION | {
    "ExclusiveStartKey",
    "ExpressionAttributeValues",
    "FilterExpression",
    "Limit",
    "Select",
}
_TABLE = frozenset({"TableName"})
_KEY = _TABLE | {"Key"}
_RETURNED = {"ReturnValues": ("NONE", "ALL_OLD"), "ReturnValuesOnConditionCheckFailure": ("NONE", "ALL_OLD")}
_SELECTED = {"Select": ("ALL_ATTRIBUTES", "COUNT")}
_NONE: frozenset[str] = frozenset()

OPERATIONS: Mapping[str, Operation] = {
    "GetItem": Operation(_on_table(items.get_item), _KEY, _PROJECTION),
    "PutItem": Operation(_on_table(items.put_item), _TABLE | {"Item"}, _CONDITION, _RETURNED),
    "DeleteItem": Operation(_on_table(items.delete_item), _KEY, _CONDITION, _RETURNED),
    "UpdateItem": Operation(
        _on_table(items.update_item),
        _KEY,
        _CONDITION | {"UpdateExpression"},
        _RETURNED | {"ReturnValues": ("NONE", "ALL_OLD", "ALL_NEW")},
    ),
    "BatchGetItem": Operation(_on_tables(batches.batch_get_item), frozenset({"RequestItems"}), _NONE),
    "BatchWriteItem": Operation(_on_tables(batches.batch_write_item), frozenset({"RequestItems"}), _NONE),
    "Query": Operation(
        _on_table(pages.query), _TABLE, _PAGE | {"KeyConditionExpression", "ScanIndexForward"}, _SELECTED
    ),
    "Scan": Operation(_on_table(pages.scan), _TABLE, _PAGE, _SELECTED),
    "CreateTable": Operation(
        _create_table,
        _TABLE | {"AttributeDefinitions", "KeySchema"},
        frozenset({"BillingMode", "StreamSpecification"}),
    ),
    "DescribeTable": Operation(
        _on_table(lambda table, request, now: {"Table": definitions.described(table)}), _TABLE, _NONE
    ),
    "DeleteTable": Operation(_delete_table, _TABLE, _NONE),
    "ListTables": Operation(_list_tables, _NONE, frozenset({"ExclusiveStartTableName", "Limit"})),
    "UpdateTimeToLive": Operation(
        _on_table(definitions.update_time_to_live), _TABLE | {"TimeToLiveSpecification"}, _NONE
    ),
    "DescribeTimeToLive": Operation(_on_table(definitions.describe_time_to_live), _TABLE, _NONE),
    "ListStreams": Operation(_list_streams, _NONE, frozenset({"TableName"})),
    "DescribeStream": Operation(
        _describe_stream, frozenset({"StreamArn"}), frozenset({"ExclusiveStartShardId", "Limit"})
    ),
    "GetShardIterator": Operation(
        _shard_iterator,
        frozenset({"StreamArn", "ShardId", "ShardIteratorType"}),
        frozenset({"SequenceNumber"}),
    ),
    "GetRecords": Operation(_records, frozenset({"ShardIterator"}), frozenset({"Limit"})),
}
