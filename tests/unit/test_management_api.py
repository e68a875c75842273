"""Posts go to the right endpoint, and every answer of AWS becomes a Delivery."""

import os
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import boto3
import pytest
from botocore.awsrequest import AWSResponse

from chalicelib.aws.management_api import ManagementApi
from chalicelib.core.model import Delivery, Endpoint
from chalicelib.core.ports import POST_SECONDS

HERE = Endpoint("api", "dev")
CREDENTIALS = {
    "aws_access_key_id": "local",
    "aws_secret_access_key": "local",
    "region_name": "us-east-1",
}


class Aws:
    """Answers the management API's requests with `status`, without a network."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.requests: list[Any] = []

    def answer(self, request: Any, **_: Any) -> AWSResponse:
        self.requests.append(request)
        return AWSResponse(request.url, self.status, self.headers, Raw())

    @property
    def urls(self) -> list[str]:
        return [unquote(request.url) for request in self.requests]


class Raw:
    def stream(self, **_: Any) -> Any:
        yield b""


@pytest.fixture
def aws() -> Iterator[Aws]:
    aws = Aws()
    boto3.setup_default_session(**CREDENTIALS)
    boto3.DEFAULT_SESSION.events.register_first("before-send.apigatewaymanagementapi", aws.answer)
    yield aws
    boto3.DEFAULT_SESSION = None


def test_a_post_goes_to_the_api_and_stage_of_its_connection(aws: Aws) -> None:
    gateway = ManagementApi()

    gateway.post(HERE, "c=", "hi")
    gateway.post(Endpoint("other", "prod"), "d=", "hi")
    gateway.post(HERE, "c=", "hi")

    here = "https://api.execute-api.us-east-1.amazonaws.com/dev/@connections/c="
    there = "https://other.execute-api.us-east-1.amazonaws.com/prod/@connections/d="
    assert aws.urls == [here, there, here]
    assert aws.requests[0].body == b"hi"


def test_the_standard_variable_redirects_posts(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", "http://127.0.0.1:1/x")

    ManagementApi().post(HERE, "c=", "hi")

    assert aws.urls == ["http://127.0.0.1:1/x/@connections/c="]


@pytest.mark.parametrize("error", ["GoneException", None])
def test_a_410_means_gone_with_or_without_an_error_code(aws: Aws, error: str | None) -> None:
    aws.status = 410
    aws.headers = {"x-amzn-ErrorType": error} if error else {}

    assert ManagementApi().post(HERE, "c=", "hi") is Delivery.GONE


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (200, Delivery.DELIVERED),
        (429, Delivery.FAILED),
        (500, Delivery.FAILED),
        (503, Delivery.FAILED),
        (400, Delivery.REFUSED),
        (403, Delivery.REFUSED),
        (413, Delivery.REFUSED),
    ],
)
def test_each_status_has_a_meaning_and_boto3_does_not_retry(aws: Aws, status: int, meaning: Delivery) -> None:
    aws.status = status

    assert ManagementApi().post(HERE, "c=", "hi") is meaning
    assert len(aws.requests) == 1


def test_a_post_to_an_endpoint_that_is_down_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", "http://127.0.0.1:9")
    boto3.setup_default_session(**CREDENTIALS)

    assert ManagementApi().post(HERE, "c=", "hi") is Delivery.FAILED


def test_a_post_that_is_never_answered_fails_after_its_timeout_and_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    boto3.setup_default_session(**CREDENTIALS)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        monkeypatch.setitem(os.environ, "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", url)
        gateway = ManagementApi()
        started = time.monotonic()
        assert gateway.post(HERE, "c=", "hi") is Delivery.FAILED
        took = time.monotonic() - started
        hanging.accept()
        hanging.setblocking(False)
        with pytest.raises(BlockingIOError):
            hanging.accept()

    # boto3's own timeout is 60 seconds. The bound leaves time for a slow machine.
    assert POST_SECONDS <= took < 20 * POST_SECONDS


@pytest.mark.parametrize("status", [204, 410, 403, 500])
def test_closing_never_raises(aws: Aws, status: int) -> None:
    aws.status = status

    ManagementApi().close(HERE, "c=")

    assert aws.requests[0].method == "DELETE"
