"""What a flood costs: frames over the rate, through the real tables, with each call to DynamoDB counted."""

import json
from dataclasses import replace

from chalicelib.aws.connections import ConnectionsTable
from chalicelib.core.messenger import REFUSALS_UNTIL_CLOSED
from chalicelib.core.rate_limit import RateLimit
from tests.integration.test_stores import count_calls
from tests.support.dynamodb_tables import Tables, make_tables
from tests.support.stream_records import position
from tests.unit.test_messenger import HERE, World

RATE = RateLimit(20, 60)
PING = '{"action": "ping"}'


class Flooded:
    """Several Lambdas over one table and one gateway, and one player with the connection `c`."""

    def __init__(self, lambdas: int) -> None:
        self.world = World()
        self.tables = make_tables()
        stores = [connections_of(self.tables, self.world) for _ in range(lambdas)]
        self.messengers = [replace(self.world.messenger, connections=store) for store in stores]
        self.world.messenger = self.messengers[0]
        self.world.connect("1", "c")
        stores[0].make_live("1", "c", position(1))
        self.world.now = 1000 * RATE.window_ms
        self.calls = count_calls(self.tables.client)

    def send(self, frames: int, body: str = PING) -> list[str]:
        """Send frames to one Lambda after the other, and return what the replies are."""
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


def test_a_thousand_frames_cost_a_burst_of_updates_and_the_closing() -> None:
    flooded = Flooded(lambdas=1)

    replies = flooded.send(1000)

    assert replies == ["pong"] * 60 + ["rate_limited"] * 940
    assert flooded.calls.count("UpdateItem") == 60 + 1
    assert flooded.calls.count("DeleteItem") == 1
    assert flooded.world.notes.names().count("refused") == 1


def test_ten_lambdas_make_some_seventy_writes_in_a_window_of_2_4_seconds() -> None:
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


def test_a_sender_of_long_messages_is_held_to_the_rate_by_bytes() -> None:
    """At 4 KB a unit, 20 units a second are 80 KB a second: one message of 128 KB in a window."""
    flooded = Flooded(lambdas=2)
    body = json.dumps({"action": "sendmessage", "message": "x" * 130_000, "destinationPlayerId": "2"})
    taken = 0

    for _ in range(10):
        taken += flooded.send(40, body).count("ack")
        flooded.world.now += RATE.window_ms

    assert taken == 10


def test_a_player_at_the_rate_is_never_refused_and_costs_an_update_a_frame() -> None:
    flooded = Flooded(lambdas=3)
    replies: list[str] = []

    for _ in range(1000):
        flooded.world.now += 50
        replies += flooded.send(1)
        flooded.messengers.append(flooded.messengers.pop(0))

    assert replies == ["pong"] * 1000
    assert len(flooded.calls) <= 1000 + 3 + 1000 // 40
