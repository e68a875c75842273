"""Tests a deployment from outside: the one at ACCEPT_URL, or else a local one.

Players use the Python client. Frames that it never sends go over a bare socket. Each run has new players,
closes their connections, and leaves their messages to expire.
"""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from clients.player import CLOSED, Frame, Player
from tests.support.chalice_process import ChaliceLocal
from tests.support.dynamodb_tables import ENGINE
from tests.support.recorder import MESSAGES, Recorder
from tests.support.sockets import PATIENCE_SECONDS, Socket, until
from tests.support.tokens import token

URL = os.environ.get("ACCEPT_URL")
SECRET = os.environ.get("ACCEPT_SECRET")
"""The stage's JWT_SECRET, when players need tokens."""

RUN = secrets.token_hex(4)

RECORD = Recorder()

NOT_BROUGHT_ABOUT = {"gatewayFailure", "closing"}
"""No function of a healthy deployment raises: tests/local/test_gateway.py tests that message. Only the
backend, which needs access to the tables, sends `closing`: tests/clients/test_backend.py tests it.
"""


class RecordedSocket(Socket):
    async def send(self, text: str) -> None:
        RECORD.sent(text)
        await super().send(text)

    async def send_malformed(self, text: str) -> None:
        RECORD.sent_malformed(text)
        await super().send(text)

    async def receive(self) -> str:
        text = await super().receive()
        RECORD.received(text)
        return text


def differs_on_ministack(reason: str) -> pytest.MarkDecorator:
    """Mark a test that the rehearsal's emulator fails. The mark itself fails when the emulator passes."""
    return pytest.mark.xfail(os.environ.get("ACCEPT_TARGET") == "ministack", reason=reason, strict=True)


pytestmark = pytest.mark.chalice_local(AWS_ENDPOINT_URL_DYNAMODB=ENGINE)


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest) -> str:
    if URL is not None:
        return URL
    local: ChaliceLocal = request.getfixturevalue("local")
    return local.url


def named(name: str) -> str:
    """Return the id of a player that only this run uses."""
    return f"accept-{RUN}-{name}"


def proof_of(name: str) -> str | None:
    """Return the player's token, with the permission to join this run's rooms, or None on an open stage."""
    return SECRET and token(SECRET, sub=named(name), rooms={named("*"): "send"})


def query(name: str) -> str:
    proof = proof_of(name)
    return f"playerId={named(name)}" if proof is None else f"token={proof}"


@asynccontextmanager
async def player(
    url: str, name: str, position: str | None = None
) -> AsyncIterator[tuple[Player, list[Frame]]]:
    """Connect a player. Yield it with the list of its frames, and check that its connection lasts."""
    seen: dict[str, list[Any]] = {"sent": [], "received": [], "lost": []}

    def observe(event: str, about: Any) -> None:
        if event in seen:
            seen[event].append(about)

    proof = proof_of(name)
    player_id = named(name) if proof is None else None
    async with Player(url, player_id, proof, position, observe=observe) as connected:
        yield connected, seen["received"]
    for frame in seen["sent"]:
        RECORD.sent(json.dumps(frame))
    for frame in seen["received"]:
        RECORD.received(json.dumps(frame))
    assert set(seen["lost"]) == {CLOSED}


@asynccontextmanager
async def socket(url: str, name: str) -> AsyncIterator[RecordedSocket]:
    """Connect without the library, to send frames that it never sends."""
    async with connect(f"{url}?{query(name)}") as opened:
        bare = RecordedSocket(opened)
        assert (await bare.frame())["event"] == "connected"
        yield bare


def run(talk: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(talk, PATIENCE_SECONDS))


async def texts(recipient: Player, count: int) -> list[str]:
    """Return the texts of the next messages that the player has not seen."""
    return [(await anext(recipient))["message"] for _ in range(count)]


def test_a_message_arrives_and_is_acknowledged(url: str) -> None:
    async def talk() -> None:
        async with player(url, "a1") as (one, _), player(url, "a2") as (two, received):
            ack = await one.send(named("a2"), "Hello, from player 1!")
            message = await anext(two)

        (connected, _) = received
        about = {key: ack[key] for key in ("messageId", "sentAt", "message")} | {
            "srcPlayerId": named("a1"),
            "destinationPlayerId": named("a2"),
        }
        assert ack["message"] == "Hello, from player 1!"
        assert ack == {"type": "ack", "status": "Message sent!", "ackId": 1, **about}
        assert message == {"type": "message", **about}
        assert connected == {
            "type": "system",
            "event": "connected",
            "connectionId": connected["connectionId"],
            "playerId": named("a2"),
            "messageId": connected["messageId"],
            "replayed": 0,
        }

    run(talk())


def test_a_frame_of_the_original_prototype_works(url: str) -> None:
    async def talk() -> None:
        async with socket(url, "k1") as one, player(url, "k2") as (two, _):
            ack = await one.ask(
                routeKey="sendmessage",
                action="sendmessage",
                message="Hello, from player 1!",
                playerId=named("k1"),
                destinationPlayerId=named("k2"),
            )
            assert (ack["type"], ack["status"]) == ("ack", "Message sent!")
            assert (await anext(two))["messageId"] == ack["messageId"]

    run(talk())


def test_messages_arrive_in_order_at_every_connection_of_the_player(url: str) -> None:
    sent = [f"message {number}" for number in range(20)]

    async def talk() -> None:
        async with (
            player(url, "b1") as (one, _),
            player(url, "b2") as (phone, _),
            player(url, "b2") as (laptop, _),
        ):
            for text in sent:
                await one.send(named("b2"), text)
            assert await texts(phone, len(sent)) == sent
            assert await texts(laptop, len(sent)) == sent

    run(talk())


def test_a_player_who_was_offline_gets_the_missed_messages(url: str) -> None:
    async def talk() -> None:
        async with player(url, "c1") as (one, _):
            missed = [await one.send(named("c2"), f"message {number}") for number in range(3)]
            async with player(url, "c2") as (_, received):
                *replayed, connected = received
                assert [(frame["messageId"], frame["replayed"]) for frame in replayed] == [
                    (ack["messageId"], True) for ack in missed
                ]
                assert (connected["event"], connected["replayed"]) == ("connected", 3)

    run(talk())


def test_a_player_who_reconnects_continues_without_duplicates(url: str) -> None:
    async def talk() -> None:
        async with player(url, "l1") as (one, _), player(url, "l2") as (two, _):
            await one.send(named("l2"), "seen")
            assert await texts(two, 1) == ["seen"]
            await two.close()
            await one.send(named("l2"), "missed")
            await two.connect()
            await one.send(named("l2"), "live")
            assert await texts(two, 2) == ["missed", "live"]

    run(talk())


def test_a_replay_starts_at_the_given_cursor(url: str) -> None:
    async def talk() -> None:
        async with player(url, "n1") as (one, _), player(url, "n2") as (two, _):
            await one.send(named("n2"), "received")
            assert await texts(two, 1) == ["received"]
            async with player(url, "n2", position="0") as (another, _):
                assert await texts(another, 1) == ["received"]
            async with player(url, "n2") as (_, received):
                assert [frame["type"] for frame in received] == ["system"]

    run(talk())


def test_a_sync_is_answered_with_a_page_and_its_ack_id(url: str) -> None:
    async def talk() -> None:
        async with socket(url, "m") as one:
            await one.ask(action="sendmessage", destinationPlayerId=named("m"), message="to myself")
            synced = await one.ask(action="sync", after="0", ackId="s")
            live, replayed = await one.messages(2)

        assert replayed == {**live, "replayed": True}
        assert synced == {
            "type": "system",
            "event": "synced",
            "messageId": synced["messageId"],
            "replayed": 1,
            "more": False,
            "ackId": "s",
        }

    run(talk())


def test_a_resent_message_is_stored_once(url: str) -> None:
    async def send_once() -> Frame:
        async with player(url, "d1") as (one, _):
            return await one.send(named("d2"), "once", client_message_id=RUN)

    async def talk() -> None:
        first, second = await send_once(), await send_once()
        async with player(url, "d2") as (two, received):
            assert await texts(two, 1) == ["once"]
            assert [frame["type"] for frame in received] == ["message", "system"]

        assert second == {**first, "duplicate": True}

    run(talk())


@pytest.mark.parametrize(
    ("frame", "code", "detail"),
    [
        ("hello", "invalid_json", ""),
        ('{"action": "ping", "action": "ping"}', "invalid_json", ""),
        ("{}", "unknown_action", "sendmessage, sync, ping"),
        ('{"action": "sendmessage", "message": "hi"}', "invalid_frame", "destinationPlayerId"),
        ('{"action": "ping", "pong": 1}', "invalid_frame", "pong: unknown key"),
    ],
)
def test_a_malformed_frame_gets_a_reason_and_the_connection_stays(
    url: str, frame: str, code: str, detail: str
) -> None:
    async def talk() -> None:
        async with socket(url, "e") as one:
            await one.send_malformed(frame)
            error = await one.frame()
            assert (error["type"], error["code"], error["retryable"]) == ("error", code, False)
            assert detail in error["detail"]
            assert await one.ask(action="ping", ackId=7) == {"type": "pong", "ackId": 7}

    run(talk())


def test_a_player_cannot_send_as_another_player(url: str) -> None:
    async def talk() -> None:
        async with socket(url, "e") as one:
            error = await one.ask(
                action="sendmessage", message="hi", destinationPlayerId="2", playerId="somebody", ackId=7
            )
            assert (error["type"], error["code"], error["retryable"]) == ("error", "forbidden", False)
            assert error["ackId"] == 7
            assert (await one.ask(action="ping"))["type"] == "pong"

    run(talk())


@differs_on_ministack("it takes the action for the route of that name, which answers nothing")
def test_a_frame_with_the_action_disconnect_ends_nothing(url: str) -> None:
    async def talk() -> None:
        async with socket(url, "j") as one:
            await one.send_malformed('{"action": "$disconnect"}')
            assert (await one.frame())["code"] == "unknown_action"
            assert (await one.ask(action="ping"))["type"] == "pong"

    run(talk())


def test_a_rooms_message_reaches_all_members_once_and_a_former_member_no_more(url: str) -> None:
    room = {"roomId": named("lobby")}

    async def talk() -> None:
        async with socket(url, "r1") as one, socket(url, "r2") as two:
            for members, each in enumerate((one, two), start=1):
                joined = await each.ask(action="join", **room, ackId=1)
                assert joined == {"type": "joined", **room, "members": members, "ackId": 1}
            hello = {"action": "sendmessage", **room, "message": "Hello, all!", "clientMessageId": RUN}
            ack, again = await one.ask(**hello), await one.ask(**hello)
            assert ack["roomId"] == named("lobby")
            assert again == {**ack, "duplicate": True}

            for name, each in (("r1", one), ("r2", two)):
                message = await each.message()
                assert message == {
                    "type": "message",
                    "message": "Hello, all!",
                    "messageId": ack["messageId"],
                    "position": message["position"],
                    **room,
                    "srcPlayerId": named("r1"),
                    "destinationPlayerId": named(name),
                    "sentAt": ack["sentAt"],
                }
                assert message["position"] > message["messageId"]

            assert (await two.ask(action="leave", **room))["type"] == "left"
            assert (await two.ask(action="members", **room))["code"] == "not_a_member"
            assert (await two.ask(action="sendmessage", **room, message="hi"))["code"] == "not_a_member"
            remaining = await one.ask(action="members", **room)
            assert remaining.pop("online").keys() <= {named("r1")}
            assert remaining == {"type": "members", **room, "members": [named("r1")]}

    run(talk())


def test_a_member_who_was_offline_gets_the_rooms_messages_in_order(url: str) -> None:
    async def talk() -> None:
        async with socket(url, "r3") as gone:
            await gone.ask(action="join", roomId=named("hall"))
        async with socket(url, "r4") as one:
            await one.ask(action="join", roomId=named("hall"))
            for text in ("first", "second", "third"):
                await one.ask(action="sendmessage", roomId=named("hall"), message=text)
            await one.messages(3)  # They have reached r4, so the fan-out has begun for all members.

        async with player(url, "r3", position="0") as (back, _):
            assert await texts(back, 3) == ["first", "second", "third"]

    run(talk())


def test_a_signal_reaches_a_player_and_a_rooms_members_and_is_not_replayed(url: str) -> None:
    room = named("stage")

    async def talk() -> None:
        async with player(url, "s1") as (one, one_received), player(url, "s2") as (two, received):
            await one.join(room)
            await two.join(room)
            await signal_until(
                lambda: one.signal(named("s2"), "to you"), lambda: signals(received) == {("to you", None)}
            )
            await signal_until(
                lambda: one.signal_to_room(room, "to all"), lambda: ("to all", room) in signals(received)
            )
            assert signals(one_received) == set()

        async with player(url, "s2", position="0") as (back, received):
            await back.send(named("s2"), "last")
            assert await texts(back, 1) == ["last"]
            assert signals(received) == set()

    run(talk())


def test_a_signal_to_a_room_of_others_is_refused(url: str) -> None:
    async def talk() -> None:
        async with socket(url, "s3") as one:
            refused = await one.ask(action="signal", roomId=named("others"), data="x", ackId=1)
            assert (refused["code"], refused["ackId"]) == ("not_a_member", 1)

    run(talk())


def test_a_rooms_members_are_told_who_comes_and_goes(url: str) -> None:
    room = named("den")

    async def talk() -> None:
        async with player(url, "p1") as (one, received):
            await one.join(room, presence=True)
            async with player(url, "p2") as (two, _):
                await two.join(room, presence=True)
                await until(lambda: is_told(received, room, "p2", online=True))
                (asked,) = await one.presence([named("p2")])
                assert (asked.player_id, asked.member) == (named("p2"), None)
            await until(lambda: is_told(received, room, "p2", online=False))
            assert (await one.members(room)).members == [named("p1"), named("p2")]

    run(talk())


async def signal_until(signal: Callable[[], Awaitable[bool]], arrived: Callable[[], bool]) -> None:
    """Repeat the signal until it has arrived, because the service can lose one."""
    while not arrived():
        assert await signal()
        with suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(until(arrived), 2)


def signals(received: list[Frame]) -> set[tuple[str, str | None]]:
    return {(frame["data"], frame.get("roomId")) for frame in received if frame["type"] == "signal"}


def is_told(received: list[Frame], room: str, name: str, *, online: bool) -> bool:
    """Return whether the newest presence event about the player says so."""
    told = [
        each["online"]
        for frame in received
        if frame["type"] == "presence" and frame.get("roomId") == room
        for each in frame["players"]
        if each["playerId"] == named(name) and each["member"]
    ]
    return told[-1:] == [online]


def test_a_player_over_the_rate_gets_the_time_of_its_retry(url: str) -> None:
    async def talk() -> None:
        async with socket(url, "f") as one:
            for _ in range(150):  # More than two bursts, and too few to be closed.
                await one.send('{"action": "ping"}')
            replies = [await one.frame() for _ in range(150)]
        refused = [reply for reply in replies if reply["type"] == "error"]

        assert {reply["code"] for reply in refused} <= {"rate_limited"}
        assert all(reply["retryAfterMs"] > 0 for reply in refused)
        assert len(replies) - len(refused) >= 1

    run(talk())


def test_a_dead_recipient_delays_nobody(url: str) -> None:
    async def talk() -> None:
        async with (
            player(url, "g1") as (one, _),
            player(url, "g3") as (three, _),
            socket(url, "g2") as gone,
        ):
            gone.socket.transport.abort()
            for recipient in ("g2", "g3"):
                await one.send(named(recipient), "hi")
            assert await texts(three, 1) == ["hi"]

    run(talk())


def refusal(url: str, query: str, **options: Any) -> int:
    async def shake_hands() -> int:
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"{url}?{query}", **options)
        return caught.value.response.status_code

    return asyncio.run(shake_hands())


@pytest.mark.skipif(SECRET is not None, reason="for stages that are open")
@differs_on_ministack("it answers every refused handshake with 403")
@pytest.mark.parametrize("who", ["", "playerId=a%23b", "playerId=1&playerId=2"])
def test_an_invalid_handshake_is_refused_with_400(url: str, who: str) -> None:
    assert refusal(url, who) == 400


@pytest.mark.skipif(SECRET is None, reason="for stages with tokens")
@differs_on_ministack("it answers every refused handshake with 403")
@pytest.mark.parametrize("who", ["", "playerId=1", "token=forged"])
def test_a_handshake_without_a_good_token_is_refused_with_401(url: str, who: str) -> None:
    assert refusal(url, who) == 401


@differs_on_ministack("it echoes no subprotocol")
def test_the_ordinary_subprotocol_is_accepted(url: str) -> None:
    async def talk() -> None:
        async with connect(f"{url}?{query('h')}", subprotocols=["chat"]) as socket:  # type: ignore[list-item]
            assert socket.subprotocol == "chat"

    run(talk())


@differs_on_ministack("it knows no limits of frames")
def test_a_frame_over_32_kb_closes_the_connection(url: str) -> None:
    async def talk() -> None:
        async with socket(url, "i") as one:
            await one.send(json.dumps({"action": "ping", "routeKey": "x" * 33_000}))
            assert await one.close_code() == 1009

    run(talk())


def test_every_described_frame_was_seen(request: pytest.FixtureRequest) -> None:
    """Check the frames that all other tests of this module recorded. So this test must be the last one."""
    ran = {item.name.partition("[")[0] for item in request.session.items if item.path == request.path}
    if any(name.startswith("test_") and name not in ran for name in globals()):
        pytest.skip("not all tests of this file ran")

    assert MESSAGES.keys() - RECORD.seen == NOT_BROUGHT_ABOUT
