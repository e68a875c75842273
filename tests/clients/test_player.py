"""The Python client's rules, against a service that the test plays."""

import asyncio
import json
import math
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from clients.player import (
    ATTEMPT_INTERVAL_SECONDS,
    TOO_MANY_UNREAD,
    UNREAD_MESSAGES,
    CannotConnect,
    Frame,
    NotLetIn,
    Offline,
    Player,
    Refused,
    Timing,
)
from tests.clients.played_service import GREETING, IMPATIENT, Service, acknowledge, playing, run
from tests.support.chalice_process import PROJECT
from tests.support.sockets import until

PROXY_VARIABLES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "WS_PROXY",
    "WSS_PROXY",
    "SOCKS_PROXY",
)


# Tokens


def test_a_new_token_is_fetched_after_a_401() -> None:
    tokens = iter(["old", "older", "new"])
    service = Service(statuses=[HTTPStatus.UNAUTHORIZED, HTTPStatus.UNAUTHORIZED])

    async def talk() -> None:
        async with playing(service), Player(service.url, token=lambda: next(tokens), timing=IMPATIENT):
            pass

    run(talk())

    assert service.tokens == ["Bearer old", "Bearer older", "Bearer new"]


def test_the_third_401_in_a_row_is_final() -> None:
    service = Service(statuses=10 * [HTTPStatus.UNAUTHORIZED])

    async def talk() -> None:
        async with playing(service):
            player = Player(service.url, token=lambda: "old", timing=IMPATIENT)
            with pytest.raises(NotLetIn, match="401"):
                await player.connect()
            assert len(service.requests) == 3
            with pytest.raises(NotLetIn, match="401"):
                await player.connect()

    run(talk())

    assert len(service.requests) == 6


def test_a_success_restarts_the_count_of_401s() -> None:
    statuses = 2 * [HTTPStatus.UNAUTHORIZED]
    service = Service(statuses=[*statuses])

    async def talk() -> None:
        async with playing(service), Player(service.url, token=lambda: "t", timing=IMPATIENT) as player:
            service.statuses += statuses
            await service.connections[0].close()
            await until(lambda: len(service.connections) == 2)
            assert (await player.ask({"action": "ping"}))["type"] == "pong"

    run(talk())

    assert len(service.requests) == 6


@pytest.mark.parametrize("status", [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN])
def test_a_refusal_is_final_at_once_for_a_fixed_token(status: HTTPStatus) -> None:
    service = Service(statuses=[status])

    async def talk() -> None:
        async with playing(service):
            with pytest.raises(NotLetIn, match=str(status.value)):
                await Player(service.url, token="fixed", timing=IMPATIENT).connect()

    run(talk())

    assert len(service.requests) == 1


def test_a_token_function_that_is_cancelled_is_called_again() -> None:
    calls: list[None] = []

    async def fetch() -> str:
        calls.append(None)
        if len(calls) == 1:
            raise asyncio.CancelledError
        return "t"

    async def talk() -> None:
        async with playing(Service()) as service, Player(service.url, token=fetch, timing=IMPATIENT):
            assert service.tokens == ["Bearer t"]

    run(talk())

    assert len(calls) == 2


@pytest.mark.parametrize("nothing", ["", None])
def test_an_empty_option_is_the_same_as_none(nothing: str | None) -> None:
    async def talk() -> None:
        async with playing(Service()) as service:
            for token in (nothing, lambda: nothing):
                async with Player(service.url, nothing, token, nothing, None, None) as player:
                    assert player.position == "01a"
            assert service.tokens == [None, None]
            assert [service.query(0), service.query(1)] == [{}, {}]

    run(talk())


def test_options_override_the_url() -> None:
    async def talk() -> None:
        async with playing(Service()) as service:
            async with Player(f"{service.url}?playerId=9&after=0&colour=a%20b", "1", after="01"):
                pass
            assert service.query(0) == {"playerId": ["1"], "after": ["01"], "colour": ["a b"]}

    run(talk())


def test_options_of_another_type_are_refused() -> None:
    async def observe(event: str, about: Any) -> None:
        pass

    for wrong in (1.5, True, b"1"):
        with pytest.raises(TypeError, match="player_id must be a string, an int or None"):
            Player("ws://127.0.0.1/", wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timing must be a Timing or None, not dict"):
        Player("ws://127.0.0.1/", timing={"ping": 5})  # type: ignore[arg-type]
    for unusable in ("loudly", observe):
        with pytest.raises(TypeError, match="observe must be a function that isn't async, or None"):
            Player("ws://127.0.0.1/", observe=unusable)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="after must be a messageId as a string, or None, not int"):
        Player("ws://127.0.0.1/", after=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="token must be a string or a function, not bytes"):
        Player("ws://127.0.0.1/", token=b"t")  # type: ignore[arg-type]


# Permanent errors


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "127.0.0.1:8001/dev/",
        "",
        "ws://",
        "ws://127.0.0.1:99999/",
        "ws://127.0.0.1:port/",
        "ws://[::1/",
        "ws://a..b/",
        f"ws://{'a' * 64}.example/",
        "ws://127.0.0.1/de v/",
        "ws://127.0.0.1/dev/\n",
        "ws://127.0.0.1/dev/#part",
        "ws://\udcff/",
        "ws://me@127.0.0.1/",
        None,
    ],
)
def test_a_wrong_url_is_an_error_at_once(url: str) -> None:
    async def talk() -> None:
        player = Player(url, "1")
        with pytest.raises(CannotConnect, match="ws:// or wss://"):
            await player.connect()
        with pytest.raises(CannotConnect):
            await player.send("2", "hello")
        with pytest.raises(CannotConnect):
            await anext(player)

    assert run(talk()) == []


def test_a_wrong_url_is_named_without_the_token_in_it() -> None:
    async def talk() -> None:
        with pytest.raises(CannotConnect) as wrong:
            await Player("http://127.0.0.1/?token=secret").connect()
        assert "secret" not in str(wrong.value)

    run(talk())


BAD_TOKENS = ["secret\n", "sec ret", "sécret", "secret\udcff", "secret\x00"]


@pytest.mark.parametrize("token", BAD_TOKENS)
def test_a_token_that_no_header_can_hold_is_an_error_at_once(token: str) -> None:
    tried: list[str] = []

    def observe(event: str, about: Any) -> None:
        tried.append(event)

    async def talk() -> None:
        async with playing(Service()) as service:
            with pytest.raises(
                CannotConnect, match="the token is wrong: it must be an ASCII string"
            ) as wrong:
                await Player(service.url, token=token, observe=observe).connect()
            assert "secret" not in str(wrong.value)
            assert service.requests == []

    run(talk())

    assert tried.count("connecting") == 1


@pytest.mark.parametrize("bad", [*BAD_TOKENS, 5, b"secret"])
def test_a_token_function_is_called_again_until_the_third_bad_token(bad: Any) -> None:
    tokens = iter([bad, bad, "good", bad, bad, bad])

    async def talk() -> None:
        async with playing(Service()) as service:
            player = Player(service.url, token=lambda: next(tokens), timing=IMPATIENT)
            await player.connect()
            assert service.tokens == ["Bearer good"]
            await service.connections[0].close()
            with pytest.raises(CannotConnect, match="the token is wrong"):
                await anext(player)

    run(talk())


def test_a_player_id_that_is_not_a_string_is_an_error_at_once() -> None:
    async def talk() -> None:
        with pytest.raises(CannotConnect, match="player_id"):
            await Player("ws://127.0.0.1/", "\ud800").connect()

    run(talk())


def test_a_redirect_is_followed_by_another_attempt() -> None:
    """A captive portal redirects every request at first."""
    service = Service()

    def redirect(connection: ServerConnection, request: Request) -> Response | None:
        if service.refuse(connection, request) is None and len(service.requests) == 1:
            response = connection.respond(HTTPStatus.FOUND, "")
            response.headers["Location"] = "http://portal.example/"
            return response
        return None

    async def talk() -> None:
        async with serve(service.serve, "127.0.0.1", 0, process_request=redirect) as service.server:
            await Player(service.url, timing=IMPATIENT).connect()

    run(talk())

    assert len(service.requests) == 2


# Proxies


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@asynccontextmanager
async def proxy(answer: bytes, asked: list[bytes]) -> AsyncIterator[str]:
    """Run a proxy that answers every request with `answer`, and appends requests to `asked`."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n")).strip())
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
PROXY_NAMES = ["HTTPS_PROXY", "http_proxy", "ALL_PROXY"]


@pytest.mark.parametrize("name", PROXY_NAMES)
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.9.8.7",
        "127.1",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ],
)
def test_local_connections_use_no_proxy(monkeypatch: pytest.MonkeyPatch, name: str, host: str) -> None:
    asked: list[bytes] = []
    ended: list[str] = []

    def observe(event: str, about: Any) -> None:
        if event in ("open", "lost"):
            ended.append(event)

    async def talk() -> None:
        async with playing(Service()) as service, proxy(UNAVAILABLE, asked) as address:
            monkeypatch.setenv(name, address)
            player = Player(service.url.replace("127.0.0.1", host), observe=observe)
            connecting = asyncio.ensure_future(player.connect())
            await until(lambda: len(ended) > 0)
            await player.close()
            await asyncio.wait([connecting])
            connecting.exception()

    run(talk())

    assert asked == []


def test_a_deployed_service_is_reached_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    async def talk() -> None:
        async with proxy(UNAVAILABLE, asked) as address:
            monkeypatch.setenv("HTTPS_PROXY", address)
            player = Player("wss://example.invalid/dev/", timing=IMPATIENT)
            connecting = asyncio.ensure_future(player.connect())
            await until(lambda: len(asked) > 1)
            await player.close()
            await asyncio.wait([connecting])
            assert isinstance(connecting.exception(), Offline)

    run(talk())

    assert set(asked) == {b"CONNECT example.invalid:443 HTTP/1.1"}


@pytest.mark.parametrize(
    "address", ["rubbish", "ftp://proxy:1", "http://proxy:port", "http://", "socks5://proxy"]
)
def test_a_proxy_that_cannot_be_used_is_an_error_at_once(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address)

    async def talk() -> None:
        with pytest.raises(CannotConnect, match="proxy of the environment"):
            await Player("wss://example.invalid/dev/", timing=IMPATIENT).connect()

    run(talk())


def test_a_wrong_proxy_is_named_without_the_password_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://me:secret@proxy")

    async def talk() -> None:
        with pytest.raises(CannotConnect) as wrong:
            await Player("wss://example.invalid/dev/").connect()
        assert "secret" not in str(wrong.value)

    run(talk())


def test_a_proxy_that_needs_a_password_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"

    async def talk() -> None:
        async with proxy(answer, asked) as address:
            monkeypatch.setenv("HTTPS_PROXY", address)
            with pytest.raises(NotLetIn, match="407"):
                await Player("wss://example.invalid/dev/", timing=IMPATIENT).connect()

    run(talk())

    assert len(asked) == 1


# Timing


def test_both_clients_have_the_same_default_times_and_ping_as_the_cost_page_recommends() -> None:
    javascript = (PROJECT / "clients" / "player.mjs").read_text(encoding="utf-8")
    [text] = re.findall(r"^const TIMING = \{(.*)\};", javascript, re.MULTILINE)
    theirs = {name: float(seconds) for name, seconds in re.findall(r"(\w+): ([\d.]+)", text)}

    ours = {name.replace("longest_retry", "longestRetry"): value for name, value in asdict(Timing()).items()}

    assert ours == theirs
    assert ours["ping"] == 300


@pytest.mark.parametrize("name", ["ping", "answer", "lifetime", "retry", "longest_retry", "offline"])
@pytest.mark.parametrize("value", [math.nan, 0, -1, -math.inf, "5", None, True, 1j, [1]])
def test_an_invalid_time_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a number of seconds above 0, not "):
        Timing(**{name: value})


def test_infinity_is_as_long_as_possible() -> None:
    endless = Timing(*6 * [math.inf])
    service = Service(statuses=[HTTPStatus.SERVICE_UNAVAILABLE])
    pauses: list[float] = []

    async def fetch() -> str:
        await asyncio.sleep(0)
        return "t"

    def observe(event: str, about: Any) -> None:
        if event == "waiting":
            pauses.append(about)

    async def talk() -> None:
        async with playing(service):
            player = Player(service.url, token=fetch, timing=endless, observe=observe)
            connecting = asyncio.ensure_future(player.connect())
            await until(lambda: len(pauses) == 1)
            await player.close()
            await asyncio.wait([connecting])
            with pytest.raises(Offline):
                connecting.result()
            async with player:
                assert (await player.send("2", "hello"))["type"] == "ack"

    problems = run(talk())

    assert problems == []
    assert 0 <= pauses[0] < math.inf


@pytest.mark.parametrize("statuses", [[], 100 * [HTTPStatus.SERVICE_UNAVAILABLE]], ids=["planned", "failed"])
def test_attempts_to_connect_keep_their_distance(statuses: list[HTTPStatus]) -> None:
    tiny = Timing(lifetime=1e-9, retry=1e-9)
    attempts: list[float] = []

    def observe(event: str, about: Any) -> None:
        if event == "connecting":
            attempts.append(time.monotonic())

    async def talk() -> None:
        async with playing(Service(statuses=statuses)) as service:
            player = Player(service.url, timing=tiny, observe=observe)
            connecting = asyncio.ensure_future(player.connect())
            await until(lambda: len(attempts) == 4)
            await player.close()
            await asyncio.wait([connecting])
            connecting.exception()

    run(talk())

    assert attempts[3] - attempts[0] > 2.8 * ATTEMPT_INTERVAL_SECONDS


def test_closing_ends_the_wait_for_the_next_attempt() -> None:
    waits = asyncio.Event()

    def observe(event: str, about: Any) -> None:
        if event == "waiting":
            waits.set()

    async def talk() -> None:
        async with playing(Service(statuses=[HTTPStatus.SERVICE_UNAVAILABLE])) as service:
            player = Player(
                service.url, timing=Timing(retry=math.inf, longest_retry=math.inf), observe=observe
            )
            connecting = asyncio.ensure_future(player.connect())
            await waits.wait()
            await player.close()
            with pytest.raises(Offline):
                await connecting

    run(talk())


@pytest.mark.parametrize(("is_greeted", "is_pinged"), [(False, True), (True, False)])
def test_a_connection_that_is_not_greeted_is_pinged_sooner(
    monkeypatch: pytest.MonkeyPatch, is_greeted: bool, is_pinged: bool
) -> None:
    monkeypatch.setattr("clients.player.GREETING_SECONDS", 0.2)

    service = Service(greeting=GREETING if is_greeted else None)

    async def talk() -> None:
        async with playing(service):
            player = Player(service.url)
            connecting = asyncio.ensure_future(player.connect())
            await until(lambda: len(service.connections) == 1)
            await (until(lambda: len(service.frames) == 1) if is_pinged else asyncio.sleep(1))
            assert service.frames == ([{"action": "ping"}] if is_pinged else [])
            await player.close()
            await asyncio.wait([connecting])
            connecting.exception()

    run(talk())


# Frames that cannot be sent


SURROGATES = {
    "to": ("\ud800", "hello", None),
    "message": ("2", "hello \udcff", None),
    "long message": ("2", 20_000 * "x" + "\ud83d", None),
    "client_message_id": ("2", "hello", "\udfff"),
}


@pytest.mark.parametrize("arguments", SURROGATES.values(), ids=SURROGATES)
def test_a_lone_surrogate_is_refused_before_anything_is_sent(arguments: tuple[str, str, str | None]) -> None:
    async def talk() -> None:
        async with playing(Service()) as service, Player(service.url) as player:
            with pytest.raises(Refused) as refused:
                await player.send(*arguments)
            assert refused.value.code == "invalid_frame"
            assert service.frames == []
            assert (await player.send("2", "hello"))["type"] == "ack"
            assert len(service.connections) == 1

    assert run(talk()) == []


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({1, 2}, TypeError),
        (b"bytes", TypeError),
        (object(), TypeError),
        ({(1, 2): 3}, TypeError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        ("\ud800", Refused),
        ({"\ud800": 1}, Refused),
        ("x" * 140_000, Refused),
    ],
)
def test_a_frame_that_is_not_json_is_refused_before_anything_is_sent(
    value: Any, error: type[Exception]
) -> None:
    async def talk() -> None:
        async with playing(Service()) as service, Player(service.url) as player:
            with pytest.raises(error):
                await player.ask({"action": "ping", "key": value})
            assert service.frames == []
            assert (await player.ask({"action": "ping"}))["type"] == "pong"
            assert len(service.connections) == 1

    assert run(talk()) == []


def test_an_invalid_message_is_refused_even_while_offline() -> None:
    async def talk() -> None:
        async with playing(Service(statuses=100 * [HTTPStatus.SERVICE_UNAVAILABLE])) as service:
            player = Player(service.url)
            connecting = asyncio.ensure_future(player.connect())
            await until(lambda: len(service.requests) > 0)
            sending = asyncio.ensure_future(player.send("2", "waits"))
            with pytest.raises(Refused):
                await player.send("2", "\ud800")
            await player.close()
            await asyncio.wait([connecting, sending])
            assert isinstance(connecting.exception(), Offline)
            assert isinstance(sending.exception(), Offline)

    run(talk())


# Malformed frames


MALFORMED = [
    "[]",
    "null",
    "5",
    '"text"',
    "",
    "no JSON",
    "[" * 100_000,
    b"\x00\xff",
    b'{"type": "pong"}',
    '{"type": 5}',
    '{"type": []}',
    '{"type": "message", "message": "hello", "srcPlayerId": "2"}',
    '{"type": "message", "messageId": 5, "message": "hello", "srcPlayerId": "2"}',
    '{"type": "message", "messageId": null, "message": "hello", "srcPlayerId": "2"}',
    '{"type": "message", "messageId": "\\ud800", "message": "hello", "srcPlayerId": "2"}',
    '{"type": "message", "messageId": "", "message": "hello", "srcPlayerId": "2"}',
    '{"type": "message", "messageId": "0 1", "message": "hello", "srcPlayerId": "2"}',
    '{"type": "message", "messageId": "01b", "srcPlayerId": "2"}',
    '{"type": "system", "messageId": "01b"}',
    '{"type": "system", "event": "connected"}',
    '{"type": "error"}',
    '{"type": "error", "code": [], "detail": "no"}',
    '{"type": "error", "code": "rate_limited", "detail": "no", "retryAfterMs": "soon"}',
    '{"type": "error", "code": "rate_limited", "detail": "no", "retryAfterMs": 1e999}',
    '{"type": "pong", "ackId": []}',
    '{"type": "ack", "ackId": 1}',
]


@pytest.mark.parametrize("words", MALFORMED, ids=lambda words: repr(words[:60]))
def test_a_malformed_frame_is_a_lost_connection(words: str | bytes) -> None:
    reasons: list[str] = []

    def observe(event: str, about: Any) -> None:
        if event == "lost":
            reasons.append(about)

    async def talk() -> None:
        service = Service(first_words=[words])
        async with playing(service), Player(service.url, timing=IMPATIENT, observe=observe) as player:
            await until(lambda: len(service.connections) == 2)
            assert (await player.send("2", "hello"))["type"] == "ack"

    assert run(talk()) == []
    assert reasons[0] == "a malformed frame"


def test_frames_of_types_and_events_that_are_not_known_are_ignored() -> None:
    words = '{"type": "weather", "messageId": 5}', '{"type": "system", "event": "tea", "messageId": "01b"}'

    async def talk() -> None:
        service = Service()
        async with playing(service), Player(service.url) as player:
            for text in words:
                await service.connections[0].send(text)
            assert (await player.send("2", "hello"))["type"] == "ack"
            assert len(service.connections) == 1

    run(talk())


# Frames that the service cannot read


def unreadable(frame: Frame) -> Frame:
    """Return the error for JSON that is nested too deeply. It has no ackId, because it could not be read."""
    return {"type": "error", "code": "invalid_json", "detail": "nested too deeply", "retryable": False}


def test_a_refusal_without_an_ack_id_answers_the_only_open_frame() -> None:
    async def talk() -> None:
        async with playing(Service(answer=unreadable)) as service, Player(service.url) as player:
            assert (await player.ask({"action": "sync"}))["code"] == "invalid_json"
            with pytest.raises(Refused, match="nested too deeply"):
                await player.send("2", "hello")

    run(talk())


def test_a_refusal_without_an_ack_id_answers_none_of_several_open_frames() -> None:
    service = Service(answer=lambda frame: unreadable(frame) if len(service.frames) == 2 else None)

    async def talk() -> None:
        async with playing(service), Player(service.url) as player:
            asking = [player.ask({"action": "ping"}) for _ in range(2)]
            assert await asyncio.gather(*asking) == 2 * [{"type": "error", "retryable": True}]

    run(talk())


# Unread messages


BACKLOG = [
    {"type": "message", "messageId": f"02-{n:06}", "srcPlayerId": "2", "message": str(n)} for n in range(3000)
]


@dataclass(slots=True)
class BackloggedService(Service):
    """Sends the messages after `after`, then the greeting. Answers frames meanwhile."""

    sent: int = 0

    async def serve(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        answering = asyncio.ensure_future(self.reply(connection))
        try:
            assert connection.request is not None
            after = parse_qs(urlsplit(connection.request.path).query).get("after", [""])[0]
            for message in BACKLOG:
                if message["messageId"] > after:
                    await connection.send(json.dumps(message))
                    self.sent += 1
            await connection.send(json.dumps({**GREETING, "messageId": "03"}))
            await connection.wait_closed()
        except ConnectionClosed:
            pass
        answering.cancel()

    async def reply(self, connection: ServerConnection) -> None:
        async for text in connection:
            self.frames.append(json.loads(text))
            reply = self.answer(self.frames[-1])
            assert reply is not None
            await connection.send(json.dumps(reply))


def lost_reasons(reasons: list[str]) -> Callable[[str, Any], None]:
    return lambda event, about: reasons.append(about) if event == "lost" else None


async def texts_of(player: Player, count: int) -> list[str]:
    return [(await anext(player))["message"] for _ in range(count)]


def test_a_player_with_too_many_unread_messages_is_offline_until_half_is_read() -> None:
    reasons: list[str] = []

    async def talk() -> None:
        async with playing(BackloggedService()) as service:
            player = Player(service.url, timing=IMPATIENT, observe=lost_reasons(reasons))
            await player.connect()
            await until(lambda: reasons == [TOO_MANY_UNREAD])
            half = UNREAD_MESSAGES // 2
            read = await texts_of(player, half - 1)
            await asyncio.sleep(3 * ATTEMPT_INTERVAL_SECONDS)
            assert len(service.connections) == 1

            read += await texts_of(player, 1)
            await until(lambda: len(service.connections) == 2)
            read += await texts_of(player, len(BACKLOG) - half)

            assert read == [message["message"] for message in BACKLOG]
            assert service.sent < 3 * len(BACKLOG)
            await player.close()

    assert run(talk()) == []


def test_the_cursor_does_not_pass_dropped_messages() -> None:
    async def talk() -> None:
        service = BackloggedService()
        async with playing(service), Player(service.url, timing=IMPATIENT) as player:
            await player.send("2", "hello")
            await until(lambda: service.sent >= len(BACKLOG))
            assert (await player.ask({"action": "ping"}))["type"] == "pong"
            assert player.position == BACKLOG[UNREAD_MESSAGES - 1]["messageId"]

    assert run(talk()) == []


def test_a_program_that_answers_each_message_gets_all_of_a_backlog() -> None:
    async def talk() -> None:
        service = BackloggedService()
        async with playing(service), Player(service.url, timing=IMPATIENT) as player:
            for message in BACKLOG:
                assert (await anext(player))["message"] == message["message"]
                await player.send("2", "hello")

    assert run(talk()) == []


def test_a_program_that_never_reads_can_send_over_one_connection() -> None:
    async def talk() -> None:
        service = BackloggedService()
        async with playing(service), Player(service.url, timing=IMPATIENT) as player:
            await until(lambda: player._socket is None)
            for _ in range(100):
                await player.send("2", "hello")
            await until(lambda: service.sent >= len(BACKLOG))
            await player.send("2", "hello")
            assert len(service.connections) == 2

    assert run(talk()) == []


# Consecutive sessions


def test_sends_pending_at_close_are_not_sent_by_the_next_session() -> None:
    service = Service(answer=lambda frame: None)

    async def talk() -> None:
        async with playing(service):
            player = Player(service.url, timing=IMPATIENT)
            await player.connect()
            sending = [asyncio.ensure_future(player.send("2", str(n))) for n in range(20)]
            await until(lambda: len(service.frames) == 1)
            await player.close()
            service.answer = acknowledge
            await player.connect()
            await asyncio.wait(sending)
            assert all(isinstance(each.exception(), Offline) for each in sending)
            await player.close()

    assert run(talk()) == []
    assert len(service.frames) == 1


def test_a_connect_while_a_session_ends_starts_the_next_one() -> None:
    async def talk() -> None:
        async with playing(Service(statuses=[HTTPStatus.FORBIDDEN])) as service:
            player = Player(service.url)
            first = asyncio.ensure_future(player.connect())
            await asyncio.sleep(0)
            while player._keeping is None or not player._keeping.done():
                await asyncio.sleep(0)
            await player.connect()
            assert (await player.send("2", "hello"))["type"] == "ack"
            with pytest.raises(NotLetIn):
                await first
            await player.close()

    assert run(talk()) == []


# Cancelled sends


def test_a_cancelled_send_is_not_overtaken_by_the_next() -> None:
    service = Service(answer=lambda frame: None)

    async def talk() -> None:
        async with playing(service), Player(service.url) as player:
            first = asyncio.ensure_future(player.send("2", "one"))
            await until(lambda: len(service.frames) == 1)
            first.cancel()
            second = asyncio.ensure_future(player.send("2", "two"))
            third = asyncio.ensure_future(player.send("2", "three"))
            await asyncio.sleep(0.2)
            second.cancel()  # While it waits for its turn.
            await asyncio.sleep(0.2)
            assert [frame["message"] for frame in service.frames] == ["one"]

            service.answer = acknowledge
            await service.connections[0].send(json.dumps(acknowledge(service.frames[0])))
            await third

    assert run(talk()) == []
    assert [frame["message"] for frame in service.frames] == ["one", "three"]


def test_a_cancelled_send_delays_the_next_only_until_its_connection_ends() -> None:
    service = Service(answer=lambda frame: None)

    async def talk() -> None:
        async with playing(service), Player(service.url, timing=IMPATIENT) as player:
            first = asyncio.ensure_future(player.send("2", "one"))
            await until(lambda: len(service.frames) == 1)
            first.cancel()
            second = asyncio.ensure_future(player.send("2", "two"))
            service.answer = acknowledge
            await service.connections[0].close()
            await second

    assert run(talk()) == []
    assert [frame["message"] for frame in service.frames] == ["one", "two"]


def test_a_cancelled_send_that_is_never_answered_ends_its_connection() -> None:
    service = Service(answer=lambda frame: None)

    async def talk() -> None:
        timing = Timing(answer=0.5, retry=0.01)
        async with playing(service), Player(service.url, timing=timing) as player:
            first = asyncio.ensure_future(player.send("2", "one"))
            await until(lambda: len(service.frames) == 1)
            first.cancel()
            service.answer = acknowledge
            await player.send("2", "two")

    assert run(talk()) == []
    assert [frame["message"] for frame in service.frames] == ["one", "two"]


# Unretrieved exceptions


async def half_close(connection: ServerConnection) -> None:
    """Send a close frame, and keep TCP open for half a second without reading the answer."""
    connection.transport.pause_reading()
    connection.protocol.send_close(1001)
    connection.send_data()
    await asyncio.sleep(0.5)
    connection.transport.abort()


def test_a_ping_that_meets_a_close_leaves_no_exception() -> None:
    pinged: list[Frame] = []

    def observe(event: str, about: Any) -> None:
        if event == "sent":
            pinged.append(about)

    async def talk() -> None:
        service = Service()
        timing = Timing(ping=0.1, retry=0.01)
        async with playing(service), Player(service.url, timing=timing, observe=observe):
            closing = asyncio.ensure_future(half_close(service.connections[0]))
            await until(lambda: len(pinged) > 0)
            await closing
            await until(lambda: len(service.connections) > 1)

    assert run(talk()) == []


def test_a_send_that_meets_a_close_and_is_cancelled_leaves_no_exception() -> None:
    async def talk() -> None:
        service = Service()
        async with playing(service), Player(service.url, timing=IMPATIENT) as player:
            closing = asyncio.ensure_future(half_close(service.connections[0]))
            await asyncio.sleep(0.1)
            sending = asyncio.ensure_future(player.send("2", "hello"))
            await asyncio.sleep(0.1)
            sending.cancel()
            await closing
            await until(lambda: len(service.connections) > 1)

    assert run(talk()) == []


def test_a_send_that_is_cancelled_as_its_player_closes_leaves_no_exception() -> None:
    def refuse(frame: Frame) -> Frame:
        refusal = {"type": "error", "code": "rate_limited", "detail": "wait", "retryAfterMs": 60_000}
        return {**refusal, "retryable": True, "ackId": frame["ackId"]}

    def observe(event: str, about: Any) -> None:
        if event == "lost":
            sending[0].cancel()

    sending: list[asyncio.Future[Frame]] = []

    async def talk() -> None:
        service = Service(answer=refuse)
        async with playing(service):
            player = Player(service.url, observe=observe)
            await player.connect()
            sending.append(asyncio.ensure_future(player.send("2", "hello")))
            await until(lambda: len(service.frames) == 1)
            await asyncio.sleep(0.1)
            await player.close()
            await asyncio.wait(sending)

    assert run(talk()) == []


def test_a_refused_player_leaves_no_exception() -> None:
    async def talk() -> None:
        async with playing(Service(statuses=[HTTPStatus.FORBIDDEN])) as service:
            player = Player(service.url)
            connecting = [asyncio.ensure_future(player.connect()) for _ in range(2)]
            sending = asyncio.ensure_future(player.send("2", "hello"))
            await asyncio.wait([*connecting, sending])
            for waiting in (*connecting, sending):
                assert isinstance(waiting.exception(), NotLetIn | Offline)

    assert run(talk()) == []
