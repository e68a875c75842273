"""Measures a process that has a share of a CPU: its first 100 posts over TLS, or a function's first call.

The server that answers the posts runs in its own process, and answers after 20 ms. Its certificate comes from
a temporary CA. The client's CA bundle is botocore's plus that CA, so loading it takes as long as on AWS.

As on Lambda, a process has a whole CPU until it reports that it is ready. From then on it is stopped and
continued every 20 ms, which works on any POSIX system without privileges. A stopped process can't use the CPU
while it waits for the network, so the measurement is at least as strict as Lambda.
"""

import asyncio
import datetime
import json
import logging
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, cast

from botocore.httpsession import get_cert_path
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from chalicelib.aws import telemetry
from chalicelib.bootstrap import wire
from chalicelib.core.model import Endpoint, Message, PlayerConnections, Room, StreamPosition
from chalicelib.core.push import Push
from chalicelib.settings import Settings

PROJECT = Path(__file__).parent.parent
POSTS = 100
WARM_BATCHES = 5
ANSWER_SECONDS = 0.02
PERIOD_SECONDS = 0.02
SETTINGS = {"WEBSOCKETS_TABLE": "w", "MESSAGES_TABLE": "m", "AUTH_MODE": "open"}
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@dataclass(frozen=True, slots=True)
class Batches:
    """The result of a cold batch and the warm batches after it.

    `dropped` counts the connections that the cold batch removed. `warm_seconds` is the median of the warm
    batches. `cpu_share` is the share of a CPU that the process used during the cold batch.
    """

    dropped: int
    cold_seconds: float
    warm_seconds: float
    handshakes: int
    longest_handshake_seconds: float
    cpu_share: float


@contextmanager
def gateway() -> Iterator[dict[str, str]]:
    """Run a server that answers posts over TLS. Yield environment variables for a client of it."""
    with tempfile.TemporaryDirectory() as directory:
        make_certificates(Path(directory))
        server = _start(["-m", "measure.cold", "serve", directory], {})
        assert server.stdout is not None
        try:
            url = f"https://localhost:{int(server.stdout.readline())}"
            bundle = str(Path(directory) / "bundle.pem")
            yield {**CREDENTIALS, "AWS_CA_BUNDLE": bundle, "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": url}
        finally:
            server.kill()
            server.communicate()


def cold_batch(environment: Mapping[str, str], share: float) -> Batches:
    """Run a cold batch and then warm batches in a new process that has `share` of a CPU."""
    output = run_with_cpu_share(["-m", "measure.cold", "post"], environment, share)
    return Batches(**json.loads(output))


def run_with_cpu_share(arguments: list[str], environment: Mapping[str, str], share: float) -> str:
    """Run a Python program, and return its output after the first line.

    The program must print a line when it is ready, and then wait for a line of input.
    """
    process = _start(arguments, environment)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        process.stdin.write("go\n")
        process.stdin.flush()
        _limit_cpu(process, share)
        return process.stdout.read()
    finally:
        process.kill()
        process.communicate()


def _start(arguments: list[str], environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def _limit_cpu(process: "subprocess.Popen[str]", share: float) -> None:
    """Stop and continue the process until it ends. After a long turn it is stopped for longer."""
    if hasattr(os, "sched_setaffinity"):  # On other systems its threads can use several CPUs at once.
        os.sched_setaffinity(process.pid, [max(os.sched_getaffinity(process.pid))])
    started, ran = time.monotonic(), 0.0
    while process.poll() is None:
        continued = time.monotonic()
        time.sleep(PERIOD_SECONDS * share)
        process.send_signal(signal.SIGSTOP)
        ran += time.monotonic() - continued
        time.sleep(max(0.0, started + ran / share - time.monotonic()))
        process.send_signal(signal.SIGCONT)


def make_certificates(directory: Path) -> None:
    """Write `server.pem` for localhost, and `bundle.pem`: botocore's CA bundle plus the server's CA."""

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def certificate(subject: str, of: rsa.RSAPrivateKey, is_ca: bool) -> bytes:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder(name("Measured"), name(subject), of.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )
        return builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM)

    ca_key, key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "server.pem").write_bytes(private + certificate("localhost", key, is_ca=False))
    usual = Path(get_cert_path(True)).read_bytes()
    (directory / "bundle.pem").write_bytes(usual + certificate("Measured", ca_key, is_ca=True))


async def _serve(directory: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()
                return
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            await asyncio.sleep(ANSWER_SECONDS)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server = await asyncio.start_server(answer, "localhost", 0, ssl=context, backlog=2 * POSTS)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class AllPlayersLive:
    """A stub of connections table and directory in which every player has one live connection."""

    def __init__(self) -> None:
        self.removed: list[str] = []

    def read(
        self, ids: Collection[str], room_ids: Collection[str] = ()
    ) -> tuple[dict[str, PlayerConnections], dict[str, Room]]:
        here, start = Endpoint("api", "dev"), StreamPosition("", 0)
        return {each: PlayerConnections(each, here, frozenset([each]), {each: start}) for each in ids}, {}

    def remove(self, player_id: str, connection_id: str) -> None:
        self.removed.append(connection_id)

    def note_missed(self, player_id: str, message_id: str) -> None:
        """Do nothing, because no client of the measurement reconnects."""


def push_with(connections: AllPlayersLive) -> Push:
    """Return the real push with `connections` instead of the connections table and the directory."""
    telemetry.lines.addHandler(logging.NullHandler())
    push = wire(Settings.from_environment(SETTINGS)).push
    stub = cast(Any, connections)
    return replace(push, connections=stub, directory=stub, note=lambda outcome, /, **about: None)


def messages(count: int) -> list[Message]:
    """Return one message to each of `count` players."""
    position = StreamPosition("stream", 1)
    return [Message("m", f"p{n}", "1", "hi", 0, stream_position=position) for n in range(count)]


def _post() -> None:
    connections = AllPlayersLive()
    push = push_with(connections)
    handshakes = _time_handshakes()

    def seconds() -> float:
        started = time.perf_counter()
        push.batch(messages(POSTS), lambda: 30.0)
        return time.perf_counter() - started

    print("ready", flush=True)
    sys.stdin.readline()
    computed = time.process_time()
    cold = seconds()
    found = {
        "dropped": len(connections.removed),
        "cold_seconds": cold,
        "handshakes": len(handshakes),
        "longest_handshake_seconds": max(handshakes),
        "cpu_share": (time.process_time() - computed) / cold,
    }
    print(json.dumps({**found, "warm_seconds": median(seconds() for _ in range(WARM_BATCHES))}))


def _time_handshakes() -> list[float]:
    """Return a list to which each later TLS handshake appends its duration in seconds."""
    durations: list[float] = []
    handshake = ssl.SSLContext.wrap_socket

    def timed(*args: Any, **kwargs: Any) -> ssl.SSLSocket:
        started = time.perf_counter()
        try:
            return handshake(*args, **kwargs)
        finally:
            durations.append(time.perf_counter() - started)

    ssl.SSLContext.wrap_socket = timed  # type: ignore[method-assign]
    return durations


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(_serve(Path(sys.argv[2])))
    else:
        _post()
