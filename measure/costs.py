"""What messages and idle connections cost, line by line: counts from the design, list prices of us-east-1.

Not in the model: free tiers, X-Ray, backups, KMS, cold starts, retries, replay.
"""

import math
from dataclasses import dataclass

from clients.player import Timing
from deployment.template import MAPPING


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars for a million of each, or for one of what the name says. SOURCES says where each is from."""

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
"""AWS's own source of each price, and the day on which it said so. docs/scaling.md says how it was read."""


@dataclass(frozen=True, slots=True)
class Use:
    """What is sent, and how. Milliseconds are billed Lambda time; `batch` is records per push call.

    The bytes of lines include the 26 that CloudWatch adds to each. `deletes_wake_push` is false where the
    stream's mapping filters expired items out. `metrics` counts every metric that can be; CloudWatch charges
    one only for the hours in which it is sent.
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
    alarms: int = 6


Lines = dict[str, float]
"""Dollars by what they are for."""


def ours(prices: Prices, use: Use) -> Lines:
    """For a million messages: one frame in, two posts out, one consistent read of the recipient."""
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
        "DynamoDB: the update that admits the frame": prices.write_units,
        "DynamoDB: the put of the clientMessageId": has_id * prices.write_units,
        "DynamoDB: the put of the message": write_units(size) * prices.write_units,
        "DynamoDB: the consistent read of the recipient": prices.read_units,
        "DynamoDB: the deletion when it expires": 0.0,
        "DynamoDB: storage until then": _gb(size + 100 + has_id * 300)
        * use.retention_days
        / 30
        * prices.table_gb_month,
        "CloudWatch: two lines": _gb(2 * use.line_bytes) * prices.log_gb,
        "CloudWatch: START, END, REPORT": _gb(calls * use.start_end_report_bytes) * prices.log_gb,
    }


def idle(prices: Prices, use: Use) -> Lines:
    """For a million minutes of connections over which nothing goes but the client's pings."""
    pings = 60 / use.ping_seconds
    return {
        "API Gateway: the connection": prices.gateway_connection_minutes,
        "API Gateway: ping and pong": pings * 2 * prices.gateway_messages,
        "Lambda: websocket_message": pings * _call(prices, use.ping_ms, use.message_gb),
        "DynamoDB: the update that admits the ping": pings * prices.write_units,
        "CloudWatch: one line, and START, END, REPORT": pings
        * _gb(use.ping_line_bytes + use.start_end_report_bytes)
        * prices.log_gb,
    }


def each_month(prices: Prices, use: Use) -> Lines:
    """Of a stage, however little it is used."""
    return {
        "CloudWatch: metrics, at most": use.metrics * prices.metric_month,
        "CloudWatch: alarms": use.alarms * prices.alarm_month,
        "CloudWatch: the dashboard": prices.dashboard_month,
    }


def original(prices: Prices, use: Use) -> Lines:
    """For a million messages of a prototype: no rate, no tokens, a call and a lookup for each record."""
    size = use.message_bytes + use.envelope_bytes
    return {
        "API Gateway: the frame, the ack, the push": 3 * _gateway(prices, size),
        "Data out: the ack and the push": _gb(2 * size) * prices.transfer_gb,
        "Lambda: one call a record": _call(prices, use.message_ms, use.message_gb)
        + _call(prices, use.push_ms, use.push_gb),
        "DynamoDB: the put of the message": write_units(size) * prices.write_units,
        "DynamoDB: the lookup of the recipient": prices.read_units / 2,
        "CloudWatch: two lines": _gb(2 * use.line_bytes) * prices.log_gb,
        "CloudWatch: START, END, REPORT": _gb(2 * use.start_end_report_bytes) * prices.log_gb,
    }


def broadcast_by_scan(prices: Prices, use: Use) -> Lines:
    """For a million messages: each scans the table of connections and is posted to every one of them."""
    size = use.message_bytes + use.envelope_bytes
    scanned = math.ceil(use.connections * use.connection_item_bytes / 4096) / 2
    milliseconds = use.message_ms + use.connections / use.posts_at_once * use.post_ms
    return {
        "API Gateway: the frame, and a post to every connection": (1 + use.connections)
        * _gateway(prices, size),
        "Data out: the posts": _gb(use.connections * size) * prices.transfer_gb,
        "Lambda: one call, of posts 100 at once": _call(prices, milliseconds, use.push_gb),
        "DynamoDB: the put of the message": write_units(size) * prices.write_units,
        "DynamoDB: the scan": scanned * prices.read_units,
        "CloudWatch: a line, and START, END, REPORT": _gb(use.line_bytes + use.start_end_report_bytes)
        * prices.log_gb,
    }


def write_units(size: int) -> int:
    """Of an item of so many bytes: DynamoDB counts each KB that was begun."""
    return math.ceil(size / 1024)


def _gateway(prices: Prices, size: int) -> float:
    """A million messages of so many bytes: API Gateway counts each 32 KB that was begun."""
    return math.ceil(size / 32_768) * prices.gateway_messages


def _call(prices: Prices, milliseconds: float, gigabytes: float) -> float:
    """A million calls."""
    return prices.lambda_requests + 1e6 * milliseconds / 1000 * gigabytes * prices.lambda_gb_second


def _gb(size: float) -> float:
    """A million times so many bytes."""
    return size * 1e6 / 1e9


def table(lines: Lines) -> str:
    rows = [f"{what:<58}{dollars:>12,.2f}" for what, dollars in lines.items()]
    return "\n".join([*rows, f"{'together':<58}{sum(lines.values()):>12,.2f}"])
