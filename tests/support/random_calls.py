"""Random DynamoDB calls that the embedded engine supports, with few keys and some mistakes."""

import base64
from random import Random
from typing import Any

Call = tuple[str, dict[str, Any]]

TABLES: dict[str, list[tuple[str, str]]] = {
    "by-text": [("id", "S")],
    "by-text-and-text": [("id", "S"), ("at", "S")],
    "by-text-and-number": [("id", "S"), ("at", "N")],
    "by-binary": [("id", "B")],
}
"""The keys of each table with their kinds: the hash key, then the sort key."""

ATTRIBUTES = ("a", "b", "c", "#name", "#d")
NAMES = {"#name": "name", "#d": "d"}
TEXTS = ("a", "ab", "b", "é", "", "\U0001f600", "z" * 20)
NUMBERS = ("0", "1", "-1", "2", "10", "1.50", "1e3", "-0", "007", ".5", "1e-7", "9" * 38, "1E125")
BAD_NUMBERS = ("", "x", "1e999", "9" * 39, "NaN", " 1", "1_0")
BYTES = (b"\x00", b"\x00\x01", b"a")
INEQUALITIES = ("<", "<=", ">", ">=")


def create_tables() -> list[Call]:
    """Return the calls that make the tables."""
    roles = ("HASH", "RANGE")
    return [
        (
            "CreateTable",
            {
                "TableName": table,
                "BillingMode": "PAY_PER_REQUEST",
                "KeySchema": [
                    {"AttributeName": name, "KeyType": role}
                    for (name, _), role in zip(keys, roles, strict=False)
                ],
                "AttributeDefinitions": [{"AttributeName": n, "AttributeType": kind} for n, kind in keys],
            },
        )
        for table, keys in TABLES.items()
    ]


class RandomCalls:
    """Makes calls; equal seeds make equal calls. Binary values are base64, as in HTTP."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._names: dict[str, str] = {}
        self._values: dict[str, Any] = {}

    def next(self) -> Call:
        self._names, self._values = {}, {}
        table = self._random.choice(list(TABLES))
        make = self._random.choices(
            (
                self._put,
                self._update,
                self._delete,
                self._get,
                self._query,
                self._scan,
                self._batch_get,
                self._batch_write,
            ),
            (20, 40, 8, 8, 12, 6, 4, 4),
        )[0]
        operation, request = make(table)
        if self._names:
            request["ExpressionAttributeNames"] = self._names
        if self._values:
            request["ExpressionAttributeValues"] = self._values
        if "ExpressionAttributeValues" in request and self._seldom(0.01):
            self._values[":unused"] = {"S": "x"}
        return operation, request

    def _seldom(self, probability: float) -> bool:
        return self._random.random() < probability

    # Operations

    def _put(self, table: str) -> Call:
        item = {name.lstrip("#"): self._value() for name in self._some(ATTRIBUTES, 0)}
        return "PutItem", self._write(table, {"Item": item | self._key(table)}, ("NONE", "ALL_OLD"))

    def _delete(self, table: str) -> Call:
        return "DeleteItem", self._write(table, {"Key": self._key(table)}, ("NONE", "ALL_OLD"))

    def _update(self, table: str) -> Call:
        request: dict[str, Any] = {"Key": self._key(table)}
        if not self._seldom(0.03):
            request["UpdateExpression"] = self._mistaken(self._changes())
        return "UpdateItem", self._write(table, request, ("NONE", "ALL_OLD", "ALL_NEW"))

    def _write(self, table: str, request: dict[str, Any], returned: tuple[str, ...]) -> dict[str, Any]:
        request["TableName"] = table
        if self._seldom(0.5):
            request["ConditionExpression"] = self._mistaken(self._condition())
            if self._seldom(0.5):
                request["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        if self._seldom(0.5):
            request["ReturnValues"] = self._random.choice(returned)
        return request

    def _get(self, table: str) -> Call:
        return "GetItem", self._read({"TableName": table, "Key": self._key(table)})

    def _read(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._seldom(0.3):
            request["ConsistentRead"] = True
        if self._seldom(0.3):
            request["ProjectionExpression"] = ", ".join(map(self._attribute, self._some(ATTRIBUTES, 1)))
        return request

    def _query(self, table: str) -> Call:
        (hash_name, hash_kind), *sort = TABLES[table]
        kind = "S" if self._seldom(0.02) else hash_kind
        condition = f"{hash_name} = {self._placeholder(self._key_value(hash_name, kind))}"
        if sort and self._seldom(0.7):
            condition += f" AND {self._sort_condition(sort[0][1])}"
        request = self._page(table, {"KeyConditionExpression": self._mistaken(condition, 0.02)})
        if self._seldom(0.4):
            request["ScanIndexForward"] = self._random.choice((True, False))
        return "Query", request

    def _sort_condition(self, kind: str) -> str:
        def bound() -> str:
            return self._placeholder(self._key_value("at", kind))

        shape = self._random.randrange(4)
        if shape == 0:
            return f"at BETWEEN {bound()} AND {bound()}"
        if shape == 1:
            return f"begins_with(at, {bound()})"
        return f"at {self._random.choice((*INEQUALITIES, '='))} {bound()}"

    def _scan(self, table: str) -> Call:
        return "Scan", self._page(table, {})

    def _page(self, table: str, request: dict[str, Any]) -> dict[str, Any]:
        request["TableName"] = table
        if self._seldom(0.5):
            request["FilterExpression"] = self._mistaken(self._condition())
        if self._seldom(0.3) and "KeyConditionExpression" in request:  # Scans have their own order.
            request["Limit"] = self._random.choice((1, 2, 3))
        if self._seldom(0.1):
            request["Select"] = "COUNT"
            return request
        return self._read(request)

    def _batch_get(self, table: str) -> Call:
        keys = [self._key(table) for _ in range(self._random.randint(1, 4))]
        return "BatchGetItem", {"RequestItems": {table: {"Keys": keys}}}

    def _batch_write(self, table: str) -> Call:
        writes: list[dict[str, Any]] = []
        for _ in range(self._random.randint(1, 4)):
            if self._seldom(0.5):
                writes.append({"DeleteRequest": {"Key": self._key(table)}})
            else:
                writes.append({"PutRequest": {"Item": {"a": self._value()} | self._key(table)}})
        return "BatchWriteItem", {"RequestItems": {table: writes}}

    # Expressions

    def _condition(self, depth: int = 0) -> str:
        shape = self._random.random()
        if depth < 3 and shape < 0.15:
            return f"{self._condition(depth + 1)} AND {self._condition(depth + 1)}"
        if depth < 3 and shape < 0.3:
            return f"{self._condition(depth + 1)} OR {self._condition(depth + 1)}"
        if depth < 3 and shape < 0.4:
            return f"NOT {self._condition(depth + 1)}"
        if depth < 3 and shape < 0.45:
            return f"({self._condition(depth + 1)} OR {self._condition(depth + 1)})"
        return self._comparison()

    def _comparison(self) -> str:
        attribute = self._attribute()
        shape = self._random.randrange(9)
        if shape == 0:
            return f"attribute_exists({attribute})"
        if shape == 1:
            return f"attribute_not_exists({attribute})"
        if shape == 2:
            return f"begins_with({attribute}, {self._operand()})"
        if shape == 3:
            return f"contains({attribute}, {self._operand()})"
        if shape == 4:
            return f"{attribute} BETWEEN {self._ordered()} AND {self._ordered()}"
        if shape == 5:
            return f"{attribute} IN ({', '.join(self._operand() for _ in range(self._random.randint(1, 3)))})"
        if shape == 6:
            return f"size({attribute}) {self._random.choice(INEQUALITIES)} {self._number()}"
        if shape == 7:
            return f"{attribute} {self._random.choice(('=', '<>'))} {self._operand()}"
        return f"{attribute} {self._random.choice(INEQUALITIES)} {self._ordered()}"

    def _changes(self) -> str:
        attributes = self._some(ATTRIBUTES, 1)
        if self._seldom(0.03):
            attributes.append(self._random.choice((attributes[0], "id")))
        clauses: dict[str, list[str]] = {}
        for name in attributes:
            attribute = self._attribute(name)
            clause = self._random.choice(("SET", "SET", "SET", "REMOVE", "ADD", "DELETE"))
            change = attribute
            if clause == "SET":
                change = f"{attribute} = {self._assigned()}"
            elif clause != "REMOVE":
                kinds = ("SS", "NS", "BS") if clause == "DELETE" else ("N", "N", "SS", "NS", "BS")
                kind = self._random.choice(kinds) if not self._seldom(0.05) else None
                change = f"{attribute} {self._placeholder(self._value(kind))}"
            clauses.setdefault(clause, []).append(change)
        return " ".join(f"{clause} {', '.join(changes)}" for clause, changes in clauses.items())

    def _assigned(self) -> str:
        shape = self._random.randrange(6)
        if shape == 0:
            return f"if_not_exists({self._attribute()}, {self._operand()})"
        if shape == 1:
            return f"if_not_exists({self._attribute()}, {self._number()}) + {self._number()}"
        if shape == 2:
            return f"{self._attribute()} {self._random.choice('+-')} {self._number()}"
        return self._operand()

    def _mistaken(self, expression: str, probability: float = 0.03) -> str:
        """Sometimes leave out a word or repeat it."""
        words = expression.split(" ")
        if self._seldom(probability):
            place = self._random.randrange(len(words))
            words[place : place + 1] = [words[place]] * self._random.choice((0, 2))
        return " ".join(words)

    # Parts

    def _some(self, choices: tuple[str, ...], least: int) -> list[str]:
        return self._random.sample(choices, self._random.randint(least, len(choices)))

    def _attribute(self, name: str | None = None) -> str:
        name = name or self._random.choice(ATTRIBUTES)
        if name in NAMES:
            self._names[name] = NAMES[name]
        return name

    def _operand(self) -> str:
        return self._attribute() if self._seldom(0.2) else self._placeholder(self._value())

    def _ordered(self) -> str:
        """Return an operand, usually of a comparable type."""
        return (
            self._operand()
            if self._seldom(0.1)
            else self._placeholder(self._value(self._random.choice("SN")))
        )

    def _number(self) -> str:
        return self._placeholder(self._value("N"))

    def _placeholder(self, value: dict[str, Any]) -> str:
        name = f":v{len(self._values)}"
        self._values[name] = value
        return name

    def _key(self, table: str) -> dict[str, Any]:
        key = {name: self._key_value(name, kind) for name, kind in TABLES[table]}
        if self._seldom(0.01):
            key["a"] = {"S": "not of the key"}
        if self._seldom(0.01):
            del key[self._random.choice(list(key))]
        return key

    def _key_value(self, name: str, kind: str) -> dict[str, Any]:
        choices: dict[str, tuple[Any, ...]] = {
            "S": ("k1", "k2", "")
            if self._seldom(0.02)
            else ("k1", "k2")
            if name == "id"
            else ("a", "ab", "b", "é"),
            "N": ("-1", "0", "1", "1.0", "2", "10"),
            "B": (_base64(b"k1"), _base64(b"k2")),
        }
        if self._seldom(0.01):
            kind = "S" if kind == "N" else "N"
        return {kind: self._random.choice(choices[kind])}

    def _value(self, kind: str | None = None, depth: int = 0) -> dict[str, Any]:
        draw = self._random
        kind = kind or draw.choice(("S", "S", "N", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", "M", "L"))
        if kind == "S":
            return {"S": draw.choice(TEXTS)}
        if kind == "N":
            return {"N": draw.choice(BAD_NUMBERS if self._seldom(0.02) else NUMBERS)}
        if kind == "B":
            return {"B": _base64(draw.choice(BYTES))}
        if kind == "BOOL":
            return {"BOOL": draw.choice((True, False))}
        if kind == "NULL":
            return {"NULL": not self._seldom(0.02)}
        if kind in ("M", "L") and depth < 2:
            inner = [self._value(None, depth + 1) for _ in range(draw.randint(0, 2))]
            return {"L": inner} if kind == "L" else {"M": dict(zip("xy", inner, strict=False))}
        if kind in ("M", "L"):
            return {kind: {} if kind == "M" else []}
        # Dynoxide compares the numbers of sets as texts, so they are written as DynamoDB writes them.
        members = {"SS": TEXTS, "NS": ("0", "1", "1.5", "1000"), "BS": tuple(map(_base64, BYTES))}[kind]
        some = draw.sample(members, draw.randint(0 if self._seldom(0.02) else 1, 3))
        return {kind: some + some[:1] * self._seldom(0.02)}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
