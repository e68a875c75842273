"""The backend's command, with `chalice local` and in an empty environment."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from clients.backend import COMMANDS
from tests.support.chalice_process import PROJECT, ChaliceLocal, bare_environment
from tests.support.sockets import PATIENCE_SECONDS

pytestmark = pytest.mark.chalice_local("--no-autoreload")


class Command:
    """Runs the command in the environment of a new user's shell with these variables."""

    def __init__(self, home: Path, **variables: str) -> None:
        self._environment = bare_environment(home, PYTHONIOENCODING="utf-8", **variables)

    def __call__(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "clients.backend", *arguments],
            cwd=PROJECT,
            env=self._environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=PATIENCE_SECONDS,
        )

    def lines(self, *arguments: str) -> list[str]:
        """Return what a successful command prints."""
        ran = self(*arguments)
        assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
        return ran.stdout.splitlines()


@pytest.fixture
def backend(local: ChaliceLocal, tmp_path: Path) -> Command:
    return Command(tmp_path, WEBSOCKET_PORT=str(local.websocket_port), DYNAMODB_PORT=str(local.dynamodb_port))


class Client:
    """A player's connection. `frame` returns the next frame of a type."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    def frame(self, kind: str) -> dict[str, Any]:
        while True:
            frame: dict[str, Any] = json.loads(self._socket.recv(PATIENCE_SECONDS))
            if frame["type"] == kind:
                return frame

    def send(self, **frame: Any) -> None:
        self._socket.send(json.dumps(frame))

    def has_ended(self) -> bool:
        with pytest.raises(ConnectionClosed):
            self._socket.recv(PATIENCE_SECONDS)
        return True


@pytest.fixture
def client(local: ChaliceLocal) -> Iterator[Client]:
    with connect(f"{local.url}?playerId=p1", proxy=None) as socket:
        client = Client(socket)
        client.frame("system")
        yield client


def test_a_person_sees_who_is_online_signals_and_kicks_them(backend: Command, client: Client) -> None:
    (online,) = backend.lines("--local", "online", "p1", "p2")
    signalled = backend.lines("--local", "signal", "p1", "hello")
    signal = client.frame("signal")
    kicked = backend.lines("--local", "kick", "p1")

    assert online.startswith("p1 20")
    assert datetime.fromisoformat(online[3:-1] + "+00:00") > datetime.now(timezone.utc) - timedelta(minutes=2)
    assert signalled == ["connections signalled: 1"]
    assert signal == {"type": "signal", "data": "hello", "srcPlayerId": "#backend"}
    assert kicked == ["connections closed: 1"]
    assert client.frame("closing") == {"type": "closing", "reason": "kicked"}
    assert client.has_ended()
    assert backend.lines("--local", "online", "p1") == []


def test_a_message_reaches_a_player(backend: Command, client: Client) -> None:
    (message_id,) = backend.lines("--local", "send", "p1", "Hello! 🎩")

    message = client.frame("message")
    assert (message["messageId"], message["message"]) == (message_id, "Hello! 🎩")
    assert message["srcPlayerId"] == "#backend"


def test_a_message_reaches_a_rooms_members_and_refan_brings_it_once_more(
    backend: Command, client: Client
) -> None:
    backend.lines("--local", "add", "hall", "p1")
    (message_id,) = backend.lines("--local", "--sender", "#host", "send-room", "hall", "Welcome!")
    first = client.frame("message")
    assert backend.lines("--local", "refan", "hall", "10m") == ["messages: 1"]
    second = client.frame("message")

    assert (first["messageId"], first["roomId"]) == (message_id, "hall")
    assert (first["srcPlayerId"], first["message"]) == ("#host", "Welcome!")
    assert second["position"] > first["position"]
    assert {**second, "position": first["position"]} == first


def test_a_muted_member_receives_but_cannot_send(backend: Command, client: Client) -> None:
    backend.lines("--local", "add", "court", "p1")
    backend.lines("--local", "mute", "court", "p1")
    client.send(action="sendmessage", roomId="court", message="Let me speak!")
    error = client.frame("error")
    backend.lines("--local", "send-room", "court", "Silence!")

    assert error["code"] == "forbidden"
    assert client.frame("message")["message"] == "Silence!"


def test_a_player_who_is_banned_from_a_room_cannot_join_it(backend: Command, client: Client) -> None:
    backend.lines("--local", "ban-from-room", "club", "p1")
    client.send(action="join", roomId="club")
    error = client.frame("error")
    backend.lines("--local", "unban-from-room", "club", "p1")
    client.send(action="join", roomId="club")

    assert error["code"] == "forbidden"
    assert client.frame("joined")["roomId"] == "club"


@pytest.mark.parametrize(
    ("room", "end", "member", "online"),
    [("yard", ["kick", "p1"], True, False), ("field", ["remove", "field", "p1"], False, True)],
)
def test_a_room_is_told_that_a_player_was_kicked_or_removed(
    backend: Command,
    client: Client,
    local: ChaliceLocal,
    room: str,
    end: list[str],
    member: bool,
    online: bool,
) -> None:
    backend.lines("--local", "add", room, "watcher")
    with connect(f"{local.url}?playerId=watcher", proxy=None) as socket:
        watcher = Client(socket)
        watcher.frame("system")
        client.send(action="join", roomId=room, presence=True)
        assert seen(watcher, member=True, online=True)

        backend.lines("--local", *end)

        assert seen(watcher, member=member, online=online)


def seen(watcher: Client, **state: bool) -> bool:
    """Wait until the watcher is told that player p1 is in this state."""
    while True:
        (player,) = watcher.frame("presence")["players"]
        assert player["playerId"] == "p1"
        if player.items() >= state.items():
            return True


def test_a_banned_player_is_refused_until_the_unban(
    backend: Command, client: Client, local: ChaliceLocal
) -> None:
    backend.lines("--local", "ban", "p1", "7d")

    with pytest.raises(InvalidStatus) as refused:
        connect(f"{local.url}?playerId=p1", proxy=None)
    assert refused.value.response.status_code == 403

    backend.lines("--local", "unban", "p1")
    with connect(f"{local.url}?playerId=p1", proxy=None) as socket:
        assert json.loads(socket.recv(PATIENCE_SECONDS))["event"] == "connected"


def test_a_ban_tells_the_client_until_when(backend: Command, client: Client) -> None:
    until = "2999-12-31T18:00:00Z"

    assert backend.lines("--local", "ban", "p1", until) == ["connections closed: 1"]

    closing = client.frame("closing")
    assert (
        datetime.fromtimestamp(closing["until"] / 1000, timezone.utc).isoformat()
        == "2999-12-31T18:00:00+00:00"
    )
    assert client.has_ended()
    assert backend.lines("--local", "unban", "p1") == []


def test_a_person_manages_a_room(backend: Command) -> None:
    assert backend.lines("--local", "add", "arena", "p2", "p1", "p3") == []
    assert backend.lines("--local", "mute", "arena", "p1") == []
    assert backend.lines("--local", "remove", "arena", "p3") == []
    assert backend.lines("--local", "members", "arena") == ["p1", "p2"]

    full = backend("--local", "--room-members", "2", "add", "arena", "p2", "p4")
    assert (full.returncode, full.stdout) == (1, "")
    assert full.stderr == (
        "room_full: room arena has 2 members, which is the maximum. Added: p2. Not added: p4.\n"
    )


def test_what_is_stored_is_found_by_refan(backend: Command) -> None:
    (message_id,) = backend.lines("--local", "--sender", "#shop", "send-room", "sale", "Hats at 9")

    assert len(message_id) == 36
    assert backend.lines("--local", "refan", "sale", "2h") == ["messages: 1"]
    future = backend("--local", "refan", "sale", "2999-01-01T00:00:00Z")
    assert future.stderr == "since must be in the past, not 2999-01-01T00:00:00Z\n"


def test_the_tables_and_endpoints_of_the_environment_are_used(local: ChaliceLocal, tmp_path: Path) -> None:
    backend = Command(
        tmp_path,
        WEBSOCKETS_TABLE="serverless-websockets-dev-websockets",
        MESSAGES_TABLE="serverless-websockets-dev-messages",
        AWS_ENDPOINT_URL_DYNAMODB=f"http://127.0.0.1:{local.dynamodb_port}",
        AWS_ACCESS_KEY_ID="local",
        AWS_SECRET_ACCESS_KEY="local",
        AWS_DEFAULT_REGION="us-east-1",
    )

    assert len(backend.lines("send", "p9", "Hello!")) == 1
    missing = backend("--messages-table", "no-such-table", "send", "p9", "Hello!")
    assert missing.returncode == 1
    assert missing.stderr.startswith("AWS refused: ResourceNotFoundException: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["send", "1", "x"], "name the table: --websockets-table, or WEBSOCKETS_TABLE"),
        (["--local", "send", "#1", "x"], "player '#1' must be a string of 1 to 128 of A-Z a-z"),
        (["--local", "--sender", "shop", "send", "1", "x"], "sender 'shop' must be # and then 1 to 64"),
        (
            ["--local", "ban", "1", "2020-01-01T00:00:00Z"],
            "must end in the future, not at 2020-01-01T00:00:00Z",
        ),
        (
            ["--local", "--room-members", "0", "members", "lobby"],
            "room_members must be a whole number above 0",
        ),
        (["--websockets-table", "w", "--messages-table", "m", "send", "1", "x"], "can't call AWS: "),
        (["--local", "--messages-table", "a b", "send", "1", "x"], "can't call AWS: "),
    ],
)
def test_a_failure_is_one_line_that_says_what_would_be_right(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    ran = Command(tmp_path, DYNAMODB_PORT="1", WEBSOCKET_PORT="1")(*arguments)  # Nothing listens there.

    assert (ran.returncode, ran.stdout) == (1, "")
    assert words in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["shout", "x"], "invalid choice: 'shout'"),
        (["send", "1"], "required: TEXT"),
        (
            ["ban", "1", "tomorrow"],
            "'tomorrow' must be a time with a time zone, such as 2026-12-31T18:00:00Z",
        ),
        (["refan", "lobby", "2026-01-01T00:00:00"], "must be a time with a time zone"),
    ],
)
def test_wrong_arguments_exit_with_2(tmp_path: Path, arguments: list[str], words: str) -> None:
    ran = Command(tmp_path)(*arguments)

    assert ran.returncode == 2
    assert words in ran.stderr


def test_an_unreachable_service_is_one_line(tmp_path: Path) -> None:
    ran = Command(tmp_path, DYNAMODB_PORT="1", WEBSOCKET_PORT="1")("--local", "members", "lobby")

    assert ran.returncode == 1
    assert ran.stderr.startswith("can't call AWS: Could not connect to the endpoint URL")
    assert ran.stderr.count("\n") == 1


def test_the_help_lists_every_command(tmp_path: Path) -> None:
    (*lines,) = Command(tmp_path).lines("--help")

    assert [name for name in COMMANDS if not any(line.split()[:1] == [name] for line in lines)] == []
