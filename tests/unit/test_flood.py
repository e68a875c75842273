"""The number of DynamoDB calls that a flood of frames costs."""

import json
from dataclasses import replace

from chalicelib.aws.connections import ConnectionsTable
from chalicelib.core.messenger import REFUSALS_UNTIL_CLOSED
from chalicelib.core.rate_limit import RateLimit
from tests.support.dynamodb_tables import Tables, count_calls, make_tables
from tests.support.stream_records import position
from tests.support.world import HERE, World

RATE = RateLimit(20, 60)
PING = '{"action": "ping"}'


class Flooded:
    """Several Lambdas over one table and one gateway. Player 1 has the connection `c`."""

    def __init__(self, lambdas: int) -> None:
        self.world = World()
        self.tables = make_tables()
        stores = [connections_of(self.tables, self.world) for _ in range(lambdas)]
        self.world.connections.rate = RATE
        self.world.connection_store = stores[0]
        self.messengers = [replace(self.world.messenger, connections=store) for store in stores]
        self.world.connect("1", "c")
        stores[0].make_live("1", "c", position(1))
        self.world.now = 1000 * RATE.window_ms
        self.calls = count_calls(self.tables.client)

    def send(self, frames: int, body: str = PING) -> list[str]:
        """Send frames to the Lambdas in turn, and return each reply's error code or type."""
        posted = len(self.world.gateway.posted)
        for number in range(frames):
            self.messengers[number % len(self.messengers)].receive("c", HERE, body)
        replies = [json.loads(frame) for _, frame in self.world.gateway.posted[posted:]]
        return [reply.get("code", reply["type"]) for reply in replies]


def connections_of(tables: Tables, world: World) -> ConnectionsTable:
    return ConnectionsTable(
        tables.client,
        tables.websockets,
        player_seconds=86_400,
        rate=RATE,
        connections_per_player=10,
        clock=lambda: world.now,
    )


def test_a_flood_of_a_thousand_frames_costs_one_burst_of_updates_and_the_closing() -> None:
    flooded = Flooded(lambdas=1)

    replies = flooded.send(1000)

    assert replies == ["pong"] * 60 + ["rate_limited"] * 940
    assert flooded.calls.count("UpdateItem") == 60 + 1
    assert flooded.calls.count("DeleteItem") == 1
    assert flooded.world.notes.names().count("refused") == 1


def test_a_flood_over_ten_lambdas_costs_at_most_70_updates_per_window() -> None:
    flooded = Flooded(lambdas=10)

    replies = flooded.send(10 * REFUSALS_UNTIL_CLOSED)

    assert replies.count("pong") == 60
    assert flooded.calls.count("UpdateItem") <= 60 + 10


def test_a_flooder_is_closed_and_cannot_come_back_before_the_window_ends() -> None:
    flooded = Flooded(lambdas=1)
    flooded.send(60 + REFUSALS_UNTIL_CLOSED)
    assert flooded.world.gateway.closed == ["c"]

    assert flooded.world.refusal({"playerId": "1"}) == 429
    flooded.world.now += RATE.window_ms

    flooded.world.connect("1", "back")
    assert flooded.world.send("back", action="ping") == {"type": "pong"}


def test_long_messages_are_limited_by_their_bytes() -> None:
    """20 units of 4 KB per second are 80 KB per second, so a window admits one message of 128 KB."""
    flooded = Flooded(lambdas=2)
    body = json.dumps({"action": "sendmessage", "message": "x" * 130_000, "destinationPlayerId": "2"})
    taken = 0

    for _ in range(10):
        taken += flooded.send(40, body).count("ack")
        flooded.world.now += RATE.window_ms

    assert taken == 10


def test_a_player_at_the_rate_is_never_refused_and_costs_one_update_per_frame() -> None:
    flooded = Flooded(lambdas=3)
    replies: list[str] = []

    for _ in range(1000):
        flooded.world.now += 50
        replies += flooded.send(1)
        flooded.messengers.append(flooded.messengers.pop(0))

    assert replies == ["pong"] * 1000
    assert len(flooded.calls) <= 1000 + 3 + 1000 // 40
