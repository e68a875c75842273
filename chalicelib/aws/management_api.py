"""Posting to connections through Chalice's websocket API. The management API's vocabulary lives here."""

import os
import threading
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from chalice.app import WebsocketAPI, WebsocketDisconnectedError

from chalicelib.aws.telemetry import count, timed
from chalicelib.aws.tls import share_context
from chalicelib.core.ports import POST_SECONDS, Delivery, Endpoint

POSTS_AT_ONCE = 100
"""One for each record of a batch, so that each of its players has a thread.

Each has a connection of its own in the client's pool; threads are made when they are needed.
"""

OPEN_SECONDS = 1.5
"""How long TCP may take to connect, and then the handshake: a lost SYN is sent again after one second."""

CONFIG = Config(
    connect_timeout=OPEN_SECONDS,
    read_timeout=POST_SECONDS,
    retries={"total_max_attempts": 1},
    max_pool_connections=POSTS_AT_ONCE,
)
"""Seconds: boto3 alone would wait sixty, and try three times, for one recipient that hangs."""


class ManagementSession:
    """The session that Chalice makes its management client from.

    Chalice names the endpoint of AWS explicitly, and by that would overrule the variable that
    redirects this service everywhere else. Here the variable wins.
    """

    region_name = None

    def __init__(self) -> None:
        self._clients: dict[str, Any] = {}
        self._one_at_a_time = threading.Lock()

    def client(self, service: str, endpoint_url: str) -> Any:
        """One client for an endpoint, whichever thread asks first: making one is not thread-safe."""
        endpoint_url = os.environ.get("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", endpoint_url)
        with self._one_at_a_time:
            if endpoint_url not in self._clients:
                client = boto3.client(service, endpoint_url=endpoint_url, config=CONFIG)
                share_context(client)
                self._clients[endpoint_url] = client
            return self._clients[endpoint_url]


class ManagementApi:
    """The gateway on AWS: posts to a connection over the API that it came in by.

    Chalice's websocket API keeps the first endpoint it is given, and one function may serve the
    connections of several, so there is one for each.
    """

    def __init__(self) -> None:
        self._session = ManagementSession()
        self._apis: dict[Endpoint, WebsocketAPI] = {}

    def load(self) -> None:
        """Make a client that is never used, because a process's first takes ten times as long as the next.

        The real endpoint is known only from the first event.
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
    """Not every 410 comes with the code by which boto3 knows that it means gone."""
    if status == 410:
        return Delivery.GONE
    if status == 429:
        count("throttled")
    return Delivery.FAILED if status == 429 or status >= 500 else Delivery.REFUSED
