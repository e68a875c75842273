"""Clients that watch who is online in their rooms, and send signals, in half of the schedules with rooms.

`Watch` is what a client does by the contract: it asks for `members` after each `connected` and `joined`, and
lets the presence events that arrive after its request take precedence over the reply.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import inf
from random import Random

from chalicelib.aws.connection_items import player_key
from chalicelib.core.model import ROOM, Poke, Unavailable
from tests.simulation.devices import REPLY_SECONDS, Device
from tests.simulation.dynamodb import WEBSOCKETS, Item
from tests.simulation.presence_log import PresenceLog, SentSignal
from tests.simulation.room_life import RoomHabits, RoomLife
from tests.simulation.verdict import Verdict
from tests.simulation.world import Faults, Socket, World

SHARE = 0.5
QUICK_JUMPS = (0.1, 0.5, 2.0)
ASKS = 0.3
RETRY_SECONDS, RETRIES = 3.0, 30
CALM_STEPS = 12

Word = tuple[bool, bool]
"""Whether the player is a member, and whether it is online."""


@dataclass(eq=False, slots=True)
class Watch:
    """What one client knows of its rooms' players. `words` are by room id and player id.

    `asking` has the number, the moment and the time of a request for `members` without a reply, `told` the
    players of events since then, and `asked_at` the moment of the last request with a reply.
    """

    device: Device
    room_ids: tuple[str, ...]
    socket: Socket | None = None
    needed: set[str] = field(default_factory=set)
    asking: dict[str, tuple[str, float, float]] = field(default_factory=dict)
    told: dict[str, set[str]] = field(default_factory=dict)
    words: dict[str, dict[str, Word]] = field(default_factory=dict)
    asked_at: dict[str, float] = field(default_factory=dict)
    _asks: int = 0

    def take(self, frame: Item) -> bool:
        """Take notice of a frame. Return whether it concerns only this watch."""
        kind = frame["type"]
        if frame.get("event") == "connected":
            self._begin()
        elif kind == "joined":
            self.needed.add(frame["roomId"])
        elif kind == "left":
            self._give_up(frame["roomId"])
        elif kind == "presence":
            self._on_event(frame)
        elif kind == "members":
            self._on_members(frame)
        elif kind == "error":
            return self._on_error(frame)
        return kind in ("presence", "members", "signal")

    def _begin(self) -> None:
        """Start with a new connection, which has not told anything yet."""
        self.socket, self.needed = self.device.socket, set(self.room_ids)
        for each in (self.asking, self.told, self.words, self.asked_at):
            each.clear()

    def _give_up(self, room_id: str) -> None:
        self.needed.discard(room_id)
        self.asked_at.pop(room_id, None)

    def ask_needed(self) -> None:
        """Ask for the members of each room that needs it. A request without a reply is sent again."""
        if self.device.socket is None or self.device.socket is not self.socket:
            return
        world = self.device.world
        for room_id in sorted(self.needed):
            if room_id in self.asking and world.schedule.now - self.asking[room_id][2] < REPLY_SECONDS:
                continue
            self._asks += 1
            ack_id = f"members#{room_id}#{self._asks}"
            self.asking[room_id] = ack_id, world.schedule.moment(), world.schedule.now
            self.told[room_id] = set()
            world.send(self.device.socket, {"action": "members", "roomId": room_id, "ackId": ack_id})

    def _on_event(self, frame: Item) -> None:
        room_id = frame["roomId"]
        for player in frame["players"]:
            self.words.setdefault(room_id, {})[player["playerId"]] = player["member"], player["online"]
            self.told.setdefault(room_id, set()).add(player["playerId"])

    def _on_members(self, frame: Item) -> None:
        """Take the reply to the last request, and only once, because a reply can arrive twice."""
        room_id = frame["roomId"]
        ack_id, moment, _ = self.asking.get(room_id, (None, 0.0, 0.0))
        if frame["ackId"] != ack_id:
            return
        earlier = self.words.get(room_id, {})
        newer = {player_id: earlier[player_id] for player_id in self.told[room_id]}
        self.words[room_id] = {each: (True, each in frame["online"]) for each in frame["members"]} | newer
        self.asked_at[room_id] = moment
        self.needed.discard(room_id)
        del self.asking[room_id]

    def _on_error(self, frame: Item) -> bool:
        kind, _, request = str(frame.get("ackId")).partition("#")
        if kind == "members":
            room_id = request.partition("#")[0]
            self.asking.pop(room_id, None)
            if frame["code"] == "not_a_member":
                self._give_up(room_id)
        return kind in ("members", "signal")


@dataclass(slots=True)
class Watchers:
    world: World
    random: Random
    rooms: RoomLife
    log: PresenceLog
    tells: float
    flips: float
    signals: float
    watches: list[Watch] = field(default_factory=list)

    @classmethod
    def draw(cls, seed: int, world: World, rooms: RoomLife) -> "Watchers | None":
        random = Random(seed ^ 0x3A7C)
        if random.random() >= SHARE:
            return None
        watchers = cls(
            world,
            random,
            rooms,
            log=PresenceLog(world),
            tells=random.choice((0.5, 0.8, 1.0)),
            flips=random.choice((0.05, 0.2)),
            signals=random.choice((0.0, 0.1, 0.3)),
        )
        rooms.habits = _soften(rooms.habits, random)
        world.presence = watchers.log
        rooms.presence = watchers._presence
        rooms.end_presence = watchers._end_presence
        for device in rooms.devices:
            watch = Watch(device, rooms.habits.room_ids)
            device.observe = watch.take
            watchers.watches.append(watch)
        return watchers

    def _presence(self) -> bool | None:
        return self.random.choice((None, None, False, True)) if self.random.random() > self.tells else True

    def _end_presence(self, room_id: str, player_id: str) -> None:
        """Act as the backend does after a removal, with calls that can fail."""
        self.world.tables.client.update_item(
            TableName=WEBSOCKETS,
            Key=player_key(player_id),
            UpdateExpression="DELETE rooms :gone",
            ExpressionAttributeValues={":gone": {"SS": [room_id]}},
        )
        with suppress(Unavailable):
            self.world.stores.messages.put_pokes([Poke(self.world.new_message_id(), room_id, player_id)])

    def begin(self) -> None:
        """Let some players tell the rooms of their presence."""
        for watch in self.watches:
            if watch.device.connected and self.random.random() < self.tells:
                watch.device.join_room(self.random.choice(watch.room_ids), presence=True)

    def act(self) -> None:
        random = self.random
        for watch in self.watches:
            if random.random() < ASKS:
                watch.ask_needed()
        if random.random() < self.flips:
            self._let_one_go_offline()
        if random.random() < self.signals:
            self._signal()

    def _let_one_go_offline(self) -> None:
        player_id = self.random.choice(self.rooms.players)
        for device in self.rooms.devices:
            if device.player_id == player_id and device.connected:
                device.leave(cut=self.random.random() < 0.3)

    def _signal(self) -> None:
        device = self.random.choice(self.rooms.devices)
        if device.socket is None or not device.connected:
            return
        data = f"signal#{len(self.log.signals)}"
        frame = {"action": "signal", "data": data, "ackId": data}
        to = self.random.choice([*self.rooms.players, *(ROOM + each for each in self.rooms.habits.room_ids)])
        frame["roomId" if to.startswith(ROOM) else "destinationPlayerId"] = to.removeprefix(ROOM)
        self.log.signals[data] = SentSignal(
            device.player_id, device.socket.id, to, self.world.schedule.moment()
        )
        self.world.send(device.socket, frame)

    # The end

    @property
    def has_lost_nothing(self) -> bool:
        """Return whether nothing has happened that can lose an event."""
        kinds = {name.partition(": ")[2] for name in self.world.faulted}
        return not self.world.schedule.crashes and kinds <= {"slow", "stalled", "split", *Faults.MILD}

    def judge_undisturbed(self, run_until_idle: Callable[[], None]) -> None:
        """Check the last words of a schedule in which nothing was lost, without any repair."""
        if self.has_lost_nothing:
            self.log.counts["undisturbed"] += 1
            self._rest(run_until_idle)
            self._judge_words(-inf, "undisturbed")

    def finish(self, verdict: Verdict, run_until_idle: Callable[[], None]) -> None:
        """Check that without faults, each next request or change puts the last words right."""
        quiet = self.world.schedule.moment()
        if self.random.random() < 0.5:
            for watch in self.watches:
                watch.needed = set(watch.room_ids)
                watch.asking.clear()
        self._rest(run_until_idle)
        self._judge_words(quiet, "after the faults")
        for _ in range(CALM_STEPS):
            self._take_calm_step()
        self._rest(run_until_idle)
        self._judge_words(quiet, "after the changes")
        self.log.check_stored()
        for about in self.log.violations:
            verdict.add("presence", about)
        verdict.counts.update(self.log.counts)

    def _take_calm_step(self) -> None:
        random, world = self.random, self.world
        device = random.choice(self.rooms.devices)
        if device.socket is None:
            device.connect()
        elif device.connected and random.random() < 0.5:
            device.leave(cut=random.random() < 0.3)
        elif device.connected and self._is_idle(device.player_id):
            room_id = random.choice(self.rooms.habits.room_ids)
            if random.random() < 0.3:
                device.leave_room(room_id)
            else:
                device.join_room(room_id, self._presence())
        for watch in self.watches:
            if random.random() < ASKS:
                watch.ask_needed()
        for _ in range(random.choice((0, 5, 20))):
            if random.random() < 0.3 or not world.schedule.step():
                world.poll(random.choice(world.shards))
            random.choice(self.rooms.devices).read()

    def _is_idle(self, player_id: str) -> bool:
        """Return whether none of the player's devices waits for a reply.

        A leave of one device during a join of another can leave a wrong last word; nothing else is promised.
        """
        devices = (each for each in self.rooms.devices if each.player_id == player_id)
        return all(each.requested is None for each in devices)

    def _rest(self, run_until_idle: Callable[[], None]) -> None:
        """Let the clients ask until nothing is left to do."""
        for _ in range(RETRIES):
            for watch in self.watches:
                watch.ask_needed()
            run_until_idle()
            if not any(watch.needed for watch in self.watches if watch.device.socket is not None):
                return
            self.world.schedule.advance(RETRY_SECONDS)

    def _judge_words(self, quiet: float, when: str) -> None:
        for room_id in self.rooms.habits.room_ids:
            members = self.log.room(room_id).members
            for player_id in self.rooms.players:
                truth = self.log.truth((room_id, player_id), quiet)
                if truth is None:
                    continue
                for watch in self.watches:
                    asked = self._asked_at(watch, room_id) if watch.device.player_id in members else None
                    if asked is None or (asked < quiet and truth.told is None):
                        continue
                    word = watch.words[room_id].get(player_id, (False, False))
                    self.log.counts["words"] += 1
                    if not truth.agrees(word):
                        about = f"{when}: {watch.device.name} in {room_id} of {player_id}: {word}"
                        self.log.violations.append(about)

    def _asked_at(self, watch: Watch, room_id: str) -> float | None:
        """Return since when the client has watched the room as a member, if it does."""
        asked = watch.asked_at.get(room_id)
        if asked is None or watch.socket is not watch.device.socket or watch.socket is None:
            return None
        player = self.world.player(watch.device.player_id)
        removed = self.world.memberships.removed[room_id, player.id]
        is_live = watch.socket.open and watch.socket.id in player.live
        return asked if is_live and all(moment < asked for moment in removed) else None


def _soften(habits: RoomHabits, random: Random) -> RoomHabits:
    """Return habits in which most schedules lose no event: without faults, or with mild ones."""
    faults = random.choice((Faults(), Faults(10, mild=True), Faults(20, mild=True), None, None))
    return habits if faults is None else replace(habits, faults=faults, jumps=QUICK_JUMPS)
