"""Starts a `chalice local` for a measurement, on free ports, with its telemetry in a file."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parent.parent
START_SECONDS = 60
PORTS = 15_000, 32_000


class NotStarted(Exception):
    """`chalice local` did not start. The text is its output."""


@dataclass(frozen=True, slots=True)
class Local:
    url: str
    page: str
    pid: int
    telemetry: Path

    def kib(self) -> int | None:
        """Return the process's memory in KiB, or None on a system without `/proc`."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        except OSError:
            return None
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0])


@contextmanager
def running(command: tuple[str, ...] = (), dynamodb_port: int = 0) -> Iterator[Local]:
    """Run `chalice local` until the block ends. Raises NotStarted.

    `command` is a program to run it under, such as a profiler. `dynamodb_port` is the port of its DynamoDB,
    or 0 for any free port.
    """
    with tempfile.TemporaryDirectory() as directory:
        telemetry, output = Path(directory) / "telemetry.jsonl", Path(directory) / "output"
        chalice = str(Path(sys.executable).parent / "chalice")
        with output.open("wb") as out:
            process = subprocess.Popen(
                [*command, chalice, "local", "--no-autoreload", "--port", str(free_port())],
                cwd=PROJECT,
                env={
                    **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
                    "WEBSOCKET_PORT": "0",
                    "DYNAMODB_PORT": str(dynamodb_port),
                    "TELEMETRY_FILE": str(telemetry),
                    "PYTHONUNBUFFERED": "1",
                },
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            url, page = _urls(process, output)
            yield Local(url, page, process.pid, telemetry)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _urls(process: subprocess.Popen[bytes], output: Path) -> tuple[str, str]:
    """Wait until the server is ready. Return the URLs of the WebSocket API and the playground.

    Raises NotStarted.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        text = output.read_text(encoding="utf-8")
        if "Serving on http" in text:
            return re.findall(r"ws://\S+/", text)[0], re.findall(r"http://\S+/", text)[0]
        time.sleep(0.02)
    raise NotStarted(output.read_text(encoding="utf-8"))


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return different ports that are free at this moment.

    They are below the ports that systems give to outgoing connections: one of those could take a port while a
    server restarts.
    """
    ports: set[int] = set()
    while len(ports) < count:
        port = random.randrange(*PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.add(port)
    return list(ports)
