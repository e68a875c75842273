"""Tables with ordered items, and the changes that their streams record."""

from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

from localdev.engine.errors import Invalid, NotFound
from localdev.engine.values import Item, checked_item, sort_key

REGION = "us-east-1"
ACCOUNT = "123456789012"
FIRST_SEQUENCE_NUMBER = 10**20
MAX_HASH_KEY_BYTES = 2048
MAX_SORT_KEY_BYTES = 1024

Key = tuple[Any, Any]
"""The comparable forms of the hash key and the sort key. A table without a sort key uses an empty string."""


@dataclass(frozen=True, slots=True)
class Change:
    """A write in a stream. `at` is in epoch seconds. `new` is None for a deletion."""

    sequence_number: int
    at: float
    name: str
    keys: Item
    new: Item | None


@dataclass(slots=True)
class Partition:
    """The items of one hash key by sort key. `order` has the sorted sort keys."""

    items: dict[Any, Item] = field(default_factory=dict)
    order: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Table:
    """A table. `definition` has CreateTable's parameters, and `kinds` the types of the key attributes."""

    name: str
    definition: dict[str, Any]
    hash_name: str
    sort_name: str | None
    kinds: dict[str, str]
    has_stream: bool
    created_at: float
    on_change: Callable[[], object] = lambda: None
    """Called after each change that the stream records."""

    time_to_live: dict[str, Any] = field(default_factory=dict)
    partitions: dict[Any, Partition] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    trimmed: int = 0
    """The number of older changes that have been dropped from the stream."""

    @property
    def arn(self) -> str:
        return f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{self.name}"

    @property
    def stream_label(self) -> str:
        return _label(self.created_at)

    @property
    def stream_arn(self) -> str:
        return f"{self.arn}/stream/{self.stream_label}"

    def get(self, key: Key) -> Item | None:
        partition = self.partitions.get(key[0])
        return None if partition is None else partition.items.get(key[1])

    def replace(self, key: Key, old: Item | None, new: Item | None, at: float) -> None:
        """Replace the current item `old` by `new`, and record the change. None means no item."""
        if new is not None:
            self.put(key, new)
        elif old is not None:
            self._delete(key)
        if self.has_stream and old != new:
            name = "INSERT" if old is None else "REMOVE" if new is None else "MODIFY"
            number = FIRST_SEQUENCE_NUMBER + self.trimmed + len(self.changes)
            self.changes.append(Change(number, at, name, self.keys_of(new or old or {}), new))
            self.on_change()

    def put(self, key: Key, item: Item) -> None:
        """Store the item without recording a change."""
        partition = self.partitions.get(key[0])
        if partition is None:
            partition = self.partitions[key[0]] = Partition()
        if key[1] not in partition.items:
            insort(partition.order, key[1])
        partition.items[key[1]] = item

    def _delete(self, key: Key) -> None:
        partition = self.partitions[key[0]]
        del partition.items[key[1]]
        del partition.order[bisect_left(partition.order, key[1])]
        if not partition.items:
            del self.partitions[key[0]]

    def keys_of(self, item: Item) -> Item:
        """Return the item's key attributes."""
        return {name: item[name] for name in self.kinds}

    def key_of(self, item: Item) -> Key:
        """Return the comparable key of a checked item."""
        return sort_key(item[self.hash_name]), "" if self.sort_name is None else sort_key(
            item[self.sort_name]
        )

    def checked_key(self, attributes: Mapping[str, Any]) -> Item:
        """Return a request's key in the engine's format. Raises Invalid if it doesn't fit the table."""
        key = checked_item(attributes)
        if key.keys() != self.kinds.keys():
            raise Invalid("The provided key element does not match the schema")
        return self.with_checked_key(key)

    def with_checked_key(self, item: Item) -> Item:
        """Return the item unchanged. Raises Invalid if its key doesn't fit the table."""
        for name, kind in self.kinds.items():
            content = item.get(name, {}).get(kind)
            if content is None:
                raise Invalid(f"The key {name} is missing, or is not of the type {kind} of the schema")
            length = len(content.encode() if kind == "S" else content)
            limit = MAX_HASH_KEY_BYTES if name == self.hash_name else MAX_SORT_KEY_BYTES
            if not 0 < length <= limit:
                raise Invalid(f"The key {name} must be of 1 to {limit} bytes")
        return item


class Tables(dict[str, Table]):
    """All tables by name."""

    def find(self, name_or_arn: str) -> Table:
        """Return a table. Raises NotFound."""
        table = self.get(name_or_arn.rpartition("/")[2])
        if table is None:
            raise NotFound
        return table

    def with_stream(self, arn: str) -> Table:
        """Return the table whose stream has the ARN. Raises NotFound."""
        for table in self.values():
            if table.has_stream and table.stream_arn == arn:
                return table
        raise NotFound(f"Requested resource not found: Stream: {arn} not found")


@lru_cache
def _label(created_at: float) -> str:
    """Kept, because every read of a stream names it."""
    return utc(created_at).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]


def utc(seconds: float) -> datetime:
    """Return the UTC time of epoch seconds."""
    return datetime.fromtimestamp(seconds, timezone.utc)
