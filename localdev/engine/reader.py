"""The base of all expression readers: tokens, attributes, operands and function calls.

A reader compiles an expression into functions of an item and the request's names and values. So an expression
is compiled once and evaluated many times. Document paths (into maps and lists) are not supported.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from localdev.engine.errors import Invalid
from localdev.engine.values import KINDS, Item, Value

MAX_EXPRESSION_BYTES = 4096
RESERVED_WORDS = frozenset((Path(__file__).parent / "reserved_words.txt").read_text(encoding="utf-8").split())
_TOKEN = re.compile(r"\s*([#:]?[A-Za-z0-9_]+|<=|>=|<>|\S)")


@dataclass(frozen=True, slots=True)
class Given:
    """ExpressionAttributeNames and the checked ExpressionAttributeValues of a request."""

    names: Mapping[str, str]
    values: Mapping[str, Value]


Operand = Callable[[Item, Given], Value | None]


@dataclass(slots=True)
class Reader:
    """Reads an expression from left to right. Every method raises Invalid for a syntax error.

    The collections describe the expression, for checks that need the request's values:

    - `names` and `values` have the placeholders, and `attributes` the attributes (name or placeholder).
    - `kinds` has, for each restricted value, its placeholder, the allowed types, and the operator.
    - `ranges` has the bounds of each BETWEEN whose bounds are both values.
    - `distinct` has pairs of attributes that must differ.
    """

    parameter: str
    text: str
    names: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    kinds: list[tuple[str, Sequence[str], str]] = field(default_factory=list)
    ranges: list[tuple[str, str]] = field(default_factory=list)
    distinct: list[tuple[str, str]] = field(default_factory=list)
    _tokens: list[str] = field(init=False)
    _position: int = 0

    def __post_init__(self) -> None:
        self._tokens = _TOKEN.findall(self.text)
        if not self._tokens or len(self.text.encode()) > MAX_EXPRESSION_BYTES:
            self.fail(f"The expression is empty, or over {MAX_EXPRESSION_BYTES} bytes")

    def fail(self, reason: str) -> NoReturn:
        raise Invalid(f"Invalid {self.parameter}: {reason}")

    def unexpected(self) -> NoReturn:
        self.fail(f'Syntax error; token: "{self.peek() or "<EOF>"}"')

    def peek(self) -> str:
        """Return the next token without consuming it, or an empty string at the end."""
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def next(self) -> str:
        token = self.peek()
        if not token:
            self.unexpected()
        self._position += 1
        return token

    def take(self, token: str) -> bool:
        """Consume the next token if it is this sign or keyword. Return whether it was."""
        is_next = self.peek().upper() == token
        self._position += is_next
        return is_next

    def expect(self, token: str) -> None:
        if not self.take(token):
            self.unexpected()

    def expect_end(self) -> None:
        if self.peek():
            self.unexpected()

    def separated(self, read: Callable[[], Any], separator: str = ",") -> list[Any]:
        """Call `read` for one or more elements between separators, and return the results."""
        found = [read()]
        while self.take(separator):
            found.append(read())
        return found

    def attribute(self) -> str:
        """Read an attribute, and return its name or placeholder."""
        name = self.peek()
        if name.startswith("#"):
            self.names.add(name)
        elif not name[:1].isalpha():
            self.unexpected()
        elif name.upper() in RESERVED_WORDS:
            self.fail(f"Attribute name is a reserved keyword; reserved keyword: {name}")
        self.attributes.add(self.next())
        if self.peek() in (".", "["):
            self.fail("the local DynamoDB does not support document paths")
        return name

    def value(self, kinds: Sequence[str] = KINDS, operator: str = "") -> str:
        """Read the placeholder of a value, and return it. The value's type must be in `kinds`."""
        name = self.peek()
        if not name.startswith(":"):
            self.unexpected()
        self.values.add(name)
        if kinds is not KINDS:
            self.kinds.append((name, kinds, operator))
        return self.next()

    def operand(self, kinds: Sequence[str] = KINDS, operator: str = "") -> Operand:
        """Read an attribute or a value, and return its operand. `kinds` and `operator` restrict values."""
        if not self.peek().startswith(":"):
            return getter(self.attribute())
        name = self.value(kinds, operator)
        return lambda item, given: given.values[name]

    def called(self) -> str | None:
        """Consume a function's name and opening parenthesis. Return the name, or None if there is no call."""
        if self._tokens[self._position + 1 : self._position + 2] != ["("]:
            return None
        name = self.next()
        self.expect("(")
        return name


def getter(attribute: str) -> Operand:
    """Return a function that returns the attribute's value, or None if the item lacks it."""
    if attribute[0] == "#":
        return lambda item, given: item.get(given.names[attribute])
    return lambda item, given: item.get(attribute)
