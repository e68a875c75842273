"""The chat, in terminals and in pipes."""

import asyncio
import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from clients.chat_lines import Line, NotUnderstood, parsed, visible
from clients.player import Player
from measure.local import free_port
from tests.clients.played_service import Service, playing
from tests.support.chalice_process import PROJECT, ChaliceLocal, Start, bare_environment
from tests.support.sockets import PATIENCE_SECONDS, until

END_OF_INPUT = "\x04"


class Terminal:
    """A chat in its own terminal. `shown` is everything that it has printed."""

    def __init__(self, home: Path, *arguments: str, **variables: str) -> None:
        self.shown = ""
        self._terminal, its_side = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "clients.chat", *arguments],
            cwd=PROJECT,
            env=bare_environment(home, **{"TERM": "dumb", "PYTHONIOENCODING": "utf-8", **variables}),
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


pytestmark = pytest.mark.chalice_local("--no-autoreload")


def test_two_people_talk_and_leave(local: ChaliceLocal, tmp_path: Path) -> None:
    one = Terminal(tmp_path, "1", "--url", local.url)
    two = Terminal(tmp_path, "2", "--url", local.url)
    one.shows("connected as 1")
    two.shows("connected as 2")

    one.type("@2 Hello, from player 1!\r")
    two.shows("1: Hello, from player 1!")
    one.shows("stored for 2 after")
    two.type("Hello yourself\r")
    one.shows("2: Hello yourself")

    for terminal in (one, two):
        terminal.type(END_OF_INPUT)
        assert terminal.process.wait(PATIENCE_SECONDS) == 0


def piped(
    home: Path, *arguments: str, lines: bytes, **variables: str
) -> "subprocess.CompletedProcess[bytes]":
    """Run a chat with `lines` as standard input, and wait for its end."""
    return subprocess.run(
        [sys.executable, "-m", "clients.chat", *arguments],
        cwd=PROJECT,
        env=bare_environment(home, **{"PYTHONIOENCODING": "utf-8", **variables}),
        input=lines,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
    )


def received(url: str, name: str, count: int) -> list[str]:
    """Return the texts of the messages that a player missed."""

    async def read() -> list[str]:
        async with Player(url, name, after="0") as player:
            texts = [await asyncio.wait_for(anext(player), PATIENCE_SECONDS) for _ in range(count)]
            return [message["message"] for message in texts]

    return asyncio.run(read())


def test_every_line_of_a_pipe_is_stored_in_order_even_without_a_final_newline(
    local: ChaliceLocal, tmp_path: Path
) -> None:
    lines = b"@piped one\ntwo\r\n\n  \n@piped: three\nfour"

    ran = piped(tmp_path, "script", "--url", local.url, lines=lines)

    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.count(b"stored for piped after") == 4
    assert received(local.url, "piped", 4) == ["one", "two", "three", "four"]


def test_every_line_of_a_file_is_stored(local: ChaliceLocal, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("@filed one\ntwo", encoding="utf-8")

    with (tmp_path / "lines").open("rb") as lines:
        ran = subprocess.run(
            [sys.executable, "-m", "clients.chat", "script", "--url", local.url],
            cwd=PROJECT,
            env=bare_environment(tmp_path),
            stdin=lines,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
        )

    assert ran.returncode == 0, ran.stderr
    assert received(local.url, "filed", 2) == ["one", "two"]


def test_lines_that_were_not_stored_are_printed_and_the_exit_code_is_1(
    local: ChaliceLocal, tmp_path: Path
) -> None:
    lines = b"nobody is named\n@no#body one\n@named two\n/jion lobby\n@ three\n" + b"x" * 140_000

    ran = piped(tmp_path, "script", "--url", local.url, lines=lines)

    assert ran.returncode == 1
    errors = ran.stderr.decode().splitlines()
    assert errors[0].startswith("line 1 not sent: To whom? Write @player text")
    assert errors[1].startswith("line 2 not sent: invalid_frame: destinationPlayerId")
    assert errors[2].startswith("line 4 not sent: write @player text")
    assert errors[3].startswith("line 5 not sent: nobody is named; write @player text")
    assert errors[4].startswith("line 6 not sent: too_large")
    assert errors[5:] == ["5 not sent, of 6 lines: 1, 2, 4, 5, 6"]
    assert received(local.url, "named", 1) == ["two"]


def test_no_line_is_lost_when_nobody_reads_the_output(local: ChaliceLocal, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    lines = [str(number) for number in range(5)]

    ran = subprocess.run(
        [sys.executable, "-m", "clients.chat", "script", "--to", "unheard", "--url", local.url],
        cwd=PROJECT,
        env=bare_environment(tmp_path),
        input="\n".join(lines).encode(),
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=PATIENCE_SECONDS,
    )
    os.close(writing)

    assert (ran.returncode, ran.stderr) == (0, b"")
    assert received(local.url, "unheard", 5) == lines


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii:strict"},
    ],
    ids=lambda variables: " ".join(f"{name}={value}" for name, value in variables.items()),
)
def test_any_locale_and_any_bytes_are_sent_and_shown(
    local: ChaliceLocal, tmp_path: Path, variables: dict[str, str]
) -> None:
    name = "-".join(["locale", *variables.values()]).replace(":", "-")
    lines = f"@{name} 日本 é\n".encode() + b"\xff\xfe not UTF-8"

    ran = piped(tmp_path, name, "--url", local.url, lines=lines, **{"PYTHONIOENCODING": "", **variables})

    assert (ran.returncode, ran.stderr) == (0, b"")
    assert received(local.url, name, 2) == ["日本 é", "\\xff\\xfe not UTF-8"]
    assert ran.stdout.count(b"stored") == 2


def test_a_message_that_the_output_cannot_encode_is_shown_with_escapes(
    local: ChaliceLocal, tmp_path: Path
) -> None:
    piped(tmp_path, "script", "--url", local.url, lines="@latin 日本".encode())

    with subprocess.Popen(
        [sys.executable, "-m", "clients.chat", "latin", "--url", local.url],
        cwd=PROJECT,
        env=bare_environment(tmp_path, PYTHONIOENCODING="latin-1"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as chat:
        assert chat.stdout is not None
        assert chat.stdin is not None
        shown = {chat.stdout.readline() for _ in range(2)}
        assert shown == {b"  connected as latin\n", b"script: \\u65e5\\u672c\n"}
        chat.stdin.close()
        assert chat.wait(PATIENCE_SECONDS) == 0


def test_a_refused_chat_does_not_wait_for_the_end_of_its_input(local: ChaliceLocal, tmp_path: Path) -> None:
    chat = subprocess.Popen(
        [sys.executable, "-m", "clients.chat", "no#body", "--url", local.url],
        cwd=PROJECT,
        env=bare_environment(tmp_path),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with chat:
        assert chat.wait(PATIENCE_SECONDS) == 1
        assert chat.stderr is not None
        errors = chat.stderr.read()

    assert errors.startswith(b"not let in: 400")
    assert errors.endswith(b"; no line after line 0 was stored\n")


@pytest.mark.parametrize(
    ("line", "player", "text"),
    [
        ("hello", "", "hello"),
        ("@2 hello", "2", "hello"),
        ("@2: hello", "2", "hello"),
        ("@2:hello", "2", "hello"),
        ("  @2\thello there \n", "2", "hello there"),
        ("@google:123 hello", "google:123", "hello"),
        ("@google:123: hello", "google:123", "hello"),
        ("@google:123:", "google:123", ""),
        ("@google:123", "google", "123"),
        ("@2", "2", ""),
        ("@2:", "2", ""),
        ("@2 @3 hello", "2", "@3 hello"),
        ("@2 #1 and /2", "2", "#1 and /2"),
        ("@2 : hello", "2", ": hello"),
        ("#lobby hello", "#lobby", "hello"),
        ("#lobby: hello", "#lobby", "hello"),
        ("#lobby:hello", "#lobby", "hello"),
        ("#a:b hello", "#a:b", "hello"),
        ("#lobby", "#lobby", ""),
        ("#lobby #1", "#lobby", "#1"),
        ("", "", ""),
    ],
)
def test_a_line_names_its_player_or_room_before_its_first_space_or_colon(
    line: str, player: str, text: str
) -> None:
    assert parsed(line) == Line(player, text)


@pytest.mark.parametrize("line", ["/join lobby", " /join  #lobby ", "/leave lobby", "/members lobby"])
def test_a_command_names_its_room(line: str) -> None:
    assert parsed(line) == Line("#lobby", "", line.split()[0][1:])


@pytest.mark.parametrize(
    "line",
    [
        *["@", "@:", "@ hello", "@: hello", "@:hello", "#", "#: hello", "# hello"],
        *["/", "/join", "/join #", "/ join lobby", "/dance lobby", "/JOIN lobby"],
    ],
)
def test_the_error_for_an_unknown_line_shows_the_syntax(line: str) -> None:
    with pytest.raises(NotUnderstood, match="write @player text, #room text, /join room"):
        parsed(line)


def test_two_people_talk_in_a_room(local: ChaliceLocal, tmp_path: Path) -> None:
    names = "room-one", "room-two"
    one, two = (Terminal(tmp_path, name, "--url", local.url) for name in names)
    for name, terminal in zip(names, (one, two), strict=True):
        terminal.shows(f"connected as {name}")
        terminal.type("/join talk\r")
        terminal.shows("joined #talk, members: ")
    one.shows("#talk room-two is online")

    one.type("Hello, everybody!\r")
    for terminal in (one, two):
        terminal.shows("#talk room-one: Hello, everybody!")
    one.shows("stored for #talk after")
    two.type("#talk Hello, one!\r")
    one.shows("#talk room-two is typing")
    one.shows("#talk room-two: Hello, one!")
    one.type("/members talk\r")
    one.shows("members of #talk: room-one (online), room-two (online)")
    two.type("/leave talk\r")
    two.shows("left #talk")
    one.shows("#talk room-two left")
    two.type("#talk Am I here?\r")
    two.shows("not sent: not_a_member")

    one.type(END_OF_INPUT)
    assert one.process.wait(PATIENCE_SECONDS) == 0
    two.type(END_OF_INPUT)
    assert two.process.wait(PATIENCE_SECONDS) == 1
    assert "Traceback" not in one.shown + two.shown


def test_a_pipe_joins_a_room_and_writes_to_it(local: ChaliceLocal, tmp_path: Path) -> None:
    ran = piped(
        tmp_path, "piped-room", "--url", local.url, lines=b"/join pipes\none\n#pipes two\n/leave pipes\n"
    )

    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.count(b"stored for #pipes after") == 2
    assert received(local.url, "piped-room", 2) == ["one", "two"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 日本 \U0001f468\u200d\U0001f469 \u0645\u06cc\u200c", None),
        ("\x1b[31m\x07\x00\x7f", r"\x1b[31m\x07\x00\x7f"),
        ("\x9b31m\x85", r"\x9b31m\x85"),
        ("\u202e\u2066\u2069\u200f", r"\u202e\u2066\u2069\u200f"),
        ("a\r\nb\tc\u2028", r"a\r\nb\tc\u2028"),
        ("\ud800", r"\ud800"),
    ],
)
def test_invisible_characters_are_shown_as_escapes(text: str, shown: str | None) -> None:
    assert visible(text) == (text if shown is None else shown)


STEERING = "\x1b]0;owned\x07\u202e\x9b2J"
SHOWN = r"\x1b]0;owned\x07\u202e\x9b2J"


async def serve_steering(connection: ServerConnection) -> None:
    """Frames of every type with escape sequences in all texts."""
    say = {"messageId": "01a", "srcPlayerId": f"p{STEERING}", "message": f"m{STEERING}"}
    await connection.send(json.dumps({"type": "system", "event": "connected", "messageId": "01a"}))
    await connection.send(json.dumps({"type": "message", **say}))
    await connection.send(
        json.dumps({"type": "message", **say, "messageId": "01b", "roomId": f"r{STEERING}"})
    )
    async for text in connection:
        refusal = {"type": "error", "code": f"c{STEERING}", "detail": f"d{STEERING}", "retryable": False}
        await connection.send(json.dumps({**refusal, "ackId": json.loads(text)["ackId"]}))


@pytest.mark.parametrize("is_let_in", [True, False])
def test_no_text_of_a_service_controls_the_terminal(tmp_path: Path, is_let_in: bool) -> None:
    def handshake(connection: ServerConnection, request: Request) -> Response | None:
        return None if is_let_in else connection.respond(HTTPStatus.FORBIDDEN, f"b{STEERING}")

    async def chat() -> bytes:
        async with serve(serve_steering, "127.0.0.1", 0, process_request=handshake) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            running = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "clients.chat", "1", "--url", f"ws://127.0.0.1:{port}/dev/"),
                cwd=PROJECT,
                env=bare_environment(tmp_path, PYTHONIOENCODING="utf-8"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            output, _ = await asyncio.wait_for(running.communicate(b"@2 hello"), PATIENCE_SECONDS)
            return output

    shown = asyncio.run(chat()).decode()

    said = ["p", "m", "r", "c", "d"] if is_let_in else ["b"]
    assert all(f"{what}{SHOWN}" in shown for what in said), shown
    assert all(c.isprintable() or c == "\n" for c in shown)


def typing_of(*places: tuple[str, str | None], data: str = '{"typing": true}') -> list[str]:
    """Return signals of players, with their rooms."""
    signal = {"type": "signal", "data": data}
    return [
        json.dumps({**signal, "srcPlayerId": player} | ({"roomId": room} if room else {}))
        for player, room in places
    ]


def watching(tmp_path: Path, service: Service, watch: Callable[[Terminal], Awaitable[None]]) -> None:
    """Run a chat of player 1 in a terminal, connected to a service that the test plays."""

    async def play() -> None:
        async with playing(service):
            person = Terminal(tmp_path, "1", "--url", service.url)
            try:
                await asyncio.to_thread(person.shows, "connected as 1")
                await watch(person)
                person.type(END_OF_INPUT)
                assert await asyncio.to_thread(person.process.wait, PATIENCE_SECONDS) == 0
            finally:
                person.process.kill()

    asyncio.run(play())


def test_who_types_is_shown_once_until_they_have_written(tmp_path: Path) -> None:
    service = Service()

    async def say(*texts: str) -> None:
        for text in texts:
            await service.connections[0].send(text)

    async def watch(person: Terminal) -> None:
        await say(*typing_of(("2", None), ("2", None), ("2", "lobby"), (f"p{STEERING}", f"r{STEERING}")))
        await say(*typing_of(("3", None), data="typing"), *typing_of(("3", None), data="[" * 4096))
        await say(*typing_of(("3", None), data='{"typing": false}'), *typing_of(("first", None)))
        await asyncio.to_thread(person.shows, "first is typing")
        await say('{"type": "message", "messageId": "02", "srcPlayerId": "2", "message": "There."}')
        await asyncio.to_thread(person.shows, "2: There.")
        await say(*typing_of(("2", None), ("last", None)))
        await asyncio.to_thread(person.shows, "last is typing")
        assert person.shown.count("  2 is typing …") == 2
        assert person.shown.count("  #lobby 2 is typing …") == 1
        assert f"  #r{SHOWN} p{SHOWN} is typing …" in person.shown
        assert "3 is typing" not in person.shown
        assert "\x1b]0;owned" not in person.shown

    watching(tmp_path, service, watch)


@pytest.mark.parametrize(
    ("typed", "destination"),
    [("@2 hel", {"destinationPlayerId": "2"}), ("#lobby hel", {"roomId": "lobby"})],
)
def test_a_half_typed_line_is_signalled_to_its_recipient_once(
    tmp_path: Path, typed: str, destination: dict[str, str]
) -> None:
    service = Service(answer=lambda frame: None)

    async def watch(person: Terminal) -> None:
        for key in typed:
            person.type(key)
        await until(lambda: len(service.frames) == 1)
        person.type("lo")
        await asyncio.to_thread(person.shows, "lo")
        person.type("\x15")  # Deletes the line, so that the chat can end.

    watching(tmp_path, service, watch)

    [signal] = service.frames
    del signal["ackId"]
    assert signal == {"action": "signal", **destination, "data": '{"typing": true}'}


def test_a_name_or_command_that_is_half_typed_is_signalled_to_nobody(tmp_path: Path) -> None:
    service = Service(answer=lambda frame: None)

    async def watch(person: Terminal) -> None:
        for line in ("hello", "@google:123", "#lobby", "/join lobby", "/dance lobby"):
            person.type(line)
            await asyncio.to_thread(person.shows, line)
            person.type("\x15")

    watching(tmp_path, service, watch)

    assert service.frames == []


def test_a_kicked_chat_prints_the_reason(tmp_path: Path) -> None:
    service = Service(first_words=['{"type": "closing", "reason": "kicked"}'])

    async def play() -> None:
        async with playing(service):
            person = Terminal(tmp_path, "1", "--url", service.url)
            assert await asyncio.to_thread(person.process.wait, PATIENCE_SECONDS) == 1
            await asyncio.to_thread(person.shows, "the service ended the connection: kicked")
            assert "Traceback" not in person.shown

    asyncio.run(play())

    assert len(service.connections) == 1


def test_a_chat_can_be_ended_before_the_service_runs(tmp_path: Path) -> None:
    early = Terminal(tmp_path, "early", WEBSOCKET_PORT=str(free_port()))
    early.shows("trying again")

    early.type(END_OF_INPUT)

    assert early.process.wait(PATIENCE_SECONDS) == 0
    assert "Traceback" not in early.shown


def test_a_message_that_cannot_be_sent_is_reported(local: ChaliceLocal, tmp_path: Path) -> None:
    person = Terminal(tmp_path, "typist", "--url", local.url)
    person.shows("connected as typist")

    person.type("Hello?\r")
    person.shows("To whom?")
    person.type("@no#body Hello?\r")
    person.shows("not sent: invalid_frame: destinationPlayerId")

    person.type(END_OF_INPUT)
    assert person.process.wait(PATIENCE_SECONDS) == 1
    person.shows("2 not sent, of 2 lines: 1, 2")


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C", "PYTHONIOENCODING": ""},
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
    ids=lambda variables: " ".join(f"{name}={value}" for name, value in variables.items()),
)
def test_a_person_can_type_in_any_locale(
    local: ChaliceLocal, tmp_path: Path, variables: dict[str, str]
) -> None:
    name = "-".join(["typed", *variables.values()])
    person = Terminal(tmp_path, name, "--url", local.url, **variables)
    person.shows(f"connected as {name}")

    person.type(f"@{name} 日本 é\r")
    person.shows(f"stored for {name} after")

    person.type(END_OF_INPUT)
    assert person.process.wait(PATIENCE_SECONDS) == 0
    assert "Traceback" not in person.shown
    assert received(local.url, name, 1) == ["日本 é"]


def test_a_chat_can_start_before_the_service(start: Start, tmp_path: Path) -> None:
    port = free_port()
    early = Terminal(tmp_path, "early", "--to", "early", WEBSOCKET_PORT=str(port))
    early.shows("Does `make run` run in another terminal?")
    early.type("Anybody?\r")

    start("--no-autoreload", WEBSOCKET_PORT=str(port))
    early.shows("early: Anybody?")

    early.type(END_OF_INPUT)
    assert early.process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize("url", ["localhost:8001/dev/", "http://127.0.0.1:8001/dev/"])
def test_an_invalid_url_prints_one_line(tmp_path: Path, url: str) -> None:
    lost = Terminal(tmp_path, "lost", "--url", url)

    assert lost.process.wait(PATIENCE_SECONDS) == 1
    lost.shows("a WebSocket API is at ws:// or wss://")
    assert "Traceback" not in lost.shown


def test_a_refused_chat_prints_the_reason(local: ChaliceLocal, tmp_path: Path) -> None:
    nobody = Terminal(tmp_path, "no#body", "--url", local.url)

    assert nobody.process.wait(PATIENCE_SECONDS) == 1
    nobody.shows("not let in: 400")


def test_a_message_cannot_control_the_terminal(local: ChaliceLocal, tmp_path: Path) -> None:
    async def send() -> None:
        async with Player(local.url, "stranger") as stranger:
            await stranger.send("victim", "\x1b]0;owned\x07 ends")

    victim = Terminal(tmp_path, "victim", "--url", local.url)
    victim.shows("connected as victim")

    asyncio.run(send())

    victim.shows(r"stranger: \x1b]0;owned\x07 ends")
    assert "\x1b]0;owned" not in victim.shown
    victim.type(END_OF_INPUT)
    assert victim.process.wait(PATIENCE_SECONDS) == 0
