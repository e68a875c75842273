"""Compiles update expressions into functions that compute the new item from the old one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from localdev.engine.errors import Invalid
from localdev.engine.reader import Given, Operand, Reader, getter
from localdev.engine.values import KINDS, SETS, Item, Value, add, kind_of

Change = tuple[str, Operand]
"""An attribute or its placeholder, and a function from the old item to the new value; None removes it."""


@dataclass(frozen=True, slots=True)
class Update:
    """A compiled update expression."""

    changes: tuple[Change, ...]

    def names(self, given: Given) -> list[str]:
        """Return the names of the changed attributes. Raises Invalid if an attribute is changed twice."""
        names = [given.names.get(attribute, attribute) for attribute, _ in self.changes]
        if len(set(names)) < len(names):
            raise Invalid("Invalid UpdateExpression: Two document paths overlap with each other")
        return names

    def apply(self, item: Item, given: Given, names: list[str]) -> Item:
        """Return the updated item. `names` is the result of the method `names`. Raises Invalid."""
        after = dict(item)
        for name, (_, change) in zip(names, self.changes, strict=True):
            value = change(item, given)
            if value is not None:
                after[name] = value
            else:
                after.pop(name, None)
        return after


class UpdateReader(Reader):
    """Compiles an update expression. Every method raises Invalid for a syntax error."""

    def read(self) -> Update:
        clauses: dict[str, Callable[[], Change]] = {
            "SET": self._set,
            "REMOVE": lambda: (self.attribute(), lambda item, given: None),
            "ADD": lambda: self._combine("ADD", ("N", *SETS), _added),
            "DELETE": lambda: self._combine("DELETE", tuple(SETS), _difference),
        }
        changes: list[Change] = []
        while self.peek():
            read = clauses.pop(self.next().upper(), None)
            if read is None:
                self.fail("expected SET, REMOVE, ADD or DELETE, each at most once")
            changes += self.separated(read)
        return Update(tuple(changes))

    def _set(self) -> Change:
        attribute = self.attribute()
        self.expect("=")
        operand = self._term()
        sign = self.peek()
        if self.take("+") or self.take("-"):
            operand = _sum(operand, 1 if sign == "+" else -1, self._term(("N",), sign))
        return attribute, lambda item, given: _existing(operand(item, given))

    def _term(self, kinds: tuple[str, ...] = KINDS, operator: str = "") -> Operand:
        """Read an operand of SET, which can be a call of `if_not_exists`."""
        function = self.called()
        if function is None:
            return self.operand(kinds, operator)
        if function != "if_not_exists":
            self.fail(f"the local DynamoDB does not support the function {function}")
        current = getter(self.attribute())
        self.expect(",")
        default = self._term(kinds, operator)
        self.expect(")")

        def current_or_default(item: Item, given: Given) -> Value | None:
            value = current(item, given)
            return default(item, given) if value is None else value

        return current_or_default

    def _combine(
        self, clause: str, kinds: tuple[str, ...], combine: Callable[[Value | None, Value], Value | None]
    ) -> Change:
        """Read an attribute and a value. `combine` computes the new value from the old one and this value."""
        attribute = self.attribute()
        current, name = getter(attribute), self.value(kinds, clause)
        return attribute, lambda item, given: combine(current(item, given), given.values[name])


def _sum(left: Operand, sign: int, right: Operand) -> Operand:
    def total(item: Item, given: Given) -> Value:
        return {"N": add(_content(left(item, given), "N"), _content(right(item, given), "N"), sign)}

    return total


def _added(current: Value | None, addend: Value) -> Value:
    """Return the sum of numbers or the union of sets. Raises Invalid for different types."""
    kind = kind_of(addend)
    if current is None:
        return addend
    content = _content(current, kind)
    return {kind: add(content, addend[kind]) if kind == "N" else sorted({*content, *addend[kind]})}


def _difference(current: Value | None, members: Value) -> Value | None:
    """Return the set without `members`, or None if it would be empty. Raises Invalid for different types."""
    kind = kind_of(members)
    remaining = [] if current is None else sorted({*_content(current, kind)} - {*members[kind]})
    return {kind: remaining} if remaining else None


def _existing(value: Value | None) -> Value:
    if value is None:
        raise Invalid("The provided expression refers to an attribute that does not exist in the item")
    return value


def _content(value: Value | None, kind: str) -> Any:
    """Return the content of a value. Raises Invalid for None, and for a value of another type."""
    if kind not in _existing(value):
        raise Invalid("An operand in the update expression has an incorrect data type")
    return _existing(value)[kind]
