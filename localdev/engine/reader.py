"""Reading expressions: tokens, attributes, operands and calls of functions.

A reader turns a text into functions of an item and of what the request gives by name, so that each wording is
read once and evaluated many times. Document paths, into maps and lists, are not supported.
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
    """Reads one expression from left to right. Every method raises Invalid at a syntax error.

    `names`, `values` and `attributes` are what the expression uses: placeholders of names and of values, and
    the attributes, by name or placeholder. `kinds` are what its values must be: a placeholder, the allowed
    kinds, and the operator that allows no others. `ranges` are the bounds of BETWEEN that are both values;
    `distinct` are attributes that must not be the same one.
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
        """Return the next token, or an empty text at the end."""
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def next(self) -> str:
        token = self.peek()
        if not token:
            self.unexpected()
        self._position += 1
        return token

    def take(self, token: str) -> bool:
        """Move behind the token, a sign or a keyword, if it is the next one."""
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
        """Read one or more."""
        found = [read()]
        while self.take(separator):
            found.append(read())
        return found

    def attribute(self) -> str:
        """Read an attribute's name or its placeholder, and return it."""
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
        """Read the placeholder of a value that must have one of the kinds, and return it."""
        name = self.peek()
        if not name.startswith(":"):
            self.unexpected()
        self.values.add(name)
        if kinds is not KINDS:
            self.kinds.append((name, kinds, operator))
        return self.next()

    def operand(self, kinds: Sequence[str] = KINDS, operator: str = "") -> Operand:
        """Read an attribute or a value. `kinds` and `operator` are about a value."""
        if not self.peek().startswith(":"):
            return getter(self.attribute())
        name = self.value(kinds, operator)
        return lambda item, given: given.values[name]

    def called(self) -> str | None:
        """Move behind a function's name and its parenthesis. Return the name; None if nothing is called."""
        if self._tokens[self._position + 1 : self._position + 2] != ["("]:
            return None
        name = self.next()
        self.expect("(")
        return name


def getter(attribute: str) -> Operand:
    """Return the function that finds the attribute's value, or None."""
    if attribute[0] == "#":
        return lambda item, given: item.get(given.names[attribute])
    return lambda item, given: item.get(attribute)
