"""How `chalice local` starts: errors, ports, restarts, and output that nobody reads."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import boto3
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from localdev.embedded_dynamodb import EmbeddedDynamoDB
from tests.support.chalice_process import CHALICE, PROJECT, ChaliceLocal, Start, bare_environment
from tests.support.sockets import Socket

EXIT_SECONDS = 120


def talk(url: str, messages: int = 1) -> None:
    """Send messages from one player to another, and check that each arrives."""

    async def exchange() -> None:
        one, two = await Socket.connect(url, "1"), await Socket.connect(url, "2")
        for number in range(messages):
            assert (await one.send_message("2", f"hi {number}"))["type"] == "ack"
            assert (await two.message())["message"] == f"hi {number}"

    asyncio.run(exchange())


def url_of(local: ChaliceLocal, stage: str = "dev") -> str:
    return f"ws://127.0.0.1:{local.websocket_port}/{stage}/"


def open_directly(url: str) -> int:
    """Request the URL without a proxy. Return the status, or raise HTTPError."""
    with build_opener(ProxyHandler({})).open(url) as response:
        return int(response.status)


def ends_with(local: ChaliceLocal, line: str) -> None:
    code = local.process.wait(timeout=EXIT_SECONDS)
    assert local.lines == f"chalice: {line}\n"
    assert code != 0
    local.wait_for(local.ports_are_free)


@contextmanager
def server(status: int, body: bytes) -> Iterator[tuple[str, list[str]]]:
    """Run an HTTP server with one answer. Yield its URL and the requests."""
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_CONNECT = answer  # noqa: N815  # http.server asks for these names.

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}", asked
    listening.shutdown()


# Settings


@pytest.mark.parametrize("reloader", [[], ["--no-autoreload"]])
@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ("WEBSOCKET_PORT", "set WEBSOCKET_PORT to another"),
        ("DYNAMODB_PORT", "set DYNAMODB_PORT to another"),
        ("--port", "give chalice local another with --port"),
    ],
)
def test_a_port_in_use_ends_it_with_one_line_and_a_non_zero_exit_code(
    start: Start, reloader: list[str], setting: str, remedy: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        options = [setting, port] if setting == "--port" else []
        variables = {} if setting == "--port" else {setting: port}
        local = start(*options, *reloader, **variables)
        code = local.process.wait(timeout=EXIT_SECONDS)

    assert local.lines == f"chalice: port {port} is in use: {remedy}\n"
    assert code != 0
    local.wait_for(local.ports_are_free)


NOT_A_PORT = "must be a port number from 1 to 65535, or 0 for any free port, not"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("WEBSOCKET_PORT", "http", f"WEBSOCKET_PORT {NOT_A_PORT} 'http'"),
        ("DYNAMODB_PORT", "70000", f"DYNAMODB_PORT {NOT_A_PORT} '70000'"),
        ("DYNAMODB_PORT", "-1", f"DYNAMODB_PORT {NOT_A_PORT} '-1'"),
        ("WEBSOCKET_IDLE_SECONDS", "0", "WEBSOCKET_IDLE_SECONDS must be a positive number, not '0'"),
        (
            "MESSAGE_BURST",
            "many",
            "MESSAGE_BURST must be a whole number of units from 1 to 10000",
        ),
        ("JWT_SECRET", "s" * 32, "AUTH_MODE=open contradicts JWT_SECRET: remove one"),
        (
            "AWS_ENDPOINT_URL_DYNAMODB",
            "localhost:9129",
            "AWS_ENDPOINT_URL_DYNAMODB must be a URL, such as http://127.0.0.1:8000, not 'localhost:9129'",
        ),
        (
            "AWS_ENDPOINT_URL_DYNAMODB",
            "http://[::1",
            "AWS_ENDPOINT_URL_DYNAMODB must be a URL, such as http://127.0.0.1:8000, not 'http://[::1'",
        ),
        ("KEEP_TABLES", "false", "KEEP_TABLES must be yes or no, not 'false'"),
        ("TELEMETRY_FILE", "/", "cannot write to TELEMETRY_FILE: Is a directory"),
    ],
)
def test_a_wrong_setting_ends_it_with_one_line_and_a_non_zero_exit_code(
    start: Start, variable: str, value: str, said: str
) -> None:
    ends_with(start(**{variable: value}), said)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--port", "70000", "--port must be a port number from 1 to 65535, not 70000"),
        ("--port", "-1", "--port must be a port number from 1 to 65535, not -1"),
        ("--port", "0", "--port must be a port number from 1 to 65535, not 0"),
        ("--stage", "a/b", "a stage must be 1 to 128 of A-Z a-z 0-9 _ -, not 'a/b'"),
        ("--stage", "größe", "a stage must be 1 to 128 of A-Z a-z 0-9 _ -, not 'größe'"),
        (
            "--host",
            "192.0.2.1",
            "cannot listen on --host '192.0.2.1' (Cannot assign requested address): "
            "give an address of this machine, such as 127.0.0.1 or ::1",
        ),
    ],
)
def test_a_wrong_option_ends_it_with_one_line_and_a_non_zero_exit_code(
    start: Start, option: str, value: str, said: str
) -> None:
    ends_with(start(option, value, PYTHONUTF8="1"), said)


def test_an_unresolvable_host_is_named_with_the_systems_error(start: Start) -> None:
    local = start("--host", "nowhere.invalid")

    code = local.process.wait(timeout=EXIT_SECONDS)

    assert local.lines.startswith("chalice: cannot resolve --host 'nowhere.invalid' (")
    assert local.lines.endswith("): give an address of this machine, such as 127.0.0.1 or ::1\n")
    assert code != 0


def test_two_equal_ports_end_it_with_one_line_that_names_both_settings(start: Start) -> None:
    port = "45678"

    ends_with(
        start("--port", port, WEBSOCKET_PORT=port),
        f"--port and WEBSOCKET_PORT are both {port}: set WEBSOCKET_PORT to another",
    )
    ends_with(
        start(WEBSOCKET_PORT=port, DYNAMODB_PORT=port),
        f"WEBSOCKET_PORT and DYNAMODB_PORT are both {port}: set DYNAMODB_PORT to another",
    )


def test_port_0_is_any_free_port_and_it_is_printed(start: Start) -> None:
    local = start(WEBSOCKET_PORT="0", DYNAMODB_PORT="0").started()

    assert ":0/" not in local.lines
    assert ":0 " not in local.lines
    talk(local.url)


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>hello</html>"), (404, b"not found"), (200, b"{}")]
)
def test_a_server_that_is_not_a_dynamodb_ends_it_with_one_line_and_a_non_zero_exit_code(
    start: Start, status: int, body: bytes
) -> None:
    with server(status, body) as (url, _):
        local = start(AWS_ENDPOINT_URL_DYNAMODB=url)
        code = local.process.wait(timeout=EXIT_SECONDS)

    assert local.lines.count("\n") == 1
    assert local.lines.startswith("chalice: AWS_ENDPOINT_URL_DYNAMODB: ")
    assert url in local.lines
    assert code != 0


def test_a_dynamodb_that_is_not_running_ends_it_with_one_line_and_a_non_zero_exit_code(start: Start) -> None:
    url = "http://127.0.0.1:9"

    local = start(AWS_ENDPOINT_URL_DYNAMODB=url)
    code = local.process.wait(timeout=EXIT_SECONDS)

    assert local.lines.count("\n") == 1
    assert local.lines.startswith(
        f"chalice: AWS_ENDPOINT_URL_DYNAMODB: no DynamoDB answers at {url} (EndpointConnectionError: "
    )
    assert code != 0


# Edits


@pytest.fixture
def project(tmp_path: Path) -> Path:
    copy = tmp_path / "project"
    left_out = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache")
    shutil.copytree(PROJECT, copy, ignore=left_out)
    return copy


def has(local: ChaliceLocal, line: str, times: int) -> bool:
    return local.lines.count(line) == times


def test_an_edit_with_a_wrong_setting_prints_one_line_and_the_next_edit_restarts_it(
    start: Start, project: Path
) -> None:
    local = start(project=project).started()
    config = project / ".chalice" / "config.json"
    right = config.read_text(encoding="utf-8")

    for _ in range(2):  # The worker after a failed one must also know that it follows an edit.
        times = local.lines.count("AUTH_MODE must be jwt or open\n") + 1
        config.write_text(right.replace('"AUTH_MODE": "open"', '"AUTH_MODE": "opne"'), encoding="utf-8")
        local.wait_for(partial(has, local, "chalice: AUTH_MODE must be jwt or open\n", times))
    config.write_text(right, encoding="utf-8")

    talk(local.started(times=2).url)
    assert "Traceback" not in local.lines


def test_an_edit_with_invalid_json_prints_one_line_and_the_next_edit_restarts_it(
    start: Start, project: Path
) -> None:
    local = start(project=project).started()
    config = project / ".chalice" / "config.json"
    right = config.read_text(encoding="utf-8")

    config.write_text(right[:100], encoding="utf-8")
    said = "chalice: did not restart, because .chalice/config.json is not valid: Unable to load the project"
    local.wait_for(lambda: said in local.lines)
    talk(local.url)
    config.write_text(right, encoding="utf-8")

    talk(local.started(times=2).url)


def edit(project: Path) -> None:
    source = project / "chalicelib" / "core" / "ports.py"
    source.write_text(f"{source.read_text(encoding='utf-8')}\n# An edit.\n", encoding="utf-8")


def test_an_edit_keeps_the_tables_and_players_miss_nothing(start: Start, project: Path) -> None:
    local = start(project=project).started()

    async def before() -> str:
        one, two = await Socket.connect(local.url, "1"), await Socket.connect(local.url, "2")
        await one.send_message("2", "received")
        position = str((await two.message())["messageId"])
        await two.socket.close()
        await one.send_message("2", "missed by 2")
        await one.send_message("3", "missed by 3")
        return position

    async def after(position: str) -> tuple[list[str], list[str]]:
        two = Socket(await connect(f"{local.url}?playerId=2&after={position}"))
        three = Socket(await connect(f"{local.url}?playerId=3"))
        one = await Socket.connect(local.url, "1")
        await one.send_message("2", "new for 2")
        await one.send_message("3", "new for 3")
        return await until(two, "new for 2"), await until(three, "new for 3")

    position = asyncio.run(before())
    edit(project)
    local.started(times=2)
    of_two, of_three = asyncio.run(after(position))

    assert [text for text in of_two if text != "received"] == ["missed by 2", "new for 2"]
    assert of_three == ["missed by 3", "new for 3"]
    assert "Traceback" not in local.lines


async def until(player: Socket, last: str) -> list[str]:
    texts: list[str] = []
    while texts[-1:] != [last]:
        texts.append(str((await player.message())["message"]))
    return texts


def test_an_edit_empties_the_tables_when_keep_tables_is_no(start: Start, project: Path) -> None:
    local = start(project=project, KEEP_TABLES="no").started()

    async def send(text: str) -> None:
        await (await Socket.connect(local.url, "1")).send_message("2", text)

    async def read() -> list[str]:
        return await until(Socket(await connect(f"{local.url}?playerId=2&after=0")), "after")

    asyncio.run(send("before"))
    edit(project)
    local.started(times=2)
    asyncio.run(send("after"))

    assert asyncio.run(read()) == ["after"]


# Addresses


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_an_ipv6_address_is_served_by_all_three_servers(start: Start) -> None:
    local = start("--host", "::1")
    local.started()

    assert f"Playground     http://[::1]:{local.http_port}/\n" in local.lines
    assert f"Serving on http://[::1]:{local.http_port}\n" in local.lines
    assert f"DynamoDB       http://[::1]:{local.dynamodb_port} " in local.lines
    assert local.url == f"ws://[::1]:{local.websocket_port}/dev/"
    talk(local.url)
    assert open_directly(f"http://[::1]:{local.http_port}/") == 200
    client = boto3.Session("local", "local", region_name="us-east-1").client(
        "dynamodb", endpoint_url=f"http://[::1]:{local.dynamodb_port}"
    )
    assert len(client.list_tables()["TableNames"]) == 2


# Output


@pytest.mark.parametrize(
    "variables",
    [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}],
)
def test_it_starts_and_serves_when_its_output_cannot_encode_its_lines(
    start: Start, variables: dict[str, str]
) -> None:
    local = start("--stage", "tokens", JWT_SECRET="s" * 32, **variables).started()

    assert "token=?\n" in local.lines


@pytest.mark.parametrize("reloader", [[], ["--no-autoreload"]])
def test_messages_arrive_when_its_output_is_closed(start: Start, reloader: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    local = start(*reloader, output_to=writer).reached()
    os.close(writer)

    talk(url_of(local), messages=20)
    assert local.process.poll() is None


def test_messages_arrive_when_nothing_reads_its_output(start: Start) -> None:
    _reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)

    local = start(output_to=writer).reached()

    talk(url_of(local), messages=20)
    with pytest.raises(HTTPError, match="403"):  # Chalice logs this request.
        open_directly(f"http://127.0.0.1:{local.http_port}/no-such-route")


def test_messages_arrive_when_nothing_reads_the_telemetry_file(start: Start, tmp_path: Path) -> None:
    fifo = tmp_path / "telemetry"
    os.mkfifo(fifo)
    local = start(TELEMETRY_FILE=str(fifo)).started()

    talk(local.url)

    with fifo.open(encoding="utf-8") as lines:
        assert "outcome" in json.loads(lines.readline())


def test_a_full_disk_for_the_telemetry_file_prints_one_line(start: Start) -> None:
    local = start(TELEMETRY_FILE="/dev/full").started()

    talk(local.url, messages=3)

    said = "chalice: cannot write to TELEMETRY_FILE: No space left on device\n"
    local.wait_for(lambda: said in local.lines)
    assert local.lines.count("TELEMETRY_FILE") == 1
    assert "Traceback" not in local.lines


# Proxies


@pytest.mark.parametrize("names", [["http_proxy", "https_proxy"], ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]])
def test_traffic_to_this_machine_never_goes_through_a_proxy(start: Start, names: list[str]) -> None:
    dynamodb = EmbeddedDynamoDB(on_write=lambda: None).serve("127.0.0.1", 0)
    with server(502, b"proxy") as (proxy, asked):
        local = start(
            AWS_ENDPOINT_URL_DYNAMODB=f"http://localhost:{dynamodb}",
            CONNECTIONS_PER_PLAYER="1",
            **dict.fromkeys(names, proxy),
        ).started()
        assert asyncio.run(status_of_a_second_connection(local.url, f"player-{names[0]}")) == 429

    assert asked == []


async def status_of_a_second_connection(url: str, player_id: str) -> int:
    """Before the refusal, the service asks `@connections` over HTTP about the first connection."""
    await Socket.connect(url, player_id)
    with pytest.raises(InvalidStatus) as caught:
        await Socket.connect(url, player_id)
    return caught.value.response.status_code


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"HTTP_PROXY": "http://p"}, "localhost,127.0.0.1,::1,[::1]"),
        ({"http_proxy": "http://p", "NO_PROXY": "corp"}, "corp,localhost,127.0.0.1,::1,[::1]"),
        ({"http_proxy": "http://p", "no_proxy": "a", "NO_PROXY": "b"}, "a,localhost,127.0.0.1,::1,[::1]"),
        ({"http_proxy": "http://p", "no_proxy": "*"}, "*"),
    ],
)
def test_the_users_own_proxy_exclusions_are_kept(given: dict[str, str], expected: str | None) -> None:
    program = (
        "import os; from localdev.addresses import never_proxy; never_proxy('127.0.0.1', '');"
        "from botocore.utils import get_environ_proxies as proxies;"
        "print([os.environ.get('no_proxy'), [proxies(f'http://{h}:8001/x') for h in"
        "('127.0.0.1', 'localhost', '[::1]')], 'http' in proxies('http://example.com/')])"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], **given},
        capture_output=True,
        check=True,
    )

    is_proxied = bool(given) and expected != "*"
    assert ran.stdout.decode().strip() == str([expected, [{}, {}, {}], is_proxied])


# Windows


def test_it_packages_where_there_is_no_module_resource(tmp_path: Path) -> None:
    sites = tmp_path / "sites"
    sites.mkdir()
    (sites / "sitecustomize.py").write_text("import sys\nsys.modules['resource'] = None\n", encoding="utf-8")
    environment: dict[str, Any] = bare_environment(
        tmp_path, AWS_DEFAULT_REGION="us-east-1", PYTHONPATH=str(sites)
    )

    ran = subprocess.run(
        [str(CHALICE), "package", str(tmp_path / "out")],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        timeout=300,
    )

    assert ran.returncode == 0, ran.stderr


def test_it_serves_where_there_is_no_module_resource(start: Start, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['resource'] = None\n", encoding="utf-8"
    )

    talk(start(PYTHONPATH=str(tmp_path)).started().url)
