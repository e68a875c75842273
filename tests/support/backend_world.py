"""A backend over the tables of the tests, with recorded calls and the service's own view of connections."""

import time
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any

from chalicelib.aws.connection_items import player_of
from chalicelib.aws.connections import ConnectionsTable
from chalicelib.core.model import Connection, Endpoint, PlayerConnections
from chalicelib.core.rate_limit import RateLimit
from clients.backend import Backend
from localdev.dynamodb import create_tables
from tests.support.dynamodb_tables import Tables, make_tables
from tests.support.recorded_aws import RecordedConnections, RecordedDynamoDb
from tests.support.stream_records import position

DAY = 24 * 60 * 60
HERE = Endpoint("api", "dev")
HOUR_AHEAD = 3600.0
"""How far DynamoDB's clock is ahead of this machine's in the tests."""


_numbers = count(1_000_000)


@cache
def _shared_tables() -> Tables:
    """Return one engine for all worlds, because creating a boto3 client takes longer than a test."""
    return make_tables()


@dataclass
class World:
    """A backend, the tables that it writes, and the service's own view of the connections."""

    tables: Tables
    dynamodb: RecordedDynamoDb
    connections: RecordedConnections
    service: ConnectionsTable
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def new(cls) -> "World":
        number = next(_numbers)
        tables = _shared_tables()._replace(websockets=f"websockets-{number}", messages=f"messages-{number}")
        names = {"WebsocketsTable": tables.websockets, "MessagesTable": tables.messages}
        create_tables(tables.client, names)
        service = ConnectionsTable(
            tables.client,
            tables.websockets,
            player_seconds=7 * DAY,
            rate=RateLimit(20, 10_000),
            connections_per_player=100,
        )
        dynamodb = RecordedDynamoDb(tables.client, lambda: time.time() + HOUR_AHEAD)
        return cls(tables, dynamodb, RecordedConnections(), service)

    @property
    def backend(self) -> Backend:
        if not hasattr(self, "_backend"):
            self._backend = self.another_backend(**self.options)
        return self._backend

    def another_backend(self, **options: Any) -> Backend:
        tables = self.tables.websockets, self.tables.messages
        return Backend(self.dynamodb, self.connections.at, *tables, **options)

    def connect(self, player: str, connection: str, *, live: bool = True, at_ms: int = 1000) -> None:
        self.service.register(Connection(connection, player, HERE, at_ms, {}))
        if live:
            self.service.make_live(player, connection, position(7))
        self.connections.open.add(connection)

    def stored(self, destination: str) -> list[dict[str, Any]]:
        """Return the items of a destination in the Messages table, by their ids."""
        items = self.tables.client.scan(TableName=self.tables.messages)["Items"]
        items = [item for item in items if item["destinationPlayerId"]["S"] == destination]
        return sorted(items, key=lambda item: str(item["messageId"]["S"]))

    def websockets(self, key: str) -> dict[str, Any] | None:
        answer = self.tables.client.get_item(
            TableName=self.tables.websockets, Key={"id": {"S": key}}, ConsistentRead=True
        )
        item: dict[str, Any] | None = answer.get("Item")
        return item

    def player(self, player: str) -> dict[str, Any]:
        return self.websockets(f"player#{player}") or {}

    def read_player(self, player: str) -> PlayerConnections:
        """Return the player's connections as the service reads them."""
        return player_of(player, self.player(player))

    def set_rooms_of(self, player: str, *rooms: str) -> None:
        """Make the rooms those that are told about the player's presence."""
        self.tables.client.update_item(
            TableName=self.tables.websockets,
            Key={"id": {"S": f"player#{player}"}},
            UpdateExpression="ADD rooms :rooms",
            ExpressionAttributeValues={":rooms": {"SS": list(rooms)}},
        )
