"""The whole service, as the real `chalice local` with real clients."""

import asyncio
import json
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from localdev.embedded_dynamodb import EmbeddedDynamoDB
from tests.support import logs
from tests.support.chalice_process import CHALICE, PROJECT, ChaliceLocal, Start, bare_environment, is_free
from tests.support.sockets import PATIENCE_SECONDS, Socket, until

STEPS = ("connected", "live", "stored", "triggered", "delivered", "disconnected")


def players_item(local: ChaliceLocal, player_id: str) -> dict[str, Any]:
    """Return a player's item, read through the DynamoDB port."""
    client = look_in(local)
    table = next(name for name in client.list_tables()["TableNames"] if name.endswith("websockets"))
    key = {"id": {"S": f"player#{player_id}"}}
    item: dict[str, Any] = client.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"]
    return item


def look_in(local: ChaliceLocal) -> Any:
    session = boto3.Session("local", "local", region_name="us-east-1")
    return session.client("dynamodb", endpoint_url=f"http://127.0.0.1:{local.dynamodb_port}")


# Players


def test_the_original_frame_arrives_at_player_2_and_is_acknowledged_to_player_1(local: ChaliceLocal) -> None:
    async def talk() -> None:
        one, two = await Socket.connect(local.url, "1"), await Socket.connect(local.url, "2")
        await one.socket.send(
            '{"routeKey": "sendmessage", "action": "sendmessage", "message": "Hello, from player 1!",'
            ' "playerId": "1", "destinationPlayerId": "2"}'
        )
        ack, message = await one.frame(), await two.frame()

        assert message == {
            "type": "message",
            "message": "Hello, from player 1!",
            "messageId": ack["messageId"],
            "srcPlayerId": "1",
            "destinationPlayerId": "2",
            "sentAt": ack["sentAt"],
        }
        assert ack == {**message, "type": "ack", "status": "Message sent!"}

    asyncio.run(talk())


async def one_message(local: ChaliceLocal, is_over: Callable[[], bool]) -> str:
    """Send one message from `s` to `r`, disconnect both, and return its id when `is_over`."""
    sender, recipient = await Socket.connect(local.url, "s"), await Socket.connect(local.url, "r")
    ack = await sender.send_message("r", "canary-text")
    await recipient.message()
    await sender.socket.close()
    await recipient.socket.close()
    await until(is_over)
    return str(ack["messageId"])


def test_every_step_writes_a_line_with_ids_and_no_text(local: ChaliceLocal) -> None:
    message_id = asyncio.run(one_message(local, lambda: local.lines.count("disconnected  player=r ") == 1))

    for step in STEPS:
        assert f"  {step} " in local.lines, local.lines
    about_the_message = [line for line in local.lines.splitlines() if message_id in line]
    steps = [line.split()[1] for line in about_the_message]
    assert sorted(steps) == ["delivered", "stored", "triggered"]  # The stream can be faster than the sender.
    assert "canary-text" not in local.lines


def test_a_message_can_be_traced_by_its_id_with_durations(start: Start, tmp_path: Path) -> None:
    telemetry = tmp_path / "telemetry.jsonl"
    local = start("--no-autoreload", TELEMETRY_FILE=str(telemetry)).started()

    message_id = asyncio.run(
        one_message(local, lambda: telemetry.read_text(encoding="utf-8").count("disconnected") == 2)
    )

    lines = [json.loads(line) for line in telemetry.read_text(encoding="utf-8").splitlines()]
    logs.search(telemetry.read_text(encoding="utf-8"))
    about = [line for line in lines if line.get("message") == message_id]
    frame, push = sorted(about, key=lambda line: line["at"])  # They can be written in either order.
    assert (frame["step"], frame["outcome"], push["step"], push["outcome"]) == (
        *("message", "stored"),
        *("push", "delivered"),
    )
    assert frame["at"] < push["at"] < frame["at"] + 1000 * PATIENCE_SECONDS
    parts = frame["find_connection_ms"] + frame["admit_ms"] + frame["save_message_ms"] + frame["post_ms"]
    assert 0 < parts <= frame["ms"]
    assert 0 < push["look_up_ms"] + push["post_ms"] <= push["ms"]
    assert Counter(line["step"] for line in lines if "step" in line) == {
        "connect": 2,
        "message": 1,
        "push": 3,
        "disconnect": 2,
    }


def test_a_message_to_a_player_who_is_offline_is_acknowledged(local: ChaliceLocal) -> None:
    async def talk() -> None:
        sender = await Socket.connect(local.url, "alone")

        assert (await sender.send_message("offline", "hi"))["type"] == "ack"
        assert await sender.ask(action="ping") == {"type": "pong"}

    asyncio.run(talk())


def test_a_player_who_was_offline_gets_the_missed_messages_once(
    local: ChaliceLocal,
) -> None:
    async def talk() -> None:
        sender = await Socket.connect(local.url, "writer")
        first = await Socket.connect(local.url, "reader")
        await sender.send_message("reader", "seen")
        position = (await first.message())["messageId"]
        await first.socket.close()
        await until(lambda: "connections" not in players_item(local, "reader"))
        for text in ("missed 1", "missed 2"):
            await sender.send_message("reader", text)
        await until(lambda: "missedFrom" in players_item(local, "reader"))

        again = await connect(f"{local.url}?playerId=reader&after={position}")
        frames = [json.loads(await asyncio.wait_for(again.recv(), 10)) for _ in range(4)]
        texts = [frame["message"] for frame in frames[:-1] if frame["messageId"] > position]
        assert texts == ["missed 1", "missed 2"]
        assert (frames[-1]["event"], frames[-1]["replayed"]) == ("connected", 3)
        assert "missedFrom" not in players_item(local, "reader")

    asyncio.run(talk())


def test_a_message_resent_with_its_client_message_id_arrives_once(local: ChaliceLocal) -> None:
    async def talk() -> None:
        sender, reader = (
            await Socket.connect(local.url, "again"),
            await Socket.connect(local.url, "once"),
        )
        frame = {"action": "sendmessage", "destinationPlayerId": "once", "message": "hi"}
        first = await sender.ask(**frame, clientMessageId="an-id")
        second = await sender.ask(**frame, clientMessageId="an-id")
        last = await sender.ask(**frame)

        assert second == {**first, "duplicate": True}
        arrived = [frame["messageId"] for frame in await reader.messages(2)]
        assert arrived == [first["messageId"], last["messageId"]]

    asyncio.run(talk())


def test_a_sync_is_answered_with_a_page_and_synced(local: ChaliceLocal) -> None:
    async def talk() -> None:
        player = await Socket.connect(local.url, "syncing")
        await player.send_message("syncing", "to myself")
        await player.message()

        await player.socket.send('{"action": "sync", "after": "0"}')
        replayed, synced = await player.frame(), await player.frame()

        assert (replayed["message"], replayed["replayed"]) == ("to myself", True)
        assert (synced["event"], synced["replayed"], synced["more"]) == ("synced", 1, False)

    asyncio.run(talk())


def test_a_players_connections_all_receive_and_closing_one_leaves_the_others(local: ChaliceLocal) -> None:
    async def talk() -> None:
        phone, laptop = (
            await Socket.connect(local.url, "both"),
            await Socket.connect(local.url, "both"),
        )
        sender = await Socket.connect(local.url, "sender")
        await sender.send_message("both", "first")
        assert [(await phone.message())["message"], (await laptop.message())["message"]] == ["first"] * 2

        await phone.socket.close()
        await until(lambda: len(players_item(local, "both")["connections"]["SS"]) == 1)
        await sender.send_message("both", "second")
        assert (await laptop.message())["message"] == "second"

    asyncio.run(talk())


def test_a_connection_is_saved_with_its_clients_query_parameters(local: ChaliceLocal) -> None:
    async def talk() -> None:
        async with connect(f"{local.url}?playerId=saver&level=9&token=secret"):
            await until(lambda: "player=saver" in local.lines)
            connection_id = players_item(local, "saver")["connections"]["SS"][0]
            item = look_in(local).get_item(
                TableName="serverless-websockets-dev-websockets",
                Key={"id": {"S": f"connection#{connection_id}"}},
            )["Item"]

        assert item["playerId"] == {"S": "saver"}
        assert item["clientData"] == {"M": {"level": {"S": "9"}}}

    asyncio.run(talk())


def test_fifty_pairs_exchange_twenty_messages_each_at_once_all_in_order(local: ChaliceLocal) -> None:
    texts = [f"message {number}" for number in range(20)]

    async def send_all(player: Socket, to: str) -> list[str]:
        """Send each message after the previous ack, and return the messages that arrived."""
        arrived: list[str] = []
        for text in texts:
            frame = {"action": "sendmessage", "destinationPlayerId": to, "message": text}
            await player.socket.send(json.dumps(frame))
            while (reply := await player.frame())["type"] == "message":
                arrived.append(reply["message"])
            assert reply["type"] == "ack", reply
        rest = await player.messages(len(texts) - len(arrived))
        return arrived + [frame["message"] for frame in rest]

    async def pair(number: int) -> None:
        a, b = f"pair-{number}-a", f"pair-{number}-b"
        first, second = await asyncio.gather(Socket.connect(local.url, a), Socket.connect(local.url, b))
        arrived = await asyncio.gather(send_all(first, b), send_all(second, a))
        assert list(arrived) == [texts, texts]
        await first.socket.close()
        await second.socket.close()

    async def talk() -> None:
        await asyncio.gather(*(pair(number) for number in range(50)))

    asyncio.run(talk())


def test_a_socket_killed_without_a_close_ends_with_its_connection_removed(local: ChaliceLocal) -> None:
    async def talk() -> None:
        victim, sender = (
            await Socket.connect(local.url, "killed"),
            await Socket.connect(local.url, "killer"),
        )
        victim.socket.transport.abort()
        assert (await sender.send_message("killed", "hi"))["type"] == "ack"
        await until(lambda: "connections" not in players_item(local, "killed"))

    asyncio.run(talk())


def test_a_dead_connection_is_removed_at_the_first_410(local: ChaliceLocal) -> None:
    """Simulate a missing `$disconnect` by an item of a connection that never existed."""

    async def talk() -> None:
        here, sender = (
            await Socket.connect(local.url, "haunted"),
            await Socket.connect(local.url, "medium"),
        )
        look_in(local).update_item(
            TableName="serverless-websockets-dev-websockets",
            Key={"id": {"S": "player#haunted"}},
            UpdateExpression="ADD connections :ghost SET #live = :place",
            ExpressionAttributeNames={"#live": "live:AAAAAAAAAAAAAAA="},
            ExpressionAttributeValues={":ghost": {"SS": ["AAAAAAAAAAAAAAA="]}, ":place": {"S": "0"}},
        )
        await sender.send_message("haunted", "hi")
        assert (await here.message())["message"] == "hi"
        await until(lambda: len(players_item(local, "haunted")["connections"]["SS"]) == 1)
        assert sum(name.startswith("live:") for name in players_item(local, "haunted")) == 1

    asyncio.run(talk())


def test_a_connection_whose_item_was_deleted_is_refused_and_closed(
    local: ChaliceLocal,
) -> None:
    async def talk() -> None:
        player = await Socket.connect(local.url, "forgotten")
        look_in(local).delete_item(
            TableName="serverless-websockets-dev-websockets", Key={"id": {"S": "player#forgotten"}}
        )

        assert (await player.ask(action="ping"))["code"] == "unknown_connection"
        assert await player.close_code() == 1000

    asyncio.run(talk())


@pytest.mark.parametrize(
    ("path", "status"), [("/dev/", 400), ("/dev/?playerId=a%20b", 400), ("/prod/?playerId=1", 403)]
)
def test_a_handshake_that_is_malformed_or_to_another_stage_is_refused(
    local: ChaliceLocal, path: str, status: int
) -> None:
    async def refused() -> int:
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://127.0.0.1:{local.websocket_port}{path}")
        return caught.value.response.status_code

    assert asyncio.run(refused()) == status


# The command


def test_it_prints_a_url_to_paste_and_where_the_tables_are(local: ChaliceLocal) -> None:
    assert f"ws://127.0.0.1:{local.websocket_port}/dev/?playerId=1" in local.lines
    assert f"http://127.0.0.1:{local.dynamodb_port}" in local.lines
    assert "Traceback" not in local.lines


def test_another_stage_is_served_under_its_name_without_the_reloader(
    start: Start,
) -> None:
    local = start("--stage", "blue", "--no-autoreload").started()

    async def talk() -> dict[str, Any]:
        return await (await Socket.connect(local.url, "1")).send_message("2", "hi")

    assert local.url.endswith("/blue/")
    assert asyncio.run(talk())["type"] == "ack"


@pytest.mark.parametrize("options", [[], ["--no-autoreload"]])
def test_ctrl_c_ends_everything_without_a_traceback(start: Start, options: list[str]) -> None:
    local = start(*options).started()

    async def send_without_end(player_id: str) -> None:
        player = await Socket.connect(local.url, player_id)
        with suppress(ConnectionClosed):
            while True:
                await player.send_message(player_id, "hi")

    async def connect_and_interrupt() -> None:
        busy = [asyncio.create_task(send_without_end(f"busy-{number}")) for number in range(8)]
        await until(lambda: local.lines.count("delivered") > 50)
        local.interrupt()
        await asyncio.gather(*busy)

    asyncio.run(connect_and_interrupt())
    local.process.wait(PATIENCE_SECONDS)
    local.wait_for(local.ports_are_free)
    assert "Traceback" not in local.lines, local.lines
    assert "Exception" not in local.lines, local.lines


def test_ending_the_reloader_ends_its_worker_too(start: Start) -> None:
    local = start().started()

    local.process.terminate()
    local.process.wait(PATIENCE_SECONDS)

    local.wait_for(local.ports_are_free)


def test_an_edit_restarts_it_once_on_the_same_ports_and_it_works(start: Start, tmp_path: Path) -> None:
    project = tmp_path / "project"
    left_out = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache")
    shutil.copytree(PROJECT, project, ignore=left_out)
    local = start(project=project).started()

    async def talk() -> dict[str, Any]:
        return await (await Socket.connect(local.url, "1")).send_message("2", "hi")

    assert asyncio.run(talk())["status"] == "Message sent!"
    frames = project / "chalicelib" / "core" / "service_frames.py"
    frames.write_text(
        frames.read_text(encoding="utf-8").replace("Message sent!", "Edited!"), encoding="utf-8"
    )
    local.started(times=2)
    assert asyncio.run(talk())["status"] == "Edited!"

    (project / "notes.txt").write_text("no source", encoding="utf-8")
    assert asyncio.run(outlives(local, seconds=3)), "no source was edited, and it restarted"


async def outlives(local: ChaliceLocal, seconds: float) -> bool:
    """Return whether a connection stays open for so long that the reloader checks more than once."""
    player = await Socket.connect(local.url, "outliving")
    try:
        await asyncio.wait_for(player.socket.wait_closed(), seconds)
    except asyncio.TimeoutError:
        return True
    return False


def test_the_developers_own_aws_settings_are_ignored(
    start: Start,
) -> None:
    local = start(
        AWS_PROFILE="work",
        AWS_ENDPOINT_URL="http://127.0.0.1:9",
        AWS_USE_DUALSTACK_ENDPOINT="true",
        AWS_DEFAULT_REGION="eu-west-1",
    ).started()

    async def talk() -> dict[str, Any]:
        return await (await Socket.connect(local.url, "1")).send_message("2", "hi")

    assert asyncio.run(talk())["type"] == "ack"


def test_a_configured_dynamodb_is_used_and_keeps_its_messages(
    start: Start,
) -> None:
    port = EmbeddedDynamoDB(on_write=lambda: None).serve("127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{port}"

    async def talk(local: ChaliceLocal) -> str:
        one, two = await Socket.connect(local.url, "1"), await Socket.connect(local.url, "2")
        await one.send_message("2", "hi")
        return str((await two.message())["message"])

    for _ in range(2):
        local = start("--stage", "named", AWS_ENDPOINT_URL_DYNAMODB=endpoint).started()
        assert asyncio.run(talk(local)) == "hi"
        assert endpoint in local.lines
        assert is_free(local.dynamodb_port)
        local.kill()

    client = boto3.Session("local", "local", region_name="us-east-1").client(
        "dynamodb", endpoint_url=endpoint
    )
    items = client.scan(TableName="serverless-websockets-named-messages")["Items"]
    assert [item["message"]["S"] for item in items if "message" in item] == ["hi", "hi"]


@pytest.mark.slow
def test_packaging_starts_nothing_and_ships_nothing_that_is_local(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = bare_environment(tmp_path, WEBSOCKET_PORT=str(taken.getsockname()[1]))
        ran = subprocess.run(
            [str(CHALICE), "package", str(tmp_path / "out")],
            cwd=PROJECT,
            env=environment | {"AWS_DEFAULT_REGION": "us-east-1"},
            capture_output=True,
            text=True,
            timeout=300,
            encoding="utf-8",
        )

    assert ran.returncode == 0, ran.stderr
    archive = tmp_path / "out" / "deployment.zip"
    shipped = set(
        subprocess.run(
            ["python3", "-m", "zipfile", "-l", str(archive)], capture_output=True, text=True, encoding="utf-8"
        )
        .stdout.replace("/", " ")
        .split()
    )
    assert {"app.py", "chalicelib", "pydantic", "chalice"} <= shipped
    assert not shipped & {"localdev", "clients", "moto", "websockets", "tests", "boto3", "h11", "docs"}
    template = json.loads((tmp_path / "out" / "sam.json").read_text(encoding="utf-8"))
    assert "RestAPI" not in template["Resources"]
