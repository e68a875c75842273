"""Diagnostics never fail or delay their writers."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from io import FileIO, RawIOBase
from typing import Any

import pytest

from localdev import outlet
from localdev.outlet import QUEUE_CHARACTERS, Outlet
from tests.support.chalice_process import PROJECT
from tests.support.sockets import PATIENCE_SECONDS


class Stream(RawIOBase):
    """Records the written lines. First it raises `failures`, one per write."""

    def __init__(self, *failures: int) -> None:
        self.failures = list(failures)
        self.taken = b""

    def write(self, data: Any) -> int:
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, os.strerror(number))
        self.taken += bytes(data)
        return len(data)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            continue


def read_until(reader: int, end: bytes) -> bytes:
    found = b""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while end not in found:
        assert time.monotonic() < deadline
        found += os.read(reader, 1_000_000)
    return found


def test_lines_are_dropped_while_nothing_reads_and_counted_afterwards(
    pipe: tuple[int, int],
) -> None:
    reader, writer = pipe
    out = Outlet("test", FileIO(writer, "w", closefd=False))
    line = "x" * 999 + "\n"
    lines = 3 * QUEUE_CHARACTERS // len(line)

    for _ in range(lines):
        out.write(line)

    found = read_until(reader, b"stream was blocked\n").decode()
    kept = found.count(line)
    assert f"chalice: {lines - kept} lines were dropped here" in found
    assert QUEUE_CHARACTERS // len(line) <= kept < lines
    out.write("afterwards\n")
    assert read_until(reader, b"afterwards\n") == b"afterwards\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_characters_that_a_stream_cannot_encode_are_replaced(encoding: str) -> None:
    stream = Stream()
    out = Outlet("test", stream, encoding)

    out.write("token=… \udc80 →\n")
    out.drain(PATIENCE_SECONDS)

    assert stream.taken == b"token=? ? ?\n"


def test_a_closed_reader_ends_the_writing_and_is_reported_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = Stream(errno.EPIPE)
    out = Outlet("the stream", stream)

    for _ in range(3):
        out.write("a line\n")
        out.drain(PATIENCE_SECONDS)

    assert stream.taken == b""
    assert capsys.readouterr().err == "chalice: cannot write to the stream: Broken pipe\n"


def test_a_disk_that_was_full_is_written_to_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet, "RETRY_SECONDS", 0.01)
    stream = Stream(errno.ENOSPC, errno.ENOSPC)
    out = Outlet("test", stream)

    out.write("one\ntwo\n")
    out.drain(PATIENCE_SECONDS)
    out.write("three\n")
    out.drain(PATIENCE_SECONDS)

    assert stream.taken.decode() == outlet.dropped_notice(2) + "three\n"


def test_a_line_that_was_written_in_part_does_not_run_into_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    class Torn(Stream):
        def write(self, data: Any) -> int:
            taken = super().write(data[:2])
            if len(self.taken) == 2:
                self.failures = [errno.ENOSPC]
            return taken

    monkeypatch.setattr(outlet, "RETRY_SECONDS", 0.01)
    stream = Torn()
    out = Outlet("test", stream)

    out.write("one\n")
    out.drain(PATIENCE_SECONDS)

    assert stream.taken.decode() == "on\n" + outlet.dropped_notice(1)


def run(program: str, **arguments: Any) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-c", f"from localdev.outlet import redirect_output\nredirect_output()\n{program}"],
        cwd=PROJECT,
        timeout=PATIENCE_SECONDS,
        **arguments,
    )


def test_queued_lines_are_written_at_the_end_of_the_process() -> None:
    ran = run("for n in range(5000): print('line', n)", capture_output=True)

    assert ran.stdout.decode().splitlines() == [f"line {n}" for n in range(5000)]


def test_a_process_ends_even_if_nothing_reads_its_output(pipe: tuple[int, int]) -> None:
    ran = run("for n in range(50_000): print('line', n)", stdout=pipe[1], stderr=subprocess.PIPE)

    assert (ran.returncode, ran.stderr) == (0, b"")


def test_an_earlier_log_handler_writes_to_the_outlet() -> None:
    program = "import logging, sys\nassert logging.getLogger().handlers[0].stream is sys.stdout"

    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            "import logging, sys\nlogging.basicConfig(stream=sys.stdout)\n"
            f"from localdev.outlet import redirect_output\nredirect_output()\n{program}",
        ],
        cwd=PROJECT,
        timeout=PATIENCE_SECONDS,
    )

    assert ran.returncode == 0


def test_writing_to_a_missing_standard_error_does_not_fail() -> None:
    program = (
        "from localdev.outlet import redirect_output; redirect_output(); import sys; sys.stderr.write('x')"
    )

    ran = subprocess.run(
        ["/bin/sh", "-c", f'exec "{sys.executable}" -c "{program}" 2>&-'],
        cwd=PROJECT,
        timeout=PATIENCE_SECONDS,
    )

    assert ran.returncode == 0


@pytest.mark.parametrize("name", ["a thread", "standard error"])
def test_a_thread_that_dies_ends_the_process_with_a_message(name: str) -> None:
    broken = (
        "sys.stderr._next = None; sys.stderr.write('wake')"
        if name == "standard error"
        else ("threads.start('a thread', lambda: 1 / 0)")
    )

    ran = run(
        f"import sys, time\nfrom localdev import threads\n{broken}\ntime.sleep(60)\n", capture_output=True
    )

    assert ran.returncode == 1
    assert f"chalice: {name} stopped: " in ran.stderr.decode()
    assert "Traceback" in ran.stderr.decode()
