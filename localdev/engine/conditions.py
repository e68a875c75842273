"""Compiles condition and filter expressions into predicates on items."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any

from localdev.engine.reader import Given, Operand, Reader, getter
from localdev.engine.values import KINDS, ORDERED, SETS, Item, Value, kind_of, sort_key

Condition = Callable[[Item, Given], bool]

INEQUALITIES: Mapping[str, Callable[[Any, Any], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}


@dataclass(slots=True)
class ConditionReader(Reader):
    """Compiles a condition. Every method raises Invalid for a syntax error."""

    _last_parenthesis: tuple[int, int] = (0, 0)
    """The first and last position of the most recent parenthesis."""

    def read(self) -> Condition:
        whole = self._any_of()
        self.expect_end()
        return whole

    def _any_of(self) -> Condition:
        conditions = self.separated(self._all_of, "OR")
        if len(conditions) == 1:
            return conditions[0]  # type: ignore[no-any-return]
        return lambda item, given: any(condition(item, given) for condition in conditions)

    def _all_of(self) -> Condition:
        conditions = self.separated(self._negation, "AND")
        if len(conditions) == 1:
            return conditions[0]  # type: ignore[no-any-return]
        return lambda item, given: all(condition(item, given) for condition in conditions)

    def _negation(self) -> Condition:
        if self.take("NOT"):
            return _not(self._negation())
        if self.peek() == "(":
            return self._parenthesis()
        return self._comparison()

    def _parenthesis(self) -> Condition:
        begin = self._position
        self.expect("(")
        condition = self._any_of()
        self.expect(")")
        if self._last_parenthesis == (begin + 1, self._position - 1):
            self.fail("The expression has redundant parentheses;")
        self._last_parenthesis = (begin, self._position)
        return condition

    def _comparison(self) -> Condition:
        function = self.called()
        if function is not None and function != "size":
            return self._function(function)
        left = self.operand() if function is None else self._size()
        operator = self.next().upper()
        if operator in INEQUALITIES:
            return _inequality(left, operator, self._right(ORDERED, operator))
        if operator == "=":
            return _equality(left, self._right())
        if operator == "<>":
            return _not(_equality(left, self._right()))
        if operator == "BETWEEN":
            low = self.peek()
            at_least = _inequality(left, ">=", self._right(ORDERED, operator))
            self.expect("AND")
            if low.startswith(":") and self.peek().startswith(":"):
                self.ranges.append((low, self.peek()))
            at_most = _inequality(left, "<=", self._right(ORDERED, operator))
            return lambda item, given: at_least(item, given) and at_most(item, given)
        if operator != "IN":
            self.fail(f'Syntax error; token: "{operator}"')
        self.expect("(")
        equalities = [_equality(left, operand) for operand in self.separated(self._right)]
        self.expect(")")
        return lambda item, given: any(equal(item, given) for equal in equalities)

    def _right(self, kinds: Sequence[str] = KINDS, operator: str = "") -> Operand:
        function = self.called()
        if function is None:
            return self.operand(kinds, operator)
        if function != "size":
            self.fail(f"The function is not allowed to be used this way; function: {function}")
        return self._size()

    def _size(self) -> Operand:
        """Read the argument of `size` and the closing parenthesis."""
        operand = getter(self.attribute())
        self.expect(")")
        return lambda item, given: _size_of(operand(item, given))

    def _function(self, name: str) -> Condition:
        """Read the arguments of a function that returns a boolean, and the closing parenthesis."""
        if name not in _FUNCTIONS:
            self.fail(f"Invalid function name; function: {name}")
        attribute = self.attribute()
        operand = getter(attribute)
        if name in ("attribute_exists", "attribute_not_exists"):
            condition = _exists(operand) if name == "attribute_exists" else _not(_exists(operand))
        elif name == "begins_with":
            self.expect(",")
            condition = _begins_with(operand, self.operand(("S", "B"), name))
        else:
            self.expect(",")
            if not self.peek().startswith(":"):
                self.distinct.append((attribute, self.peek()))
            condition = _contains(operand, self.operand())
        self.expect(")")
        return condition


_FUNCTIONS = ("attribute_exists", "attribute_not_exists", "begins_with", "contains")


def _not(condition: Condition) -> Condition:
    return lambda item, given: not condition(item, given)


def _exists(operand: Operand) -> Condition:
    return lambda item, given: operand(item, given) is not None


def _equality(left: Operand, right: Operand) -> Condition:
    def equality(item: Item, given: Given) -> bool:
        value = left(item, given)
        return value is not None and value == right(item, given)

    return equality


def _inequality(left: Operand, operator: str, right: Operand) -> Condition:
    compare = INEQUALITIES[operator]

    def inequality(item: Item, given: Given) -> bool:
        one, two = left(item, given), right(item, given)
        if one is None or two is None or kind_of(one) != kind_of(two) or kind_of(one) not in ORDERED:
            return False
        return compare(sort_key(one), sort_key(two))

    return inequality


def _size_of(value: Value | None) -> Value | None:
    """Return the value's size as a number value, or None for a type without a size."""
    if value is None or kind_of(value) in ("N", "BOOL", "NULL"):
        return None
    return {"N": str(len(value[kind_of(value)]))}


def _contains(left: Operand, right: Operand) -> Condition:
    def contains(item: Item, given: Given) -> bool:
        whole, part = left(item, given), right(item, given)
        if whole is None or part is None:
            return False
        ((kind, content),) = whole.items()
        if kind == "L":
            return part in content
        member = SETS.get(kind, kind)
        return member in ORDERED and kind != "N" and member in part and part[member] in content

    return contains


def _begins_with(left: Operand, right: Operand) -> Condition:
    def begins_with(item: Item, given: Given) -> bool:
        whole, prefix = left(item, given), right(item, given)
        if whole is None or prefix is None or kind_of(whole) != kind_of(prefix):
            return False
        kind = kind_of(whole)
        return kind in ("S", "B") and bool(whole[kind].startswith(prefix[kind]))

    return begins_with
