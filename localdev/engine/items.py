"""Operations on single items. Each raises Invalid, and the writes also ConditionalCheckFailedException."""

from collections.abc import Callable, Mapping
from typing import Any

from localdev.engine.errors import ApiError, Invalid
from localdev.engine.expressions import Expressions
from localdev.engine.tables import Key, Table
from localdev.engine.values import MAX_ITEM_BYTES, Item, checked_item, copy_of_item, size_of_item

Request = Mapping[str, Any]
Response = dict[str, Any]


def get_item(table: Table, request: Request, _now: float) -> Response:
    expressions = Expressions(request)
    item = table.get(table.key_of(table.checked_key(request["Key"])))
    return {} if item is None else {"Item": expressions.projected(item)}


def put_item(table: Table, request: Request, now: float) -> Response:
    expressions = Expressions(request)
    item = table.with_checked_key(checked_item(request["Item"]))
    return _write(table, request, expressions, table.key_of(item), lambda old: item, now)


def delete_item(table: Table, request: Request, now: float) -> Response:
    expressions = Expressions(request)
    key = table.key_of(table.checked_key(request["Key"]))
    return _write(table, request, expressions, key, lambda old: None, now)


def update_item(table: Table, request: Request, now: float) -> Response:
    expressions = Expressions(request)
    key = table.checked_key(request["Key"])
    update, given = expressions.read.get("UpdateExpression"), expressions.given
    names = [] if update is None else update.names(given)
    if not table.kinds.keys().isdisjoint(names):
        raise Invalid("One or more parameter values were invalid: Cannot update attributes of the key")

    def updated(old: Item | None) -> Item:
        item = key if old is None else old
        return item if update is None else update.apply(item, given, names)

    return _write(table, request, expressions, table.key_of(key), updated, now)


def _write(
    table: Table,
    request: Request,
    expressions: Expressions,
    key: Key,
    new_item: Callable[[Item | None], Item | None],
    now: float,
) -> Response:
    old = table.get(key)
    condition = expressions.read.get("ConditionExpression")
    if condition is not None and not condition(old or {}, expressions.given):
        with_old = old is not None and request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
        more = {"Item": copy_of_item(old)} if with_old and old is not None else {}
        raise ApiError("ConditionalCheckFailedException", "The conditional request failed", **more)
    new = new_item(old)
    if new is not None and size_of_item(new) > MAX_ITEM_BYTES:
        raise Invalid("Item size has exceeded the maximum allowed size")
    table.replace(key, old, new, now)
    returned = {"ALL_OLD": old, "ALL_NEW": new}.get(request.get("ReturnValues", "NONE"))
    return {} if returned is None else {"Attributes": copy_of_item(returned)}
