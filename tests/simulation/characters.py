"""Players that put load on others: one has a long backlog, one floods itself, some abort their handshakes."""

from dataclasses import dataclass, field
from random import Random

from chalicelib.core.model import Message
from chalicelib.core.replay import OVERLAP_MS
from tests.simulation.devices import Device, Sent
from tests.simulation.world import Socket, World

BACKLOG = 40
HOARDERS_STEPS = 400
ABORTS_AT_ONCE = 5
ACTS = 0.15


@dataclass(slots=True)
class Characters:
    """At most one of these players, in one of four schedules.

    They have their own random numbers, so they don't change the draws of the other devices.
    """

    world: World
    random: Random
    hoarder: Device | None = None
    flooder: Device | None = None
    aborts: bool = False
    replays_slowly: bool = False
    """Whether the hoarder connects only after the faults, and its replay then lasts for over a minute."""

    late: list[Message] = field(default_factory=list)
    began: float = 0
    _aborted: list[Socket] = field(default_factory=list)

    @classmethod
    def draw(cls, world: World, seed: int) -> "Characters":
        random = Random(seed ^ 0xC4A2)
        characters = cls(world, random, began=world.schedule.now)
        kind = random.choice(("hoarder", "hoarder", "flooder", "aborts", *[None] * 12))
        if kind == "hoarder":
            characters.hoarder = _hoarder(world, characters.late)
            characters.replays_slowly = random.random() < 0.5
        elif kind == "flooder":
            characters.flooder = Device("flooder", "p-flooder", True, world)
        characters.aborts = kind == "aborts"
        return characters

    @property
    def steps(self) -> int:
        """Return how many more steps the schedule needs for a long replay."""
        return HOARDERS_STEPS if self.hoarder is not None and not self.replays_slowly else 0

    @property
    def devices(self) -> list[Device]:
        return [device for device in (self.hoarder, self.flooder) if device is not None]

    def act(self) -> None:
        if self.random.random() > ACTS:
            return
        if self.aborts:
            self._abort()
        if self.hoarder is not None and not self.replays_slowly:
            self.ping(self.hoarder)
            self._store_late(self.hoarder)
        if self.flooder is not None:
            self._flood(self.flooder)

    def _abort(self) -> None:
        """Let players connect and disconnect before their handshakes have ended."""
        for number in range(self.random.randint(1, ABORTS_AT_ONCE)):
            socket = self.world.connect(f"p-abort-{number}", self.random.choice((None, "0")))
            self.world.cut_off(socket)

    def ping(self, device: Device) -> None:
        while device.read():
            pass
        if device.socket is None:
            device.connect()
        elif device.connected and device.requested is None:
            device.ping()

    def _store_late(self, device: Device) -> None:
        """Store a message long after its id was made, and then its sender's next message."""
        is_in_time = self.world.schedule.now - self.began < OVERLAP_MS / 1000
        if self.late and is_in_time and device.connected and self.random.random() < 0.5:
            late = self.late.pop(self.random.randrange(len(self.late)))
            _store(self.world, device, late)
            _store(self.world, device, _message(self.world, device, late.src_player_id, 1))

    def _flood(self, device: Device) -> None:
        while device.read():
            pass
        if device.socket is None:
            device.connect()
        elif device.connected and device.requested is None:
            device.send_message(device.player_id, idempotent=True)
        elif device.connected and device.greeted and self.random.random() < 0.3:
            device.leave(cut=self.random.random() < 0.5)


def _hoarder(world: World, late: list[Message]) -> Device:
    """Return a device with a backlog, which stays connected and pings.

    A fourth of its messages aren't in the table yet. They are in `late`.
    """
    device = Device("hoarder", "p-hoarder", True, world)
    for number in range(BACKLOG):
        if number % 4:
            _store(world, device, _message(world, device, "backlog", number))
        else:
            late.append(_message(world, device, f"late-{number}", 0))
    return device


def _message(world: World, device: Device, by: str, number: int) -> Message:
    return Message(world.new_message_id(), device.player_id, by, f"{by}#{number}", 0)


def _store(world: World, device: Device, message: Message) -> None:
    world.messages.put(message)
    by, _, number = message.text.rpartition("#")
    device.sent.append(Sent(message.text, by, device.player_id, int(number), idempotent=True, acked=True))
