"""DynamoDB as both tables use it: one client, its time-outs, and its errors as Unavailable."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.telemetry import count
from chalicelib.aws.tls import share_context
from chalicelib.core.ports import Unavailable

Item = dict[str, dict[str, Any]]
"""An item in DynamoDB's own notation: each value with its type."""

CONFIG = Config(
    connect_timeout=1,
    read_timeout=2,
    retries={"mode": "standard", "total_max_attempts": 2},
    max_pool_connections=32,
)
"""In seconds. Two attempts of at most three leave a frame's function time to say that it did not work."""

THROTTLED = ("ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded")


def make_client() -> Any:
    client = boto3.client("dynamodb", config=CONFIG)
    share_context(client)
    return client


@contextmanager
def unavailable_on_failure() -> Iterator[None]:
    """Every failure but a failed condition, which is an answer, becomes Unavailable."""
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
    """The value of `expiresAt`: DynamoDB's time to live is a number of seconds since the epoch."""
    return {"N": str(now_ms // 1000 + seconds)}
