"""Compiles the expressions of a request, and caches them by their text."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from localdev.engine.conditions import ConditionReader
from localdev.engine.errors import Invalid
from localdev.engine.keys import KeyConditionReader
from localdev.engine.reader import Given, Reader
from localdev.engine.updates import UpdateReader
from localdev.engine.values import Item, checked_item, copy_of_item, kind_of, sort_key

CACHE_SIZE = 2000


class ProjectionReader(Reader):
    """Reads a projection into a list of attributes or their placeholders. Raises Invalid."""

    def read(self) -> list[str]:
        attributes = self.separated(self.attribute)
        self.expect_end()
        return attributes


_READERS: Mapping[str, type[Any]] = {
    "ConditionExpression": ConditionReader,
    "FilterExpression": ConditionReader,
    "KeyConditionExpression": KeyConditionReader,
    "ProjectionExpression": ProjectionReader,
    "UpdateExpression": UpdateReader,
}


@lru_cache(CACHE_SIZE)
def _read(parameter: str, text: str) -> tuple[Any, Reader]:
    reader = _READERS[parameter](parameter, text)
    return reader.read(), reader


class Expressions:
    """The compiled expressions of a request by parameter, with the request's names and values."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        """Compile and validate all expressions of the request. Raises Invalid."""
        values = checked_item(request.get("ExpressionAttributeValues") or {})
        self.given = Given(request.get("ExpressionAttributeNames") or {}, values)
        self.read: dict[str, Any] = {}
        self._readers: dict[str, Reader] = {}
        for parameter in _READERS:
            if parameter in request:
                self.read[parameter], self._readers[parameter] = _read(parameter, request[parameter])
        if not self._readers and not self.given.names and not values:
            return
        for placeholders, given in (("names", self.given.names), ("values", self.given.values)):
            used: set[str] = set().union(
                *(getattr(reader, placeholders) for reader in self._readers.values())
            )
            if used != given.keys():
                raise Invalid(
                    f"ExpressionAttribute{placeholders.capitalize()} unused in expressions, or not defined:"
                    f" keys: {{{', '.join(sorted(used ^ given.keys()))}}}"
                )
        for reader in self._readers.values():
            self._check_values(reader)

    def attributes(self, parameter: str) -> set[str]:
        """Return the names of the attributes that an expression uses."""
        reader = self._readers.get(parameter)
        return set() if reader is None else {self._name(each) for each in reader.attributes}

    def projected(self, item: Item) -> Item:
        """Return a copy of the item with only the projection's attributes, or with all if there is none."""
        attributes = self.read.get("ProjectionExpression")
        if attributes is None:
            return copy_of_item(item)
        names = [self._name(attribute) for attribute in attributes]
        return copy_of_item({name: item[name] for name in names if name in item})

    def _check_values(self, reader: Reader) -> None:
        values = self.given.values
        for placeholder, kinds, operator in reader.kinds:
            if kind_of(values[placeholder]) not in kinds:
                reader.fail(
                    "Incorrect operand type for operator or function;"
                    f" operator or function: {operator}, operand type: {kind_of(values[placeholder])}"
                )
        for low, high in reader.ranges:
            if kind_of(values[low]) != kind_of(values[high]) or sort_key(values[low]) > sort_key(
                values[high]
            ):
                reader.fail("The BETWEEN operator requires bounds of one type, the upper not below the lower")
        for attribute, other in reader.distinct:
            if self._name(attribute) == self._name(other):
                reader.fail(
                    "The first operand must be distinct from the remaining operands for this operator"
                )

    def _name(self, attribute: str) -> str:
        """Return the attribute's name, given the name or its placeholder."""
        return self.given.names.get(attribute, attribute)
