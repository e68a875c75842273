"""The Python client's rules for rooms, signals and presence, against a service that the test plays."""

import asyncio
import json
import math
import re
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import pytest

from clients.player import (
    UNREAD_MESSAGES,
    UNREAD_PRESENCE,
    UNREAD_SIGNALS,
    Frame,
    Kicked,
    Members,
    NotLetIn,
    Offline,
    Player,
    Presence,
    Refused,
    Signal,
    Timing,
)
from tests.clients.played_service import IMPATIENT, Service, playing, run
from tests.support.chalice_process import PROJECT
from tests.support.sockets import until

ROOM_MESSAGE = {
    "type": "message",
    "messageId": "02",
    "position": "05",
    "srcPlayerId": "2",
    "roomId": "lobby",
    "message": "hello",
}
ONLINE = {"2": 1790000000000}


def reply(frame: Frame) -> Frame | None:
    """Answer as a service with one room, the lobby, of players 1 and 2."""
    answers: dict[str, Frame | None] = {
        "join": {"type": "joined", "roomId": "lobby", "members": 2},
        "leave": {"type": "left", "roomId": "lobby"},
        "members": {"type": "members", "roomId": "lobby", "members": ["1", "2"], "online": ONLINE},
        "presence": {
            "type": "presence",
            "players": [
                {"playerId": "2", "online": True, "lastSeenAt": 1790000000000},
                {"playerId": "3", "online": False, "lastSeenAt": None},
            ],
        },
        "sendmessage": {"type": "ack", "messageId": "03", "roomId": "lobby"},
        "ping": {"type": "pong"},
        "signal": None,
    }
    answer = answers[frame["action"]]
    return None if answer is None else {**answer, "ackId": frame["ackId"]}


def refusal(frame: Frame, code: str, **others: Any) -> Frame:
    return {"type": "error", "code": code, "detail": "no", "ackId": frame["ackId"], **others}


def actions(service: Service) -> list[str]:
    return [frame["action"] for frame in service.frames]


def talking(
    talk: Callable[[Service, Player], Awaitable[None]], service: Service | None = None, **options: Any
) -> Service:
    """Run a talk of a player who is connected. No error reaches only the event loop's handler."""
    service = service or Service(answer=reply)

    async def play() -> None:
        options.setdefault("timing", IMPATIENT)
        async with playing(service), Player(service.url, "1", **options) as player:
            await talk(service, player)

    assert run(play()) == []
    return service


async def say(service: Service, *frames: Frame) -> None:
    for frame in frames:
        await service.connections[-1].send(json.dumps(frame))


async def heard(player: Player, service: Service) -> None:
    """Return when the player has read everything that the service has sent."""
    await player.ask({"action": "ping"})


# Rooms


def test_joins_leaves_and_queries_return_small_values() -> None:
    async def talk(service: Service, player: Player) -> None:
        assert await player.join("lobby") == 2
        assert await player.members("lobby") == Members("lobby", ["1", "2"], ONLINE)
        assert await player.presence(["2", "3"]) == [
            Presence("2", online=True, last_seen_at=1790000000000),
            Presence("3", online=False, last_seen_at=None),
        ]
        assert await player.leave("lobby") is None  # type: ignore[func-returns-value]

    service = talking(talk)

    for frame in service.frames:
        del frame["ackId"]
    assert service.frames == [
        {"action": "join", "roomId": "lobby"},
        {"action": "members", "roomId": "lobby"},
        {"action": "presence", "playerIds": ["2", "3"]},
        {"action": "leave", "roomId": "lobby"},
    ]


def test_a_send_to_a_room_is_retried_with_its_client_message_id() -> None:
    service = Service(answer=lambda frame: reply(frame) if len(service.connections) == 2 else None)

    async def talk(service: Service, player: Player) -> None:
        sending = asyncio.ensure_future(player.send_to_room("lobby", "hello"))
        await until(lambda: len(service.frames) == 1)
        await service.connections[0].close()
        assert (await sending)["roomId"] == "lobby"

    talking(talk, service)

    first, second = service.frames
    assert first["clientMessageId"] == second["clientMessageId"]
    assert (first["roomId"], first["message"]) == ("lobby", "hello")
    assert "destinationPlayerId" not in first


CALLS: dict[str, Callable[[Player], Awaitable[Any]]] = {
    "join": lambda player: player.join("lobby"),
    "leave": lambda player: player.leave("lobby"),
    "members": lambda player: player.members("lobby"),
    "presence": lambda player: player.presence(["2"]),
    "send": lambda player: player.send_to_room("lobby", "hello"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_rate_limited_call_is_retried(call: Callable[[Player], Awaitable[Any]]) -> None:
    def limited(frame: Frame) -> Frame | None:
        if len(service.frames) == 1:
            return refusal(frame, "rate_limited", retryable=True, retryAfterMs=1)
        return reply(frame)

    async def talk(service: Service, player: Player) -> None:
        await call(player)

    service = Service(answer=limited)
    talking(talk, service)

    assert len(service.frames) == 2


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_refused_call_raises_its_code(call: Callable[[Player], Awaitable[Any]]) -> None:
    async def talk(service: Service, player: Player) -> None:
        with pytest.raises(Refused) as refused:
            await call(player)
        assert refused.value.code == "not_a_member"

    talking(talk, Service(answer=lambda frame: refusal(frame, "not_a_member", retryable=False)))


def test_joins_sends_and_leaves_are_not_overtaken_by_later_ones() -> None:
    service = Service(answer=lambda frame: None)

    async def talk(service: Service, player: Player) -> None:
        calls = [player.join("lobby"), player.send_to_room("lobby", "hello"), player.leave("lobby")]
        calling = asyncio.gather(*calls)
        await until(lambda: len(service.frames) == 1)
        limited = {"retryable": True, "retryAfterMs": 200}
        await say(service, refusal(service.frames[0], "rate_limited", **limited))
        service.answer = reply
        await calling

    talking(talk, service)

    assert actions(service) == ["join", "join", "sendmessage", "leave"]


def test_a_query_does_not_wait_for_a_send() -> None:
    async def talk(service: Service, player: Player) -> None:
        sending = asyncio.ensure_future(player.send("2", "hello"))
        await until(lambda: len(service.frames) == 1)
        await player.members("lobby")
        await player.presence(["2"])
        sending.cancel()
        await asyncio.wait([sending])

    talking(talk, Service(answer=lambda frame: None if frame["action"] == "sendmessage" else reply(frame)))


def test_a_reconnection_does_not_join_again() -> None:
    async def talk(service: Service, player: Player) -> None:
        await player.join("lobby")
        await service.connections[0].close()
        await until(lambda: len(service.connections) == 2)
        await heard(player, service)

    assert actions(talking(talk)) == ["join", "ping"]


@pytest.mark.parametrize(
    "room_id", ["", "a" * 65, "a room", "room#1", "raum\u00fc", "lobby\n", None, 5, b"lobby"]
)
def test_a_room_that_cannot_exist_is_refused_before_anything_is_sent(room_id: Any) -> None:
    async def talk(service: Service, player: Player) -> None:
        calls = [
            player.join(room_id),
            player.leave(room_id),
            player.members(room_id),
            player.send_to_room(room_id, "hello"),
            player.signal_to_room(room_id, "typing"),
        ]
        for call in calls:
            with pytest.raises(Refused, match="invalid_frame: room_id must be 1 to 64 of"):
                await call

    assert talking(talk).frames == []


def test_every_character_of_a_player_id_is_allowed_in_a_room_id() -> None:
    async def talk(service: Service, player: Player) -> None:
        await player.join("aZ09._@|:+!'/=-" + "x" * 49)

    assert len(talking(talk).frames) == 1


@pytest.mark.parametrize("player_ids", [[], "2", 101 * ["2"]])
def test_a_presence_query_of_no_or_too_many_players_is_refused(player_ids: Any) -> None:
    async def talk(service: Service, player: Player) -> None:
        with pytest.raises(Refused, match="player_ids must be a list of 1 to 100 player ids"):
            await player.presence(player_ids)

    assert talking(talk).frames == []


# Messages


def test_a_rooms_message_has_a_room_id_and_moves_the_position_to_its_own() -> None:
    async def talk(service: Service, player: Player) -> None:
        direct = {"type": "message", "messageId": "03", "srcPlayerId": "2", "message": "hi"}
        await say(service, ROOM_MESSAGE, direct)
        assert [(await anext(player)).get("roomId") for _ in range(2)] == ["lobby", None]
        assert player.position == "05"
        await service.connections[0].close()
        await until(lambda: len(service.connections) == 2)

    assert talking(talk).query(1)["after"] == ["05"]


def test_a_repeated_room_message_is_dropped_and_still_moves_the_position() -> None:
    async def talk(service: Service, player: Player) -> None:
        await say(service, ROOM_MESSAGE, {**ROOM_MESSAGE, "position": "07"})
        await say(service, {**ROOM_MESSAGE, "messageId": "03", "position": "06", "message": "next"})
        assert [(await anext(player))["message"] for _ in range(2)] == ["hello", "next"]
        assert player.position == "07"

    talking(talk)


# Signals


def test_a_signal_is_sent_once_and_waits_for_no_reply() -> None:
    async def talk(service: Service, player: Player) -> None:
        assert await player.signal("2", "typing") is True
        assert await player.signal_to_room("lobby", "typing") is True
        await heard(player, service)

    service = talking(talk)

    sent = [{**frame, "ackId": None} for frame in service.frames[:-1]]
    assert sent == [
        {"action": "signal", "destinationPlayerId": "2", "data": "typing", "ackId": None},
        {"action": "signal", "roomId": "lobby", "data": "typing", "ackId": None},
    ]


def test_a_signal_while_the_player_reconnects_is_not_sent_and_not_kept() -> None:
    async def talk(service: Service, player: Player) -> None:
        await service.connections[0].close()
        await until(lambda: player._socket is None)
        assert await player.signal("2", "typing") is False
        await until(lambda: len(service.connections) == 2)
        await heard(player, service)

    assert actions(talking(talk)) == ["ping"]


def test_a_signal_of_a_closed_player_raises_offline() -> None:
    async def talk(service: Service, player: Player) -> None:
        await player.close()
        with pytest.raises(Offline):
            await player.signal("2", "typing")

    talking(talk)


def test_a_refused_signal_is_told_to_the_observer_with_its_ack_id() -> None:
    told: list[tuple[str, Any]] = []

    async def talk(service: Service, player: Player) -> None:
        await player.signal("2", "typing")
        await until(lambda: "refused" in [event for event, _ in told])
        assert len(service.connections) == 1

    talking(
        talk,
        Service(answer=lambda frame: refusal(frame, "not_a_member", retryable=False)),
        observe=lambda event, about: told.append((event, about)),
    )

    [sent] = [about for event, about in told if event == "sent"]
    [refused] = [about for event, about in told if event == "refused"]
    assert (refused["code"], refused["ackId"]) == ("not_a_member", sent["ackId"])


def test_a_refused_signal_answers_no_other_frame() -> None:
    def answer(frame: Frame) -> Frame | None:
        if frame["action"] == "signal":
            return refusal(frame, "rate_limited", retryable=True, retryAfterMs=60_000)
        return None

    async def talk(service: Service, player: Player) -> None:
        asking = asyncio.ensure_future(player.ask({"action": "ping"}))
        await until(lambda: len(service.frames) == 1)
        await player.signal("2", "typing")
        await until(lambda: len(service.frames) == 2)
        await asyncio.sleep(0.1)
        assert not asking.done()
        await say(service, {"type": "pong", "ackId": service.frames[0]["ackId"]})
        assert (await asking)["type"] == "pong"

    talking(talk, Service(answer=answer))


@pytest.mark.parametrize("data", ["", "x" * 4097, "\u00e9" * 2049, None, 5, b"x", {"typing": True}])
def test_data_that_no_signal_can_have_is_refused(data: Any) -> None:
    async def talk(service: Service, player: Player) -> None:
        for call in (player.signal("2", data), player.signal_to_room("lobby", data)):
            with pytest.raises(Refused, match="invalid_frame: data must be a string of 1 to 4096 bytes"):
                await call

    assert talking(talk).frames == []


def test_the_largest_data_and_a_lone_surrogate_are_told_apart() -> None:
    async def talk(service: Service, player: Player) -> None:
        assert await player.signal("2", "\u00e9" * 2048)
        with pytest.raises(Refused, match="a lone surrogate"):
            await player.signal("2", "\ud800")

    talking(talk)


@pytest.mark.parametrize("to", ["", None, 5])
def test_a_signal_to_nobody_is_refused(to: Any) -> None:
    async def talk(service: Service, player: Player) -> None:
        with pytest.raises(Refused, match="to must be a player's id; signal_to_room signals a room"):
            await player.signal(to, "typing")

    assert talking(talk).frames == []


def signal_frame(number: int) -> Frame:
    return {"type": "signal", "data": str(number), "srcPlayerId": "2"}


def test_signals_have_an_iteration_of_their_own() -> None:
    async def talk(service: Service, player: Player) -> None:
        await say(service, signal_frame(1), {**signal_frame(2), "roomId": "lobby"}, ROOM_MESSAGE)
        assert (await anext(player))["message"] == "hello"
        signals = player.signals()
        assert [await anext(signals) for _ in range(2)] == [Signal("1", "2"), Signal("2", "2", "lobby")]
        assert player.position == "05"

    talking(talk)


def test_the_oldest_unread_signals_are_dropped_and_no_message_is() -> None:
    async def talk(service: Service, player: Player) -> None:
        for number in range(3 * UNREAD_SIGNALS):
            await say(service, signal_frame(number))
        await say(service, ROOM_MESSAGE)
        assert (await anext(player))["message"] == "hello"
        read = [(await anext(player.signals())).data for _ in range(UNREAD_SIGNALS)]
        assert read == [str(number) for number in range(2 * UNREAD_SIGNALS, 3 * UNREAD_SIGNALS)]
        assert len(service.connections) == 1

    talking(talk)


def test_iterations_of_signals_and_presence_end_when_the_player_is_closed() -> None:
    async def talk(service: Service, player: Player) -> None:
        reading: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(anext(iteration, None))
            for iteration in (player.signals(), player.presence_events())
        ]
        await asyncio.sleep(0)
        await player.close()
        assert await asyncio.gather(*reading) == [None, None]

    talking(talk)


def test_signals_arrive_while_too_many_messages_are_unread() -> None:
    async def talk(service: Service, player: Player) -> None:
        await heard(player, service)  # The connection stays open, because it has been used to ask.
        for number in range(UNREAD_MESSAGES + 1):
            await say(service, {**ROOM_MESSAGE, "messageId": f"02-{number:05}"})
        await say(service, signal_frame(1))
        assert (await anext(player.signals())).data == "1"

    talking(talk)


def test_the_documented_receipts_name_each_message_to_its_sender() -> None:
    page = (PROJECT / "docs" / "clients.md").read_text(encoding="utf-8")
    [code] = re.findall(r"\*\*Receipts\.\*\*.*?\n\n((?:    .*\n)+)", page)
    scope: dict[str, Any] = {"json": json, "handle": lambda message: None}
    exec(f"async def send_receipts(player):\n{code}", scope)

    async def talk(service: Service, player: Player) -> None:
        sending = asyncio.ensure_future(scope["send_receipts"](player))
        await say(service, ROOM_MESSAGE, {**ROOM_MESSAGE, "messageId": "03", "srcPlayerId": "#backend"})
        await say(service, {**ROOM_MESSAGE, "messageId": "04", "srcPlayerId": "3"})
        await until(lambda: len(service.frames) == 2)
        await player.close()
        await sending

    receipts = [(frame["destinationPlayerId"], json.loads(frame["data"])) for frame in talking(talk).frames]
    assert receipts == [("2", {"received": ["02"]}), ("3", {"received": ["04"]})]


def test_endless_timing_reports_no_member_as_offline() -> None:
    async def talk(service: Service, player: Player) -> None:
        await say(service, presence_frame(one("2", False)), presence_frame(one("3", True)))
        assert await anext(player.presence_events()) == event("3", True)

    talking(talk, timing=Timing(offline=math.inf))


# Presence


def presence_frame(*players: Frame, room_id: str = "lobby") -> Frame:
    said = {"member": True, "lastSeenAt": 1790000000000}
    return {"type": "presence", "roomId": room_id, "players": [{**said, **player} for player in players]}


def one(player_id: str, online: bool, **others: Any) -> Frame:
    return {"playerId": player_id, "online": online, **others}


def event(player_id: str, online: bool, member: bool = True, room_id: str = "lobby") -> Presence:
    return Presence(player_id, online, 1790000000000, room_id, member)


SOON = Timing(retry=0.01, longest_retry=0.01, offline=0.2)


def test_presence_events_name_the_player_and_the_room() -> None:
    async def talk(service: Service, player: Player) -> None:
        await say(service, presence_frame(one("2", True), one("3", False)))
        events = player.presence_events()
        assert [await anext(events) for _ in range(2)] == [event("2", True), event("3", False)]

    talking(talk, timing=SOON)


def test_a_member_who_is_back_in_time_was_never_offline() -> None:
    async def talk(service: Service, player: Player) -> None:
        await say(service, presence_frame(one("2", False)), presence_frame(one("2", False), room_id="chess"))
        await say(service, presence_frame(one("2", True)))
        events = player.presence_events()
        assert await anext(events) == event("2", True)
        await asyncio.sleep(3 * SOON.offline)
        await say(service, presence_frame(one("3", True)))
        assert await anext(events) == event("3", True)

    talking(talk, timing=SOON)


def test_a_member_is_offline_after_the_delay_however_often_that_is_said() -> None:
    async def talk(service: Service, player: Player) -> None:
        began = time.monotonic()
        await say(service, *[presence_frame(one("2", False)) for _ in range(5)])
        await say(service, presence_frame(one("3", True)))
        events = player.presence_events()
        assert [await anext(events) for _ in range(2)] == [event("3", True), event("2", False)]
        assert time.monotonic() - began >= SOON.offline
        await asyncio.sleep(2 * SOON.offline)
        assert list(player._presence.waiting) == []

    talking(talk, timing=SOON)


def test_a_member_who_leaves_is_reported_at_once() -> None:
    async def talk(service: Service, player: Player) -> None:
        await say(service, presence_frame(one("2", False)), presence_frame(one("2", False, member=False)))
        assert await anext(player.presence_events()) == event("2", False, member=False)
        await heard(player, service)
        assert player._presence._delayed == {}

    talking(talk, timing=Timing(offline=1000))


def test_closing_drops_the_delayed_events() -> None:
    async def talk(service: Service, player: Player) -> None:
        await say(service, presence_frame(one("2", False)))
        await heard(player, service)
        await player.close()
        await asyncio.sleep(2 * SOON.offline)
        assert [each async for each in player.presence_events()] == []

    talking(talk, timing=SOON)


def test_the_oldest_unread_presence_events_are_dropped() -> None:
    async def talk(service: Service, player: Player) -> None:
        ids = [str(number) for number in range(UNREAD_PRESENCE + 10)]
        for player_id in ids:
            await say(service, presence_frame(one(player_id, True)))
        await heard(player, service)
        assert await anext(player.presence_events()) == event("10", True)

    talking(talk)


def test_a_reconnection_reports_the_members_of_rooms_that_were_joined_with_presence() -> None:
    async def talk(service: Service, player: Player) -> None:
        await player.join("chess")
        await player.join("left", presence=True)
        await player.leave("left")
        await player.join("lobby", presence=True)
        await say(service, presence_frame(one("3", False)))
        await heard(player, service)
        await service.connections[0].close()
        events = player.presence_events()
        assert await anext(events) == Members("lobby", ["1", "2"], ONLINE)
        assert player._presence._delayed == {}
        refreshing = player._refreshing
        assert refreshing is not None
        await refreshing

    service = talking(talk, timing=Timing(retry=0.01, longest_retry=0.01, offline=1000))

    assert service.frames[3]["presence"] is True
    assert [frame["roomId"] for frame in service.frames if frame["action"] == "members"] == ["lobby"]


@pytest.mark.parametrize("presence", [True, False, None])
def test_a_join_starts_ends_or_keeps_presence(presence: bool | None) -> None:
    async def talk(service: Service, player: Player) -> None:
        await player.join("kept", presence=True)
        await player.join("kept", presence=presence)
        assert player._watched_rooms == (set() if presence is False else {"kept"})

    [_, frame] = talking(talk).frames
    assert frame.get("presence") is presence


def test_a_room_that_refuses_its_members_is_not_asked_again() -> None:
    def answer(frame: Frame) -> Frame | None:
        if frame["action"] == "members":
            return refusal(frame, "not_a_member", retryable=False)
        return reply(frame)

    async def talk(service: Service, player: Player) -> None:
        await player.join("lobby", presence=True)
        for number in (1, 2):
            await service.connections[-1].close()
            await until(lambda n=number: len(service.connections) == n + 1)  # type: ignore[misc]
            await until(lambda: player._is_greeted)
            await heard(player, service)

    assert actions(talking(talk, Service(answer=answer))).count("members") == 1


def test_a_members_reply_without_online_says_nothing_of_who_is_online() -> None:
    def answer(frame: Frame) -> Frame | None:
        return {"type": "members", "roomId": "lobby", "members": ["1"], "ackId": frame["ackId"]}

    async def talk(service: Service, player: Player) -> None:
        assert await player.members("lobby") == Members("lobby", ["1"], None)

    talking(talk, Service(answer=answer))


# Ended by the backend


def test_a_kicked_player_ends_with_the_reason_and_does_not_reconnect() -> None:
    async def talk(service: Service, player: Player) -> None:
        await say(service, ROOM_MESSAGE, {"type": "closing", "reason": "kicked"})
        assert (await anext(player))["message"] == "hello"
        ended: list[Awaitable[Any]] = [
            anext(player),
            anext(player.signals()),
            anext(player.presence_events()),
            player.send("2", "hello"),
            player.signal("2", "typing"),
        ]
        for call in ended:
            with pytest.raises(Kicked) as kicked:
                await call
            assert (kicked.value.reason, kicked.value.until) == ("kicked", None)
        await asyncio.sleep(0.5)
        assert len(service.connections) == 1

        await player.connect()
        assert len(service.connections) == 2
        await heard(player, service)

    talking(talk)


def test_a_player_who_connects_again_waits_until_it_can_return() -> None:
    waits: list[float] = []

    def observe(event: str, about: Any) -> None:
        if event == "waiting":
            waits.append(about)

    async def talk(service: Service, player: Player) -> None:
        until_ms = int(1000 * (time.time() + 1))
        await say(service, {"type": "closing", "reason": "banned", "until": until_ms})
        with pytest.raises(Kicked, match="banned") as kicked:
            await anext(player)
        assert kicked.value.until == until_ms
        await player.connect()
        assert time.time() * 1000 >= until_ms - 50
        assert len(service.connections) == 2
        assert 0 < waits[0] <= 1

    talking(talk, observe=observe)


def test_closing_ends_the_wait_of_a_banned_player() -> None:
    async def talk(service: Service, player: Player) -> None:
        await say(service, {"type": "closing", "reason": "banned", "until": 10**15})
        with pytest.raises(Kicked):
            await anext(player)
        connecting = asyncio.ensure_future(player.connect())
        await asyncio.sleep(0.1)
        await player.close()
        with pytest.raises(Offline):
            await connecting
        assert len(service.connections) == 1

    talking(talk)


def test_a_banned_player_who_missed_the_reason_is_refused_once() -> None:
    async def talk(service: Service, player: Player) -> None:
        service.statuses.append(HTTPStatus.FORBIDDEN)
        await service.connections[0].close()
        with pytest.raises(NotLetIn, match="403"):
            await anext(player)

    assert len(talking(talk).requests) == 2


# Malformed frames


MALFORMED = [
    {**ROOM_MESSAGE, "position": 5},
    {**ROOM_MESSAGE, "position": ""},
    {**ROOM_MESSAGE, "roomId": 5},
    {"type": "joined", "members": "2"},
    {"type": "signal", "data": "x"},
    {"type": "signal", "data": 5, "srcPlayerId": "2"},
    {"type": "signal", "data": "x", "srcPlayerId": "2", "roomId": []},
    {"type": "members", "members": []},
    {"type": "members", "roomId": "lobby", "members": [5]},
    {"type": "members", "roomId": "lobby", "members": [], "online": []},
    {"type": "presence"},
    {"type": "presence", "players": [5]},
    {"type": "presence", "players": [{"playerId": "2"}]},
    {"type": "presence", "players": [{"playerId": "2", "online": True, "lastSeenAt": "now"}]},
    {"type": "closing"},
    {"type": "closing", "reason": "kicked", "until": "tomorrow"},
]


@pytest.mark.parametrize("frame", MALFORMED, ids=json.dumps)
def test_a_malformed_frame_is_a_lost_connection(frame: Frame) -> None:
    async def talk(service: Service, player: Player) -> None:
        await say(service, frame)
        await until(lambda: len(service.connections) == 2)
        await heard(player, service)

    talking(talk)
