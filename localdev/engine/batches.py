"""BatchGetItem and BatchWriteItem."""

from collections.abc import Mapping
from typing import Any

from localdev.engine.errors import Invalid
from localdev.engine.expressions import Expressions
from localdev.engine.items import Request, Response
from localdev.engine.tables import Key, Table, Tables
from localdev.engine.values import Item, checked_item

MAX_KEYS = 100
MAX_WRITES = 25
READ_PARAMETERS = frozenset({"Keys", "ConsistentRead", "ProjectionExpression", "ExpressionAttributeNames"})


def batch_get_item(tables: Tables, request: Request, _now: float) -> Response:
    """Return all existing items. UnprocessedKeys is always empty. Raises Invalid and NotFound."""
    requested: Mapping[str, Mapping[str, Any]] = request["RequestItems"]
    if sum(len(read["Keys"]) for read in requested.values()) > MAX_KEYS:
        raise Invalid("Too many items requested for the BatchGetItem call")
    responses = {}
    for name, read in requested.items():
        unknown = read.keys() - READ_PARAMETERS
        if unknown:
            raise Invalid(f"the local DynamoDB does not support BatchGetItem with {min(unknown)}")
        table, expressions = tables.find(name), Expressions(read)
        keys = [table.key_of(table.checked_key(key)) for key in read["Keys"]]
        if len(set(keys)) < len(keys):
            raise Invalid("Provided list of item keys contains duplicates")
        found = [table.get(key) for key in keys]
        responses[name] = [expressions.projected(item) for item in found if item is not None]
    return {"Responses": responses, "UnprocessedKeys": {}}


def batch_write_item(tables: Tables, request: Request, now: float) -> Response:
    """Validate all writes, then apply them. UnprocessedItems is always empty. Raises Invalid and NotFound."""
    requested: Mapping[str, list[Mapping[str, Any]]] = request["RequestItems"]
    if not 1 <= sum(map(len, requested.values())) <= MAX_WRITES:
        raise Invalid("Too many items requested for the BatchWriteItem call")
    writes: dict[tuple[str, Key], tuple[Table, Item | None]] = {}
    for name, requests in requested.items():
        table = tables.find(name)
        for write in requests:
            key, new = _write(table, write)
            if (table.name, key) in writes:
                raise Invalid("Provided list of item keys contains duplicates")
            writes[table.name, key] = table, new
    for (_, key), (table, new) in writes.items():
        table.replace(key, table.get(key), new, now)
    return {"UnprocessedItems": {}}


def _write(table: Table, write: Mapping[str, Any]) -> tuple[Key, Item | None]:
    if write.keys() == {"PutRequest"}:
        item = table.with_checked_key(checked_item(write["PutRequest"]["Item"]))
        return table.key_of(item), item
    if write.keys() == {"DeleteRequest"}:
        return table.key_of(table.checked_key(write["DeleteRequest"]["Key"])), None
    raise Invalid("A write must have a PutRequest or a DeleteRequest")
