"""Posts to connections with API Gateway's management API (`@connections`), through Chalice's WebsocketAPI."""

import os
import threading
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from chalice.app import WebsocketAPI, WebsocketDisconnectedError

from chalicelib.aws.telemetry import count, timed
from chalicelib.aws.tls import share_context
from chalicelib.core.model import Delivery, Endpoint
from chalicelib.core.ports import POST_SECONDS

MAX_CONCURRENT_POSTS = 100
"""The maximum of concurrent posts, and of records per batch: each player of a batch can have a thread.

Each thread has its own connection in the client's pool. Threads are started when they are needed.
"""

OPEN_SECONDS = 1.5
"""The timeout for the TCP connect, and for the TLS handshake. TCP retransmits a lost SYN after one second."""

CONFIG = Config(
    connect_timeout=OPEN_SECONDS,
    read_timeout=POST_SECONDS,
    retries={"total_max_attempts": 1},
    max_pool_connections=MAX_CONCURRENT_POSTS,
    parameter_validation=False,
)
"""Timeouts in seconds. boto3's defaults would wait 60 s for an unresponsive recipient."""


class ManagementSession:
    """Stands in for the boto3 session from which Chalice's WebsocketAPI creates its client.

    Chalice passes AWS's endpoint explicitly, which would override AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI.
    Here the variable takes precedence.
    """

    region_name = None

    def __init__(self) -> None:
        self._clients: dict[str, Any] = {}
        self._one_at_a_time = threading.Lock()

    def client(self, service: str, endpoint_url: str) -> Any:
        """Return the endpoint's client. The lock is needed because creating a client isn't thread-safe."""
        endpoint_url = os.environ.get("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", endpoint_url)
        with self._one_at_a_time:
            if endpoint_url not in self._clients:
                client = boto3.client(service, endpoint_url=endpoint_url, config=CONFIG)
                share_context(client)
                self._clients[endpoint_url] = client
            return self._clients[endpoint_url]


class ManagementApi:
    """The Gateway on AWS.

    Holds one WebsocketAPI per endpoint, because Chalice's class keeps the first endpoint that it is given.
    """

    def __init__(self) -> None:
        self._session = ManagementSession()
        self._apis: dict[Endpoint, WebsocketAPI] = {}

    def load(self) -> None:
        """Create an unused client during a cold start: a process's first client takes ten times as long.

        The real endpoint is only known from the first event.
        """
        self._session.client("apigatewaymanagementapi", "https://nowhere.invalid")

    @timed("post")
    def post(self, endpoint: Endpoint, connection_id: str, frame: str) -> Delivery:
        websocket_api = self._api(endpoint)
        try:
            websocket_api.send(connection_id, frame)
        except WebsocketDisconnectedError:
            return Delivery.GONE
        except ClientError as refusal:
            return _meaning_of(refusal.response["ResponseMetadata"]["HTTPStatusCode"])
        except BotoCoreError:
            return Delivery.FAILED
        return Delivery.DELIVERED

    @timed("close")
    def close(self, endpoint: Endpoint, connection_id: str) -> None:
        try:
            self._api(endpoint).close(connection_id)
        except (WebsocketDisconnectedError, ClientError, BotoCoreError):
            return

    def is_gone(self, endpoint: Endpoint, connection_id: str) -> bool:
        try:
            self._api(endpoint).info(connection_id)
        except WebsocketDisconnectedError:
            return True
        except ClientError as refusal:
            return _meaning_of(refusal.response["ResponseMetadata"]["HTTPStatusCode"]) is Delivery.GONE
        except BotoCoreError:
            return False
        return False

    def _api(self, endpoint: Endpoint) -> WebsocketAPI:
        websocket_api = self._apis.get(endpoint)
        if websocket_api is None:
            websocket_api = WebsocketAPI()
            websocket_api.session = self._session
            websocket_api.configure_from_api_id(endpoint.api_id, endpoint.stage)
            self._apis[endpoint] = websocket_api
        return websocket_api


def _meaning_of(status: int) -> Delivery:
    """Return the result for an HTTP status. boto3 doesn't recognise every 410 as GoneException."""
    if status == 410:
        return Delivery.GONE
    if status == 429:
        count("throttled")
    return Delivery.FAILED if status == 429 or status >= 500 else Delivery.REFUSED
