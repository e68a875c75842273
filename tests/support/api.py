"""The local gateway with functions that record their events, and the names by which it is reached."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import boto3
from botocore.config import Config
from websockets.asyncio.client import ClientConnection, connect

from localdev.gateway import Gateway
from localdev.limits import Limits

Event = dict[str, Any]

LOCAL_ORIGINS = [
    "http://localhost",
    "http://localhost:5173",
    "https://LOCALHOST:5173",
    "http://game.localhost:8080",
    "http://127.0.0.1:3000",
    "http://127.8.9.10",
    "http://[::1]:3000",
]
FOREIGN_ORIGINS = [
    "null",
    "",
    "https://evil.example",
    "http://evil.example:{port}",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example",
    "http://notlocalhost",
    "http://6.6.6.6",
    "http://192.168.1.6:8000",
    "http://[2001:db8::1]",
    "http://localhost@evil.example",
    "http://evil.example/localhost",
    "http://evil.example#localhost",
    "http://evil.example, http://localhost",
    "file://",
    "localhost",
]
OTHER_HOSTS = [
    "evil.example",
    "evil.example:{port}",
    "localhost.evil.example:{port}",
    "127.0.0.1.evil.example",
    "127.0.0.1@evil.example",
    "evil.example/localhost",
    "[::1",
    "1",
    "0x7f.1",
    "",
]
OWN_HOSTS = [
    "localhost:{port}",
    "localhost",
    "LocalHost:18001",
    "game.localhost:{port}",
    "127.0.0.1:18001",
    "192.168.1.5:{port}",
    "[::1]:{port}",
]


class Api:
    """A gateway whose functions record their events. Tests can replace `on_connect` and `on_message`."""

    def __init__(self, limits: Limits, gateway: type[Gateway] = Gateway) -> None:
        self.events: list[Event] = []
        self.on_connect: Callable[[Event], Any] = lambda event: {"statusCode": 200}
        self.on_message: Callable[[Event], Any] = lambda event: {"statusCode": 200}
        routes = {
            "$connect": lambda event: self._record(event, self.on_connect),
            "$default": lambda event: self._record(event, self.on_message),
            "$disconnect": lambda event: self._record(event, lambda event: {"statusCode": 200}),
        }
        self.gateway = gateway("api", "dev", routes, limits)

    async def start(self) -> None:
        self.port = await self.gateway.start("127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self.port}/dev/"
        self.management = boto3.Session("local", "local", region_name="us-east-1").client(
            "apigatewaymanagementapi",
            endpoint_url=f"http://127.0.0.1:{self.port}/dev",
            config=Config(retries={"total_max_attempts": 1}),
        )

    def _record(self, event: Event, function: Callable[[Event], Any]) -> Any:
        self.events.append(event)
        return function(event)

    def of_type(self, event_type: str) -> list[Event]:
        return [event for event in self.events if event["requestContext"]["eventType"] == event_type]

    async def connected(self, query: str = "", **options: Any) -> tuple[ClientConnection, str]:
        """Return a connection that can be posted to, and its id."""
        socket = await connect(self.url + query, compression=None, **options)
        connection_id = self.of_type("CONNECT")[-1]["requestContext"]["connectionId"]
        return socket, connection_id

    async def call(self, operation: str, connection_id: str, **arguments: Any) -> Any:
        method = getattr(self.management, operation)
        return await asyncio.to_thread(method, ConnectionId=connection_id, **arguments)

    async def post(self, connection_id: str, data: bytes | str = "hi") -> Any:
        return await self.call("post_to_connection", connection_id, Data=data)


@asynccontextmanager
async def an_api(limits: Limits | None = None, gateway: type[Gateway] = Gateway) -> AsyncIterator[Api]:
    api = Api(limits or Limits(), gateway)
    await api.start()
    try:
        yield api
    finally:
        await api.gateway.stop()
