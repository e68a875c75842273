"""The real `chalice` command as a process of its own, on free ports, in an empty environment."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from measure.local import free_ports
from tests.support import logs

PROJECT = Path(__file__).parent.parent.parent
CHALICE = Path(sys.executable).parent / "chalice"
START_SECONDS = 60


def bare_environment(home: Path, **variables: str) -> dict[str, str]:
    """What a newcomer's shell has: no AWS variables, no credentials, an empty home."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONUNBUFFERED": "1", **variables}


@dataclass
class ChaliceLocal:
    """`chalice local`, running. `lines` is all that it has printed."""

    process: subprocess.Popen[bytes]
    output: Path
    http_port: int
    websocket_port: int
    dynamodb_port: int

    @classmethod
    def start(
        cls,
        directory: Path,
        *options: str,
        project: Path = PROJECT,
        output_to: int | None = None,
        **variables: str,
    ) -> "ChaliceLocal":
        """Start it; `started` waits until it serves. `output_to`: a descriptor in place of the file."""
        ports = free_ports(3)
        environment = bare_environment(directory, WEBSOCKET_PORT=str(ports[1]), DYNAMODB_PORT=str(ports[2]))
        environment["PYTHONDONTWRITEBYTECODE"] = (
            "1"  # Chalice's watcher can die of a .pyc file that comes and goes.
        )
        output = directory / f"output-{ports[0]}"
        with output.open("wb") as out:
            process = subprocess.Popen(
                [str(CHALICE), "local", "--port", str(ports[0]), *options],
                cwd=project,
                env=environment | variables,
                stdout=out if output_to is None else output_to,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(process, output, *ports)

    def started(self, times: int = 1) -> "ChaliceLocal":
        """Wait until it has come up for the so many-th time."""
        self.wait_for(lambda: len(re.findall("Serving on http", self.lines)) >= times)
        return self

    def reached(self) -> "ChaliceLocal":
        """Wait until it serves, whether or not it prints that."""
        self.wait_for(lambda: not is_free(self.http_port))
        return self

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.02)

    @property
    def lines(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    @property
    def url(self) -> str:
        """The WebSocket URL that it printed, without its query."""
        return str(re.findall(r"ws://\S+/", self.lines)[-1])

    def interrupt(self) -> None:
        """What Ctrl-C does: every process of the group gets the signal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """End whatever is left of it, the reloader's worker too."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            self.process.wait()
            logs.search(self.lines)

    def ports_are_free(self) -> bool:
        return all(map(is_free, (self.http_port, self.websocket_port, self.dynamodb_port)))


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
