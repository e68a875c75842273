"""Attribute values in boto3's format, such as `{"S": "text"}`. Binary is bytes.

`checked` returns the engine's canonical form, with normalized numbers and sets as sorted lists, so that equal
values are equal dicts. The engine never changes a stored value, so items can share values.
"""

import re
from collections.abc import Mapping
from decimal import Context, Decimal, InvalidOperation
from typing import Any

from localdev.engine.errors import Invalid

Value = dict[str, Any]
Item = dict[str, Value]

SETS = {"SS": "S", "NS": "N", "BS": "B"}
"""The type of each set's members."""

ORDERED = ("S", "N", "B")
"""The types that have an order and can be keys."""

_TYPES: Mapping[str, Any] = {
    "S": str,
    "N": str,
    "B": bytes | bytearray,
    "BOOL": bool,
    "NULL": bool,
    "M": dict,
    "L": list,
    **dict.fromkeys(SETS, list | tuple | set | frozenset),
}
KINDS = tuple(_TYPES)
MAX_ITEM_BYTES = 400 * 1024
MAX_DEPTH = 32
MAX_DIGITS = 38
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,37}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_EXACT = Context(prec=400)


def kind_of(value: Value) -> str:
    """Return the value's type, such as "S"."""
    return next(iter(value))


def checked_item(attributes: Mapping[str, Any]) -> Item:
    """Return a copy of an item in canonical form. Raises Invalid."""
    return {name: checked(value) for name, value in attributes.items()}


def checked(value: Any, depth: int = 0) -> Value:
    """Return a copy of a value in canonical form. Raises Invalid."""
    if not isinstance(value, dict) or len(value) != 1:
        raise Invalid("Supplied AttributeValue must contain exactly one of the supported datatypes")
    ((kind, content),) = value.items()
    if kind == "S" and isinstance(content, str):  # By far the most common: worth its own line.
        return {"S": content}
    if kind not in _TYPES or not isinstance(content, _TYPES[kind]) or (kind == "NULL" and not content):
        raise Invalid(f"Supplied AttributeValue is not a value of the datatype {kind}")
    if depth > MAX_DEPTH:
        raise Invalid("Nesting Levels have exceeded supported limits")
    if kind == "N":
        return {"N": _canonical(content)}
    if kind == "M":
        return {"M": {name: checked(each, depth + 1) for name, each in content.items()}}
    if kind == "L":
        return {"L": [checked(each, depth + 1) for each in content]}
    if kind in SETS:
        return {kind: _members(SETS[kind], content)}
    return {kind: bytes(content) if kind == "B" else content}


def _members(kind: str, content: Any) -> list[Any]:
    members = {checked({kind: each})[kind] for each in content}
    if not members or len(members) < len(content):
        raise Invalid("One or more parameter values were invalid: a set is empty or contains duplicates")
    return sorted(members)


def _canonical(number: str) -> str:
    """Return a number in DynamoDB's notation. Raises Invalid if it isn't a number or out of range."""
    if _INTEGER.fullmatch(number):
        return number
    try:
        exact = Decimal(number if _NUMBER.fullmatch(number) else "").normalize(_EXACT)
    except InvalidOperation:
        raise Invalid(f"The parameter cannot be converted to a numeric value: {number}") from None
    if len(exact.as_tuple().digits) > MAX_DIGITS:
        raise Invalid("Attempting to store more than 38 significant digits in a Number")
    if exact and not -130 <= exact.adjusted() <= 125:
        raise Invalid("Number overflow. Attempting to store a number out of the supported range")
    return format(exact, "f") if exact else "0"


def _exact(number: str) -> int | Decimal:
    return int(number) if _INTEGER.fullmatch(number) else Decimal(number)


def add(number: str, other: str, sign: int = 1) -> str:
    """Return the sum, or the difference if `sign` is -1. Raises Invalid if it has too many digits."""
    one, two = _exact(number), sign * _exact(other)
    exactly = isinstance(one, int) and isinstance(two, int)
    return _canonical(str(one + two if exactly else _EXACT.add(Decimal(one), Decimal(two))))


def sort_key(value: Value) -> Any:
    """Return the comparable form of a value of an ordered type.

    DynamoDB compares the UTF-8 bytes of strings. Python compares code points, which gives the same order.
    """
    ((kind, content),) = value.items()
    return _exact(content) if kind == "N" else content


def copy_of(value: Value) -> Value:
    ((kind, content),) = value.items()
    if kind in ("S", "N"):
        return {kind: content}
    if kind == "M":
        return {"M": copy_of_item(content)}
    if kind == "L":
        return {"L": [copy_of(each) for each in content]}
    return {kind: list(content) if kind in SETS else content}


def copy_of_item(item: Item) -> Item:
    """Return a deep copy, which the caller can change."""
    return {name: copy_of(value) for name, value in item.items()}


def size_of_item(item: Item) -> int:
    """Return the size in bytes that counts towards the limits of items and pages."""
    size = 0
    for name, value in item.items():
        size += _length(name) + size_of(value)
    return size


def size_of(value: Value) -> int:
    ((kind, content),) = value.items()
    if kind == "S":
        return _length(content)
    if kind == "N":
        return len(content) // 2 + 1
    if kind == "M":
        return 3 + len(content) + size_of_item(content)
    if kind == "L":
        return 3 + sum(1 + size_of(each) for each in content)
    if kind in SETS:
        return sum(size_of({SETS[kind]: each}) for each in content)
    return len(content) if kind == "B" else 1


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
