"""Shared by both tables: the DynamoDB client, its timeouts, and the translation of its errors."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.telemetry import count
from chalicelib.aws.tls import share_context
from chalicelib.core.model import Unavailable

Item = dict[str, dict[str, Any]]
"""An item as DynamoDB's API has it: each value with its type."""

CONFIG = Config(
    connect_timeout=1,
    read_timeout=2,
    retries={"mode": "standard", "total_max_attempts": 2},
    max_pool_connections=32,
    parameter_validation=False,
)
"""Timeouts in seconds. Two attempts of up to 3 s leave a function time to reply with an error.

boto3 doesn't validate parameters, because only this package makes the calls and validation takes CPU time.
"""

THROTTLED = ("ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded")


def make_client() -> Any:
    client = boto3.client("dynamodb", config=CONFIG)
    share_context(client)
    return client


@contextmanager
def unavailable_on_failure() -> Iterator[None]:
    """Raise Unavailable for every DynamoDB error except a failed condition, which is a result."""
    try:
        yield
    except ClientError as failure:
        code = failure.response["Error"]["Code"]
        if code == "ConditionalCheckFailedException":
            raise
        if code in THROTTLED:
            count("throttled")
        raise Unavailable(code) from failure
    except BotoCoreError as failure:
        raise Unavailable(type(failure).__name__) from failure


def milliseconds() -> int:
    """Return the time since the epoch, in milliseconds."""
    return time.time_ns() // 1_000_000


def in_seconds(seconds: int, now_ms: int) -> dict[str, str]:
    """Return an `expiresAt` value that many seconds from `now_ms`, in seconds since the epoch."""
    return {"N": str(now_ms // 1000 + seconds)}
