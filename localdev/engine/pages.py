"""Query and Scan, which return ordered items in pages."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

from localdev.engine.errors import Invalid
from localdev.engine.expressions import Expressions
from localdev.engine.items import Request, Response
from localdev.engine.keys import KeyPart, range_of
from localdev.engine.tables import Partition, Table
from localdev.engine.values import Item, copy_of_item, kind_of, size_of_item, sort_key

MAX_PAGE_BYTES = 1024 * 1024


def query(table: Table, request: Request, _now: float) -> Response:
    """Return a page of the items of one hash key, in the order of the sort key. Raises Invalid."""
    expressions = Expressions(request)
    keys = expressions.attributes("FilterExpression") & table.kinds.keys()
    if keys:
        raise Invalid(
            "Filter Expression can only contain non-primary key attributes:"
            f" Primary key attribute: {min(keys)}"
        )
    hash_key, sort_part = _key_condition(table, expressions)
    partition = table.partitions.get(hash_key, Partition())
    first, end = 0, len(partition.order)
    if sort_part is not None:
        bounds = [sort_key(expressions.given.values[placeholder]) for placeholder in sort_part.values]
        first, end = range_of(partition.order, sort_part.operator, bounds)
    forward = request.get("ScanIndexForward", True)
    if request.get("ExclusiveStartKey"):
        start = table.key_of(table.checked_key(request["ExclusiveStartKey"]))
        if start[0] != hash_key:
            raise Invalid(
                "The provided starting key is outside query boundaries based on provided conditions"
            )
        if forward:
            first = max(first, bisect_right(partition.order, start[1]))
        else:
            end = min(end, bisect_left(partition.order, start[1]))
    places = range(first, end) if forward else range(end - 1, first - 1, -1)
    items = (partition.items[partition.order[place]] for place in places)
    return _page(table, request, expressions, items)


def scan(table: Table, request: Request, _now: float) -> Response:
    """Return a page of the table's items in the order of their keys. Raises Invalid.

    On AWS the order depends on a hash of the key.
    """
    expressions = Expressions(request)
    start = None
    if request.get("ExclusiveStartKey"):
        start = table.key_of(table.checked_key(request["ExclusiveStartKey"]))
    items = (item for key, item in _in_order(table) if start is None or key > start)
    return _page(table, request, expressions, items)


def _in_order(table: Table) -> Iterator[tuple[tuple[Any, Any], Item]]:
    for hash_key in sorted(table.partitions):
        partition = table.partitions[hash_key]
        for key in partition.order:
            yield (hash_key, key), partition.items[key]


def _key_condition(table: Table, expressions: Expressions) -> tuple[Any, KeyPart | None]:
    """Return the condition's hash key, and its comparison of the sort key or None. Raises Invalid."""
    parts: list[KeyPart] = expressions.read.get("KeyConditionExpression") or []
    if not parts:
        raise Invalid("Either the KeyConditions or KeyConditionExpression parameter must be specified")
    given = expressions.given
    by_name = {given.names.get(part.attribute, part.attribute): part for part in parts}
    hash_part, sort_part = by_name.pop(table.hash_name, None), by_name.pop(table.sort_name or "", None)
    if hash_part is None:
        raise Invalid(f"Query condition missed key schema element: {table.hash_name}")
    if by_name or len(parts) > 2 or (len(parts) == 2 and sort_part is None):
        raise Invalid("Query key condition not supported")
    if hash_part.operator != "=":
        raise Invalid("Query key condition not supported")
    for part, name in ((hash_part, table.hash_name), (sort_part, table.sort_name)):
        for placeholder in () if part is None else part.values:
            if kind_of(given.values[placeholder]) != table.kinds[name or ""]:
                raise Invalid(
                    "One or more parameter values were invalid:"
                    " Condition parameter type does not match schema type"
                )
    return sort_key(given.values[hash_part.values[0]]), sort_part


def _page(table: Table, request: Request, expressions: Expressions, items: Iterable[Item]) -> Response:
    condition = expressions.read.get("FilterExpression")
    limit = request.get("Limit")
    if limit is not None and limit < 1:
        raise Invalid("Limit must be greater than or equal to 1")
    found: list[Item] = []
    read = size = 0
    last: Item | None = None
    for item in items:
        size += size_of_item(item)
        if read == limit or size > MAX_PAGE_BYTES:
            break
        read, last = read + 1, item
        if condition is None or condition(item, expressions.given):
            found.append(item)
    else:  # If the last item reaches the limit, AWS still returns a LastEvaluatedKey.
        last = last if read == limit else None
    response: Response = {"Count": len(found), "ScannedCount": read}
    if request.get("Select") != "COUNT":
        response["Items"] = [expressions.projected(item) for item in found]
    if last is not None:
        response["LastEvaluatedKey"] = copy_of_item(table.keys_of(last))
    return response
