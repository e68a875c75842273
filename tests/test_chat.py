"""Two people talk in two terminals."""

import asyncio
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.player import Player
from measure.local import free_port
from tests.chalice_process import PROJECT, ChaliceLocal, bare_environment
from tests.clients import PATIENCE_SECONDS

END_OF_INPUT = "\x04"


class Terminal:
    """A chat in a terminal of its own, and all that it has shown."""

    def __init__(self, home: Path, *arguments: str, **variables: str) -> None:
        self.shown = ""
        self._terminal, its_side = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "clients.chat", *arguments],
            cwd=PROJECT,
            env=bare_environment(home, TERM="dumb", PYTHONIOENCODING="utf-8", **variables),
            stdin=its_side,
            stdout=its_side,
            stderr=its_side,
        )
        os.close(its_side)
        threading.Thread(target=self._read, daemon=True).start()

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def shows(self, text: str, times: int = 1) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.shown.count(text) < times:
            assert time.monotonic() < deadline, f"{text!r} was not shown: {self.shown}"
            time.sleep(0.02)

    def _read(self) -> None:
        while True:
            try:
                self.shown += os.read(self._terminal, 65536).decode(errors="replace")
            except OSError:  # It has ended.
                return


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaliceLocal]:
    started = ChaliceLocal.start(tmp_path_factory.mktemp("chat"), "--no-autoreload")
    try:
        yield started.started()
    finally:
        started.kill()


def test_two_people_talk_and_leave(local: ChaliceLocal, tmp_path: Path) -> None:
    one = Terminal(tmp_path, "1", "--url", local.url)
    two = Terminal(tmp_path, "2", "--url", local.url)
    one.shows("connected as 1")
    two.shows("connected as 2")

    one.type("@2 Hello, from player 1!\r")
    two.shows("1: Hello, from player 1!")
    one.shows("stored after")
    two.type("Hello yourself\r")
    one.shows("2: Hello yourself")

    for terminal in (one, two):
        terminal.type(END_OF_INPUT)
        assert terminal.process.wait(PATIENCE_SECONDS) == 0


def test_what_a_script_says_is_sent_before_it_leaves(local: ChaliceLocal, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "clients.chat", "script", "--url", local.url],
        cwd=PROJECT,
        env=bare_environment(tmp_path, PYTHONIOENCODING="utf-8"),
        input="@script Bye!\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        encoding="utf-8",
    )

    assert ran.returncode == 0, ran.stderr
    assert "stored after" in ran.stdout


def test_a_person_may_give_up_before_the_service_is_there(tmp_path: Path) -> None:
    early = Terminal(tmp_path, "early", WEBSOCKET_PORT=str(free_port()))
    early.shows("trying again")

    early.type(END_OF_INPUT)

    assert early.process.wait(PATIENCE_SECONDS) == 0
    assert "Traceback" not in early.shown


def test_what_cannot_be_sent_is_said(local: ChaliceLocal, tmp_path: Path) -> None:
    person = Terminal(tmp_path, "typist", "--url", local.url)
    person.shows("connected as typist")

    person.type("Hello?\r")
    person.shows("To whom?")
    person.type("@no#body Hello?\r")
    person.shows("not sent: invalid_frame: destinationPlayerId")

    person.type(END_OF_INPUT)
    assert person.process.wait(PATIENCE_SECONDS) == 1
    person.shows("1 not sent")


def test_a_person_may_be_there_before_the_service(tmp_path: Path) -> None:
    port = free_port()
    early = Terminal(tmp_path, "early", "--to", "early", WEBSOCKET_PORT=str(port))
    early.shows("Does `make run` run in another terminal?")
    early.type("Anybody?\r")

    started = ChaliceLocal.start(tmp_path, "--no-autoreload", WEBSOCKET_PORT=str(port))
    try:
        started.started()
        early.shows("early: Anybody?")
    finally:
        started.kill()

    early.type(END_OF_INPUT)
    assert early.process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize("url", ["localhost:8001/dev/", "http://127.0.0.1:8001/dev/"])
def test_a_url_that_is_none_is_one_line(tmp_path: Path, url: str) -> None:
    lost = Terminal(tmp_path, "lost", "--url", url)

    assert lost.process.wait(PATIENCE_SECONDS) == 1
    lost.shows("a WebSocket API is at ws:// or wss://")
    assert "Traceback" not in lost.shown


def test_whoever_is_not_let_in_is_told_why(local: ChaliceLocal, tmp_path: Path) -> None:
    nobody = Terminal(tmp_path, "no#body", "--url", local.url)

    assert nobody.process.wait(PATIENCE_SECONDS) == 1
    nobody.shows("not let in: 400")


def test_what_somebody_sends_cannot_steer_the_terminal(local: ChaliceLocal, tmp_path: Path) -> None:
    async def send() -> None:
        async with Player(local.url, "stranger") as stranger:
            await stranger.send("victim", "\x1b]0;owned\x07 ends")

    victim = Terminal(tmp_path, "victim", "--url", local.url)
    victim.shows("connected as victim")

    asyncio.run(send())

    victim.shows("stranger:  ]0;owned  ends")
    assert "\x1b]0;owned" not in victim.shown
    victim.type(END_OF_INPUT)
    assert victim.process.wait(PATIENCE_SECONDS) == 0
