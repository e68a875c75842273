"""Records changes of presence in the tables, and checks each presence event and signal that is posted."""

from collections import Counter
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

from chalicelib.aws.connection_items import player_of
from chalicelib.aws.message_items import POKE
from chalicelib.aws.rate_counter import COUNT
from chalicelib.aws.rooms import room_of
from chalicelib.core.model import ROOM, Message, Poke, Room, RoomMessage
from tests.simulation.memberships import Item

if TYPE_CHECKING:
    from tests.simulation.world import World

PLAYER = "player#"
POKING = ("#live = ", "DELETE connections ", "ADD rooms ", "DELETE rooms ")
"""What an update of a player's item contains if it can be followed by a poke. A join can too."""

JOIN = "ADD members :new"
REMOVAL_OF_GONE = "DELETE connections "
REMOVAL_OF_OLD_WINDOWS = "REMOVE #old0"
SLACK_SECONDS = 2.0
"""A signal reads the room eventually consistently, so it can miss what changed just before."""

Pair = tuple[str, str]
"""A room id and a player id."""


@dataclass(frozen=True, slots=True)
class SentSignal:
    """A signal that a client sent at `began`, to a player or to ROOM and a room id."""

    src_player_id: str
    connection_id: str
    to: str
    began: float


@dataclass(eq=False, slots=True)
class PresenceLog:
    """`told_at`: when something last changed that the room is told of. `left_at`: when a player that the room
    was told of had left it. Both are moments.
    """

    world: "World"
    told_at: dict[Pair, float] = field(default_factory=dict)
    left_at: dict[Pair, float] = field(default_factory=dict)
    updates: Counter[str] = field(default_factory=Counter)
    signals: dict[str, SentSignal] = field(default_factory=dict)
    signalled: set[tuple[str, str]] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    # The tables

    def record(self, item_id: str, expression: str, before: Item | None, after: Item | None) -> None:
        """Record the update of a player's item."""
        player_id = item_id.removeprefix(PLAYER)
        if not any(each in expression for each in POKING):
            return
        moment = self.world.schedule.moment()
        old, new = player_of(player_id, before or {}), player_of(player_id, after or {})
        self.updates[player_id] += 1
        added = new.presence_rooms - old.presence_rooms
        flipped = new.presence_rooms if bool(old.live) != bool(new.live) else frozenset[str]()
        self.counts["flips"] += bool(flipped)
        for room_id in added | flipped:
            self.told_at[room_id, player_id] = moment
        for room_id in old.presence_rooms - new.presence_rooms:
            if player_id not in self.room(room_id).members:
                self.left_at[room_id, player_id] = moment

    def check_write(self, operation: str, request: Item) -> None:
        """Check that a signal writes nothing but its cost and the removal of connections that are gone."""
        expression = request.get("UpdateExpression", "")
        if expression.startswith(JOIN):
            self.updates.update(request["ExpressionAttributeValues"][":new"]["SS"])
        if self.world.schedule.running != "signal":
            return
        is_expected = operation == "DeleteItem" or any(
            expression.startswith(each) for each in (COUNT, REMOVAL_OF_GONE, REMOVAL_OF_OLD_WINDOWS)
        )
        if operation == "BatchWriteItem":
            puts = [put for of_table in request["RequestItems"].values() for put in of_table]
            ids = [put["PutRequest"]["Item"]["messageId"]["S"] for put in puts]
            is_expected = all(each.startswith(POKE) for each in ids)
        if not is_expected:
            self.violations.append(f"a signal made {operation} {expression}")

    # The gateway

    def check_post(self, connection_id: str, player_id: str, frame: Item) -> None:
        if frame["type"] == "signal":
            self._check_signal(connection_id, player_id, frame)
        elif frame["type"] == "presence" and "roomId" in frame:
            self._check_event(connection_id, player_id, frame)

    def _check_event(self, connection_id: str, player_id: str, frame: Item) -> None:
        """Check that the event is about poked players only, and reaches only members and these players."""
        room_id, world = frame["roomId"], self.world
        self.counts["events"] += 1
        if "table: recreated" in world.faulted:
            return  # The old table's stream is gone, and a function can still push its last batch.
        poked: dict[str, float] = {}
        for entry in world.not_pushed(ROOM + room_id):
            if isinstance(entry, Poke) and entry.room_id == room_id:
                stored = world.tables.history[entry.destination, entry.id].moment
                poked.setdefault(entry.player_id, stored)
        about = {each["playerId"] for each in frame["players"]}
        if not about <= poked.keys():
            self.violations.append(f"event in {room_id} about {sorted(about - poked.keys())}: not poked")
            return
        began, now = max(poked[each] for each in about), world.schedule.moment()
        if player_id not in about and world.memberships.is_stranger(room_id, player_id, began, now):
            self.violations.append(f"event in {room_id} at {connection_id} of {player_id}: a stranger")

    def _check_signal(self, connection_id: str, player_id: str, frame: Item) -> None:
        """Check that the signal reaches a connection once, not the sender's, and only its recipients'."""
        data, world, memberships = frame["data"], self.world, self.world.memberships
        signal, now = self.signals[data], world.schedule.moment()
        began = signal.began - SLACK_SECONDS
        self.counts["signals"] += 1
        about = f"signal {data} at {connection_id} of {player_id}"
        if (data, connection_id) in self.signalled:
            self.violations.append(f"{about}: twice")
        self.signalled.add((data, connection_id))
        if connection_id == signal.connection_id or frame["srcPlayerId"] != signal.src_player_id:
            self.violations.append(f"{about}: the sender's")
        if not signal.to.startswith(ROOM):
            is_stranger = player_id != signal.to
        else:
            room_id = signal.to.removeprefix(ROOM)
            is_stranger = any(
                memberships.is_stranger(room_id, each, began, now)
                for each in (player_id, signal.src_player_id)
            ) or memberships.is_muted(room_id, signal.src_player_id, began, now)
        if is_stranger:
            self.violations.append(f"{about}: a stranger")

    # At the end

    def check_stored(self) -> None:
        """Check that no signal is stored, and that each change has at most one poke per room."""
        pokes: Counter[Pair] = Counter()
        for entry, _ in self.world.tables.history.values():
            if isinstance(entry, Poke):
                pokes[entry.room_id, entry.player_id] += 1
            elif isinstance(entry, Message | RoomMessage) and entry.text in self.signals:
                self.violations.append(f"signal {entry.text} was stored")
        self.counts["pokes"] = pokes.total()
        self.counts["updates"] = self.updates.total()
        for (room_id, player_id), count in pokes.items():
            if count > self.updates[player_id]:
                self.violations.append(
                    f"{count} pokes in {room_id} for {self.updates[player_id]} changes of {player_id}"
                )

    def room(self, room_id: str) -> Room:
        return room_of(room_id, self.world.tables.websockets_item(ROOM + room_id) or {})

    def truth(self, pair: Pair, quiet: float) -> "Truth | None":
        """Return what the room's members must know of the player, or None if they can't know it.

        Nothing can be lost since `quiet`.
        """
        room_id, player_id = pair
        player, room = self.world.player(player_id), self.room(room_id)
        memberships = self.world.memberships
        if room_id in player.presence_rooms:
            told = self.told_at.get(pair, -inf)
            return Truth(player_id in room.members, bool(player.live), told if told >= quiet else None)
        left = self.left_at.get(pair, -inf)
        changes = memberships.joined[pair] + memberships.removed[pair]
        if player_id not in room.members and left > max(changes, default=inf):
            return Truth(False, False, left if left >= quiet else None)
        return None


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of a player. `told`: the moment since which the room must know it, if there is one."""

    is_member: bool
    is_online: bool
    told: float | None

    def agrees(self, word: tuple[bool, Any]) -> bool:
        return word == (self.is_member, self.is_online) if self.is_member else not word[0]
