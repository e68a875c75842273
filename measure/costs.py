"""What a million messages cost, line by line: counts from the design, prices as inputs with their date.

Prices are the list prices of one region, without free tiers; look yours up before you rely on the sums.
"""

import math
from dataclasses import dataclass

AS_OF = "2026-11, us-east-1; from memory of AWS's price lists, not looked up on the day"


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars for a million of each, or for one of what the name says."""

    gateway_messages: float = 1.00
    gateway_connection_minutes: float = 0.25
    lambda_requests: float = 0.20
    lambda_gb_second: float = 0.0000133334
    write_units: float = 0.625
    read_units: float = 0.125
    log_gb: float = 0.50


@dataclass(frozen=True, slots=True)
class Use:
    """What the messages are like. Milliseconds are billed Lambda time; `batch` records of a push's call."""

    batch: float = 5
    message_ms: float = 25
    push_ms: float = 30
    post_ms: float = 10
    posts_at_once: int = 100
    message_gb: float = 0.5
    push_gb: float = 1.0
    log_bytes: float = 600
    connections: int = 10_000
    connection_item_bytes: int = 250


Lines = dict[str, float]
"""Dollars for a million messages, by what they are for."""


def ours(prices: Prices, use: Use) -> Lines:
    """One frame in, two posts out, two writes, one read of a whole unit a recipient of a batch."""
    return {
        "API Gateway: the frame, the ack, the push": 3 * prices.gateway_messages,
        "Lambda: requests of websocket_message": prices.lambda_requests,
        "Lambda: time of websocket_message": _time(prices, use.message_ms, use.message_gb),
        "Lambda: requests of push_messages": prices.lambda_requests / use.batch,
        "Lambda: time of push_messages": _time(prices, use.push_ms, use.push_gb) / use.batch,
        "DynamoDB: the update that admits a frame": prices.write_units,
        "DynamoDB: the put of the message": prices.write_units,
        "DynamoDB: the consistent read of the recipient": prices.read_units,
        "DynamoDB: the deletion when it expires": 0.0,
        "CloudWatch: two lines": 2 * use.log_bytes * 1e6 / 1e9 * prices.log_gb,
    }


def original(prices: Prices, use: Use) -> Lines:
    """As a prototype does it: nobody is authenticated or counted, and each record is a call with a lookup."""
    return {
        "API Gateway: the frame, the ack, the push": 3 * prices.gateway_messages,
        "Lambda: requests, one a record": 2 * prices.lambda_requests,
        "Lambda: time": _time(prices, use.message_ms, use.message_gb)
        + _time(prices, use.push_ms, use.push_gb),
        "DynamoDB: the put of the message": prices.write_units,
        "DynamoDB: the lookup of the recipient": prices.read_units / 2,
        "CloudWatch: two lines": 2 * use.log_bytes * 1e6 / 1e9 * prices.log_gb,
    }


def broadcast_by_scan(prices: Prices, use: Use) -> Lines:
    """Every message scans the table of connections and is posted to each, who looks whether it is meant."""
    units = math.ceil(use.connections * use.connection_item_bytes / 4096) / 2
    return {
        "API Gateway: the frame, and a post to every connection": (1 + use.connections)
        * prices.gateway_messages,
        "Lambda: requests": prices.lambda_requests,
        "Lambda: time, of posts 100 at once": _time(
            prices, use.message_ms + use.connections / use.posts_at_once * use.post_ms, use.push_gb
        ),
        "DynamoDB: the put of the message": prices.write_units,
        "DynamoDB: the scan": units * prices.read_units,
        "CloudWatch: a line": use.log_bytes * 1e6 / 1e9 * prices.log_gb,
    }


def _time(prices: Prices, milliseconds: float, gigabytes: float) -> float:
    return milliseconds / 1000 * gigabytes * 1e6 * prices.lambda_gb_second


def table(lines: Lines) -> str:
    rows = [f"{what:<58}{dollars:>12,.2f}" for what, dollars in lines.items()]
    return "\n".join([*rows, f"{'together':<58}{sum(lines.values()):>12,.2f}"])
