"""Serializes all tables, so that the next process can restore them."""

from collections.abc import Mapping

from localdev.engine.definitions import new_table
from localdev.engine.tables import Change, Table, Tables
from localdev.engine.wire import content_of, request_of


def snapshot_of(tables: Tables, taken: Mapping[str, int]) -> bytes:
    """Return the serialized tables. `taken` has, by table, the last sequence number that can be dropped."""
    return content_of({"tables": [_written(table, taken.get(table.name, 0)) for table in tables.values()]})


def tables_of(snapshot: bytes) -> Tables:
    """Return the tables of a snapshot. Raises an exception if this version can't read the snapshot."""
    tables = Tables()
    for written in request_of(snapshot)["tables"]:
        table = new_table(written["definition"], written["created_at"])
        table.time_to_live = written["time_to_live"]
        for item in written["items"]:
            table.put(table.key_of(item), item)
        table.trimmed = written["trimmed"]
        table.changes = [Change(**change) for change in written["changes"]]
        tables[table.name] = table
    return tables


def _written(table: Table, taken: int) -> dict[str, object]:
    changes = [change for change in table.changes if change.sequence_number > taken]
    return {
        "definition": {**table.definition, "TableName": table.name, "BillingMode": "PAY_PER_REQUEST"},
        "created_at": table.created_at,
        "time_to_live": table.time_to_live,
        "items": [item for partition in table.partitions.values() for item in partition.items.values()],
        "trimmed": table.trimmed + len(table.changes) - len(changes),
        "changes": [
            {name: getattr(change, name) for name in ("sequence_number", "at", "name", "keys", "new")}
            for change in changes
        ],
    }
