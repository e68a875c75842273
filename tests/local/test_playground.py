"""The playground in a real browser, and its protection against other sites."""

import asyncio
import http.client
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.support.browser import Page, browsing, needs_browser
from tests.support.chalice_process import ChaliceLocal, Start
from tests.support.playground import ONE, TWO, TWO_ARE_CONNECTED, has_message, send, shows
from tests.support.sockets import PATIENCE_SECONDS, Socket, until
from tests.support.tokens import SECRET, token

pytestmark = pytest.mark.chalice_local("--no-autoreload")


@pytest.fixture(scope="module")
def opened(local: ChaliceLocal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(local: ChaliceLocal, opened: Page) -> Page:
    """Open the playground, and wait until its two players are connected."""
    opened.complaints.clear()
    opened.resize(1280, 900)
    opened.open(f"http://127.0.0.1:{local.http_port}/")
    opened.until(TWO_ARE_CONNECTED)
    return opened


def episode(page: Page, about: str) -> list[str]:
    """Return the steps, without times, of the latest entry whose title contains `about`."""
    steps = page.evaluate(
        f"""(() => {{
            const found = [...document.querySelectorAll("#episodes > li")]
              .find(item => item.querySelector("h3").textContent.includes({json.dumps(about)}));
            return found ? [...found.querySelectorAll(".arrow")].map(arrow => arrow.textContent) : [];
        }})()"""
    )
    assert all(step.endswith(" ms") for step in steps)
    return [step.rpartition(" +")[0] for step in steps]


@needs_browser
def test_a_message_reaches_the_other_player_and_every_step_is_shown_with_its_time(page: Page) -> None:
    send(page, ONE, "first words")
    has_message(page, TWO, "1: first words")
    shows(page, "first words", "received", "ack", "delivered")

    steps = episode(page, "“first words” from 1 to 2")
    assert sorted(steps) == ["ack", "delivered", "received", "sendmessage", "stored", "triggered"]
    assert steps[0] == "sendmessage"
    assert page.complaints == []


@needs_browser
def test_all_frames_and_the_items_of_both_tables_are_shown(page: Page) -> None:
    send(page, ONE, "look at me")
    has_message(page, TWO, "look at me")

    for player, direction, kind in (
        (ONE, "sent", "sendmessage"),
        (ONE, "received", "ack"),
        (TWO, "received", "message"),
        (TWO, "received", "connected"),
    ):
        page.until(f"{player}.querySelector('.frames').textContent.includes('{direction} {kind}')")
    page.until("document.getElementById('tables').textContent.includes('look at me')")
    page.until("document.getElementById('tables').textContent.includes('player#2')")


@needs_browser
def test_a_player_goes_offline_and_comes_back(page: Page) -> None:
    page.evaluate(f"{TWO}.querySelector('form.connect').requestSubmit()")
    page.until(f"{TWO}.querySelector('.state').textContent === 'offline'")
    send(page, ONE, "while you were away")
    shows(page, "while you were away", "missed")

    page.evaluate(f"{TWO}.querySelector('form.connect').requestSubmit()")
    page.until(TWO_ARE_CONNECTED)

    has_message(page, TWO, "while you were away")


@needs_browser
def test_buttons_show_possible_failures(page: Page) -> None:
    page.evaluate("document.getElementById('show-refusal').click()")
    shows(page, "Refused: 400", "refused 400")

    page.evaluate("document.getElementById('show-replay').click()")
    shows(page, "I'll wait.", "missed")
    has_message(page, TWO, "I'll wait.")
    page.until(f"{TWO}.querySelectorAll('.messages .replayed').length >= 3")
    page.until(TWO_ARE_CONNECTED)

    page.evaluate("document.getElementById('show-gone').click()")
    shows(page, "Can you hear me?", "410 gone", "missed")
    has_message(page, TWO, "Can you hear me?")
    page.until(TWO_ARE_CONNECTED)

    page.evaluate("document.getElementById('show-rate-limit').click()")
    shows(page, "Refused: rate_limited", "rate_limited")
    page.until(f"{ONE}.querySelector('.frames').textContent.includes('retryAfterMs')")


@needs_browser
def test_there_can_be_more_players(page: Page) -> None:
    page.evaluate("document.getElementById('add-player').click()")
    page.until("document.querySelectorAll('.state.connected').length === 3")

    send(page, "document.querySelectorAll('.player')[2]", "here is the third")

    has_message(page, ONE, "3: here is the third")


@needs_browser
def test_text_is_never_rendered_as_html(page: Page) -> None:
    text = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"

    send(page, ONE, text)
    has_message(page, TWO, text)
    shows(page, "<img src=x", "delivered")
    page.until(f"document.getElementById('tables').textContent.includes({json.dumps(text)})")

    assert page.evaluate("document.querySelectorAll('img, main script').length") == 0
    assert page.evaluate("document.title") == "serverless-websockets: playground"
    assert page.complaints == []


@needs_browser
def test_the_page_can_be_used_with_the_keyboard_alone(page: Page) -> None:
    focused = "document.activeElement.closest('.player h2, .player')?.querySelector('h2').textContent"
    for _ in range(30):
        page.press("Tab")
        if page.evaluate(f"document.activeElement.name === 'message' && {focused} === 'Player 1'"):
            break
    page.evaluate("document.activeElement.select()")

    page.type("typed by hand")
    page.press("Enter")

    has_message(page, TWO, "typed by hand")


@needs_browser
def test_every_focusable_element_has_a_name(page: Page) -> None:
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, input, [tabindex]")].filter(element =>
            !element.textContent.trim() && !element.labels?.[0]?.textContent.trim() && !element.ariaLabel)
            .map(element => element.outerHTML)"""
    )

    assert nameless == []


@needs_browser
def test_the_page_fits_a_phone_and_follows_the_systems_dark_mode(page: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    bright = page.evaluate(background)

    page.resize(390, 844, dark=True)

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(background) != bright


@needs_browser
def test_the_page_loads_nothing_from_other_origins(page: Page) -> None:
    elsewhere = page.evaluate(
        """performance.getEntriesByType("resource").map(entry => entry.name)
            .filter(name => !name.startsWith(location.origin))"""
    )

    assert elsewhere == []


@needs_browser
def test_on_a_stage_with_tokens_a_player_connects_with_one(start: Start, tmp_path: Path) -> None:
    local = start("--no-autoreload", "--stage", "tokens", JWT_SECRET=SECRET).started()

    with browsing(tmp_path / "profile") as page:
        page.open(f"http://127.0.0.1:{local.http_port}/")
        page.until("document.querySelectorAll('.player').length === 2")
        page.evaluate(
            f"""{ONE}.querySelector("form.connect").token.value = "{token(sub="1")}";
                {ONE}.querySelector("form.connect").requestSubmit()"""
        )
        page.until(f"{ONE}.querySelector('.state.connected') !== null")


def ask(local: ChaliceLocal, path: str, method: str = "GET", body: Any = None, **headers: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", local.http_port, timeout=PATIENCE_SECONDS)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    answer = connection.getresponse()
    answer.text = answer.read().decode()  # type: ignore[attr-defined]
    connection.close()
    return answer


PATHS = ("/", "/game", "/page/page.mjs", "/service", "/tables", "/steps")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:{port}"},
        {"Host": "localhost.evil.example"},
        {"Host": "127.0.0.1.evil.example:{port}"},
        {"Host": "[::1"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost:{port}"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_other_sites_cannot_read_the_page(local: ChaliceLocal, path: str, headers: dict[str, str]) -> None:
    named = {name: value.format(port=local.http_port) for name, value in headers.items()}

    answer = ask(local, path, **named)

    assert answer.status == 403
    assert re.fullmatch(r"(The (Host|Origin) header must be|Only the playground's) .+\n", answer.text)


ODD_ITEMS: dict[str, dict[str, Any]] = {
    "binary": {"odd": {"B": "AAE="}},
    "binary-set": {"odd": {"BS": ["AAE=", "/w=="]}},
    "huge": {"odd": {"N": "9" * 38}},
    "tiny": {"odd": {"N": "1E-130"}},
    "nested": {"odd": {"L": [{"B": "AAE="}, {"M": {"set": {"BS": ["AAE="]}}}, {"NULL": True}]}},
    "keys-alone": {},
    "00000000-0000-4000-8000-000000000000": {"message": {"S": "hi"}, "expiresAt": {"B": "AAE="}},
    "01a20b18-76be-73f4-9340-000000000001": {"message": {"B": "AAE="}, "expiresAt": {"N": "9" * 12}},
    "01a20b18-76be-73f4-9340-000000000002": {"message": {"S": "hi"}, "expiresAt": {"N": "9" * 12}},
    "marker#": {"replayTo": {"B": "AAE="}},
}


def test_odd_items_are_shown_and_delay_no_message(local: ChaliceLocal) -> None:
    table = "serverless-websockets-dev-messages"
    for message_id, attributes in ODD_ITEMS.items():
        keys = {"destinationPlayerId": {"S": "odd"}, "messageId": {"S": message_id}}
        put_item(local, {"TableName": table, "Item": keys | attributes})

    async def talk() -> str:
        socket = await connect(f"{local.url}?playerId=odd&after=0")
        odd, other = Socket(socket), await Socket.connect(local.url, "other")
        assert (await odd.frame())["event"] == "connected"
        await other.send_message("odd", "after all of these")
        return str((await odd.message())["message"])

    assert asyncio.run(talk()) == "after all of these"
    answer = ask(local, "/tables")
    assert answer.status == 200, answer.text
    rows = {row["messageId"]: row.get("odd") for row in json.loads(answer.text)["Messages"]["rows"]}
    assert set(ODD_ITEMS) <= set(rows)
    assert rows["binary"] == "base64:AAE="
    assert rows["binary-set"] == ["base64:/w==", "base64:AAE="]
    assert rows["huge"] == "9" * 38
    assert rows["nested"] == ["base64:AAE=", {"set": ["base64:AAE="]}, None]


def put_item(local: ChaliceLocal, request: dict[str, Any]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", local.dynamodb_port, timeout=PATIENCE_SECONDS)
    connection.request("POST", "/", json.dumps(request), {"X-Amz-Target": "DynamoDB_20120810.PutItem"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()


def test_a_link_from_another_site_opens_a_page_and_nothing_else(local: ChaliceLocal) -> None:
    following = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}

    assert ask(local, "/", **following).status == 200
    assert ask(local, "/game", **following).status == 200
    assert ask(local, "/tables", **following).status == 403


def test_a_program_that_sends_no_host_is_answered(local: ChaliceLocal) -> None:
    with socket.create_connection(("127.0.0.1", local.http_port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert b" 200 " in answer.partition(b"\r\n")[0]
    assert b"connect-src 'self';" in answer


def test_malformed_http_prints_no_traceback(local: ChaliceLocal) -> None:
    with socket.create_connection(("127.0.0.1", local.http_port), timeout=PATIENCE_SECONDS) as tls:
        tls.sendall(b"\x16\x03\x01\x02\x00\x01\n\n")
        assert b"400" in tls.recv(1000)

    assert "Traceback" not in local.lines


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}])
def test_other_sites_cannot_end_connections(local: ChaliceLocal, headers: dict[str, str]) -> None:
    body = json.dumps({"connectionId": "x"})

    assert ask(local, "/vanish", "POST", body, Content_Type="application/json", **headers).status == 403
    assert ask(local, "/vanish", "POST", body, Content_Type="text/plain").status == 415


@pytest.mark.parametrize("body", ["{}", "[]", '{"connectionId": 1}'])
def test_a_connection_to_end_must_be_named(local: ChaliceLocal, body: str) -> None:
    answer = ask(local, "/vanish", "POST", body, Content_Type="application/json")

    assert (answer.status, answer.text) == (400, "The body must be a JSON object with a connectionId.\n")


@pytest.mark.parametrize(
    "host",
    [
        "localhost:{port}",
        "127.0.0.1:{port}",
        "[::1]:{port}",
        "localhost:{forwarded}",
        "game.localhost:{port}",
        "192.168.1.5:{port}",
    ],
)
def test_it_is_served_by_this_machines_own_names_with_a_policy_for_the_browser(
    local: ChaliceLocal, host: str
) -> None:
    host = host.format(port=local.http_port, forwarded=18000)

    answer = ask(local, "/", Host=host, Origin=f"http://{host}")

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    named = f"ws://{host.rpartition(':')[0]}:{local.websocket_port}"
    assert f"connect-src 'self' {'ws:' if '[' in host else named};" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "name", ["..%2Fplayground.py", "%2Fetc%2Fpasswd", "__init__.py", "", "index.html%00"]
)
def test_it_serves_its_own_files_and_no_others(local: ChaliceLocal, name: str) -> None:
    assert ask(local, f"/page/{name}").status in (403, 404)


async def connect_and_leave(local: ChaliceLocal) -> None:
    async with connect(f"{local.url}?playerId=passing"):
        await until(lambda: "  live  " in local.lines)
    await until(lambda: "disconnected  player=passing" in local.lines)


def test_requests_to_the_playground_are_not_shown_as_steps(local: ChaliceLocal) -> None:
    asyncio.run(connect_and_leave(local))
    before = len(json.loads(ask(local, "/steps").text)["steps"])  # Answers at once: a step exists.

    for path in PATHS:
        assert ask(local, path).status == 200

    later = json.loads(ask(local, "/steps").text)["steps"][before:]
    assert [step for step in later if "connection" not in step] == []
    assert "HTTP/1.1" not in local.lines
    assert "Traceback" not in local.lines
