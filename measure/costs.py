"""Models the cost of messages and idle connections from the design's call counts and us-east-1 list prices.

The model leaves out free tiers, X-Ray, backups, KMS, cold starts, retries and replay.
"""

import math
from dataclasses import dataclass

from clients.player import Timing
from deployment.template import MAPPING


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices in US dollars, per million, or per GB, GB-second or month if the name ends so.

    SOURCES has the source of each price.
    """

    gateway_messages: float = 1.00
    gateway_connection_minutes: float = 0.25
    lambda_requests: float = 0.20
    lambda_gb_second: float = 0.0000133334
    write_units: float = 0.625
    read_units: float = 0.125
    table_gb_month: float = 0.25
    log_gb: float = 0.50
    metric_month: float = 0.30
    alarm_month: float = 0.10
    dashboard_month: float = 3.00
    transfer_gb: float = 0.09


API_GATEWAY = "example on aws.amazon.com/api-gateway/pricing/"
LAMBDA = "price list AWSLambda"
DYNAMODB = "price list AmazonDynamoDB"
CLOUDWATCH = "price list AmazonCloudWatch"
TRANSFER = "price list AWSDataTransfer"

SOURCES = {
    "gateway_messages": (API_GATEWAY, "2026-09-20"),
    "gateway_connection_minutes": (API_GATEWAY, "2026-09-20"),
    "lambda_requests": (LAMBDA, "2026-09-06"),
    "lambda_gb_second": (LAMBDA, "2026-09-06"),
    "write_units": (DYNAMODB, "2026-09-06"),
    "read_units": (DYNAMODB, "2026-09-06"),
    "table_gb_month": (DYNAMODB, "2026-09-06"),
    "log_gb": (CLOUDWATCH, "2026-08-31"),
    "metric_month": (CLOUDWATCH, "2026-08-31"),
    "alarm_month": (CLOUDWATCH, "2026-08-31"),
    "dashboard_month": (CLOUDWATCH, "2026-08-31"),
    "transfer_gb": (TRANSFER, "2026-09-06"),
}
"""AWS's source of each price, and the date of the source. docs/scaling.md says how to read it."""


@dataclass(frozen=True, slots=True)
class Use:
    """The usage that the model prices.

    Milliseconds are billed Lambda time. `batch` is the number of records per call of `push_messages`. Log
    lines include the 26 bytes that CloudWatch adds to each. `deletes_wake_push` is false if the mapping
    filters out deletions. `metrics` is the maximum: CloudWatch charges a metric only for hours with data.

    For rooms: `room_update_ms` is how much longer `websocket_message` takes than for a direct message.
    `copy_ms` and `record_ms` are what a call of `push_messages` takes per copy that it writes, and per copy
    that it posts. The copies are in `shards` shards. `room_item_bytes` is the size of a room without members.
    """

    message_bytes: int = 100
    envelope_bytes: int = 200
    has_client_message_id: bool = True
    deletes_wake_push: bool = "FilterCriteria" not in MAPPING
    batch: float = 5
    message_ms: float = 25
    ping_ms: float = 15
    push_ms: float = 30
    delete_ms: float = 5
    room_update_ms: float = 5
    copy_ms: float = 0.2
    record_ms: float = 0.4
    shards: int = 4
    room_item_bytes: int = 260
    post_ms: float = 10
    posts_at_once: int = 100
    message_gb: float = 0.5
    push_gb: float = 1.0
    line_bytes: int = 650
    ping_line_bytes: int = 230
    start_end_report_bytes: int = 340
    retention_days: float = 7
    ping_seconds: float = Timing().ping
    connections: int = 10_000
    connection_item_bytes: int = 250
    metrics: int = 31
    alarms: int = 8


RECORDS_PER_CALL = 100
"""The batch size of app.py's mapping."""

Lines = dict[str, float]
"""Dollars by purpose."""


def ours(prices: Prices, use: Use) -> Lines:
    """Return the cost of a million messages: one frame in, two posts out, one consistent read each."""
    size = use.message_bytes + use.envelope_bytes
    has_id, wakes = int(use.has_client_message_id), int(use.deletes_wake_push)
    calls = 1 + (1 + wakes) / use.batch
    return {
        "API Gateway: the frame, the ack, the push": 3 * _gateway(prices, size),
        "Data out: the ack and the push": _gb(2 * size) * prices.transfer_gb,
        "Lambda: websocket_message": _call(prices, use.message_ms, use.message_gb),
        "Lambda: push_messages": _call(prices, use.push_ms, use.push_gb) / use.batch,
        "Lambda: push_messages, woken by deletes": wakes
        * _call(prices, use.delete_ms, use.push_gb)
        / use.batch,
        "DynamoDB: the update that counts the frame": prices.write_units,
        "DynamoDB: the put of the clientMessageId": has_id * prices.write_units,
        "DynamoDB: the put of the message": write_units(size) * prices.write_units,
        "DynamoDB: the consistent read of the recipient": prices.read_units,
        "DynamoDB: the deletion at expiry": 0.0,
        "DynamoDB: storage until expiry": _gb(size + 100 + has_id * 300)
        * use.retention_days
        / 30
        * prices.table_gb_month,
        "CloudWatch: two lines": _gb(2 * use.line_bytes) * prices.log_gb,
        "CloudWatch: START, END, REPORT": _gb(calls * use.start_end_report_bytes) * prices.log_gb,
    }


def room(prices: Prices, use: Use, members: int, id_characters: int = 12) -> Lines:
    """Return the cost of a million messages to a room whose members all have one live connection.

    The model takes one byte per member in addition to the `id_characters` of the player's id. Each message is
    alone in its batch, and no call of `push_messages` has records of other messages.
    """
    size = use.message_bytes + use.envelope_bytes
    room_bytes = use.room_item_bytes + members * (id_characters + 1)
    posting = use.shards * math.ceil(members / use.shards / RECORDS_PER_CALL)
    has_id = int(use.has_client_message_id)
    return {
        "API Gateway: the frame and the ack": 2 * _gateway(prices, size),
        "API Gateway: the posts": members * _gateway(prices, size),
        "Data out: the ack and the posts": _gb((1 + members) * size) * prices.transfer_gb,
        "Lambda: websocket_message": _call(prices, use.message_ms + use.room_update_ms, use.message_gb),
        "Lambda: push_messages, which copies": _call(
            prices, use.push_ms + members * use.copy_ms, use.push_gb
        ),
        "Lambda: push_messages, which posts": posting
        * _call(prices, use.push_ms + members / posting * use.record_ms, use.push_gb),
        "DynamoDB: the update that counts the frame": prices.write_units,
        "DynamoDB: the update of the room": write_units(room_bytes) * prices.write_units,
        "DynamoDB: the put of the clientMessageId": has_id * prices.write_units,
        "DynamoDB: the put of the message": write_units(size) * prices.write_units,
        "DynamoDB: the puts of the copies": members * write_units(size) * prices.write_units,
        "DynamoDB: the consistent read of the room": math.ceil(room_bytes / 4096) * prices.read_units,
        "DynamoDB: the consistent reads of the members": members * prices.read_units,
        "DynamoDB: storage until expiry": _gb((1 + members) * (size + 100) + has_id * 300)
        * use.retention_days
        / 30
        * prices.table_gb_month,
        "CloudWatch: the lines of the message and its copying": _gb(2 * use.line_bytes) * prices.log_gb,
        "CloudWatch: a line for each post": _gb(members * use.line_bytes) * prices.log_gb,
        "CloudWatch: START, END, REPORT": _gb((2 + posting) * use.start_end_report_bytes) * prices.log_gb,
    }


def idle(prices: Prices, use: Use) -> Lines:
    """Return the cost of a million connection minutes in which a client sends only pings."""
    pings = 60 / use.ping_seconds
    return {
        "API Gateway: the connection": prices.gateway_connection_minutes,
        "API Gateway: ping and pong": pings * 2 * prices.gateway_messages,
        "Lambda: websocket_message": pings * _call(prices, use.ping_ms, use.message_gb),
        "DynamoDB: the update that counts the ping": pings * prices.write_units,
        "CloudWatch: one line, and START, END, REPORT": pings
        * _gb(use.ping_line_bytes + use.start_end_report_bytes)
        * prices.log_gb,
    }


def each_month(prices: Prices, use: Use) -> Lines:
    """Return the fixed monthly cost of a stage."""
    return {
        "CloudWatch: metrics, at most": use.metrics * prices.metric_month,
        "CloudWatch: alarms": use.alarms * prices.alarm_month,
        "CloudWatch: the dashboard": prices.dashboard_month,
    }


def original(prices: Prices, use: Use) -> Lines:
    """Return the cost of a million messages in a prototype without rate limit, tokens and batches."""
    size = use.message_bytes + use.envelope_bytes
    return {
        "API Gateway: the frame, the ack, the push": 3 * _gateway(prices, size),
        "Data out: the ack and the push": _gb(2 * size) * prices.transfer_gb,
        "Lambda: one call per frame and per record": _call(prices, use.message_ms, use.message_gb)
        + _call(prices, use.push_ms, use.push_gb),
        "DynamoDB: the put of the message": write_units(size) * prices.write_units,
        "DynamoDB: the lookup of the recipient": prices.read_units / 2,
        "CloudWatch: two lines": _gb(2 * use.line_bytes) * prices.log_gb,
        "CloudWatch: START, END, REPORT": _gb(2 * use.start_end_report_bytes) * prices.log_gb,
    }


def broadcast_by_scan(prices: Prices, use: Use) -> Lines:
    """Return the cost of a million messages if each scans the connections table and is posted to all."""
    size = use.message_bytes + use.envelope_bytes
    scanned = math.ceil(use.connections * use.connection_item_bytes / 4096) / 2
    milliseconds = use.message_ms + use.connections / use.posts_at_once * use.post_ms
    return {
        "API Gateway: the frame, and a post to every connection": (1 + use.connections)
        * _gateway(prices, size),
        "Data out: the posts": _gb(use.connections * size) * prices.transfer_gb,
        "Lambda: one call, with 100 posts at a time": _call(prices, milliseconds, use.push_gb),
        "DynamoDB: the put of the message": write_units(size) * prices.write_units,
        "DynamoDB: the scan": scanned * prices.read_units,
        "CloudWatch: one line, and START, END, REPORT": _gb(use.line_bytes + use.start_end_report_bytes)
        * prices.log_gb,
    }


def write_units(size: int) -> int:
    """Return the write units of an item of `size` bytes. DynamoDB rounds up to 1 KB."""
    return math.ceil(size / 1024)


def _gateway(prices: Prices, size: int) -> float:
    """Return the price of a million messages of `size` bytes. API Gateway rounds up to 32 KB."""
    return math.ceil(size / 32_768) * prices.gateway_messages


def _call(prices: Prices, milliseconds: float, gigabytes: float) -> float:
    """Return the price of a million Lambda calls."""
    return prices.lambda_requests + 1e6 * milliseconds / 1000 * gigabytes * prices.lambda_gb_second


def _gb(size: float) -> float:
    """Return the gigabytes of a million times `size` bytes."""
    return size * 1e6 / 1e9


def table(lines: Lines) -> str:
    rows = [f"{purpose:<58}{dollars:>12,.2f}" for purpose, dollars in lines.items()]
    return "\n".join([*rows, f"{'total':<58}{sum(lines.values()):>12,.2f}"])
