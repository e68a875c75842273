"""The real `chalice` command in its own process, on free ports, in an empty environment."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure.local import free_ports
from tests.support import logs
from tests.support.sockets import PATIENCE_SECONDS

PROJECT = Path(__file__).parent.parent.parent
CHALICE = Path(sys.executable).parent / "chalice"


def bare_environment(home: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a new user's shell: no AWS variables, no credentials, an empty home."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONUNBUFFERED": "1", **variables}


@dataclass
class ChaliceLocal:
    """A running `chalice local`. `lines` is everything that it has printed."""

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
        """Start it without waiting. `output_to` is a file descriptor that replaces the file."""
        ports = free_ports(3)
        environment = bare_environment(directory, WEBSOCKET_PORT=str(ports[1]), DYNAMODB_PORT=str(ports[2]))
        # A .pyc file that is written and deleted can crash Chalice's watcher.
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        output = directory / f"output-{ports[0]}"
        with output.open("wb") as out:
            process = subprocess.Popen(
                [str(CHALICE), "local", "--port", str(ports[0]), *options],
                cwd=project,
                env=environment | variables,
                stdout=out if output_to is None else output_to,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=heed_interrupts,
            )
        return cls(process, output, *ports)

    @classmethod
    @contextmanager
    def running(cls, directory: Path, *options: str, **variables: Any) -> Iterator["ChaliceLocal"]:
        """Start it, wait until it serves, and kill it when the block ends."""
        local = cls.start(directory, *options, **variables)
        try:
            yield local.started()
            assert "Traceback" not in local.lines, local.lines
        finally:
            local.kill()

    def started(self, times: int = 1) -> "ChaliceLocal":
        """Wait until it has started this many times, with the restarts after edits."""
        self.wait_for(lambda: len(re.findall("Serving on http", self.lines)) >= times)
        return self

    def reached(self) -> "ChaliceLocal":
        """Wait until its HTTP port answers. Unlike `started`, this needs no output."""
        self.wait_for(lambda: not is_free(self.http_port))
        return self

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.02)

    @property
    def lines(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    @property
    def url(self) -> str:
        """Return the WebSocket URL that it printed last, without the query."""
        return str(re.findall(r"ws://\S+/", self.lines)[-1])

    def interrupt(self) -> None:
        """Send SIGINT to every process of the group, as Ctrl-C does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """Kill it and the reloader's worker, if they still run."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            self.process.wait()
            logs.search(self.lines)

    def ports_are_free(self) -> bool:
        return all(map(is_free, (self.http_port, self.websocket_port, self.dynamodb_port)))


Start = Callable[..., ChaliceLocal]
"""The type of the fixture `start`."""


def heed_interrupts() -> None:
    """Undo that a shell without job control starts background commands, such as pytest, with SIGINT ignored.

    Children inherit that.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
