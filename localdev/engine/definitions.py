"""Creates and describes tables, and their time-to-live settings."""

import re
from typing import Any

from localdev.engine import streams
from localdev.engine.errors import Invalid
from localdev.engine.items import Request, Response
from localdev.engine.tables import Table, utc
from localdev.engine.values import ORDERED, size_of_item

_TABLE_NAME = re.compile(r"[a-zA-Z0-9_.-]{3,255}")


def new_table(request: Request, now: float) -> Table:
    """Return a new table for a CreateTable request. `now` is in epoch seconds. Raises Invalid."""
    if not _TABLE_NAME.fullmatch(request["TableName"]):
        raise Invalid("tableName must be 3 to 255 of a-z A-Z 0-9 _ . -")
    if request.get("BillingMode") != "PAY_PER_REQUEST":
        raise Invalid("the local DynamoDB supports no BillingMode but PAY_PER_REQUEST")
    names = {key["KeyType"]: key["AttributeName"] for key in request["KeySchema"]}
    kinds = {each["AttributeName"]: each["AttributeType"] for each in request["AttributeDefinitions"]}
    if "HASH" not in names or len(names) < len(request["KeySchema"]):
        raise Invalid("KeySchema must have one HASH key, and at most one RANGE key")
    if kinds.keys() != {*names.values()}:
        raise Invalid("Number of attributes in KeySchema does not exactly match number of attributes defined")
    if not {*kinds.values()} <= {*ORDERED}:
        raise Invalid("AttributeType must be S, N or B")
    stream = request.get("StreamSpecification") or {}
    has_stream = bool(stream.get("StreamEnabled"))
    if has_stream and stream.get("StreamViewType") != streams.VIEW:
        raise Invalid(f"the local DynamoDB supports no StreamViewType but {streams.VIEW}")
    definition = {name: request[name] for name in request if name not in ("TableName", "BillingMode")}
    kinds = {name: kinds[name] for name in names.values()}
    return Table(request["TableName"], definition, names["HASH"], names.get("RANGE"), kinds, has_stream, now)


def described(table: Table) -> dict[str, Any]:
    """Return the table's TableDescription."""
    sizes = [size_of_item(item) for part in table.partitions.values() for item in part.items.values()]
    stream = {"LatestStreamArn": table.stream_arn, "LatestStreamLabel": table.stream_label}
    return {
        **table.definition,
        "TableName": table.name,
        "TableArn": table.arn,
        "TableStatus": "ACTIVE",
        "CreationDateTime": utc(table.created_at),
        "ItemCount": len(sizes),
        "TableSizeBytes": sum(sizes),
        "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
        **(stream if table.has_stream else {}),
    }


def update_time_to_live(table: Table, request: Request, _now: float) -> Response:
    """Store the setting. No item expires here; on AWS it can take days. Raises Invalid if nothing changes."""
    wanted = dict(request["TimeToLiveSpecification"])
    if wanted.get("Enabled") == table.time_to_live.get("Enabled", False):
        raise Invalid(f"TimeToLive is already {'enabled' if wanted.get('Enabled') else 'disabled'}")
    table.time_to_live = wanted
    return {"TimeToLiveSpecification": wanted}


def describe_time_to_live(table: Table, _request: Request, _now: float) -> Response:
    """Return the table's TimeToLiveDescription."""
    if not table.time_to_live.get("Enabled"):
        return {"TimeToLiveDescription": {"TimeToLiveStatus": "DISABLED"}}
    name = table.time_to_live["AttributeName"]
    return {"TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": name}}
