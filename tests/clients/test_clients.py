"""Both client libraries keep the protocol when connections break."""

import asyncio
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clients.player import Members, NotLetIn, Offline, Player, Presence, Refused, Signal, Timing
from measure.local import free_port
from tests.support.chalice_process import PROJECT, ChaliceLocal
from tests.support.cutting_proxy import Cut, CuttingProxy
from tests.support.sockets import PATIENCE_SECONDS, until
from tests.support.tokens import SECRET, token

LINES = ["one", "two", "three"]
TIMING = {"ping": 1, "answer": 3, "retry": 0.2}
CONVERSATION_SECONDS = 300
JAVASCRIPT_SECONDS = 300

UP_PIECES = 1 + len(LINES)
DOWN_PIECES = 2 + 2 * len(LINES)
"""The handshake's answer and the greeting, then an ack and a message for each line."""

CUTS = [
    Cut(direction, piece, passed, silently)
    for direction, pieces in (("up", UP_PIECES), ("down", DOWN_PIECES))
    for piece in range(pieces)
    for passed in (0, 0.5, 1)
    for silently in (False, True)
]
AT_THE_END = Cut("down", DOWN_PIECES - 1, passed=1, silently=True)
"""This cut loses nothing. The conversation can end before the client notices it."""

SAMPLE = CUTS[::7]
"""One cut for almost every piece, with all kinds of cuts."""

CUTS_AT_ONCE = 24
"""With more concurrent conversations `chalice local` answers later than the clients' timeout."""


def node() -> list[str]:
    """Return Node's command with the options that enable WebSocket, or [] without such a Node."""
    command = shutil.which("node")
    if command is None:
        return []
    for options in ([], ["--experimental-websocket", "--no-warnings"]):
        asking = [command, *options, "-e", "process.exit(typeof WebSocket === 'function' ? 0 : 1)"]
        if subprocess.run(asking, stderr=subprocess.DEVNULL).returncode == 0:
            return [command, *options]
    return []


pytestmark = pytest.mark.chalice_local("--no-autoreload")
needs_node = pytest.mark.skipif(not node(), reason="there is no Node with a WebSocket on this machine")


@pytest.fixture(scope="module", params=["python", pytest.param("javascript", marks=needs_node)])
def client(request: pytest.FixtureRequest) -> list[str]:
    """Return the command that holds conversations with one of the clients."""
    if request.param == "python":
        return [sys.executable, "-m", "tests.clients.conversations.in_python"]
    return [*node(), "tests/clients/conversations/in_javascript.mjs"]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaliceLocal]:
    """With tokens, a short idle limit, and a rate that a conversation exceeds."""
    with ChaliceLocal.running(
        tmp_path_factory.mktemp("strict"),
        "--stage",
        "tokens",
        JWT_SECRET=SECRET,
        WEBSOCKET_IDLE_SECONDS="1",
        MESSAGES_PER_SECOND="5",
        MESSAGE_BURST="5",
    ) as strict:
        yield strict


Held = dict[str, Any]
"""The result of one conversation."""


async def hold(client: Sequence[str], url: str, pairs: Sequence[tuple[str, str]], **plan: Any) -> list[Held]:
    plan = {"timing": TIMING, "lines": LINES, **plan, "url": url, "pairs": pairs}
    running = await asyncio.create_subprocess_exec(
        *client, json.dumps(plan), cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        output, errors = await asyncio.wait_for(running.communicate(), CONVERSATION_SECONDS)
    finally:
        if running.returncode is None:
            running.kill()
    assert running.returncode == 0, errors.decode()
    held: list[Held] = json.loads(output)
    return held


def whole(asking: str, answering: str, lines: Sequence[str] = LINES) -> dict[str, list[str]]:
    """Return what both players receive when nothing is lost, duplicated or out of order."""
    return {answering: list(lines), asking: [f"{line} too" for line in lines]}


@dataclass(frozen=True)
class CutConversations:
    """Conversations through a proxy, with the cut that was made in each."""

    cuts: list[Cut]
    held: list[Held]
    proxy: CuttingProxy


@pytest.fixture(
    scope="module",
    params=[pytest.param(SAMPLE, id="sample"), pytest.param(CUTS, id="everywhere", marks=pytest.mark.slow)],
)
def cut_conversations(
    client: list[str], local: ChaliceLocal, request: pytest.FixtureRequest
) -> CutConversations:
    """Hold one conversation per cut. The proxy cuts each player's first two connections there."""
    cuts: list[Cut] = request.param
    kind = f"{Path(client[0]).name}-{len(cuts)}"
    pairs = [(f"{kind}-{n}-asking", f"{kind}-{n}-answering") for n in range(len(cuts))]
    cut_of = {player: cut for pair, cut in zip(pairs, cuts, strict=True) for player in pair}

    async def converse() -> CutConversations:
        held: list[Held] = []
        async with CuttingProxy(local.websocket_port, cut_of) as proxy:
            for start in range(0, len(pairs), CUTS_AT_ONCE):
                at_once = pairs[start : start + CUTS_AT_ONCE]
                held += await hold(client, f"ws://127.0.0.1:{proxy.port}/dev/", at_once)
        return CutConversations(cuts, held, proxy)

    return asyncio.run(converse())


def test_a_conversation_is_whole_wherever_its_connections_are_cut(
    cut_conversations: CutConversations,
) -> None:
    proxy = cut_conversations.proxy
    for cut, held in zip(cut_conversations.cuts, cut_conversations.held, strict=True):
        asking, answering = held["heard"]
        assert held["heard"] == whole(asking, answering), cut
        assert held["acks"] == sorted(set(held["acks"])), cut
        assert proxy.made[asking] >= 1, f"never cut: {cut}"
        assert proxy.made[answering] >= 1, f"never cut: {cut}"


def test_a_client_reconnects_with_the_greatest_cursor_that_it_received(
    cut_conversations: CutConversations,
) -> None:
    """Only silent cuts are checked, because after a reset the client can have read less than was sent."""
    lines = cut_conversations.proxy.lines.values()
    silent = [each[:2] for each in lines if each[0].cut and each[0].cut.silently and len(each) > 1]

    for first, second in silent:
        positions = [f["messageId"] for f in first.came_down if f["type"] in ("message", "system")]
        assert second.after == max(positions, default="0"), first.cut
    expected = [cut for cut in cut_conversations.cuts if cut.silently and cut != AT_THE_END]
    assert len(silent) >= 2 * len(expected)


@pytest.mark.parametrize(
    ("members", "lines"), [(4, 4), pytest.param(10, 20, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_all_members_receive_a_rooms_messages_in_one_order_when_some_are_cut(
    client: list[str], local: ChaliceLocal, members: int, lines: int
) -> None:
    room = f"room-{Path(client[0]).name}-{members}"
    names = [f"{room}-{number}" for number in range(members)]
    chance = random.Random(room)
    cut_of = {
        name: Cut(
            direction, chance.randint(0, lines), chance.choice([0, 0.5, 1]), chance.choice([True, False])
        )
        for name, direction in zip(names, ["up", "down", "up"], strict=False)
    }

    async def meet() -> list[Held]:
        async with CuttingProxy(local.websocket_port, cut_of) as proxy:
            url = f"ws://127.0.0.1:{proxy.port}/dev/"
            held = await hold(client, url, [], rooms={room: names}, lines=list(map(str, range(lines))))
            assert all(proxy.made[name] >= 1 for name in cut_of), proxy.made
            return held

    [held] = asyncio.run(meet())

    first = held[names[0]]
    assert sorted(first) == sorted(f"{name} {line}" for name in names for line in range(lines))
    assert all(held[name] == first for name in names)
    for name in names:
        assert [text for text in first if text.startswith(f"{name} ")] == [
            f"{name} {n}" for n in range(lines)
        ]


def test_a_client_reconnects_before_its_connection_reaches_its_lifetime(
    client: list[str], local: ChaliceLocal
) -> None:
    pair = f"old-{Path(client[0]).name}-1", f"old-{Path(client[0]).name}-2"
    lines = [str(number) for number in range(40)]

    [held] = asyncio.run(hold(client, local.url, [pair], lines=lines, timing={**TIMING, "lifetime": 0.1}))

    assert held["heard"] == whole(*pair, lines)
    assert min(held["opened"].values()) > 1


def test_a_client_is_never_idle_for_too_long(client: list[str], strict: ChaliceLocal) -> None:
    pair = f"idle-{Path(client[0]).name}-1", f"idle-{Path(client[0]).name}-2"
    tokens = {name: token(sub=name) for name in pair}

    [held] = asyncio.run(
        hold(client, strict.url, [pair], tokens=tokens, quiet_seconds=2.5, timing={**TIMING, "ping": 0.5})
    )

    assert held["heard"] == whole(*pair)
    assert set(held["opened"].values()) == {1}


def test_a_client_over_its_rate_retries_after_the_given_time(client: list[str], strict: ChaliceLocal) -> None:
    pair = f"fast-{Path(client[0]).name}-1", f"fast-{Path(client[0]).name}-2"
    lines = [str(number) for number in range(12)]

    [held] = asyncio.run(
        hold(client, strict.url, [pair], tokens={name: token(sub=name) for name in pair}, lines=lines)
    )

    assert held["heard"] == whole(*pair, lines)
    assert "rate_limited" in held["errors"]


def test_an_invalid_message_is_refused_and_the_next_one_arrives(
    client: list[str], local: ChaliceLocal
) -> None:
    pair = f"strange-{Path(client[0]).name}-1", f"strange-{Path(client[0]).name}-2"

    [held] = asyncio.run(hold(client, local.url, [pair], refused=["no#body", ""]))

    assert held["refused"] == ["invalid_frame", "invalid_frame"]
    assert held["heard"] == whole(*pair)


def python_example(directory: Path, text: str) -> list[str]:
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (directory / "example.py").write_text(code, encoding="utf-8")
    (directory / "clients").mkdir()
    shutil.copy(PROJECT / "clients" / "player.py", directory / "clients")
    return [sys.executable, "-u", "example.py"]


def javascript_example(directory: Path, text: str) -> list[str]:
    (code,) = re.findall(r"^```js\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (directory / "example.mjs").write_text(code, encoding="utf-8")
    shutil.copy(PROJECT / "clients" / "player.mjs", directory)
    return [*node(), "example.mjs"]


@pytest.mark.parametrize("example", [python_example, pytest.param(javascript_example, marks=needs_node)])
def test_the_readmes_examples_work_with_a_copy_of_the_client(
    local: ChaliceLocal, tmp_path: Path, example: Callable[[Path, str], list[str]]
) -> None:
    readme = (
        (PROJECT / "README.md").read_text(encoding="utf-8").replace("ws://127.0.0.1:8001/dev/", local.url)
    )
    command = example(tmp_path, readme)

    async def talk() -> str:
        async with Player(local.url, "2") as two:
            running = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=subprocess.PIPE)
            try:
                assert (await anext(two))["message"] == "Hello!"
                await two.send("1", "Hello back!")
                assert running.stdout is not None
                return (await asyncio.wait_for(running.stdout.readline(), PATIENCE_SECONDS)).decode()
            finally:
                running.kill()
                await running.wait()

    assert asyncio.run(talk()) == "2 Hello back!\n"


@needs_node
@pytest.mark.parametrize(
    "file",
    [
        "player_rooms_test.mjs",
        "player_connection_test.mjs",
        pytest.param("player_test.mjs", marks=pytest.mark.slow),
    ],
)
def test_the_javascript_client_passes_its_own_tests(file: str) -> None:
    # Without --test, because its runner in Node 20 hangs when another program keeps its core busy.
    command = [*node(), "--test-reporter=tap", f"tests/clients/{file}"]
    ran = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=JAVASCRIPT_SECONDS, encoding="utf-8"
    )

    assert ran.returncode == 0, ran.stdout
    assert re.search(r"^# pass [1-9]", ran.stdout, re.MULTILINE)


def test_signals_and_presence_reach_the_members_of_a_room(local: ChaliceLocal) -> None:
    async def talk() -> None:
        timing = Timing(offline=0.5, retry=0.1)
        async with Player(local.url, "watcher", timing=timing) as watcher:
            seen, signals = watcher.presence_events(), watcher.signals()

            async def told(online: bool, member: bool = True) -> None:
                while True:
                    event = await asyncio.wait_for(anext(seen), PATIENCE_SECONDS)
                    if isinstance(event, Presence) and event.player_id == "watched":
                        assert (event.online, event.member, event.room_id) == (online, member, "watched-room")
                        return

            await watcher.join("watched-room", presence=True)
            async with Player(local.url, "watched") as watched:
                assert await watched.join("watched-room", presence=True) == 2
                await told(online=True)
                assert await watched.signal("watcher", "to one") is True
                assert await asyncio.wait_for(anext(signals), PATIENCE_SECONDS) == Signal("to one", "watched")
                assert await watched.signal_to_room("watched-room", "to all") is True
                to_all = Signal("to all", "watched", "watched-room")
                assert await asyncio.wait_for(anext(signals), PATIENCE_SECONDS) == to_all
                members = await watched.members("watched-room")
                assert members.members == ["watched", "watcher"]
                assert set(members.online or {}) == {"watched", "watcher"}
            await told(online=False)
            [presence] = await watcher.presence(["watched"])
            assert (presence.online, presence.room_id, presence.member) == (False, None, None)
            assert presence.last_seen_at is not None
            async with Player(local.url, "watched") as watched:
                await told(online=True)
                await watched.leave("watched-room")
                await told(online=True, member=False)

    asyncio.run(talk())


def test_a_signal_to_a_room_of_others_is_refused(local: ChaliceLocal) -> None:
    refused: list[str] = []

    def observe(event: str, about: Any) -> None:
        if event == "refused":
            refused.append(about["code"])

    async def talk() -> None:
        async with Player(local.url, "outsider", observe=observe) as outsider:
            assert await outsider.signal_to_room("others", "hello") is True
            await until(lambda: refused == ["not_a_member"])
            with pytest.raises(Refused, match="not_a_member"):
                await outsider.members("others")

    asyncio.run(talk())


def test_a_reconnection_reports_the_members_of_watched_rooms(local: ChaliceLocal) -> None:
    async def talk() -> None:
        async with Player(local.url, "returner") as player:
            await player.join("returning", presence=True)
            await player.close()
            await player.connect()
            async for event in player.presence_events():
                if isinstance(event, Members):
                    assert (event.room_id, event.members) == ("returning", ["returner"])
                    return

    asyncio.run(asyncio.wait_for(talk(), PATIENCE_SECONDS))


def test_a_refused_player_does_not_retry(local: ChaliceLocal) -> None:
    async def talk() -> None:
        player = Player(local.url, "no#body")
        with pytest.raises(NotLetIn, match="400"):
            await player.connect()
        with pytest.raises(NotLetIn):
            await player.send("1", "hello")
        with pytest.raises(NotLetIn):
            await player.__anext__()

    asyncio.run(talk())


def test_nothing_is_sent_while_a_player_is_offline(local: ChaliceLocal) -> None:
    async def talk() -> None:
        player = Player(local.url, "offline")
        with pytest.raises(Offline):
            await player.send("offline", "too early")
        async with player:
            await player.send("offline", "in time")
            assert (await player.__anext__())["message"] == "in time"
        with pytest.raises(Offline):
            await player.send("offline", "too late")
        assert [message async for message in player] == []

    asyncio.run(talk())


def test_a_player_who_reconnects_continues_at_its_cursor(local: ChaliceLocal) -> None:
    async def talk() -> None:
        async with Player(local.url, "writer") as writer, Player(local.url, "leaver") as leaver:
            await writer.send("leaver", "before")
            assert (await leaver.__anext__())["message"] == "before"
            await leaver.close()
            await writer.send("leaver", "meanwhile")
            await leaver.connect()
            assert (await leaver.__anext__())["message"] == "meanwhile"

    asyncio.run(talk())


def test_a_player_can_close_with_many_unread_messages(local: ChaliceLocal) -> None:
    async def talk() -> None:
        async with Player(local.url, "busy-writer") as writer, Player(local.url, "busy-reader") as reader:
            await asyncio.gather(*(writer.send("busy-reader", str(number)) for number in range(20)))
            assert (await anext(reader))["message"] == "0"
            writing = asyncio.gather(*(writer.send("busy-reader", str(number)) for number in range(20)))
            await asyncio.wait_for(reader.close(), PATIENCE_SECONDS)
            await writing

    asyncio.run(talk())


@pytest.mark.parametrize("text", ["x" * 33_000, "\u8a9e" * 30_000, "\U0001f600" * 30_000])
def test_a_message_longer_than_a_frame_arrives(local: ChaliceLocal, text: str) -> None:
    async def talk() -> None:
        async with Player(local.url, "long") as player:
            await player.send("long", text)
            assert (await asyncio.wait_for(anext(player), PATIENCE_SECONDS))["message"] == text

    asyncio.run(talk())


def test_a_message_over_the_gateways_limit_is_refused_and_the_next_one_arrives(local: ChaliceLocal) -> None:
    async def talk() -> None:
        async with Player(local.url, "longer") as player:
            with pytest.raises(Refused, match="too_large"):
                await asyncio.wait_for(player.send("longer", "x" * 140_000), PATIENCE_SECONDS)
            await player.send("longer", "short")
            assert (await asyncio.wait_for(anext(player), PATIENCE_SECONDS))["message"] == "short"

    asyncio.run(talk())


def test_an_exception_of_an_observer_does_not_disturb_the_player(local: ChaliceLocal) -> None:
    def observe(event: str, about: Any) -> None:
        raise RuntimeError(event)

    failures: list[str] = []

    async def talk() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, problem: failures.append(str(problem["exception"])))
        async with Player(local.url, "watched", observe=observe) as player:
            await player.send("watched", "hello")
            assert (await asyncio.wait_for(anext(player), PATIENCE_SECONDS))["message"] == "hello"

    asyncio.run(talk())

    assert {"connecting", "open", "sent", "received", "lost"} <= set(failures)


def test_a_failed_token_function_is_called_again(strict: ChaliceLocal) -> None:
    tries = 0

    def fetch() -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError("the provider is down")
        return token(sub="patient")

    async def talk() -> None:
        async with Player(strict.url, token=fetch, timing=Timing(retry=0.1)) as player:
            assert (await player.ask({"action": "ping"}))["type"] == "pong"

    asyncio.run(talk())

    assert tries == 2


def test_a_first_attempt_that_failed_does_not_ask_for_a_replay(local: ChaliceLocal) -> None:
    """A service that never answered cannot have sent a message that was lost."""
    gateway = local.websocket_port
    handshakes: list[str | None] = []

    async def talk() -> None:
        async with Player(local.url, "history") as writer:
            await writer.send("history", "read long ago")
            await anext(writer)
        waits = asyncio.Event()
        late = Player(
            f"ws://127.0.0.1:{port}/dev/",
            "history",
            timing=Timing(retry=0.1),
            observe=lambda event, about: waits.set() if event == "waiting" else None,
        )
        connecting = asyncio.ensure_future(late.connect())
        await asyncio.wait_for(waits.wait(), PATIENCE_SECONDS)
        async with CuttingProxy(gateway, {}, port=port) as proxy:
            await asyncio.wait_for(connecting, PATIENCE_SECONDS)
            handshakes.extend(line.after for line in proxy.lines["history"])
            await late.close()

    port = free_port()
    asyncio.run(talk())

    assert handshakes == [None]
