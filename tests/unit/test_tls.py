"""All connections to AWS share one TLS context, which is as strict as boto3's own; handshakes take turns."""

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.httpsession import get_cert_path

from chalicelib import bootstrap
from chalicelib.aws import management_api, tls
from chalicelib.aws.management_api import ManagementApi
from chalicelib.aws.tls import MAX_CONCURRENT_HANDSHAKES, SharedContext, share_context
from chalicelib.core import delivery
from chalicelib.core.model import Delivery, Endpoint
from chalicelib.core.ports import POST_SECONDS
from measure import cold
from tests.support.sockets import PATIENCE_SECONDS

HERE = Endpoint("api", "dev")
SLOW_SECONDS = 1.0
PATIENT = management_api.CONFIG.merge(Config(connect_timeout=PATIENCE_SECONDS, read_timeout=PATIENCE_SECONDS))
"""On a slow machine a handshake or a post can exceed the timeouts that are used on Lambda."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    cold.make_certificates(directory)
    return directory


class Server:
    """Accepts posts over TLS, and answers each with the next of `statuses`, or 200.

    `before_handshake` is called before the handshake of each connection, `before_answer` before each answer.
    """

    def __init__(self, certificates: Path) -> None:
        self.statuses: list[int] = []
        self.handshakes = 0
        self.before_handshake: Callable[[], object] = lambda: None
        self.before_answer: Callable[[], object] = lambda: None
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates / "server.pem")

    @contextmanager
    def listening(self) -> Iterator[int]:
        """Listen, and yield the port."""
        with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
            accepting = threading.Thread(target=self._accept, args=[listener], daemon=True)
            accepting.start()
            yield int(listener.getsockname()[1])
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(PATIENCE_SECONDS)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=[listener.accept()[0]], daemon=True).start()

    def _answer(self, plain: socket.socket) -> None:
        self.before_handshake()
        with (
            suppress(OSError),
            plain,
            self._context.wrap_socket(plain, server_side=True) as connection,
            connection.makefile("rb") as reader,
        ):
            self.handshakes += 1
            length = 0
            while line := reader.readline():
                length = int(line.split()[1]) if line.lower().startswith(b"content-length:") else length
                if line != b"\r\n":
                    continue
                reader.read(length)
                self.before_answer()
                status = self.statuses.pop(0) if self.statuses else 200
                connection.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())


@pytest.fixture
def server(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Run a server that boto3's clients trust and post to."""
    server = Server(certificates)
    with server.listening() as port:
        url = f"https://localhost:{port}"
        monkeypatch.setitem(os.environ, "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", url)
        monkeypatch.setitem(os.environ, "AWS_CA_BUNDLE", str(certificates / "bundle.pem"))
        for name, value in cold.CREDENTIALS.items():
            monkeypatch.setitem(os.environ, name, value)
        tls.shared_context.cache_clear()
        boto3.setup_default_session()
        yield server
    tls.shared_context.cache_clear()
    boto3.DEFAULT_SESSION = None


def post(gateway: ManagementApi) -> Delivery:
    return gateway.post(HERE, "c=", "hi")


def test_the_bundle_is_loaded_once_for_all_connections_of_all_clients(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails after an upgrade of botocore, the private names in share_context have changed."""
    loaded: list[Any] = []
    load = ssl.SSLContext.load_verify_locations

    def load_verify_locations(self: ssl.SSLContext, *bundle: Any) -> None:
        loaded.append(bundle)
        load(self, *bundle)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", load_verify_locations)
    at_the_same_time = threading.Barrier(5, timeout=PATIENCE_SECONDS)
    server.before_answer = at_the_same_time.wait
    share_context(boto3.client("dynamodb"))
    gateway = ManagementApi()
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: post(gateway), range(5)))

    assert answers == [Delivery.DELIVERED] * 5
    assert (server.handshakes, len(loaded)) == (5, 1)


def test_alpn_protocols_are_set_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reached: list[Any] = []
    monkeypatch.setattr(
        ssl.SSLContext, "set_alpn_protocols", lambda self, protocols: reached.append(list(protocols))
    )
    context = SharedContext(ssl.PROTOCOL_TLS_CLIENT)

    for _ in range(3):
        context.set_alpn_protocols(["http/1.1"])

    assert reached == [["http/1.1"]]


def test_posts_work_when_botocores_private_names_have_changed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(verify: Any) -> str:
        raise AttributeError("a name that share_context needs")

    monkeypatch.setattr(tls, "get_cert_path", changed)

    assert post(ManagementApi()) is Delivery.DELIVERED


def test_a_certificate_of_an_unknown_ca_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "AWS_CA_BUNDLE", get_cert_path(True))

    assert post(ManagementApi()) is Delivery.FAILED
    assert server.handshakes == 0


def test_a_certificate_for_another_host_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = os.environ["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"].replace("localhost", "127.0.0.1")
    monkeypatch.setitem(os.environ, "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", url)

    assert post(ManagementApi()) is Delivery.FAILED


def test_handshakes_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = [], []
    all_of_a_turn = threading.Barrier(MAX_CONCURRENT_HANDSHAKES, timeout=PATIENCE_SECONDS)

    def handshake(*args: Any) -> None:
        running.append(1)
        all_of_a_turn.wait()
        most.append(len(running))
        all_of_a_turn.wait()
        running.pop()

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", handshake)
    context = SharedContext(ssl.PROTOCOL_TLS_CLIENT)
    with ThreadPoolExecutor(3 * MAX_CONCURRENT_HANDSHAKES) as pool:
        list(pool.map(lambda _: context.wrap_socket(), range(3 * MAX_CONCURRENT_HANDSHAKES)))

    assert set(most) == {MAX_CONCURRENT_HANDSHAKES}


def test_a_handshake_that_gets_no_turn_in_time_fails(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    server.before_handshake = lambda: end.wait(PATIENCE_SECONDS)
    monkeypatch.setattr(tls, "TURN_SECONDS", 0.1)
    monkeypatch.setattr(management_api, "CONFIG", PATIENT)
    gateway = ManagementApi()
    with ThreadPoolExecutor(3 * MAX_CONCURRENT_HANDSHAKES) as pool:
        posts = [pool.submit(post, gateway) for _ in range(3 * MAX_CONCURRENT_HANDSHAKES)]
        without_a_turn = list(islice(as_completed(posts, PATIENCE_SECONDS), 2 * MAX_CONCURRENT_HANDSHAKES))
        with_a_turn = [each for each in posts if not each.done()]
        end.set()

    assert {each.result() for each in without_a_turn} == {Delivery.FAILED}
    assert {each.result() for each in with_a_turn} == {Delivery.DELIVERED}
    assert len(with_a_turn) == MAX_CONCURRENT_HANDSHAKES


def test_a_post_fails_when_the_handshake_is_never_answered(server: Server) -> None:
    end = threading.Event()
    server.before_handshake = lambda: end.wait(PATIENCE_SECONDS)

    answer = post(ManagementApi())
    end.set()

    assert answer is Delivery.FAILED


def test_a_slow_handshake_takes_no_time_from_the_retries(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management_api, "CONFIG", PATIENT)
    time_for_retries = SLOW_SECONDS  # Which the handshake would use up.
    monkeypatch.setattr(delivery, "PATIENCE_SECONDS", time_for_retries + 2 * POST_SECONDS)
    server.before_handshake = lambda: time.sleep(SLOW_SECONDS)
    server.statuses = [503]
    connections = cold.AllPlayersLive()

    cold.push_with(connections).batch(cold.messages(1), lambda: 30.0)

    assert (connections.removed, server.statuses) == ([], [])


def test_the_retry_clock_stops_only_during_handshakes_of_its_own_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = bootstrap._seconds_without_handshakes
    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", lambda *args: time.sleep(0.2))

    def seconds_of_a_handshake() -> tuple[float, float]:
        real, without_handshakes = time.monotonic(), clock()
        SharedContext(ssl.PROTOCOL_TLS_CLIENT).wrap_socket()
        without_handshakes = clock() - without_handshakes
        return time.monotonic() - real, without_handshakes

    with ThreadPoolExecutor(1) as pool:
        before = clock()
        real, without_handshakes = pool.submit(seconds_of_a_handshake).result()

    assert real >= 0.2
    assert without_handshakes <= real - 0.2
    assert clock() - before >= 0.2
