"""The local gateway accepts and refuses what API Gateway does, from unmodified boto3 and any client."""

import asyncio
import concurrent.futures
import json
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from localdev.gateway import Gateway, OpenConnection
from localdev.limits import LimitError, Limits
from localdev.management import Answer, Request
from tests.support.api import FOREIGN_ORIGINS, LOCAL_ORIGINS, OTHER_HOSTS, OWN_HOSTS, Api, Event, an_api
from tests.support.recorder import Recorder
from tests.support.sockets import PATIENCE_SECONDS, until


def run(test: Callable[[Api], Awaitable[None]], gateway: type[Gateway] = Gateway, **limits: Any) -> None:
    async def main() -> None:
        async with an_api(replace(Limits(), **limits), gateway) as api:
            await asyncio.wait_for(test(api), 3 * PATIENCE_SECONDS)

    asyncio.run(main())


def raising(error: BaseException) -> Callable[[Event], Any]:
    """Return a function that raises this."""

    def function(event: Event) -> Any:
        raise error

    return function


async def received(socket: ClientConnection) -> Any:
    return await asyncio.wait_for(socket.recv(), PATIENCE_SECONDS)


async def close_code(socket: ClientConnection) -> int | None:
    await asyncio.wait_for(socket.wait_closed(), PATIENCE_SECONDS)
    return socket.close_code


async def error_of(call: Awaitable[Any]) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        await call
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


async def refused(url: str, **options: Any) -> int:
    with pytest.raises(InvalidStatus) as caught:
        await connect(url, **options)
    return caught.value.response.status_code


# Events


def test_a_connect_event_has_the_fields_of_aws() -> None:
    async def test(api: Api) -> None:
        await api.connected("?playerId=1&x=a&x=b", additional_headers={"X-Mine": "1"})

        (event,) = api.of_type("CONNECT")
        assert set(event) == {
            "headers",
            "multiValueHeaders",
            "queryStringParameters",
            "multiValueQueryStringParameters",
            "requestContext",
            "isBase64Encoded",
        }
        assert event["queryStringParameters"] == {"playerId": "1", "x": "b"}
        assert event["multiValueQueryStringParameters"] == {"playerId": ["1"], "x": ["a", "b"]}
        assert (event["headers"]["X-Mine"], event["multiValueHeaders"]["X-Mine"]) == ("1", ["1"])
        context = event["requestContext"]
        assert set(context) == CONTEXT_FIELDS
        assert (context["routeKey"], context["stage"], context["apiId"]) == ("$connect", "dev", "api")
        assert context["identity"]["sourceIp"] == "127.0.0.1"

    run(test)


CONTEXT_FIELDS = {
    "routeKey",
    "eventType",
    "extendedRequestId",
    "requestTime",
    "messageDirection",
    "stage",
    "connectedAt",
    "requestTimeEpoch",
    "identity",
    "requestId",
    "domainName",
    "connectionId",
    "apiId",
}


def test_a_connect_event_without_a_query_has_no_keys_for_it() -> None:
    async def test(api: Api) -> None:
        await api.connected()

        assert "queryStringParameters" not in api.events[0]

    run(test)


def test_a_message_event_has_the_fields_of_aws() -> None:
    async def test(api: Api) -> None:
        socket, connection_id = await api.connected()
        await socket.send("h\u00e9")
        await until(lambda: bool(api.of_type("MESSAGE")))

        (event,) = api.of_type("MESSAGE")
        assert set(event) == {"requestContext", "body", "isBase64Encoded"}
        assert (event["body"], event["isBase64Encoded"]) == ("h\u00e9", False)
        assert set(event["requestContext"]) == CONTEXT_FIELDS | {"messageId"}
        assert event["requestContext"]["routeKey"] == "$default"
        assert event["requestContext"]["connectionId"] == connection_id

    run(test)


@pytest.mark.parametrize(("code", "reported"), [(1000, 1000), (4321, 4321)])
def test_a_disconnect_event_says_how_the_connection_ended(code: int, reported: int) -> None:
    async def test(api: Api) -> None:
        socket, _ = await api.connected("?playerId=1")
        await socket.close(code, "bye")
        await until(lambda: bool(api.of_type("DISCONNECT")))

        (event,) = api.of_type("DISCONNECT")
        assert set(event) == {"headers", "multiValueHeaders", "requestContext", "isBase64Encoded"}
        context = event["requestContext"]
        assert set(context) == CONTEXT_FIELDS | {"disconnectStatusCode", "disconnectReason"}
        assert (context["disconnectStatusCode"], context["disconnectReason"]) == (reported, "bye")

    run(test)


def test_a_socket_cut_without_a_close_is_reported_as_1006() -> None:
    async def test(api: Api) -> None:
        socket, _ = await api.connected()
        socket.transport.abort()
        await until(lambda: bool(api.of_type("DISCONNECT")))

        assert api.of_type("DISCONNECT")[0]["requestContext"]["disconnectStatusCode"] == 1006

    run(test)


# Handshakes


@pytest.mark.parametrize("path", ["dev", "dev/", "dev?x=1", "dev/?x=1"])
def test_the_stage_is_served_with_and_without_its_last_slash(path: str) -> None:
    async def test(api: Api) -> None:
        async with connect(f"ws://127.0.0.1:{api.port}/{path}"):
            assert len(api.of_type("CONNECT")) == 1

    run(test)


@pytest.mark.parametrize("path", ["", "prod/", "dev/more", "Dev/", "devx"])
def test_another_stage_is_forbidden_and_no_function_is_called(path: str) -> None:
    async def test(api: Api) -> None:
        assert await refused(f"ws://127.0.0.1:{api.port}/{path}") == 403
        assert api.events == []

    run(test)


@pytest.mark.parametrize("status", [400, 401, 403, 429, 503])
def test_a_handshake_is_refused_with_the_status_that_connect_answers(status: int) -> None:
    async def test(api: Api) -> None:
        api.on_connect = lambda event: {"statusCode": status, "body": "no"}

        assert await refused(api.url) == status
        assert api.of_type("DISCONNECT") == []

    run(test)


def test_an_exception_in_connect_is_a_502(capsys: pytest.CaptureFixture[str]) -> None:
    async def test(api: Api) -> None:
        api.on_connect = lambda event: 1 / 0

        assert await refused(api.url) == 502

    run(test)
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_a_connect_that_takes_too_long_is_a_504() -> None:
    async def test(api: Api) -> None:
        release = threading.Event()
        api.on_connect = lambda event: release.wait(PATIENCE_SECONDS)

        assert await refused(api.url) == 504
        release.set()

    run(test, integration_seconds=0.1)


def test_a_url_over_the_limit_is_refused() -> None:
    async def test(api: Api) -> None:
        assert await refused(f"{api.url}?x={'y' * 100}") == 414

    run(test, url_characters=100)


@pytest.mark.parametrize("target", [b"/dev/", b"//[x/dev/?x=/@connections/"])
def test_a_plain_http_request_is_no_handshake_and_calls_no_function(target: bytes) -> None:
    async def test(api: Api) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")

        status_line = await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS)
        assert b" 426 " in status_line
        assert api.events == []
        writer.close()

    run(test)


def handshake(api: Api, *headers: str) -> bytes:
    """Return a handshake's request with these headers."""
    given = [header.format(port=api.port) for header in headers]
    if not any(header.startswith("Host:") for header in given):
        given.insert(0, f"Host: 127.0.0.1:{api.port}")
    lines = [
        "GET /dev/ HTTP/1.1",
        *given,
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def answered(api: Api, request: bytes) -> tuple[int, str]:
    """Return the status, and the whole answer if it isn't an open WebSocket."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(request)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
    status = int(head.split()[1])
    body = b"" if status == 101 else await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
    writer.close()
    return status, (head + body).decode()


@pytest.mark.parametrize("origin", LOCAL_ORIGINS)
def test_a_page_of_this_machine_can_connect(origin: str) -> None:
    async def test(api: Api) -> None:
        assert (await answered(api, handshake(api, f"Origin: {origin}")))[0] == 101

    run(test)


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_a_page_of_another_site_is_refused_before_connect_with_a_reason(
    origin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def test(api: Api) -> None:
        status, text = await answered(api, handshake(api, f"Origin: {origin}"))

        assert status == 403
        assert "The Origin header must name localhost" in text
        assert api.events == []

    run(test)
    assert "refused       status=403 reason=The Origin header must name localhost" in capsys.readouterr().out


def test_a_page_that_this_machine_serves_to_the_network_can_connect() -> None:
    async def test(api: Api) -> None:
        headers = "Host: 192.168.1.5:{port}", "Origin: http://192.168.1.5:8000"

        assert (await answered(api, handshake(api, *headers)))[0] == 101

    run(test)


@pytest.mark.parametrize("origins", [("http://localhost", "https://evil.example"), ("http://localhost",) * 2])
def test_two_origins_are_refused(origins: tuple[str, str]) -> None:
    async def test(api: Api) -> None:
        assert (await answered(api, handshake(api, *[f"Origin: {each}" for each in origins])))[0] == 403

    run(test)


def test_an_allowed_origin_can_connect() -> None:
    class AllowingGateway(Gateway):
        def __init__(self, api_id: str, stage: str, routes: Any, limits: Limits) -> None:
            super().__init__(api_id, stage, routes, limits, frozenset({"https://game.example"}))

    async def test(api: Api) -> None:
        assert (await answered(api, handshake(api, "Origin: https://game.example")))[0] == 101
        assert (await answered(api, handshake(api, "Origin: https://game.example.evil")))[0] == 403

    run(test, AllowingGateway)


@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_another_host_is_refused_before_connect_with_a_reason(host: str) -> None:
    async def test(api: Api) -> None:
        status, text = await answered(api, handshake(api, f"Host: {host}"))

        assert status == 403
        assert "The Host header must be localhost, an IP address, or the name given as --host." in text
        assert api.events == []

    run(test)


@pytest.mark.parametrize("host", OWN_HOSTS)
def test_this_machine_is_served_by_its_own_names_and_any_address_on_any_port(host: str) -> None:
    async def test(api: Api) -> None:
        assert (await answered(api, handshake(api, f"Host: {host}")))[0] == 101

    run(test)


def test_two_hosts_are_refused() -> None:
    async def test(api: Api) -> None:
        both = handshake(api, "Host: localhost", "Host: evil.example")

        assert (await answered(api, both))[0] in (400, 403)
        assert api.events == []

    run(test)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Host: localhost:18001"], 410),
        (["Host: evil.example"], 403),
        (["Host: localhost", "Origin: http://localhost"], 403),
        (["Host: localhost", "Origin: null"], 403),
    ],
)
def test_connections_are_managed_by_programs_and_not_by_web_pages(headers: list[str], status: int) -> None:
    async def test(api: Api) -> None:
        lines = [
            "GET /dev/@connections/AAAAAAAAAAAAAAA= HTTP/1.1",
            *headers,
            "Authorization: AWS4-HMAC-SHA256 Credential=local",
        ]
        answer = await http(api, "\r\n".join([*lines, "", ""]).encode())

        assert int(answer.split()[1]) == status
        assert status == 410 or b"header" in answer

    run(test)


def test_the_subprotocol_that_connect_answers_reaches_the_client_and_no_other_header_does() -> None:
    async def test(api: Api) -> None:
        headers = {"sec-websocket-protocol": "game", "X-Mine": "1"}
        api.on_connect = lambda event: {"statusCode": 200, "headers": headers}
        socket, _ = await api.connected(subprotocols=["game", "bearer.token"])

        assert socket.subprotocol == "game"
        assert socket.response is not None
        assert "X-Mine" not in socket.response.headers

    run(test)


# Frames


def test_the_return_value_of_a_function_is_not_sent() -> None:
    async def test(api: Api) -> None:
        api.on_message = lambda event: {"statusCode": 200, "body": "an answer"}
        socket, connection_id = await api.connected()
        await socket.send("hi")
        await until(lambda: bool(api.of_type("MESSAGE")))
        await api.post(connection_id, "posted")

        assert await received(socket) == "posted"

    run(test)


def test_an_exception_in_a_function_sends_the_error_of_aws_and_keeps_the_connection() -> None:
    async def test(api: Api) -> None:
        api.on_message = lambda event: 1 / 0
        socket, connection_id = await api.connected()
        await socket.send("hi")

        text = await received(socket)
        frame = json.loads(text)
        assert (frame["message"], frame["connectionId"]) == ("Internal server error", connection_id)
        assert Recorder().received(text) == "gatewayFailure"
        await api.post(connection_id, "still here")
        assert await received(socket) == "still here"

    run(test)


EXCEPTIONS = [
    TimeoutError("raised by the function"),
    SystemExit(1),
    KeyboardInterrupt(),
    StopIteration(),
    asyncio.CancelledError(),
    concurrent.futures.CancelledError(),
    concurrent.futures.TimeoutError(),
]


@pytest.mark.parametrize("error", EXCEPTIONS, ids=repr)
def test_any_exception_of_a_function_is_printed_and_the_gateway_goes_on(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    async def test(api: Api) -> None:
        socket, _ = await api.connected()
        api.on_message = raising(error)
        await socket.send("hi")
        assert json.loads(await received(socket))["message"] == "Internal server error"

        api.on_connect = raising(error)
        assert await refused(api.url) == 502

    run(test)
    shown = capsys.readouterr().out
    assert f"failed        route=$default error={type(error).__name__}" in shown
    assert f"failed        route=$connect error={type(error).__name__}" in shown


def test_an_exception_after_the_timeout_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    release = threading.Event()

    def late(event: Event) -> None:
        release.wait(PATIENCE_SECONDS)
        raise ZeroDivisionError

    async def test(api: Api) -> None:
        api.on_message = late
        socket, _ = await api.connected()
        await socket.send("hi")
        assert json.loads(await received(socket))["message"] == "Endpoint request timed out"
        release.set()

    run(test, integration_seconds=0.1)
    assert "route=$default error=ZeroDivisionError" in capsys.readouterr().out


class BrokenGateway(Gateway):
    """A gateway with bugs. Each must be printed, and must not leave a connection open and silent."""

    async def _tell_failure(self, connection: OpenConnection, message: str) -> None:
        raise NotImplementedError

    def manage(self, request: Request) -> Answer:
        raise NotImplementedError


class DeafGateway(Gateway):
    async def _read(self, connection: OpenConnection) -> None:
        raise NotImplementedError


class HandlessGateway(Gateway):
    async def _connect(self, *_: Any) -> None:
        raise NotImplementedError


def test_a_bug_while_handling_a_frame_ends_the_connection_and_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def test(api: Api) -> None:
        api.on_message = raising(ZeroDivisionError())
        socket, _ = await api.connected()
        await socket.send("hi")

        assert await close_code(socket) == 1006

    run(test, BrokenGateway)
    assert "error=NotImplementedError" in capsys.readouterr().out


def test_a_bug_while_handling_a_connections_request_ends_it_and_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def test(api: Api) -> None:
        request = b"GET /dev/@connections/AAAAAAAAAAAAAAA= HTTP/1.1\r\n" + SIGNED + b"\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(request)

        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == b""
        writer.close()

    run(test, BrokenGateway)
    assert "api=@connections error=NotImplementedError" in capsys.readouterr().out


def test_a_bug_while_reading_ends_the_connection_and_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def test(api: Api) -> None:
        socket, _ = await api.connected()

        assert await close_code(socket) == 1011

    run(test, DeafGateway)
    assert "error=NotImplementedError" in capsys.readouterr().out


def test_a_bug_during_a_handshake_is_answered_with_500_and_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def test(api: Api) -> None:
        assert await refused(api.url) == 500

    run(test, HandlessGateway)
    assert "error=NotImplementedError" in capsys.readouterr().out


def test_frames_of_one_connection_are_handled_concurrently() -> None:
    async def test(api: Api) -> None:
        both = threading.Barrier(2, timeout=PATIENCE_SECONDS)
        api.on_message = lambda event: both.wait()
        socket, connection_id = await api.connected()
        await socket.send("one")
        await socket.send("two")
        await until(lambda: len(api.of_type("MESSAGE")) == 2)
        await api.post(connection_id, "no failure was told before this")

        assert await received(socket) == "no failure was told before this"

    run(test)


def test_a_binary_frame_closes_the_connection_with_1003() -> None:
    async def test(api: Api) -> None:
        socket, _ = await api.connected()
        await socket.send(b"\x00")

        assert await close_code(socket) == 1003
        assert api.of_type("MESSAGE") == []

    run(test)


def test_a_frame_of_32_kb_passes_and_one_more_byte_closes_with_1009() -> None:
    async def test(api: Api) -> None:
        socket, _ = await api.connected()
        await socket.send("x" * 32 * 1024)
        await until(lambda: len(api.of_type("MESSAGE")) == 1)
        await socket.send("x" * (32 * 1024 + 1))

        assert await close_code(socket) == 1009

    run(test)


def test_a_message_of_128_kb_passes_in_frames_and_one_more_byte_closes_with_1009() -> None:
    async def test(api: Api) -> None:
        frame = "x" * 32 * 1024
        socket, _ = await api.connected()
        await socket.send([frame] * 4)
        await until(lambda: len(api.of_type("MESSAGE")) == 1)
        await socket.send([*[frame] * 4, "x"])

        assert await close_code(socket) == 1009
        assert len(api.of_type("MESSAGE")[0]["body"]) == 128 * 1024

    run(test)


def test_an_idle_connection_is_closed() -> None:
    async def test(api: Api) -> None:
        socket, _ = await api.connected()

        assert await close_code(socket) == 1001
        await until(lambda: bool(api.of_type("DISCONNECT")))
        assert api.of_type("DISCONNECT")[0]["requestContext"]["disconnectReason"] == "Going away"

    run(test, idle_seconds=0.1)


def test_a_post_keeps_a_connection_from_being_idle() -> None:
    async def test(api: Api) -> None:
        _, connection_id = await api.connected()
        before = await api.call("get_connection", connection_id)
        await api.post(connection_id)
        after = await api.call("get_connection", connection_id)

        assert after["LastActiveAt"] > before["LastActiveAt"]

    run(test)


def test_a_busy_connection_is_closed_at_the_end_of_its_lifetime() -> None:
    async def test(api: Api) -> None:
        socket, _ = await api.connected()

        async def keep_busy() -> None:
            while True:
                await socket.send("hi")
                await asyncio.sleep(0.05)

        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(keep_busy(), PATIENCE_SECONDS)
        assert await close_code(socket) == 1001

    run(test, lifetime_seconds=0.4)


# @connections


def test_a_post_reaches_the_client_as_a_text_frame() -> None:
    async def test(api: Api) -> None:
        socket, connection_id = await api.connected()
        answer = await api.post(connection_id, "h\u00e9 \U0001f600".encode())

        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert await received(socket) == "h\u00e9 \U0001f600"

    run(test)


def test_posts_work_only_after_connect_has_returned() -> None:
    async def test(api: Api) -> None:
        outcomes: list[tuple[int, str]] = []

        def post_too_early(event: Event) -> Event:
            connection_id = event["requestContext"]["connectionId"]
            try:
                api.management.post_to_connection(ConnectionId=connection_id, Data="early")
            except ClientError as error:
                metadata = error.response["ResponseMetadata"]
                outcomes.append((metadata["HTTPStatusCode"], error.response["Error"]["Code"]))
            return {"statusCode": 200}

        api.on_connect = post_too_early
        socket, connection_id = await api.connected()
        await api.post(connection_id, "in time")

        assert outcomes == [(410, "GoneException")]
        assert await received(socket) == "in time"

    run(test)


class SlowGateway(Gateway):
    """A gateway that is busy after `$connect` has returned, until `goes_on` is set."""

    goes_on: asyncio.Event

    async def _converse(self, socket: ServerConnection) -> None:
        await self.goes_on.wait()
        await super()._converse(socket)


def test_posts_before_the_end_of_the_handshake_reach_the_client_in_order() -> None:
    async def test(api: Api) -> None:
        assert isinstance(api.gateway, SlowGateway)
        api.gateway.goes_on = asyncio.Event()
        socket, connection_id = await api.connected()

        try:
            for text in ("first", "second"):
                await api.post(connection_id, text)
        finally:
            api.gateway.goes_on.set()

        assert [await received(socket), await received(socket)] == ["first", "second"]

    run(test, SlowGateway)


@pytest.mark.parametrize("operation", ["post_to_connection", "get_connection", "delete_connection"])
def test_a_connection_that_was_closed_is_gone_for_every_operation(operation: str) -> None:
    async def test(api: Api) -> None:
        socket, connection_id = await api.connected()
        await socket.close()
        await until(lambda: bool(api.of_type("DISCONNECT")))
        data = {"Data": "hi"} if operation == "post_to_connection" else {}

        assert await error_of(api.call(operation, connection_id, **data)) == (410, "GoneException")

    run(test)


def test_chalice_takes_the_answer_for_a_closed_connection_as_disconnected() -> None:
    async def test(api: Api) -> None:
        with pytest.raises(api.management.exceptions.GoneException):
            await api.post("AAAAAAAAAAAAAAA=")

    run(test)


def test_a_malformed_connection_id_is_a_bad_request() -> None:
    async def test(api: Api) -> None:
        assert await error_of(api.post("nonsense")) == (400, "BadRequestException")

    run(test)


def test_a_post_of_128_kb_passes_and_one_more_byte_is_too_large() -> None:
    async def test(api: Api) -> None:
        socket, connection_id = await api.connected(max_size=None)
        await api.post(connection_id, "x" * 128 * 1024)
        too_large = error_of(api.post(connection_id, "x" * (128 * 1024 + 1)))

        assert await too_large == (413, "PayloadTooLargeException")
        assert len(await received(socket)) == 128 * 1024

    run(test)


def test_posts_to_a_client_that_does_not_read_are_throttled() -> None:
    async def test(api: Api) -> None:
        socket, connection_id = await api.connected(max_queue=1)
        socket.transport.pause_reading()

        async def post_on() -> None:
            while True:
                await api.post(connection_id, "x" * 100_000)

        assert await error_of(post_on()) == (429, "LimitExceededException")
        socket.transport.abort()

    run(test, client_buffer_bytes=300_000)


def test_get_returns_times_and_identity_of_a_connection() -> None:
    async def test(api: Api) -> None:
        _, connection_id = await api.connected(user_agent_header="a-game/1")

        answer = await api.call("get_connection", connection_id)

        assert answer["ConnectedAt"] <= answer["LastActiveAt"]
        assert answer["Identity"] == {"SourceIp": "127.0.0.1", "UserAgent": "a-game/1"}

    run(test)


def test_a_connection_that_vanishes_is_gone_and_disconnect_is_not_called() -> None:
    async def test(api: Api) -> None:
        vanishing, vanished_id = await api.connected("?playerId=1")
        staying, _ = await api.connected("?playerId=2")

        await api.gateway.vanish(vanished_id)
        assert await close_code(vanishing) == 1006
        assert (await error_of(api.post(vanished_id)))[0] == 410
        await staying.close()
        await until(lambda: len(api.of_type("DISCONNECT")) > 0)

        assert len(api.of_type("DISCONNECT")) == 1
        assert api.of_type("DISCONNECT")[0]["requestContext"]["connectionId"] != vanished_id

    run(test)


def test_delete_closes_the_connection_and_disconnect_is_called() -> None:
    async def test(api: Api) -> None:
        socket, connection_id = await api.connected()

        answer = await api.call("delete_connection", connection_id)

        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert await close_code(socket) == 1000
        await until(lambda: bool(api.of_type("DISCONNECT")))
        assert await error_of(api.post(connection_id)) == (410, "GoneException")

    run(test)


async def http(api: Api, request: bytes) -> bytes:
    """Send these bytes to the gateway's port, and return everything that it answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(request)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
    writer.close()
    return answer


SIGNED = b"Host: localhost\r\nAuthorization: AWS4-HMAC-SHA256 Credential=local\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /dev/@connections/AAAAAAAAAAAAAAA= HTTP/1.1\r\nHost: localhost\r\n\r\n", b"403"),
        (b"GET /prod/@connections/AAAAAAAAAAAAAAA= HTTP/1.1\r\n" + SIGNED + b"\r\n", b"403"),
        (b"PUT /dev/@connections/AAAAAAAAAAAAAAA= HTTP/1.1\r\n" + SIGNED + b"\r\n", b"410"),
        (b"GET /dev/%40connections/AAAAAAAAAAAAAAA%3D?x=y HTTP/1.1\r\n" + SIGNED + b"\r\n", b"410"),
        (b"GET /dev/@connections/ HTTP/1.1\r\n" + SIGNED + b"\r\n", b"400"),
        (b"HEAD /dev/@connections/AAAAAAAAAAAAAAA= HTTP/1.1\r\nHost: localhost\r\n\r\n", b"403"),
        (b"GET /dev/@connections/x HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
        (
            b"POST /dev/@connections/x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
            b"400",
        ),
    ],
)
def test_an_unsigned_misdirected_or_malformed_request_is_refused(request_: bytes, status: bytes) -> None:
    async def test(api: Api) -> None:
        assert (await http(api, request_)).split()[1] == status

    run(test)


def test_a_connection_for_management_is_kept_for_the_next_request() -> None:
    async def test(api: Api) -> None:
        request = b"GET /dev/@connections/AAAAAAAAAAAAAAA= HTTP/1.1\r\n" + SIGNED + b"\r\n"

        assert (await http(api, request + request)).count(b"HTTP/1.1 410") == 2

    run(test)


# Limits


def test_every_limit_can_be_set_by_a_variable() -> None:
    environ = {"WEBSOCKET_IDLE_SECONDS": "0.5", "WEBSOCKET_FRAME_BYTES": "10"}

    assert Limits.from_environment(environ) == Limits(idle_seconds=0.5, frame_bytes=10)


@pytest.mark.parametrize("text", ["", "0", "-1", "ten", "nan"])
def test_the_error_for_an_invalid_limit_names_it(text: str) -> None:
    with pytest.raises(LimitError, match="WEBSOCKET_IDLE_SECONDS must be a positive number"):
        Limits.from_environment({"WEBSOCKET_IDLE_SECONDS": text})
