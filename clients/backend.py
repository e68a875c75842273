"""Lets a game's own server, admin tool or cron job write to the service through its two tables.

    backend = Backend.connect("serverless-websockets-prod-websockets", "serverless-websockets-prod-messages")
    backend.send("1", "You won a hat.")
    backend.send_room("lobby", "Maintenance at 9")

It requires boto3, and nothing else of this project, so you can copy the file. It is also a command:

    python -m clients.backend --local send-room lobby "Maintenance at 9"

docs/backend.md has the IAM policies, and explains `refan` and where message ids get their time.
"""

import argparse
import json
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from uuid import UUID

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

Item = dict[str, dict[str, Any]]
When = int | datetime | timedelta
"""Milliseconds since the epoch, a datetime with a time zone, or a timedelta from now."""

ID_CHARACTERS = "A-Za-z0-9._@|:+!'/=-"
IN_WORDS = "A-Z a-z 0-9 . _ - @ | : + ! ' / ="
PLAYER_ID = re.compile(f"[{ID_CHARACTERS}]{{1,128}}")
ROOM_ID = re.compile(f"[{ID_CHARACTERS}]{{1,64}}")
SENDER = re.compile(f"#[{ID_CHARACTERS}]{{1,64}}")
LONGEST_PLAYER_ID = "x" * 128

FRAME_BYTES = 128 * 1024
"""API Gateway's limit for one WebSocket message."""

SIGNAL_BYTES = 4096
SIGNAL_MEMBERS = 100
"""The limits of a signal's data, and of the members of a room that can be signalled."""

LAST_MS = 253_402_300_799_999
"""The end of the year 9999, in milliseconds since the epoch."""

DAY_SECONDS = 24 * 60 * 60
LEARN_AGAIN_SECONDS = 600
SKEW_SECONDS = 5
"""How much clocks of this machine and of Lambdas can differ."""

DRIFT = 0.001
"""How much two clocks can drift apart, in seconds per second. Time servers slew a clock by half of that."""

JUMP_SECONDS = 1.0
"""This machine has slept if its two clocks drift apart by more. A monotonic clock can stop meanwhile."""

KEYS_PER_BATCH_GET = 100
BATCH_GET_PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.4, None)
REMOVAL_ATTEMPTS = 20
POSTS_AT_ONCE = 16

PER_CONNECTION = ("live:", "stream:", "since:", "walk:")
"""Prefixes of the attributes of a player's item that belong to one connection. Its id follows."""

DYNAMODB_CONFIG = Config(
    connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2}
)
"""Two attempts of up to 3 s. A put must end within 10 s of its id's time, or a replay can miss it."""

CONNECT_SECONDS = 1.5
READ_SECONDS = 1.0

POST_CONFIG = Config(
    connect_timeout=CONNECT_SECONDS,
    read_timeout=READ_SECONDS,
    retries={"total_max_attempts": 1},
    max_pool_connections=POSTS_AT_ONCE,
)
"""A post is tried once: a retry could show a signal twice."""

CLOSE_PAUSES_SECONDS = (0.1, 0.3, 0.6, None)
CLOSED = "closed"
NOT_OPEN = "not open"
"""API Gateway answers 410 for a connection that is closed, and for one that isn't open yet."""

HANDSHAKE_MS = 30_000
"""API Gateway gives a handshake's function 29 seconds."""

LOCAL_TABLES = "serverless-websockets-dev-"
LOCAL_KEYS = {"aws_access_key_id": "local", "aws_secret_access_key": "local", "region_name": "us-east-1"}


class BackendError(Exception):
    """Raised for every failure that isn't boto3's. Its subclasses say more."""


class Invalid(BackendError, ValueError):
    """Raised for an argument that the service can't use. The text says what would be valid."""


class RoomFull(BackendError):
    """Raised if a room has its maximum of members. `added` and `not_added` are players of the call."""

    def __init__(self, room: str, most: int, added: Sequence[str], not_added: Sequence[str]) -> None:
        super().__init__(
            f"room_full: room {room} has {most} members, which is the maximum. "
            f"Added: {', '.join(added) or 'nobody'}. Not added: {', '.join(not_added)}."
        )
        self.added, self.not_added = tuple(added), tuple(not_added)


class BannedFromRoom(BackendError):
    """Raised if a player to add is banned from the room. `added` are players of the call."""

    def __init__(self, room: str, added: Sequence[str], not_added: Sequence[str]) -> None:
        super().__init__(
            f"player {not_added[0]} is banned from room {room}; unban_from_room allows it. "
            f"Added: {', '.join(added) or 'nobody'}. Not added: {', '.join(not_added)}."
        )
        self.added, self.not_added = tuple(added), tuple(not_added)


class NotClosed(BackendError):
    """Raised if API Gateway didn't close some connections of a player who was kicked or banned.

    `connections` holds the reason by connection id. The service accepts nothing from them any more. A page of
    a replay that was being sent when they were removed can still reach them.
    """

    def __init__(self, player: str, connections: Mapping[str, str]) -> None:
        reasons = ", ".join(f"{connection} ({reason})" for connection, reason in connections.items())
        super().__init__(f"player {player}'s connections are removed, but API Gateway didn't close {reasons}")
        self.connections = dict(connections)


class ServerClock:
    """DynamoDB's time, learned from the Date headers of its answers.

    A Date has whole seconds. An answer with the Date D was sent between `asked` and `received`, so the server
    is between D - received and D + 1 - asked seconds ahead of this machine's monotonic clock. Each answer
    narrows this range, and the clock uses its middle: half a second wrong at first, a few hundredths later.
    """

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self.monotonic = monotonic
        self._wall = wall
        self._ahead: tuple[float, float] | None = None
        self._learned_at = 0.0
        self._learned_at_wall = 0.0
        self._lock = threading.Lock()

    def learn(self, date: str, asked: float, received: float) -> None:
        """Narrow the range. `asked` and `received` are monotonic times."""
        second = parsedate_to_datetime(date).timestamp()
        low, high = second - received, second + 1 - asked
        with self._lock:
            if self._ahead is not None and self._is_fresh():
                drift = DRIFT * abs(received - self._learned_at)
                narrower = max(low, self._ahead[0] - drift), min(high, self._ahead[1] + drift)
                # The ranges don't overlap if a clock was set. Then only the new answer counts.
                if narrower[0] <= narrower[1]:
                    low, high = narrower
            self._ahead = low, high
            self._learned_at, self._learned_at_wall = received, self._wall()

    def seconds(self) -> float | None:
        """Return the time since the epoch, or None if it must be learned first."""
        with self._lock:
            if self._ahead is None or not self._is_fresh():
                return None
            return self.monotonic() + sum(self._ahead) / 2

    def _is_fresh(self) -> bool:
        """Return whether the last answer isn't old, and this machine hasn't slept since then."""
        passed = self.monotonic() - self._learned_at
        jump = self._wall() - self._learned_at_wall - passed
        return passed < LEARN_AGAIN_SECONDS and abs(jump) < JUMP_SECONDS


class MessageIds:
    """Makes UUIDv7s that increase within a process, even if the clock steps back."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def at(self, seconds: float) -> str:
        """Return an id of this time. The twelve bits after its milliseconds are a fraction of one."""
        with self._lock:
            self._last = max(self._last + 1, int(seconds * 1000 * 4096))
            milliseconds, fraction = divmod(self._last, 4096)
        variant_and_random = 0b10 << 62 | secrets.randbits(62)
        return str(UUID(int=milliseconds << 80 | (0x7000 | fraction) << 64 | variant_and_random))


class Backend:
    """Writes to the service. Every method can raise Invalid, and boto3's ClientError and BotoCoreError.

    Every method except the sends, the signals and `refan` is idempotent. After one of boto3's errors, a
    message might be stored or not.

    `dynamodb` is a boto3 client. `management` takes an endpoint's URL and returns a boto3 client of
    `apigatewaymanagementapi` for it. `connect` makes both, with timeouts that the service's replay relies on.
    `sender` is the `srcPlayerId` of everything that is sent. The other arguments must be as the stage's
    settings are: `retention_seconds` as MESSAGE_RETENTION_DAYS, `room_seconds` as ROOM_DAYS, `room_members`
    as ROOM_MEMBERS, `room_message_bytes` as MAX_ROOM_MESSAGE_BYTES. `endpoint` replaces the URL of
    `@connections`, which otherwise is the one of the player's connections.
    """

    def __init__(
        self,
        dynamodb: Any,
        management: Callable[[str], Any],
        websockets_table: str,
        messages_table: str,
        *,
        sender: str = "#backend",
        endpoint: str | None = None,
        retention_seconds: int = 7 * DAY_SECONDS,
        room_seconds: int | None = None,
        room_members: int = 250,
        room_message_bytes: int = 8192,
        clock: ServerClock | None = None,
    ) -> None:
        if not isinstance(sender, str) or not SENDER.fullmatch(sender):
            raise Invalid(f"sender {sender!r} must be # and then 1 to 64 of {IN_WORDS}")
        for name, value in (
            ("retention_seconds", retention_seconds),
            ("room_seconds", retention_seconds if room_seconds is None else room_seconds),
            ("room_members", room_members),
            ("room_message_bytes", room_message_bytes),
        ):
            if not isinstance(value, int) or value < 1:
                raise Invalid(f"{name} must be a whole number above 0, not {value!r}")
        self._dynamodb = dynamodb
        self._management = management
        self._websockets = websockets_table
        self._messages = messages_table
        self._sender = sender
        self._endpoint = endpoint
        self._retention_seconds = retention_seconds
        self._room_seconds = retention_seconds if room_seconds is None else room_seconds
        self._room_members = room_members
        self._room_message_bytes = room_message_bytes
        self._clock = clock or ServerClock()
        self._ids = MessageIds()

    @classmethod
    def connect(
        cls,
        websockets_table: str,
        messages_table: str,
        session: boto3.Session | None = None,
        endpoint: str | None = None,
        **options: Any,
    ) -> "Backend":
        """Return a backend with its own clients. `options` are those of the class.

        `endpoint` defaults to AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI. boto3 itself reads the region, the
        credentials and AWS_ENDPOINT_URL_DYNAMODB.
        """
        session = session or boto3.Session()
        clients: dict[str, Any] = {}
        one_at_a_time = threading.Lock()

        def management(url: str) -> Any:
            with one_at_a_time:  # boto3 can't create clients concurrently.
                if url not in clients:
                    made = session.client("apigatewaymanagementapi", endpoint_url=url, config=POST_CONFIG)
                    clients[url] = made
                return clients[url]

        return cls(
            session.client("dynamodb", config=DYNAMODB_CONFIG),
            management,
            websockets_table,
            messages_table,
            endpoint=endpoint or os.environ.get("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI") or None,
            **options,
        )

    # Messages

    def send(self, player: str, text: str) -> str:
        """Store a message to a player, who need not be online or exist. Return its `messageId`."""
        _check_player(player)
        _check_text(text)
        frame = {"type": "message", "message": text, "srcPlayerId": self._sender}
        _check_size({**frame, "destinationPlayerId": player}, FRAME_BYTES)
        return self._put_message(player, text)

    def send_room(self, room: str, text: str) -> str:
        """Store a message to a room's members. Return its `messageId`. A mute or rate doesn't apply."""
        _check_room(room)
        _check_text(text)
        frame = {"type": "message", "message": text, "srcPlayerId": self._sender, "roomId": room}
        longest = {**frame, "position": str(UUID(int=0)), "destinationPlayerId": LONGEST_PLAYER_ID}
        _check_size(longest, self._room_message_bytes)
        return self._put_message(_room_key(room), text)

    def refan(self, room: str, since: When) -> int:
        """Store a room's messages since a time once more, in order. Return how many.

        The push function then copies them to the room's present members. Each has a new id, and its first id
        as `roomMessageId`, by which clients drop it if they have it. A timedelta reaches back from now.
        """
        _check_room(room)
        destination = _room_key(room)
        seconds = self._now(destination)
        since_ms = _milliseconds(since, seconds, forward=False)
        if since_ms >= 1000 * seconds:
            raise Invalid(f"since must be in the past, not {_in_words(since_ms)}")
        count, seen = 0, set[str]()
        for item in self._room_messages(destination, since_ms, seconds):
            first_id = item.get("roomMessageId", item["messageId"])["S"]
            if first_id not in seen:
                seen.add(first_id)
                kept = {name: item[name] for name in ("srcPlayerId", "message", "sentAt")}
                message_id, now = self._new_id(destination)
                self._put(destination, message_id, now, {**kept, "roomMessageId": {"S": first_id}})
                count += 1
        return count

    # Signals

    def signal(self, player: str, data: str) -> int:
        """Post a signal to a player's live connections, at most once each. Return how many took it."""
        _check_player(player)
        _check_signal(data)
        item = self._item(_player_key(player), consistent=False)
        return self._post_signal({player: item}, {"data": data, "srcPlayerId": self._sender})

    def signal_room(self, room: str, data: str) -> int:
        """Post a signal to the live connections of a room's members. Return how many took it."""
        _check_room(room)
        _check_signal(data)
        members = self._item({"S": _room_key(room)}, consistent=False).get("members", {}).get("SS", [])
        if len(members) > SIGNAL_MEMBERS:
            raise Invalid(
                f"room {room} has {len(members)} members: at most {SIGNAL_MEMBERS} can be signalled; "
                "send_room has no such limit"
            )
        frame = {"data": data, "srcPlayerId": self._sender, "roomId": room}
        return self._post_signal(self._players(members), frame)

    # Rooms

    def add(self, room: str, *players: str) -> None:
        """Make players members of a room, one update for each, in this order.

        The players need not exist. Raises RoomFull and BannedFromRoom, which say who was added before.
        """
        _check_room(room)
        _check_players(players)
        for number, player in enumerate(players):
            item = self._update_room(
                room,
                "ADD members :players SET expiresAt = :expires",
                [player],
                condition="(attribute_not_exists(members) OR size(members) < :most "
                "OR contains(members, :player)) AND NOT contains(banned, :player)",
                values={":most": {"N": str(self._room_members)}, ":player": {"S": player}},
            )
            if item is not None:
                done, left = players[:number], players[number:]
                if player in item.get("banned", {}).get("SS", ()):
                    raise BannedFromRoom(room, done, left)
                raise RoomFull(room, self._room_members, done, left)

    def remove(self, room: str, *players: str) -> None:
        """End the players' membership. A mute stays, as after a player's own `leave`."""
        _check_room(room)
        _check_players(players)
        self._update_room(room, "DELETE members :players", players, condition="attribute_exists(id)")
        self._end_presence(room, players)

    def mute(self, room: str, player: str) -> None:
        """Refuse what the player sends to the room, now or once it is a member. It still receives."""
        self._update_room(room, "ADD muted :players SET expiresAt = :expires", [player])

    def unmute(self, room: str, player: str) -> None:
        """Undo `mute`."""
        self._update_room(room, "DELETE muted :players", [player], condition="attribute_exists(id)")

    def ban_from_room(self, room: str, player: str) -> None:
        """Remove the player from the room in one update, and refuse its `join` while the room exists."""
        self._update_room(
            room, "ADD banned :players DELETE members :players SET expiresAt = :expires", [player]
        )
        self._end_presence(room, [player])

    def unban_from_room(self, room: str, player: str) -> None:
        """Undo `ban_from_room`. The player isn't a member again until it joins."""
        self._update_room(room, "DELETE banned :players", [player], condition="attribute_exists(id)")

    def members(self, room: str) -> list[str]:
        """Return a room's members, sorted."""
        _check_room(room)
        return sorted(self._item({"S": _room_key(room)}).get("members", {}).get("SS", []))

    # Players

    def online(self, players: Iterable[str]) -> dict[str, int]:
        """Return those of the players who have a live connection, and when each was last seen.

        The times are in milliseconds since the epoch. A client that vanished is online until the service next
        posts to it.
        """
        players = list(players)
        _check_players(players)
        found = self._players(players)
        return {player: _last_seen(item) for player, item in found.items() if _live(item)}

    def kick(self, player: str) -> int:
        """End a player's connections, and return how many. The player can connect again at once.

        When it returns, nothing stored later reaches these connections. Raises NotClosed.
        """
        _check_player(player)
        return self._end_connections(player, {"type": "closing", "reason": "kicked"}, None)

    def ban(self, player: str, until: When) -> int:
        """End a player's connections, return how many, and refuse new ones until a time. Raises NotClosed."""
        _check_player(player)
        now = time.time()
        until_ms = _milliseconds(until, now, forward=True)
        if until_ms <= 1000 * now:
            raise Invalid(f"a ban must end in the future, not at {_in_words(until_ms)}; unban ends one")
        return self._end_connections(
            player, {"type": "closing", "reason": "banned", "until": until_ms}, until_ms
        )

    def unban(self, player: str) -> None:
        """Undo `ban`."""
        _check_player(player)
        self._update(
            _player_key(player),
            UpdateExpression="REMOVE bannedUntil",
            ConditionExpression="attribute_exists(id)",
        )

    # Calls of the Messages table

    def _put_message(self, destination: str, text: str) -> str:
        message_id, now = self._new_id(destination)
        sent_at = {"N": str(int(1000 * now))}
        self._put(
            destination,
            message_id,
            now,
            {"srcPlayerId": {"S": self._sender}, "message": {"S": text}, "sentAt": sent_at},
        )
        return message_id

    def _put(
        self, destination: str, message_id: str, now: float, rest: Item, seconds: int | None = None
    ) -> None:
        """Put an item that expires after the retention, or after `seconds`."""
        kept = self._retention_seconds if seconds is None else seconds
        expires = {"expiresAt": {"N": str(int(now) + kept)}}
        item = {**_message_key(destination, message_id), **rest, **expires}
        self._call("put_item", TableName=self._messages, Item=item)

    def _new_id(self, destination: str) -> tuple[str, float]:
        """Return a message id, and DynamoDB's time in seconds since the epoch."""
        now = self._now(destination)
        return self._ids.at(now), now

    def _now(self, destination: str) -> float:
        """Return DynamoDB's time in seconds since the epoch."""
        now = self._clock.seconds()
        return self._ask_time(destination) if now is None else now

    def _ask_time(self, destination: str) -> float:
        """Return DynamoDB's time. The call is a put whose condition fails, so it needs no permission more."""
        try:
            self._call(
                "put_item",
                TableName=self._messages,
                Item=_message_key(destination, "time"),
                ConditionExpression="attribute_exists(messageId)",
            )
        except ClientError as failure:
            if not _is_failed_condition(failure):
                raise
        now = self._clock.seconds()
        if now is None:
            raise BackendError("DynamoDB's answer has no Date header, from which message ids get their time")
        return now

    def _room_messages(self, destination: str, since_ms: int, now: float) -> Iterator[Item]:
        """Yield the stored messages of a room since a time, without expired ones.

        The newest can have an id that is later than `now`, because clocks differ.
        """
        until_ms = int(1000 * (now + SKEW_SECONDS))
        request: dict[str, Any] = {
            "TableName": self._messages,
            "KeyConditionExpression": "destinationPlayerId = :room AND messageId BETWEEN :since AND :until",
            "FilterExpression": "attribute_exists(#message) AND expiresAt > :now",
            "ExpressionAttributeNames": {"#message": "message"},
            "ExpressionAttributeValues": {
                ":room": {"S": destination},
                ":since": {"S": str(UUID(int=since_ms << 80))},
                ":until": {"S": str(UUID(int=until_ms << 80))},
                ":now": {"N": str(int(now))},
            },
            "ConsistentRead": True,
        }
        while True:
            answer = self._call("query", **request)
            yield from answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    # Calls of the Websockets table

    def _item(self, key: dict[str, str], consistent: bool = True) -> Item:
        answer = self._call(
            "get_item", TableName=self._websockets, Key={"id": key}, ConsistentRead=consistent
        )
        item: Item = answer.get("Item", {})
        return item

    def _players(self, players: Iterable[str]) -> dict[str, Item]:
        """Return the players' items. Players without an item are left out."""
        ids = list(dict.fromkeys(players))
        found = {}
        for start in range(0, len(ids), KEYS_PER_BATCH_GET):
            keys = [{"id": _player_key(player)} for player in ids[start : start + KEYS_PER_BATCH_GET]]
            for item in self._batch_get(keys):
                found[item["id"]["S"].removeprefix("player#")] = item
        return found

    def _batch_get(self, keys: list[Item]) -> Iterator[Item]:
        request: dict[str, Any] = {self._websockets: {"Keys": keys}}
        for pause in BATCH_GET_PAUSES_SECONDS:
            answer = self._call("batch_get_item", RequestItems=request)
            yield from answer["Responses"].get(self._websockets, [])
            request = answer.get("UnprocessedKeys") or {}
            if not request:
                return
            if pause is not None:
                time.sleep(pause)
        raise BackendError("DynamoDB is throttling: it left players unread; retry later")

    def _update_room(
        self,
        room: str,
        update: str,
        players: Sequence[str],
        *,
        condition: str | None = None,
        values: Item | None = None,
    ) -> Item | None:
        """Update a room's item. If the condition failed, return the item; otherwise None."""
        _check_room(room)
        _check_players(players)
        given: Item = {":players": {"SS": list(dict.fromkeys(players))}, **(values or {})}
        if ":expires" in update:
            given[":expires"] = {"N": str(int(time.time()) + self._room_seconds)}
        request: dict[str, Any] = {"UpdateExpression": update, "ExpressionAttributeValues": given}
        if condition is not None:
            request["ConditionExpression"] = condition
        return self._update({"S": _room_key(room)}, **request)

    def _update(self, key: dict[str, str], **request: Any) -> Item | None:
        """Update an item. If the condition failed, return the item; otherwise None."""
        try:
            self._call(
                "update_item",
                TableName=self._websockets,
                Key={"id": key},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **request,
            )
        except ClientError as failure:
            if not _is_failed_condition(failure):
                raise
            item: Item = failure.response.get("Item", {})
            return item
        return None

    def _end_presence(self, room: str, players: Sequence[str]) -> None:
        """Tell the room, if it is told of the players' comings and goings, of this last one."""
        for player in players:
            failed = self._update(
                _player_key(player),
                UpdateExpression="DELETE rooms :room",
                ConditionExpression="contains(rooms, :id)",
                ExpressionAttributeValues={":room": {"SS": [room]}, ":id": {"S": room}},
            )
            if failed is None:
                self._poke(player, [room])

    def _poke(self, player: str, rooms: Iterable[str]) -> None:
        """Make the push function tell rooms of the player's present state."""
        for room in rooms:
            message_id, now = self._new_id(_room_key(room))
            self._put(
                _room_key(room),
                f"presence#{message_id}",
                now,
                {"playerId": {"S": player}},
                seconds=DAY_SECONDS,
            )

    # Connections

    def _end_connections(self, player: str, closing: dict[str, Any], until_ms: int | None) -> int:
        """Remove the player's connections, and set its ban in the same update. Then close them.

        Once they are removed, no later batch of the push function posts to them. A batch that is posting a
        page of a replay at that moment can still have newer messages, so they are closed before this returns.
        API Gateway needs only a connection's id, so `closing` reaches a connection that is removed.
        """
        item: Item = {}
        connections: list[str] = []
        for _ in range(REMOVAL_ATTEMPTS):
            present = self._item(_player_key(player))
            # Keeps the earlier ones: an update that boto3 repeated can seem to fail although it removed them.
            item = {**item, **present}
            connections = sorted({*connections, *_connections(present)})
            is_removed = until_ms is None and not _connections(present)
            if is_removed or self._remove_connections(player, present, until_ms):
                break
        else:
            raise BackendError(f"player {player} connected or disconnected at every attempt; retry")
        left_open = self._close(item, connections, json.dumps(closing, separators=(",", ":")))
        for connection in connections:
            self._delete_connection_item(connection)
        if _live(item):
            self._poke(player, item.get("rooms", {}).get("SS", ()))
        if left_open:
            raise NotClosed(player, left_open)
        return len(connections)

    def _remove_connections(self, player: str, item: Item, until_ms: int | None) -> bool:
        """Remove the connections that `item` has. Return False if the player has others by now."""
        attributes = [prefix + connection for connection in _connections(item) for prefix in PER_CONNECTION]
        names = {f"#a{number}": name for number, name in enumerate(attributes)}
        values: Item = {}
        condition = "attribute_not_exists(connections)"
        if "connections" in item:
            condition, values = "connections = :seen", {":seen": item["connections"]}
        update = f"REMOVE {', '.join(['connections', *names])}"
        if until_ms is not None:
            values[":until"] = {"N": str(until_ms)}
            values[":expires"] = {"N": str(self._expiry_of_ban(item, until_ms))}
            update = f"SET bannedUntil = :until, expiresAt = :expires {update}"
        request: dict[str, Any] = {"UpdateExpression": update, "ConditionExpression": condition}
        if names:
            request["ExpressionAttributeNames"] = names
        if values:
            request["ExpressionAttributeValues"] = values
        return self._update(_player_key(player), **request) is None

    def _expiry_of_ban(self, item: Item, until_ms: int) -> int:
        """Return the item's new `expiresAt`: after the ban, and not before the present one."""
        present = int(item.get("expiresAt", {"N": "0"})["N"])
        return max(present, int(time.time()) + self._retention_seconds, until_ms // 1000 + DAY_SECONDS)

    def _delete_connection_item(self, connection: str) -> None:
        key = {"id": {"S": f"connection#{connection}"}}
        self._call("delete_item", TableName=self._websockets, Key=key)

    def _close(self, item: Item, connections: Sequence[str], frame: str) -> dict[str, str]:
        """Post a last frame to connections and close them. Return why the others aren't closed."""
        if not connections:
            return {}
        client = self._client_of(item)

        def close(connection: str) -> str | None:
            _post(client, connection, frame)
            for pause in CLOSE_PAUSES_SECONDS:
                result = _close(client, connection)
                if result == CLOSED or (result == NOT_OPEN and not _might_open(item, connection)):
                    return None
                if pause is not None:
                    time.sleep(pause)
            return None if result == NOT_OPEN else result

        with ThreadPoolExecutor(POSTS_AT_ONCE) as pool:
            failures = list(pool.map(close, connections))
        return {c: failure for c, failure in zip(connections, failures, strict=True) if failure is not None}

    def _post_signal(self, players: Mapping[str, Item], keys: dict[str, str]) -> int:
        """Post to the players' live connections, and remove those that are gone. Return how many took it."""
        frame = json.dumps({"type": "signal", **keys}, ensure_ascii=False, separators=(",", ":"))
        targets = [(player, connection) for player, item in players.items() for connection in _live(item)]
        if not targets:
            return 0
        clients = {player: self._client_of(players[player]) for player, _ in targets}
        with ThreadPoolExecutor(POSTS_AT_ONCE) as pool:
            statuses = list(pool.map(lambda target: _post(clients[target[0]], target[1], frame), targets))
        for (player, connection), status in zip(targets, statuses, strict=True):
            if status == 410:
                self._remove_gone(player, connection)
        return statuses.count(200)

    def _remove_gone(self, player: str, connection: str) -> None:
        """Remove a connection that is gone. If it was the player's last live one, tell its rooms."""
        names = {f"#a{number}": prefix + connection for number, prefix in enumerate(PER_CONNECTION)}
        try:
            answer = self._call(
                "update_item",
                TableName=self._websockets,
                Key={"id": _player_key(player)},
                UpdateExpression=f"DELETE connections :connection REMOVE {', '.join(names)}",
                ConditionExpression="attribute_exists(id)",
                ExpressionAttributeNames=names,
                ExpressionAttributeValues={":connection": {"SS": [connection]}},
                ReturnValues="ALL_NEW",
            )
        except ClientError as failure:
            if not _is_failed_condition(failure):
                raise
            return
        self._delete_connection_item(connection)
        if not _live(answer["Attributes"]):
            self._poke(player, answer["Attributes"].get("rooms", {}).get("SS", ()))

    def _client_of(self, item: Item) -> Any:
        """Return the client for the API and stage to which a player's connections belong."""
        if self._endpoint is not None:
            return self._management(self._endpoint)
        region = self._dynamodb.meta.region_name
        domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        host = f"{item['apiId']['S']}.execute-api.{region}.{domain}"
        return self._management(f"https://{host}/{item['stage']['S']}")

    def _call(self, method: str, **request: Any) -> Any:
        """Call DynamoDB, and learn its time from the answer, which can also be a refusal."""
        asked = self._clock.monotonic()
        try:
            answer = getattr(self._dynamodb, method)(**request)
        except ClientError as refusal:
            self._learn(refusal.response, asked)
            raise
        self._learn(answer, asked)
        return answer

    def _learn(self, answer: Mapping[str, Any], asked: float) -> None:
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        if date is not None:
            with suppress(ValueError):  # A date that can't be read is as none.
                self._clock.learn(date, asked, self._clock.monotonic())


def _player_key(player: str) -> dict[str, str]:
    return {"S": f"player#{player}"}


def _room_key(room: str) -> str:
    """Return a room's key in the Websockets table, which also is its destination in the Messages table."""
    return f"room#{room}"


def _message_key(destination: str, message_id: str) -> Item:
    return {"destinationPlayerId": {"S": destination}, "messageId": {"S": message_id}}


def _connections(item: Item) -> list[str]:
    """Return all connections that a player's item has anything of."""
    found = set(item.get("connections", {}).get("SS", ()))
    for prefix in PER_CONNECTION:
        found |= {name.removeprefix(prefix) for name in item if name.startswith(prefix)}
    return sorted(found)


def _live(item: Item) -> list[str]:
    return [name.removeprefix("live:") for name in item if name.startswith("live:")]


def _last_seen(item: Item) -> int:
    """Return when a player last sent a frame. Version 1.0.0 of the service only stored when it connected."""
    if "seenAt" in item:
        return int(item["seenAt"]["N"])
    return max((int(value["N"]) for name, value in item.items() if name.startswith("since:")), default=0)


def _is_failed_condition(failure: ClientError) -> bool:
    return bool(failure.response["Error"]["Code"] == "ConditionalCheckFailedException")


def _post(client: Any, connection: str, frame: str) -> int:
    """Post a frame once. Return the HTTP status, or 0 if there was no answer."""
    try:
        client.post_to_connection(ConnectionId=connection, Data=frame.encode())
    except ClientError as refusal:
        return int(refusal.response["ResponseMetadata"]["HTTPStatusCode"])
    except BotoCoreError:
        return 0
    return 200


def _might_open(item: Item, connection: str) -> bool:
    """Return whether the connection's handshake can still be running, so that it opens later."""
    since_ms = int(item.get(f"since:{connection}", {"N": "0"})["N"])
    return f"live:{connection}" not in item and 1000 * time.time() - since_ms < HANDSHAKE_MS


def _close(client: Any, connection: str) -> str:
    """Close a connection. Return CLOSED, NOT_OPEN, or the failure."""
    try:
        client.delete_connection(ConnectionId=connection)
    except ClientError as refusal:
        status = refusal.response["ResponseMetadata"]["HTTPStatusCode"]
        return NOT_OPEN if status == 410 else f"HTTP {status}"
    except BotoCoreError as failure:
        return type(failure).__name__
    return CLOSED


# Arguments


def _check_player(player: str) -> None:
    if not isinstance(player, str) or not PLAYER_ID.fullmatch(player):
        raise Invalid(f"player {player!r} must be a string of 1 to 128 of {IN_WORDS}")


def _check_players(players: Sequence[str]) -> None:
    if not players:
        raise Invalid("name at least one player")
    for player in players:
        _check_player(player)


def _check_room(room: str) -> None:
    if not isinstance(room, str) or not ROOM_ID.fullmatch(room):
        raise Invalid(f"room {room!r} must be a string of 1 to 64 of {IN_WORDS}")


def _check_text(text: str) -> None:
    if not isinstance(text, str) or not text:
        raise Invalid("the text must be a string with at least one character")
    _utf8(text)


def _check_signal(data: str) -> None:
    if not isinstance(data, str) or not 1 <= len(_utf8(data)) <= SIGNAL_BYTES:
        raise Invalid(f"a signal's data must be a string of 1 to {SIGNAL_BYTES} bytes")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Invalid("the text has a lone surrogate, which UTF-8 can't hold: remove it") from None


def _check_size(frame: dict[str, Any], most: int) -> None:
    """Raise Invalid unless the frame fits with the keys that the service adds when it replays the message."""
    added = {"messageId": str(UUID(int=0)), "sentAt": 10**13 - 1, "replayed": True}
    size = len(json.dumps({**frame, **added}, ensure_ascii=False, separators=(",", ":")).encode())
    if size > most:
        raise Invalid(f"the text is too long: its frame has {size} bytes, and at most {most} are allowed")


def _milliseconds(when: When, now: float, *, forward: bool) -> int:
    """Return a time in milliseconds since the epoch. A timedelta counts from `now`, in seconds."""
    if isinstance(when, timedelta):
        if when <= timedelta(0):
            raise Invalid("a timedelta must be longer than zero")
        milliseconds = int(1000 * (now + (1 if forward else -1) * when.total_seconds()))
    elif isinstance(when, datetime):
        if when.tzinfo is None:
            raise Invalid("a datetime must have a time zone, such as datetime.now(timezone.utc)")
        milliseconds = int(1000 * when.timestamp())
    elif not isinstance(when, int) or isinstance(when, bool):
        raise Invalid(f"{when!r} must be milliseconds since the epoch, a datetime or a timedelta")
    else:
        milliseconds = when
    if not 10**12 <= milliseconds <= LAST_MS:
        raise Invalid(
            f"{when} must be from 2001-09-09 to 9999-12-31; a whole number is in milliseconds, "
            f"as {int(1000 * now)} is now"
        )
    return milliseconds


# The command

SPAN = re.compile("([1-9][0-9]{0,5})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Command(NamedTuple):
    """A method as a command. `counted` says what it counts if it returns a number."""

    arguments: tuple[str, ...]
    help: str
    counted: str = ""


CONNECTIONS_SIGNALLED = "connections signalled"
CONNECTIONS_CLOSED = "connections closed"

COMMANDS = {
    "send": Command(("player", "text"), "Store a message to a player."),
    "send-room": Command(("room", "text"), "Store a message to a room."),
    "refan": Command(("room", "since"), "Store a room's messages since a time once more.", "messages"),
    "signal": Command(("player", "data"), "Signal a player's live connections.", CONNECTIONS_SIGNALLED),
    "signal-room": Command(("room", "data"), "Signal a room's live connections.", CONNECTIONS_SIGNALLED),
    "add": Command(("room", "players"), "Make players members of a room."),
    "remove": Command(("room", "players"), "End the players' membership."),
    "mute": Command(("room", "player"), "Let a player receive a room's messages but send none."),
    "unmute": Command(("room", "player"), "Undo mute."),
    "ban-from-room": Command(("room", "player"), "Remove a player from a room, and refuse its join."),
    "unban-from-room": Command(("room", "player"), "Undo ban-from-room."),
    "members": Command(("room",), "Print a room's members."),
    "online": Command(("players",), "Print who of the players is online, and when each was last seen."),
    "kick": Command(("player",), "End a player's connections.", CONNECTIONS_CLOSED),
    "ban": Command(
        ("player", "until"), "End a player's connections, and refuse new ones until then.", CONNECTIONS_CLOSED
    ),
    "unban": Command(("player",), "Undo ban."),
}
"""The commands. Each has the name of its method."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Return 0, or 1 after a failure. argparse exits with 2 if the arguments are wrong."""
    asked = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        for line in _run(_backend(asked), asked):
            print(line)
    except BackendError as failure:
        return _fail(str(failure))
    except ClientError as failure:
        error = failure.response["Error"]
        return _fail(f"AWS refused: {error['Code']}: {error.get('Message', '')}")
    except (
        BotoCoreError,
        ValueError,
    ) as failure:  # boto3 raises a ValueError for an endpoint that isn't a URL.
        return _fail(f"can't call AWS: {' '.join(str(failure).split())}")
    return 0


def _fail(text: str) -> int:
    print(text, file=sys.stderr)
    return 1


def _backend(asked: argparse.Namespace) -> Backend:
    tables = {"websockets": asked.websockets_table, "messages": asked.messages_table}
    session, endpoint = None, asked.endpoint
    if asked.local:
        tables = {kind: name or LOCAL_TABLES + kind for kind, name in tables.items()}
        session = boto3.Session(**LOCAL_KEYS)
        dynamodb = f"http://127.0.0.1:{os.environ.get('DYNAMODB_PORT', '8002')}"
        os.environ.setdefault("AWS_ENDPOINT_URL_DYNAMODB", dynamodb)
        endpoint = endpoint or f"http://127.0.0.1:{os.environ.get('WEBSOCKET_PORT', '8001')}/dev"
    for kind, name in tables.items():
        if not name:
            raise Invalid(
                f"name the table: --{kind}-table, or {kind.upper()}_TABLE in the environment; or --local"
            )
    return Backend.connect(
        str(tables["websockets"]),
        str(tables["messages"]),
        session,
        endpoint,
        sender=asked.sender,
        retention_seconds=DAY_SECONDS * asked.retention_days,
        room_seconds=None if asked.room_days is None else DAY_SECONDS * asked.room_days,
        room_members=asked.room_members,
        room_message_bytes=asked.room_message_bytes,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m clients.backend", description="Write to the service through its tables."
    )
    environ = os.environ
    parser.add_argument("--local", action="store_true", help="use chalice local on this machine")
    parser.add_argument("--websockets-table", default=environ.get("WEBSOCKETS_TABLE"), metavar="NAME")
    parser.add_argument("--messages-table", default=environ.get("MESSAGES_TABLE"), metavar="NAME")
    parser.add_argument("--endpoint", metavar="URL", help="of @connections; by default that of each player")
    parser.add_argument("--sender", default="#backend", metavar="#NAME", help="srcPlayerId (#backend)")
    parser.add_argument("--retention-days", type=int, default=7, metavar="N", help="as the stage has it (7)")
    parser.add_argument("--room-days", type=int, metavar="N", help="as the stage has it (the retention)")
    parser.add_argument(
        "--room-members", type=int, default=250, metavar="N", help="as the stage has it (250)"
    )
    parser.add_argument("--room-message-bytes", type=int, default=8192, metavar="N", help="likewise (8192)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        added = commands.add_parser(name, help=command.help, description=command.help)
        for argument in command.arguments:
            _add_argument(added, argument)
    return parser


def _add_argument(parser: argparse.ArgumentParser, name: str) -> None:
    if name == "players":
        parser.add_argument(name, nargs="+", metavar="PLAYER")
    elif name in ("until", "since"):
        parser.add_argument(name, type=_when, help="such as 2026-12-31T18:00:00Z, or 90s, 30m, 2h, 7d")
    else:
        parser.add_argument(name, metavar=name.upper())


def _run(backend: Backend, asked: argparse.Namespace) -> list[str]:
    """Call the method of the command's name. Return the lines to print."""
    command = COMMANDS[asked.command]
    given = [getattr(asked, name) for name in command.arguments if name != "players"]
    method = getattr(backend, asked.command.replace("-", "_"))
    if asked.command == "online":
        return [f"{player} {_in_words(seen)}" for player, seen in method(asked.players).items()]
    result = method(*given, *(asked.players if "players" in command.arguments else ()))
    if isinstance(result, int):
        return [f"{command.counted}: {result}"]
    return [result] if isinstance(result, str) else list(result or ())


def _when(text: str) -> When:
    """Return a span such as 2h as a timedelta, or an ISO 8601 time with a time zone as a datetime."""
    span = SPAN.fullmatch(text)
    if span:
        return timedelta(**{UNITS[span[2]]: int(span[1])})
    try:
        when = datetime.fromisoformat(text.removesuffix("Z") + ("+00:00" if text.endswith("Z") else ""))
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be a time with a time zone, such as 2026-12-31T18:00:00Z, "
            "or a span: 90s, 30m, 2h, 7d"
        )
    return when


def _in_words(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    sys.exit(main())
