"""Measures a process that has a part of a CPU: its first 100 posts over TLS, or a function's first call.

The server of posts runs in its own process, with a certificate of a CA made for it, and answers after 20 ms.
The client's CA bundle is the usual one and that CA, so loading it takes as long as on AWS. As on Lambda,
a process has a whole CPU until it says that it is ready. From then on it is stopped and continued every
20 ms, which works on any POSIX system and needs no rights. A stopped process saves up no CPU time while
it waits for the network, so this is not kinder than Lambda.
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
from chalicelib.core.model import Endpoint, Message, PlayerConnections, StreamPosition
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
    """`dropped`: connections that were removed by the cold batch. `warm_seconds`: median of a warm batch.

    `cpu_share`: the part of a CPU that the process had during the cold batch.
    """

    dropped: int
    cold_seconds: float
    warm_seconds: float
    handshakes: int
    longest_handshake_seconds: float
    cpu_share: float


@contextmanager
def gateway() -> Iterator[dict[str, str]]:
    """Run a server of posts over TLS. Yields the environment of a client that posts there and trusts it."""
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
    """Run a cold batch and then warm ones, in a new process with `share` of a CPU."""
    output = with_part_of_a_cpu(["-m", "measure.cold", "post"], environment, share)
    return Batches(**json.loads(output))


def with_part_of_a_cpu(arguments: list[str], environment: Mapping[str, str], share: float) -> str:
    """Run a Python program and return its output after the first line.

    The program writes that line when it is ready, and then waits for a line of input.
    """
    process = _start(arguments, environment)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        process.stdin.write("go\n")
        process.stdin.flush()
        _slow_down(process, share)
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


def _slow_down(process: "subprocess.Popen[str]", share: float) -> None:
    """Stop and continue it until it ends. After a turn that was too long, the stop is longer."""
    if hasattr(os, "sched_setaffinity"):  # Elsewhere its threads may use more than one CPU at a time.
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
    """Write `server.pem`, for localhost, and `bundle.pem`: the usual CA bundle and the CA of that server."""

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


class Everybody:
    """A table of connections in which every player has one, and it is live."""

    def __init__(self) -> None:
        self.removed: list[str] = []

    def players(self, ids: Collection[str]) -> dict[str, PlayerConnections]:
        here, start = Endpoint("api", "dev"), StreamPosition("", 0)
        return {each: PlayerConnections(each, here, frozenset([each]), {each: start}) for each in ids}

    def remove(self, player_id: str, connection_id: str) -> None:
        self.removed.append(connection_id)

    def note_missed(self, player_id: str, message_id: str) -> None:
        """Nothing reads it here."""


def push_to(everybody: Everybody) -> Push:
    """Return the real push with `everybody` in place of its table of connections."""
    telemetry.lines.addHandler(logging.NullHandler())
    push = wire(Settings.from_environment(SETTINGS)).push
    return replace(push, connections=cast(Any, everybody), note=lambda outcome, /, **about: None)


def messages(count: int) -> list[Message]:
    """Return messages to `count` players, one each."""
    position = StreamPosition("stream", 1)
    return [Message("m", f"p{n}", "1", "hi", 0, stream_position=position) for n in range(count)]


def _post() -> None:
    everybody = Everybody()
    push = push_to(everybody)
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
        "dropped": len(everybody.removed),
        "cold_seconds": cold,
        "handshakes": len(handshakes),
        "longest_handshake_seconds": max(handshakes),
        "cpu_share": (time.process_time() - computed) / cold,
    }
    print(json.dumps({**found, "warm_seconds": median(seconds() for _ in range(WARM_BATCHES))}))


def _time_handshakes() -> list[float]:
    """Return a list to which each handshake from now on adds its seconds."""
    took: list[float] = []
    handshake = ssl.SSLContext.wrap_socket

    def timed(*args: Any, **kwargs: Any) -> ssl.SSLSocket:
        started = time.perf_counter()
        try:
            return handshake(*args, **kwargs)
        finally:
            took.append(time.perf_counter() - started)

    ssl.SSLContext.wrap_socket = timed  # type: ignore[method-assign]
    return took


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(_serve(Path(sys.argv[2])))
    else:
        _post()
