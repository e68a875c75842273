"""Bad input with its documented answers. Texts that must never be repeated contain "canary"."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from chalicelib.core.service_frames import Ack
from tests.support.stream_records import inserted
from tests.support.tokens import FORGED, raw, token

MAX_MESSAGE_BYTES = 2048
"""The message limit that the rows assume."""


@dataclass(frozen=True, slots=True)
class Connect:
    """A handshake as player 1. `query` is the raw query; without one the handshake has a valid token."""

    name: str
    status: int
    query: Callable[[], str] = lambda: f"token={token()}"
    headers: list[tuple[str, Callable[[], str]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame on a valid connection of player 1. If `code` is None, the reply is a `pong` or an `ack`."""

    name: str
    body: str
    code: str | None
    stores: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """A stream record. `noted` says whether it is logged as unreadable."""

    name: str
    record: Any
    noted: bool


def _says(name: str, status: int, query: str) -> Connect:
    return Connect(name, status, lambda: f"token={token()}&{query}")


def _bears(name: str, status: int, *headers: tuple[str, Callable[[], str]]) -> Connect:
    return Connect(name, status, lambda: "", list(headers))


CONNECTS = [
    Connect("no query", 401, lambda: ""),
    Connect("an empty token", 401, lambda: "token="),
    Connect("no token", 401, lambda: "playerId=1"),
    *(
        Connect(f"token: {name}", 401, lambda forge=forge: f"token={quote(forge(), errors='replace')}")  # type: ignore[misc]
        for name, forge in FORGED.items()
        if name not in ("too long",)
    ),
    Connect("token: expired", 401, lambda: f"token={token(exp=1)}"),
    Connect("token: without exp", 401, lambda: f"token={token(exp=None)}"),
    Connect("token: for another audience", 401, lambda: f"token={token(aud='canary')}"),
    Connect("token: from another issuer", 401, lambda: f"token={token(iss='canary')}"),
    Connect("token: jku of a stranger", 401, lambda: f"token={raw({'alg': 'RS256', 'jku': 'http://x'}, {})}"),
    Connect("token: player with a key separator", 401, lambda: f"token={token(sub='canary#1')}"),
    Connect("token: player in look-alike letters", 401, lambda: "token=" + token(sub="\u0430\u0435")),
    Connect("token twice", 400, lambda: f"token={token()}&token={token(sub='2')}"),
    _says("somebody else", 403, "playerId=2"),
    _says("playerId twice", 400, "playerId=1&playerId=1"),
    _says("playerId empty", 400, "playerId="),
    _says("playerId with NUL", 400, "playerId=1%00canary"),
    _says("playerId with bidi", 400, "playerId=%E2%80%AE1canary"),
    _says("playerId with a lone surrogate", 400, "playerId=%ED%A0%801canary"),
    _says("playerId with a key separator", 400, "playerId=1%23canary"),
    _says("playerId with a new line", 400, "playerId=1%0Acanary"),
    _says("playerId in look-alike letters", 400, "playerId=%D0%B0"),
    _says("playerId too long", 400, f"playerId={'1' * 129}"),
    _says("after is no position", 400, "after=canary"),
    _says("after is no UUIDv7", 400, "after=01a20b18-76be-43f4-9340-55bd1f3d9f6e"),
    _says("after twice", 400, "after=0&after=0"),
    _says("data without a name", 400, "=canary"),
    _says("data twice", 400, "canary=1&canary=2"),
    _says("too many pairs of data", 400, "&".join(f"canary{n}=" for n in range(17))),
    _says("too many bytes of data", 400, f"x={'canary' * 200}"),
    _bears("authorization of another scheme", 401, ("Authorization", lambda: "Basic Y2FuYXJ5")),
    _bears("authorization without a scheme", 401, ("Authorization", token)),
    _bears(
        "two authorizations",
        401,
        ("Authorization", lambda: f"Bearer {token()}"),
        ("authorization", lambda: f"Bearer {token()}"),
    ),
    _bears("subprotocol: the token alone", 400, ("Sec-WebSocket-Protocol", lambda: f"bearer.{token()}")),
    _bears(
        "subprotocol: two tokens", 401, ("Sec-WebSocket-Protocol", lambda: f"a, bearer.{token()}, bearer.x")
    ),
    _bears(
        "subprotocol: a bad token", 401, ("Sec-WebSocket-Protocol", lambda: f"a, bearer.{token('x' * 40)}")
    ),
    Connect("a foreign origin", 403, headers=[("Origin", lambda: "https://canary.example")]),
    Connect("the origin null", 403, headers=[("Origin", lambda: "null")]),
    Connect("an origin that begins like ours", 403, headers=[("Origin", lambda: "https://game.example.x")]),
    Connect("our origin over http", 403, headers=[("Origin", lambda: "http://game.example")]),
]


def _ping(value: str) -> str:
    """Return a frame with this JSON as a value that can be any JSON and is ignored."""
    return f'{{"action": "ping", "routeKey": {value}}}'


PARSED = {
    "null": "null",
    "true": "true",
    "false": "false",
    "an integer": "-12",
    "a large integer": "1" + "0" * 400,
    "a negative zero": "-0",
    "a fraction": "0.5",
    "an exponent": "1E+2",
    "an exponent without a sign": "1e2",
    "a number that rounds to nothing": "1e-9999",
    "an empty string": '""',
    "every short escape": r'"\"\\\/\b\f\n\r\t"',
    "an escape by number": r'"\u00e9\u0000"',
    "a pair of surrogates": r'"\ud83d\ude00"',
    "emoji": '"\U0001f600"',
    "a noncharacter": '"\uffff"',
    "DEL": '"\x7f"',
    "line separators": '"\u2028\u2029"',
    "an empty array": "[]",
    "an array": '[1, "two", null, [3]]',
    "an empty object": "{}",
    "an object": '{"a": {"b": []}}',
    "an empty key": '{"": 0}',
    "a key by escapes": r'{"\u0061": 0}',
    "white space": " \t\n\r 1 \t\n\r ",
    "fifty levels": "[" * 50 + "]" * 50,
}

NOT_PARSED = {
    "nothing": "",
    "NaN": "NaN",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "a plus": "+1",
    "a leading zero": "01",
    "a bare point": ".5",
    "a trailing point": "5.",
    "an exponent of nothing": "1e",
    "hexadecimal": "0x1F",
    "two signs": "--1",
    "other digits": "\u0661",
    "underscores": "1_000",
    "another case": "True",
    "a bare word": "canary",
    "single quotes": "'canary'",
    "an open string": '"canary',
    "a raw new line in a string": '"canary\n"',
    "a raw tab in a string": '"canary\t"',
    "a raw NUL in a string": '"canary\0"',
    "an unknown escape": r'"\x41"',
    "half an escape": r'"\u00e"',
    "an escape of the end": '"\\',
    "a trailing comma in an array": "[1,]",
    "a leading comma": "[,1]",
    "a missing comma": "[1 2]",
    "an open array": "[1",
    "the wrong bracket": "[1}",
    "a trailing comma in an object": '{"a": 1,}',
    "a key without quotes": "{a: 1}",
    "a key that is a number": "{1: 1}",
    "a missing colon": '{"a" 1}',
    "a missing value": '{"a":}',
    "a duplicate key": '{"a": 1, "a": 2}',
    "a duplicate key by escapes": r'{"a": 1, "\u0061": 2}',
    "a comment": "1 /* canary */",
    "a form feed as white space": "\f1",
    "a no-break space as white space": "\u00a01",
    "a byte order mark": "\ufeff1",
    "a hundred thousand levels": "[" * 25_000,
    "a lone surrogate as a key": r'{"\ud800": 1}',
}

LEFT_OPEN = {
    "a number that is too large for a float": ("1e9999", None),
    "a lone surrogate in a string": (r'"\ud800"', None),
    "surrogates the wrong way round": (r'"\ude00\ud83d"', None),
    "an integer of five thousand digits": ("9" * 5000, "invalid_json"),
}
"""Cases that the JSON standard leaves open."""


def _send(**keys: Any) -> str:
    return json.dumps({"action": "sendmessage", "message": "canary", "destinationPlayerId": "2"} | keys)


def _send_to_room(**keys: Any) -> str:
    return json.dumps({"action": "sendmessage", "message": "canary", "roomId": "lobby"} | keys)


WRONG_ROOM_IDS: dict[str, Any] = {
    "a number": 2,
    "a large number": 10**30,
    "a fraction": 0.5,
    "true": True,
    "false": False,
    "an array": ["canary"],
    "an object": {"canary": 1},
    "empty": "",
    "a space": " ",
    "with a space at the end": "lobby ",
    "too long": "1" * 65,
    "as long as a player id": "1" * 128,
    "with a key separator": "canary#1",
    "in the words of a key": "room#canary",
    "a pattern": "canary*",
    "with NUL": "1\0canary",
    "with a new line": "canary\n",
    "with bidi": "\u202e1canary",
    "with a lone surrogate": "\ud800",
    "in look-alike letters": "\u0430",
    "in full-width letters": "\uff11",
    "emoji": "\U0001f600",
}
"""JSON values that aren't valid room ids. null is one only where `roomId` is required."""


def _rooms() -> Iterator[Frame]:
    for name, value in WRONG_ROOM_IDS.items():
        yield Frame(f"sendmessage to a room that is {name}", _send_to_room(roomId=value), "invalid_frame")
    for action in ("join", "leave", "members"):
        for name, value in {**WRONG_ROOM_IDS, "null": None}.items():
            yield Frame(
                f"{action} a room that is {name}",
                json.dumps({"action": action, "roomId": value}),
                "invalid_frame",
            )
        frame = {"action": action, "roomId": "lobby"}
        yield Frame(f"{action} without a room", json.dumps({"action": action}), "invalid_frame")
        yield Frame(
            f"{action} with a recipient", json.dumps(frame | {"destinationPlayerId": "2"}), "invalid_frame"
        )
        yield Frame(f"{action} with a player", json.dumps(frame | {"playerId": "1"}), "invalid_frame")
        yield Frame(f"{action} with members", json.dumps(frame | {"members": ["canary"]}), "invalid_frame")
        yield Frame(
            f"{action} with the room in another case", json.dumps(frame | {"RoomId": "a"}), "invalid_frame"
        )
        yield Frame(
            f"{action} with an ackId that is too long",
            json.dumps(frame | {"ackId": "1" * 65}),
            "invalid_frame",
        )
        yield Frame(
            f"{action} in another case", json.dumps(frame | {"action": action.title()}), "unknown_action"
        )
        yield Frame(
            f"{action} with the room twice",
            f'{{"action": "{action}", "roomId": "lobby", "roomId": "canary"}}',
            "invalid_json",
        )
    yield Frame("members of a room of others", '{"action": "members", "roomId": "lobby"}', "not_a_member")
    yield Frame("a room message of no member", _send_to_room(), "not_a_member")
    yield Frame(
        "a room message of no member, and no recipient",
        _send_to_room(destinationPlayerId=None),
        "not_a_member",
    )
    yield Frame("a room and a recipient", _send_to_room(destinationPlayerId="2"), "invalid_frame")
    yield Frame("a room and an empty recipient", _send_to_room(destinationPlayerId=""), "invalid_frame")
    yield Frame("no room and no recipient", _send_to_room(roomId=None), "invalid_frame")
    yield Frame(
        "neither room nor recipient, both null", _send(roomId=None, destinationPlayerId=None), "invalid_frame"
    )
    yield Frame("a recipient, and a room that is null", _send(roomId=None), None, 1)
    yield Frame(
        "a room message without a text", '{"action": "sendmessage", "roomId": "lobby"}', "invalid_frame"
    )
    yield Frame("a room message in an empty text", _send_to_room(message=""), "invalid_frame")
    yield Frame("a room message of another player", _send_to_room(playerId="2"), "forbidden")
    yield Frame("a room message with a position", _send_to_room(position="0"), "invalid_frame")
    yield Frame("a room message with the id of another", _send_to_room(roomMessageId="0"), "invalid_frame")
    yield Frame("a room message over a player's limit", _send_to_room(message="a" * 9000), "too_large")


WRONG_PLAYER_IDS = {
    name: value
    for name, value in WRONG_ROOM_IDS.items()
    if name not in ("too long", "as long as a player id")
} | {"too long": "1" * 129}

WRONG_DATA: dict[str, Any] = {
    "null": None,
    "a number": 1,
    "a fraction": 0.5,
    "true": True,
    "an array": ["canary"],
    "an object": {"canary": 1},
    "of no bytes": "",
    "of 4,097 bytes": "a" * 4097,
    "of 4,097 bytes in emoji": "\U0001f600" * 1024 + "a",
    "with a lone surrogate": "\ud800canary",
}


def _signals() -> Iterator[Frame]:
    def signal(**keys: Any) -> str:
        return json.dumps({"action": "signal", "data": "canary"} | keys)

    for name, value in WRONG_DATA.items():
        for destination in ({"destinationPlayerId": "2"}, {"roomId": "lobby"}):
            yield Frame(
                f"signal to a {next(iter(destination))} with data that is {name}",
                signal(data=value, **destination),
                "invalid_frame",
            )
    for name, value in WRONG_PLAYER_IDS.items():
        yield Frame(f"signal to a player that is {name}", signal(destinationPlayerId=value), "invalid_frame")
    for name, value in WRONG_ROOM_IDS.items():
        yield Frame(f"signal to a room that is {name}", signal(roomId=value), "invalid_frame")
    yield Frame("a signal to nobody", signal(), "invalid_frame")
    yield Frame("a signal to two times null", signal(destinationPlayerId=None, roomId=None), "invalid_frame")
    yield Frame(
        "a signal to a player and a room", signal(destinationPlayerId="2", roomId="lobby"), "invalid_frame"
    )
    yield Frame("a signal to several players", signal(destinationPlayerId=["2", "3"]), "invalid_frame")
    yield Frame("a signal without data", '{"action": "signal", "destinationPlayerId": "2"}', "invalid_frame")
    for key in ("message", "playerId", "srcPlayerId", "clientMessageId", "messageId", "canary"):
        yield Frame(
            f"a signal with the key {key}",
            signal(destinationPlayerId="2", **{key: "1"}),
            "invalid_frame",
        )
    yield Frame(
        "a signal with an ackId that is too long",
        signal(destinationPlayerId="2", ackId="1" * 65),
        "invalid_frame",
    )
    yield Frame(
        "a signal in another case", signal(action="Signal", destinationPlayerId="2"), "unknown_action"
    )
    yield Frame(
        "a signal with the data twice",
        '{"action": "signal", "destinationPlayerId": "2", "data": "a", "data": "canary"}',
        "invalid_json",
    )
    yield Frame("a signal to a room of others", signal(roomId="lobby"), "not_a_member")


WRONG_LISTS: dict[str, Any] = {
    "null": None,
    "a number": 1,
    "true": True,
    "one player": "2",
    "an object": {"2": True},
    "empty": [],
    "too long": [str(player) for player in range(101)],
    "too long with one player": ["2"] * 101,
    "nested": [["2"]],
    "with null": ["2", None],
}


def _presence() -> Iterator[Frame]:
    def ask(**keys: Any) -> str:
        return json.dumps({"action": "presence", "playerIds": ["2"]} | keys)

    for name, value in WRONG_LISTS.items():
        yield Frame(f"presence of a list that is {name}", ask(playerIds=value), "invalid_frame")
    for name, value in WRONG_PLAYER_IDS.items():
        yield Frame(f"presence of a player that is {name}", ask(playerIds=["2", value]), "invalid_frame")
    yield Frame("presence of nobody", '{"action": "presence"}', "invalid_frame")
    for key in ("roomId", "playerId", "destinationPlayerId", "members", "canary"):
        yield Frame(f"presence with the key {key}", ask(**{key: "1"}), "invalid_frame")
    yield Frame("presence with an empty ackId", ask(ackId=""), "invalid_frame")
    yield Frame("presence in another case", ask(action="PRESENCE"), "unknown_action")
    for name, value in {
        "zero": 0,
        "one": 1,
        "a text": "true",
        "an empty text": "",
        "an array": [True],
        "an object": {},
    }.items():
        yield Frame(
            f"join with presence that is {name}",
            json.dumps({"action": "join", "roomId": "lobby", "presence": value}),
            "invalid_frame",
        )
    for action in ("leave", "members"):
        yield Frame(
            f"{action} with presence",
            json.dumps({"action": action, "roomId": "lobby", "presence": True}),
            "invalid_frame",
        )


def _of_size(size: int, character: str) -> str:
    """Return a text of these characters, padded with `a`, whose frame has at most this many bytes."""
    ack = Ack(
        message_id="0" * 36,
        message="",
        src_player_id="1",
        destination_player_id="2",
        sent_at=1790000000000,
        duplicate=True,
    )
    room = size - len(ack.to_json().encode())
    each = len(json.dumps(character, ensure_ascii=False).encode()) - 2
    return character * (room // each) + "a" * (room % each)


def _sizes() -> Iterator[Frame]:
    for kind, character in (("ASCII", "a"), ("emoji", "\U0001f600"), ("escapes", "\x01"), ("quotes", '"')):
        for about, extra, code in (("under", -1, None), ("at", 0, None), ("over", 1, "too_large")):
            message = _of_size(MAX_MESSAGE_BYTES + extra, character)
            yield Frame(f"{kind} one byte {about} the limit", _send(message=message), code, int(code is None))


FRAMES = [
    *(Frame(f"parsed: {name}", _ping(value), None) for name, value in PARSED.items()),
    *(Frame(f"not parsed: {name}", _ping(value), "invalid_json") for name, value in NOT_PARSED.items()),
    *(Frame(f"left open: {name}", _ping(value), code) for name, (value, code) in LEFT_OPEN.items()),
    Frame("white space alone", "  ", "invalid_json"),
    Frame("a text", "canary", "invalid_json"),
    Frame("a JSON string", '"canary"', "invalid_json"),
    Frame("a number", "1", "invalid_json"),
    Frame("null", "null", "invalid_json"),
    Frame("an array", "[]", "invalid_json"),
    Frame("an array with a frame", '[{"action": "ping"}]', "invalid_json"),
    Frame("brackets without end", "[" * 30_000, "invalid_json"),
    Frame("two frames", '{"action": "ping"}{"action": "ping"}', "invalid_json"),
    Frame("something after the frame", '{"action": "ping"} canary', "invalid_json"),
    Frame("the action twice", '{"action": "ping", "action": "ping"}', "invalid_json"),
    Frame("an empty object", "{}", "unknown_action"),
    Frame("an action that is null", '{"action": null}', "unknown_action"),
    Frame("an action that is an array", '{"action": ["ping"]}', "unknown_action"),
    Frame("an action in another case", '{"action": "Ping"}', "unknown_action"),
    Frame("an action with a space", '{"action": "ping "}', "unknown_action"),
    Frame("the action $disconnect", '{"action": "$disconnect"}', "unknown_action"),
    Frame("the action $connect", '{"action": "$connect", "playerId": "2"}', "unknown_action"),
    Frame("the action $default", '{"action": "$default"}', "unknown_action"),
    Frame("an action in the prototype's words", '{"action": "__class__"}', "unknown_action"),
    Frame("an action unheard of", '{"action": "canary"}', "unknown_action"),
    Frame("a key that is unknown", _send(canary="canary"), "invalid_frame"),
    Frame("a key in another case", _send(destinationplayerid="2"), "invalid_frame"),
    Frame("a key by its name in the code", _send(destination_player_id="2"), "invalid_frame"),
    Frame("an id for the message", _send(messageId="01a20b18-76be-73f4-9340-55bd1f3d9f6e"), "invalid_frame"),
    Frame("a sender", _send(srcPlayerId="2"), "invalid_frame"),
    Frame("an expiry", _send(expiresAt=9999999999), "invalid_frame"),
    Frame("a time", _send(sentAt=1), "invalid_frame"),
    Frame("a type", _send(type="message"), "invalid_frame"),
    Frame("marked as replayed", _send(replayed=True), "invalid_frame"),
    Frame("marked as a marker", _send(replayTo="canary"), "invalid_frame"),
    Frame("a connection's id", _send(connectionId="canary"), "invalid_frame"),
    Frame("no recipient", '{"action": "sendmessage", "message": "canary"}', "invalid_frame"),
    Frame("no message", '{"action": "sendmessage", "destinationPlayerId": "2"}', "invalid_frame"),
    Frame("an empty message", _send(message=""), "invalid_frame"),
    Frame("a message that is null", _send(message=None), "invalid_frame"),
    Frame("a message that is a number", _send(message=1), "invalid_frame"),
    Frame("a message that is an object", _send(message={"canary": 1}), "invalid_frame"),
    Frame("a message with a lone surrogate", _send(message="canary\ud800"), "invalid_frame"),
    Frame("a recipient that is a number", _send(destinationPlayerId=2), "invalid_frame"),
    Frame("a recipient that is several", _send(destinationPlayerId=["2"]), "invalid_frame"),
    Frame("an empty recipient", _send(destinationPlayerId=""), "invalid_frame"),
    Frame("a recipient that is too long", _send(destinationPlayerId="2" * 129), "invalid_frame"),
    Frame("a recipient with a key separator", _send(destinationPlayerId="2#canary"), "invalid_frame"),
    Frame("a recipient with NUL", _send(destinationPlayerId="2\0canary"), "invalid_frame"),
    Frame("a recipient with bidi", _send(destinationPlayerId="\u202e2canary"), "invalid_frame"),
    Frame("a recipient with a lone surrogate", _send(destinationPlayerId="2\ud800"), "invalid_frame"),
    Frame("a recipient with a new line", _send(destinationPlayerId="2\n"), "invalid_frame"),
    Frame("a recipient in look-alike letters", _send(destinationPlayerId="\u0430"), "invalid_frame"),
    Frame("an empty clientMessageId", _send(clientMessageId=""), "invalid_frame"),
    Frame("a clientMessageId that is too long", _send(clientMessageId="canary" * 11), "invalid_frame"),
    Frame("a clientMessageId that is a number", _send(clientMessageId=1), "invalid_frame"),
    Frame("a clientMessageId with a lone surrogate", _send(clientMessageId="\ud800"), "invalid_frame"),
    Frame("an empty ackId", _send(ackId=""), "invalid_frame"),
    Frame("an ackId that is too long", _send(ackId="canary" * 11), "invalid_frame"),
    Frame("an ackId that is a fraction", _send(ackId=1.5), "invalid_frame"),
    Frame("an ackId that is true", _send(ackId=True), "invalid_frame"),
    Frame("an ackId with a lone surrogate", _send(ackId="\ud800"), "invalid_frame"),
    Frame("a ping with a message", '{"action": "ping", "message": "canary"}', "invalid_frame"),
    Frame("a sync from nowhere", '{"action": "sync", "after": "canary"}', "invalid_frame"),
    Frame("a sync from a number", '{"action": "sync", "after": 0}', "invalid_frame"),
    Frame("as somebody else", _send(playerId="2"), "forbidden"),
    Frame(
        "as somebody else by escapes",
        _send().replace('"message"', '"player\\u0049d": "2", "message"'),
        "forbidden",
    ),
    *_rooms(),
    *_signals(),
    *_presence(),
    *_sizes(),
    Frame("after all of these, a good one", _send(), None, stores=1),
    Frame("and a good one to be sent once", _send(clientMessageId="canary"), None, stores=1),
]

_KEYS = {"destinationPlayerId": {"S": "1"}, "messageId": {"S": "01a20b18-76be-73f4-9340-55bd1f3d9f6e"}}
_MARKER = {**_KEYS, "replayTo": {"S": "a"}, "replayed": {"N": "0"}, "sync": {"BOOL": True}}
_MESSAGE = {**_KEYS, "srcPlayerId": {"S": "2"}, "message": {"S": "canary"}, "sentAt": {"N": "1"}}


FOREIGN = {"id": {"S": "connection#canary"}, "playerId": {"S": "1"}}


def _without(name: str) -> dict[str, Any]:
    return inserted({key: value for key, value in _MESSAGE.items() if key != name})


_WHOLE_MARKER = _MARKER | {
    "after": {"S": "0"},
    "began": {"S": "0"},
    "askedAt": {"N": "1"},
    "ackId": {"S": "1"},
}
_ROOM_MESSAGE = _MESSAGE | {"destinationPlayerId": {"S": "room#lobby"}, "roomMessageId": _KEYS["messageId"]}
_COPY = _MESSAGE | {"roomId": {"S": "lobby"}, "roomMessageId": _KEYS["messageId"]}
_POKE = {
    "destinationPlayerId": {"S": "room#lobby"},
    "messageId": {"S": f"presence#{_KEYS['messageId']['S']}"},
    "playerId": {"S": "1"},
}
_ODD_VALUES: dict[str, Any] = {
    "binary": {"B": "AAE="},
    "a set of binaries": {"BS": ["AAE="]},
    "a set of numbers": {"NS": ["1"]},
    "a set of texts": {"SS": ["canary"]},
    "an empty set": {"SS": []},
    "a list": {"L": [{"S": "canary"}]},
    "a map": {"M": {"S": {"S": "canary"}}},
    "null": {"NULL": True},
    "a huge number": {"N": "9" * 38},
    "a number with an exponent": {"N": "1E125"},
    "a negative number": {"N": "-1"},
    "not a number": {"N": "NaN"},
    "a list in place of a text": {"S": ["canary"]},
    "a number in place of a text": {"S": 1},
    "half a character": {"S": "\ud800"},
    "a true text": {"BOOL": "true"},
    "of no type": {},
    "of an unknown type": {"X": "canary"},
    "nothing": None,
    "plain": 1,
}


def _with_odd_values() -> Iterator[Record]:
    """Yield every attribute that is read, with values of every wrong type."""
    kinds: dict[str, dict[str, Any]] = {
        "message": _MESSAGE,
        "marker": _WHOLE_MARKER,
        "room message": _ROOM_MESSAGE,
        "copy": _COPY,
        "poke": _POKE,
    }
    for kind, item in kinds.items():
        for name in item:
            for form, value in _ODD_VALUES.items():
                yield Record(f"{kind} whose {name} is {form}", inserted(item | {name: value}), noted=True)


RECORDS = [
    Record("null", None, noted=True),
    Record("a text", "canary", noted=True),
    Record("a list", ["canary"], noted=True),
    *_with_odd_values(),
    Record("with an endless sequence number", inserted(_MESSAGE, float("inf")), noted=True),
    Record(
        "with an id that another version made",
        inserted(_MESSAGE | {"messageId": {"S": "01a20b18-76be-43f4-9340-55bd1f3d9f6e"}}),
        noted=True,
    ),
    Record(
        "message with the id of a marker",
        inserted(_MESSAGE | {"messageId": {"S": "marker#01a20b18-76be-73f4-9340-55bd1f3d9f6e"}}),
        noted=True,
    ),
    Record("to nobody who can connect", inserted(_MESSAGE | {"destinationPlayerId": {"S": "#"}}), noted=True),
    Record(
        "to a name too long for a key",
        inserted(_MESSAGE | {"destinationPlayerId": {"S": "1" * 2048}}),
        noted=True,
    ),
    Record(
        "to a room without a name", inserted(_MESSAGE | {"destinationPlayerId": {"S": "room#"}}), noted=True
    ),
    Record(
        "to a room that is too long",
        inserted(_MESSAGE | {"destinationPlayerId": {"S": "room#" + "1" * 65}}),
        noted=True,
    ),
    *(
        Record(f"poke {about}", inserted(_POKE | changed), noted=True)
        for about, changed in (
            ("with an id that is none", {"messageId": {"S": "presence#canary"}}),
            ("without an id", {"messageId": {"S": "presence#"}}),
            (
                "with an id that another version made",
                {"messageId": {"S": "presence#01a20b18-76be-43f4-9340-55bd1f3d9f6e"}},
            ),
            ("among a player's messages", {"destinationPlayerId": {"S": "1"}}),
            ("of a room without a name", {"destinationPlayerId": {"S": "room#"}}),
            ("of a room that is too long", {"destinationPlayerId": {"S": "room#" + "1" * 65}}),
            ("about a nameless player", {"playerId": {"S": ""}}),
            ("about a player with a key separator", {"playerId": {"S": "1#canary"}}),
            ("about a program", {"playerId": {"S": "#canary"}}),
            ("about a player that is too long", {"playerId": {"S": "1" * 129}}),
        )
    ),
    Record(
        "poke without a player",
        inserted({name: value for name, value in _POKE.items() if name != "playerId"}),
        noted=True,
    ),
    Record("from a nameless program", inserted(_MESSAGE | {"srcPlayerId": {"S": "#"}}), noted=True),
    Record("empty", {}, noted=False),
    Record("of no kind", {"eventName": None}, noted=False),
    Record("of an unknown kind", {"eventName": "CANARY"}, noted=False),
    Record("without anything", {"eventName": "INSERT"}, noted=True),
    Record("with null", {"eventName": "INSERT", "dynamodb": None}, noted=True),
    Record("without an image", {"eventName": "INSERT", "dynamodb": {"SequenceNumber": "1"}}, noted=True),
    Record("with an image that is null", inserted(None), noted=True),
    Record("with an image that is an array", inserted(["canary"]), noted=True),
    Record("with an empty image", inserted({}), noted=True),
    Record(
        "of a foreign table",
        inserted(FOREIGN),
        noted=True,
    ),
    Record("without a recipient", _without("destinationPlayerId"), noted=True),
    Record("without an id", _without("messageId"), noted=True),
    Record("without a sender", _without("srcPlayerId"), noted=True),
    Record("without a text", _without("message"), noted=True),
    Record("without a time", _without("sentAt"), noted=True),
    Record("with keys alone", inserted(_KEYS), noted=True),
    Record("with an id of another kind", inserted(_MESSAGE | {"messageId": {"N": "1"}}), noted=True),
    Record("with an id that is none", inserted(_MESSAGE | {"messageId": {"S": "canary"}}), noted=True),
    Record("with a text of another kind", inserted(_MESSAGE | {"message": {"L": []}}), noted=True),
    Record("with a time that is none", inserted(_MESSAGE | {"sentAt": {"N": "canary"}}), noted=True),
    Record("with values that are plain", inserted(_MESSAGE | {"message": "canary"}), noted=True),
    Record(
        "without a sequence number", {"eventName": "INSERT", "dynamodb": {"NewImage": _MESSAGE}}, noted=True
    ),
    Record("whose sequence number is not a number", inserted(_MESSAGE, "canary"), noted=True),
    Record("without a stream", inserted(_MESSAGE) | {"eventSourceARN": "canary"}, noted=True),
    Record("withdrawn", inserted({**_KEYS, "withdrawn": {"BOOL": True}}), noted=False),
    Record("marker without a count", inserted({**_KEYS, "replayTo": {"S": "a"}}), noted=True),
    *(
        Record(f"marker with an ackId that is {name}", inserted(_MARKER | {"ackId": ack_id}), noted=True)
        for name, ack_id in (
            ("plain", "canary"),
            ("of another kind", {"N": "1"}),
            ("no JSON", {"S": "canary"}),
            ("null", {"S": "null"}),
            ("a fraction", {"S": "1.5"}),
            ("an object", {"S": '{"canary": 1}'}),
            ("too deep", {"S": "[" * 100_000}),
        )
    ),
    Record("modified", {"eventName": "MODIFY", "dynamodb": {"NewImage": _MESSAGE}}, noted=False),
    Record(
        "removed", {"eventName": "REMOVE", "dynamodb": {"Keys": _KEYS, "OldImage": _MESSAGE}}, noted=False
    ),
    Record(
        "expired",
        {
            "eventName": "REMOVE",
            "userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"},
            "dynamodb": {"Keys": _KEYS},
        },
        noted=False,
    ),
]
