"""Reads key conditions, which select one hash key and a range of sort keys."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

from localdev.engine.reader import Reader

OPERATORS = ("=", "<", "<=", ">", ">=")


class KeyPart(NamedTuple):
    """One comparison. `attribute` is a name or its placeholder, and `values` are placeholders of values."""

    attribute: str
    operator: str
    values: tuple[str, ...]


class KeyConditionReader(Reader):
    """Reads a key condition into its comparisons. Every method raises Invalid for a syntax error."""

    def read(self) -> list[KeyPart]:
        parts = self.separated(self._part, "AND")
        self.expect_end()
        return parts

    def _part(self) -> KeyPart:
        if self.take("("):
            part = self._part()
            self.expect(")")
            return part
        if self.called() == "begins_with":
            attribute = self.attribute()
            self.expect(",")
            prefix = self.value(("S", "B"), "begins_with")
            self.expect(")")
            return KeyPart(attribute, "begins_with", (prefix,))
        attribute = self.attribute()
        operator = self.next().upper()
        if operator == "BETWEEN":
            low = self.value()
            self.expect("AND")
            self.ranges.append((low, self.value()))
            return KeyPart(attribute, operator, self.ranges[-1])
        if operator not in OPERATORS:
            self.fail("Invalid operator used in KeyConditionExpression: " + operator)
        return KeyPart(attribute, operator, (self.value(),))


def range_of(order: Sequence[Any], operator: str, bounds: Sequence[Any]) -> tuple[int, int]:
    """Return the first index of the matching sort keys in `order`, and the index after the last one."""
    low, high = bounds[0], bounds[-1]
    if operator == "begins_with":
        first = end = bisect_left(order, low)
        while end < len(order) and order[end].startswith(low):
            end += 1
        return first, end
    first = bisect_right(order, low) if operator == ">" else bisect_left(order, low)
    end = bisect_left(order, high) if operator == "<" else bisect_right(order, high)
    return 0 if operator in ("<", "<=") else first, len(order) if operator in (">", ">=") else end
