"""Update expressions, read into changes of attributes that make a new item of an old one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from localdev.engine.errors import Invalid
from localdev.engine.reader import Given, Operand, Reader, getter
from localdev.engine.values import KINDS, SETS, Item, Value, add, kind_of

Change = tuple[str, Operand]
"""An attribute or its placeholder, and its value after the update by the item before it; None removes it."""


@dataclass(frozen=True, slots=True)
class Update:
    changes: tuple[Change, ...]

    def names(self, given: Given) -> list[str]:
        """Return the attributes that the update changes. Raise Invalid when it changes one twice."""
        names = [given.names.get(attribute, attribute) for attribute, _ in self.changes]
        if len(set(names)) < len(names):
            raise Invalid("Invalid UpdateExpression: Two document paths overlap with each other")
        return names

    def apply(self, item: Item, given: Given, names: list[str]) -> Item:
        """Return the item after the update. `names` are those of the changed attributes. Raise Invalid."""
        after = dict(item)
        for name, (_, change) in zip(names, self.changes, strict=True):
            value = change(item, given)
            if value is not None:
                after[name] = value
            else:
                after.pop(name, None)
        return after


class UpdateReader(Reader):
    def read(self) -> Update:
        clauses: dict[str, Callable[[], Change]] = {
            "SET": self._set,
            "REMOVE": lambda: (self.attribute(), lambda item, given: None),
            "ADD": lambda: self._combine("ADD", ("N", *SETS), _added),
            "DELETE": lambda: self._combine("DELETE", tuple(SETS), _without),
        }
        changes: list[Change] = []
        while self.peek():
            read = clauses.pop(self.next().upper(), None)
            if read is None:
                self.fail("SET, REMOVE, ADD or DELETE is expected, each of them once")
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
        """Read an operand of SET, or a call of `if_not_exists`."""
        function = self.called()
        if function is None:
            return self.operand(kinds, operator)
        if function != "if_not_exists":
            self.fail(f"the local DynamoDB does not support the function {function}")
        there = getter(self.attribute())
        self.expect(",")
        otherwise = self._term(kinds, operator)
        self.expect(")")

        def first_of_both(item: Item, given: Given) -> Value | None:
            value = there(item, given)
            return otherwise(item, given) if value is None else value

        return first_of_both

    def _combine(
        self, clause: str, kinds: tuple[str, ...], combine: Callable[[Value | None, Value], Value | None]
    ) -> Change:
        """Read an attribute and a value that together make what the attribute is afterwards."""
        attribute = self.attribute()
        there, name = getter(attribute), self.value(kinds, clause)
        return attribute, lambda item, given: combine(there(item, given), given.values[name])


def _sum(left: Operand, sign: int, right: Operand) -> Operand:
    def total(item: Item, given: Given) -> Value:
        return {"N": add(_content(left(item, given), "N"), _content(right(item, given), "N"), sign)}

    return total


def _added(there: Value | None, more: Value) -> Value:
    kind = kind_of(more)
    if there is None:
        return more
    content = _content(there, kind)
    return {kind: add(content, more[kind]) if kind == "N" else sorted({*content, *more[kind]})}


def _without(there: Value | None, fewer: Value) -> Value | None:
    """Return the set without these members, or None when no member is left: no set is empty."""
    kind = kind_of(fewer)
    left = [] if there is None else sorted({*_content(there, kind)} - {*fewer[kind]})
    return {kind: left} if left else None


def _existing(value: Value | None) -> Value:
    if value is None:
        raise Invalid("The provided expression refers to an attribute that does not exist in the item")
    return value


def _content(value: Value | None, kind: str) -> Any:
    """Return the content of a value of this kind. Raise Invalid for another kind, and for no value."""
    if kind not in _existing(value):
        raise Invalid("An operand in the update expression has an incorrect data type")
    return _existing(value)[kind]
