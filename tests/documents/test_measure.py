"""Load tests count correctly and show every step; the cost model and the budgets are checked."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, astuple, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from measure import attacks, cold, costs, report, room_scale, steps
from measure.budgets import Row, table
from measure.load import client, result
from measure.loops import Load, Stage
from measure.observations import Observations
from measure.player import LoadPlayer
from measure.progress import Progress
from measure.scale import simulate
from measure.scenarios import pairs, pairs_under
from measure.shard import Parameters
from tests.support.chalice_process import PROJECT
from tests.support.documents import table as table_after

STALL_SECONDS = 0.6
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node on this machine")
FREE = costs.Prices(**dict.fromkeys(asdict(costs.Prices()), 0.0))
SCALING = (PROJECT / "docs" / "scaling.md").read_text(encoding="utf-8")


def total(lines: costs.Lines) -> float:
    return sum(lines.values())


def test_an_acknowledged_message_that_never_arrives_counts_as_lost() -> None:
    observed = Observations()
    observed.send("a", 0, 0).acknowledged = 1
    observed.send("a", 1, 0).acknowledged = 1
    observed.send("a", 2, 0)

    observed.receive("b", "a", 1, 2)

    assert (observed.lost, observed.unanswered, observed.unsettled) == (1, 1, 2)


def test_duplicate_late_and_unknown_messages_are_counted() -> None:
    observed = Observations()
    for number in range(3):
        observed.send("a", number, 0)

    for number in (0, 2, 1, 1):
        observed.receive("b", "a", number, 1)
    observed.receive("b", "stranger", 0, 1)

    assert (observed.duplicated, observed.out_of_order, observed.unexpected) == (1, 1, 1)


def test_warm_up_is_checked_and_not_measured() -> None:
    observed = Observations(since=10)
    observed.send("a", 0, 9).acknowledged = 9.5
    observed.send("a", 1, 11)

    assert [send.number for send in observed.measured] == [1]
    assert observed.lost == 1


def test_a_rooms_message_is_received_when_its_last_member_has_it() -> None:
    observed = Observations()
    send = observed.send("a", 0, 0, "room", recipients=2)
    send.acknowledged = 1

    observed.receive("b", "a", 0, 2)
    first = send.received, observed.lost, observed.unsettled
    observed.receive("a", "a", 0, 3)

    assert first == (None, 1, 1)
    assert (send.received, observed.lost, observed.unsettled) == (3, 0, 0)


def test_duplicates_of_a_rooms_message_are_counted_per_member() -> None:
    observed = Observations()
    send = observed.send("a", 0, 0, "room", recipients=2)

    for member in ("b", "b", "a"):
        observed.receive(member, "a", 0, 1)

    assert (observed.duplicated, observed.out_of_order, send.received) == (1, 0, 1)


def test_members_who_receive_a_rooms_messages_in_different_orders_are_counted() -> None:
    observed = Observations()
    for sender in ("a", "b", "c"):
        observed.send(sender, 0, 0, "room", recipients=2)

    for sender in ("a", "b", "c"):
        observed.receive("a", sender, 0, 1)
    for sender in ("c", "a", "b"):
        observed.receive("b", sender, 0, 1)

    assert observed.out_of_order == 2


class StallingService:
    """Speaks enough of the protocol, and stalls once at message `stall_at`, counted from 1."""

    answers_after = 0.0

    def __init__(self, stall_at: int) -> None:
        self._stall_at = stall_at
        self._sockets: dict[str, ServerConnection] = {}
        self._count = 0

    async def __call__(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        name = socket.request.path.rpartition("playerId=")[2]
        self._sockets[name] = socket
        greeting = {"type": "system", "event": "connected", "connectionId": name, "messageId": "0"}
        await socket.send(json.dumps(greeting))
        async for text in socket:
            await self._answer(socket, name, json.loads(text))

    async def _answer(self, socket: ServerConnection, name: str, frame: dict[str, Any]) -> None:
        self._count += 1
        if self._count == self._stall_at:
            time.sleep(STALL_SECONDS)  # Blocks the event loop, like an overloaded service.
        await asyncio.sleep(self.answers_after)
        message = {"messageId": str(self._count), "message": frame["message"], "srcPlayerId": name}
        await socket.send(json.dumps({"type": "ack", "ackId": frame["ackId"], **message}))
        await self._sockets[frame["destinationPlayerId"]].send(json.dumps({"type": "message", **message}))


def test_a_stalled_service_delays_every_message_that_was_due_during_the_stall() -> None:
    observed = Observations()

    async def measure() -> None:
        async with serve(StallingService(stall_at=50), "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
            stage = Stage(
                lambda name: LoadPlayer(name, partial(client, url, name), observed),
                observed,
                Progress(""),
                lambda: 0,
            )
            await pairs(stage, Load(clients=1, rate=100, seconds=2, warm_up_seconds=0))

    asyncio.run(measure())

    took = [send.received - send.due for send in observed.measured if send.received is not None]
    assert len(took) == 200
    assert sum(seconds > STALL_SECONDS / 2 for seconds in took) >= 100 * STALL_SECONDS / 2 - 1
    assert max(took) >= STALL_SECONDS - 0.05


def test_a_scenario_with_an_attacker_compares_it_with_the_undisturbed_pairs() -> None:
    observed, service = Observations(), StallingService(stall_at=0)

    async def attack(url: str, name: str) -> None:
        service.answers_after = STALL_SECONDS
        await asyncio.sleep(3600)

    async def measure() -> dict[str, float]:
        async with serve(service, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
            stage = Stage(
                lambda name: LoadPlayer(name, partial(client, url, name), observed),
                observed,
                Progress(""),
                lambda: 0,
            )
            return await pairs_under(attack, stage, Load(clients=2, rate=2, seconds=1, warm_up_seconds=0))

    facts = asyncio.run(measure())

    assert facts["undisturbed_median_ms"] < 1000 * STALL_SECONDS < facts["median_ms"]
    assert facts["slower_by_a_factor_of"] > 1
    assert len(observed.measured) == 2


def test_an_attack_ends_even_if_it_swallows_a_cancellation() -> None:
    """Before Python 3.12, `asyncio.wait_for` can do that."""
    swallowed = 0

    async def attack(url: str, name: str) -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 2:
                    raise

    async def attack_for_a_moment() -> None:
        async with attacks.running(attack, "", ""):
            await asyncio.sleep(0)

    async def ends() -> bool:
        done, _ = await asyncio.wait([asyncio.ensure_future(attack_for_a_moment())], timeout=10)
        return bool(done)

    assert asyncio.run(ends())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, str]:
    """Run a short load test. Return the result, the page and the output."""
    out = tmp_path_factory.mktemp("load")
    command = [sys.executable, "-m", "measure.load", "pairs", "--clients", "2", "--rate", "20"]
    ran = subprocess.run(
        [*command, "--seconds", "2", "--warm-up", "0.5", "--out", str(out), "--label", "short"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return (
        json.loads((out / "short.json").read_text(encoding="utf-8")),
        (out / "short.html").read_text(encoding="utf-8"),
        ran.stdout,
    )


def test_a_load_test_of_a_chalice_local_shows_every_step(measured: tuple[dict[str, Any], str, str]) -> None:
    result, page, printed = measured

    assert list(result["latencies"]) == [*steps.STEPS, *steps.TOTALS]
    assert (result["sent"], result["delivered"]) == (40, 40)
    assert (result["lost"], result["duplicated"], result["out_of_order"], result["errors"]) == (0, 0, 0, {})
    for name, step in result["latencies"].items():
        assert 0 < step["p50"] <= step["p90"] <= step["p99"] <= step["p99.9"] <= step["max"], name
        assert name in page
        assert name in printed


def test_the_steps_add_up_to_the_whole(measured: tuple[dict[str, Any], str, str]) -> None:
    """Medians do not add up exactly, but a missing or duplicate step would show."""
    half = {name: step["p50"] for name, step in measured[0]["latencies"].items()}

    assert half["send"] + half["save message"] + half["acknowledge"] == pytest.approx(
        half["acknowledged"], rel=0.5
    )
    way = ("send", "save message", "trigger", "look up", "receive")
    assert sum(half[name] for name in way) == pytest.approx(half["delivered"], rel=0.5)


def test_a_load_test_of_rooms_counts_a_message_when_every_member_has_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "measure.load", "rooms", "--clients", "2", "--members", "3"]
    ran = subprocess.run(
        [*command, "--rate", "10", "--seconds", "2", "--warm-up", "0.5", "--out", str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    result = json.loads((tmp_path / "rooms.json").read_text(encoding="utf-8"))
    assert (result["sent"], result["delivered"]) == (20, 20)
    assert (result["lost"], result["duplicated"], result["out_of_order"], result["errors"]) == (0, 0, 0, {})
    assert result["facts"]["copies_per_second"] == pytest.approx(3 * result["delivered_per_second"], rel=0.5)


def test_a_page_compares_two_runs_and_needs_nothing_else(measured: tuple[dict[str, Any], str, str]) -> None:
    first = measured[0]
    page = report.page([first, {**first, "label": "<second>"}])

    assert "second ÷ first" in page
    assert page.count("data:image/svg+xml;base64,") == 3
    assert "&lt;second&gt;" in page
    assert "<second>" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_an_empty_result_can_be_shown() -> None:
    nothing = result("pairs", Load(1, 1, 1, 0), Observations(), {}, {"measured_seconds": 1.0}, "")

    assert "delivered" in report.table(nothing)


@pytest.mark.slow
@pytest.mark.parametrize("its_client", ["python", pytest.param("javascript", marks=needs_node)])
def test_a_backlog_is_replayed_with_slow_posts_to_either_client(its_client: str) -> None:
    command = [sys.executable, "-m", "measure.backlog", "60", "--client", its_client, "--post-ms", "5"]
    ran = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, encoding="utf-8")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.startswith(f"{its_client}: 60 messages in ")
    assert "1001" in ran.stdout.splitlines()[1]


def test_an_unreachable_service_prints_one_line() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "measure.load", "pairs", "--url", "ws://127.0.0.1:9/dev/"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )

    assert ran.returncode == 1
    assert ran.stderr.startswith("could not connect: ")
    assert ran.stderr.count("\n") == 1


def test_the_message_calls_keep_their_budgets() -> None:
    assert report_of("message_calls(aws)").count("\n") == 9


def test_the_calls_of_rooms_keep_their_budgets() -> None:
    printed = report_of("[*room_budgets.frame_calls(aws), *room_budgets.fan_out_calls(aws)]")

    assert printed.count("\n") == 1 + 8 + 2 * 3
    assert "250 PostToConnection" in printed


def test_the_calls_of_presence_keep_their_budgets() -> None:
    printed = report_of("room_budgets.presence_calls(aws)")

    assert printed.count("\n") == 1 + 2 * 5
    assert "99 PostToConnection" in printed


def test_signals_are_measured_beside_messages() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "measure.signals", "1"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )

    assert ran.returncode == 0, ran.stderr
    assert [line.partition(":")[0] for line in ran.stdout.splitlines()] == [
        "message to a player",
        "signal to a player",
        "message to a room of 2",
        "signal to a room of 2",
    ]


def report_of(rows: str) -> str:
    """Return the report of `rows`, computed in a process of its own. A budget that isn't kept fails."""
    program = (
        "from measure.bench import *; telemetry.lines.addHandler(logging.NullHandler()); "
        f"aws = CountedAws.start(); rows = list({rows}); print(table(rows)); "
        "sys.exit(not all(row.is_kept for row in rows))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, encoding="utf-8"
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.slow
def test_a_cold_batch_opens_connections_over_tls_and_drops_none() -> None:
    with cold.gateway() as environment:
        batches = cold.cold_batch(environment, share=0.9)

    assert batches.dropped == 0
    assert batches.handshakes >= 1
    assert 0 < batches.longest_handshake_seconds < batches.cold_seconds


def test_an_exceeded_budget_is_reported() -> None:
    assert "EXCEEDED" in table([Row("calls", 5, 4)])
    assert "EXCEEDED" not in table([Row("calls", 4, 4), Row("time", 9, None)])


def test_the_model_is_deterministic_and_saturates_where_it_must() -> None:
    usual = Parameters()

    assert simulate(100, usual) == simulate(100, usual)
    assert simulate(1, usual).p50 == pytest.approx(usual.poll_ms / 2, rel=0.35)
    assert simulate(1000, usual).keeps_up
    assert not simulate(2000, usual).keeps_up
    assert not simulate(200, replace(usual, players=1)).keeps_up


def test_a_rooms_message_waits_for_two_polls() -> None:
    usual, small = Parameters(), room_scale.simulate(10, Parameters())

    assert small == room_scale.simulate(10, usual)
    assert usual.poll_ms < small.median_p50 < 1.4 * usual.poll_ms  # Each wait is half of it on average.
    assert small.median_p50 < small.last_p50 < room_scale.simulate(1000, usual).last_p50


def test_the_latencies_of_rooms_in_the_document_are_those_of_the_model() -> None:
    for members, cells in table_after(SCALING, "| members |").items():
        latency = room_scale.simulate(int(members.replace(",", "")), Parameters())
        assert cells == [f"{milliseconds:.0f}" for milliseconds in astuple(latency)], members


def test_costs_follow_from_the_given_prices() -> None:
    dear = replace(FREE, write_units=2.0)

    assert total(costs.ours(FREE, costs.Use())) == 0
    assert total(costs.ours(dear, costs.Use(has_client_message_id=False))) == 4.0


def test_a_client_message_id_is_one_more_write() -> None:
    dear = replace(FREE, write_units=2.0)

    assert total(costs.ours(dear, costs.Use())) == 6.0


def test_a_message_costs_a_write_for_each_kilobyte_and_three_gateway_messages_for_each_32_kilobytes() -> None:
    large = costs.Use(message_bytes=130_800, has_client_message_id=False)

    assert total(costs.ours(replace(FREE, write_units=1.0), large)) == 1 + 128
    assert total(costs.ours(replace(FREE, gateway_messages=1.0), large)) == 3 * 4


def test_a_ping_costs_two_gateway_messages_a_call_and_a_write() -> None:
    two_a_minute = costs.Use(ping_seconds=30)

    assert total(costs.idle(replace(FREE, gateway_messages=1.0), two_a_minute)) == 4.0
    assert total(costs.idle(replace(FREE, lambda_requests=1.0), two_a_minute)) == 2.0
    assert total(costs.idle(replace(FREE, write_units=1.0), two_a_minute)) == 2.0


def test_a_rooms_message_costs_a_write_a_read_and_a_post_for_each_member() -> None:
    use = costs.Use(has_client_message_id=False)

    def of_100(prices: costs.Prices) -> float:
        return total(costs.room(prices, use, 110)) - total(costs.room(prices, use, 10))

    assert of_100(replace(FREE, gateway_messages=1.0)) == 100
    assert of_100(replace(FREE, read_units=1.0)) == 100
    assert of_100(replace(FREE, write_units=1.0)) == 100 + 1  # The room's item has grown to a second KB.


def test_counting_a_rooms_message_costs_a_write_for_each_kilobyte_of_its_members() -> None:
    dear = replace(FREE, write_units=1.0)
    room, copies = costs.Use().room_item_bytes, 250

    of_room = {
        characters: costs.room(dear, costs.Use(), copies, characters)["DynamoDB: the update of the room"]
        for characters in (12, 36)
    }

    assert of_room == {12: (room + 13 * 250) // 1024 + 1, 36: (room + 37 * 250) // 1024 + 1}


def test_an_expired_message_costs_a_call_and_its_log_unless_the_mapping_filters_it_out() -> None:
    calls = costs.Use(batch=1, deletes_wake_push=True), costs.Use(batch=1, deletes_wake_push=False)
    requests, logs = replace(FREE, lambda_requests=1.0), replace(FREE, log_gb=1.0)

    assert [total(costs.ours(requests, use)) for use in calls] == [3.0, 2.0]
    assert total(costs.ours(logs, calls[0])) - total(costs.ours(logs, calls[1])) == pytest.approx(0.34)


def test_deletions_wake_no_function_in_the_model_because_the_mapping_that_is_deployed_has_a_filter() -> None:
    assert not costs.Use().deletes_wake_push


def test_every_price_has_its_source_in_the_document() -> None:
    documented = table_after(SCALING, "| price")

    assert {name: tuple(cells[1:]) for name, cells in documented.items()} == costs.SOURCES
    assert {name: float(cells[0]) for name, cells in documented.items()} == asdict(costs.Prices())


def test_the_sums_of_the_document_are_those_of_the_model() -> None:
    prices, use = costs.Prices(), costs.Use()
    designs = [design(prices, use) for design in (costs.ours, costs.original, costs.broadcast_by_scan)]
    idle = {
        seconds: f"{total(costs.idle(prices, replace(use, ping_seconds=float(seconds)))):.2f}"
        for seconds in table_after(SCALING, "| a ping each")
    }

    for service, cells in table_after(SCALING, "| | this").items():
        of_it = [
            sum(dollars for what, dollars in lines.items() if service in ("together", what.partition(":")[0]))
            for lines in designs
        ]
        assert cells == [f"{dollars:,.2f}" for dollars in of_it], service
    assert {seconds: cells[0] for seconds, cells in table_after(SCALING, "| a ping each").items()} == idle
    _check_rooms(prices, use)
    assert f"{total(designs[0]):.2f} dollars" in (PROJECT / "README.md").read_text(encoding="utf-8")


def _check_rooms(prices: costs.Prices, use: costs.Use) -> None:
    """Check the table of a million messages to rooms."""
    short, long = (
        [costs.room(prices, use, members, characters) for members in room_scale.MEMBERS]
        for characters in (12, 36)
    )
    update = "DynamoDB: the update of the room"
    rows = {
        "together": [total(lines) for lines in short],
        "together, ids of 36 characters": [total(lines) for lines in long],
        "the room's update, ids of 12": [lines[update] for lines in short],
        "the room's update, ids of 36": [lines[update] for lines in long],
    }
    for name, cells in table_after(SCALING, "| members of the room").items():
        of_it = rows.get(name) or [
            sum(dollars for what, dollars in lines.items() if what.partition(":")[0] == name)
            for lines in short
        ]
        assert cells == [f"{dollars:,.2f}" for dollars in of_it], name


def test_the_commands_of_the_documents_are_there() -> None:
    text = (PROJECT / "docs" / "performance.md").read_text(encoding="utf-8") + (
        PROJECT / "docs" / "scaling.md"
    ).read_text(encoding="utf-8")
    targets = {line.split()[1] for line in text.splitlines() if line.startswith("    make ")}

    assert targets == {"load", "bench", "scale"}
    assert all(f"\n{target}:" in Path(PROJECT / "Makefile").read_text(encoding="utf-8") for target in targets)
