"""Clients that keep the protocol: they remember their position, drop what they have seen, and send again."""

from dataclasses import dataclass, field
from typing import Any

from tests.simulation.world import Socket, World

REPLY_SECONDS = 12.0
"""How long a client waits for an answer before it takes the connection for dead."""


@dataclass(eq=False, slots=True)
class Sent:
    """One message that somebody wanted to send. `once`: with a clientMessageId, so it is sent until acked.

    `table_was_deleted`: after its first try, so nothing is promised for it.
    """

    text: str
    by: str
    to: str
    number: int
    once: bool
    acked: bool = False
    table_was_deleted: bool = False


@dataclass(eq=False, slots=True)
class Device:
    """One client of a player. `shown` is what its person has seen, in order."""

    name: str
    player_id: str
    from_the_beginning: bool
    world: World
    socket: Socket | None = None
    position: str | None = None
    greeted: bool = False
    answered: bool = False
    seen: set[str] = field(default_factory=set)
    shown: list[str] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    waiting: Sent | None = None
    asked: str | None = None
    asked_at: float = 0.0
    pings: int = 0
    doubted_after: int = 0
    first_greeting: str | None = None

    @property
    def connected(self) -> bool:
        return self.socket is not None and self.socket.opened

    @property
    def at_rest(self) -> bool:
        """It receives, has heard so since it was last asked, and waits for nothing."""
        return self.socket is not None and self.socket.open and self.answered and self.waiting is None

    def connect(self) -> None:
        after = self.position or ("0" if self.from_the_beginning else None)
        self.from_the_beginning = True  # Should this attempt fail, it will not be known what it brought.
        self.socket = self.world.connect(self.player_id, after)
        self.greeted = self.answered = False
        self.asked = None

    def leave(self, cut: bool) -> None:
        assert self.socket is not None
        if cut:
            self.world.cut_off(self.socket)
        else:
            self.world.close(self.socket)
            self.socket.arriving.clear()
        self.socket = None
        self._give_up()

    def say(self, to: str, once: bool) -> None:
        """Send a new message, or again the one that was not acknowledged."""
        if self.waiting is None:
            number = len(self.sent)
            self.waiting = Sent(f"{self.name}#{number}", self.name, to, number, once)
            self.sent.append(self.waiting)
        frame = {
            "action": "sendmessage",
            "destinationPlayerId": self.waiting.to,
            "message": self.waiting.text,
        }
        if self.waiting.once:
            frame["clientMessageId"] = self.waiting.text
        self.ask(frame)

    def ping(self) -> None:
        self.pings += 1
        self.ask({"action": "ping", "ackId": self.pings})

    def doubt(self) -> None:
        """From now on only the answer to a further ping counts: one on its way may be of long ago."""
        self.answered = False
        self.doubted_after = self.pings

    def sync(self) -> None:
        self.ask({"action": "sync", "after": self.position or "0"})

    def read(self) -> bool:
        """Take in the next frame, or see that the connection is over; False when there is neither."""
        socket = self.socket
        if socket is None:
            return False
        if socket.arriving:
            self._take(socket.arriving.popleft())
            return True
        if socket.refused or (socket.opened and not socket.open):
            self.socket = None
            self._give_up()
            return True
        if self.asked is not None and self.world.schedule.now - self.asked_at > REPLY_SECONDS:
            self.leave(cut=True)
            return True
        return False

    def ask(self, frame: dict[str, Any]) -> None:
        assert self.socket is not None
        if self.asked is None:
            self.asked, self.asked_at = frame["action"], self.world.schedule.now
        self.world.send(self.socket, frame)

    def _give_up(self) -> None:
        """Without a clientMessageId it is not known what became of a message: it is not sent again."""
        if self.waiting is not None and not self.waiting.once:
            self.waiting = None

    def _take(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if kind in ("message", "system"):
            self.position = max(self.position or "0", frame["messageId"])
        if kind == "message":
            self._show(frame)
        elif kind == "system":
            self._on_system(frame)
        elif kind == "pong":
            self._answered("ping")
            self.answered = self.greeted and frame["ackId"] > self.doubted_after
        elif kind == "ack":
            self._on_ack(frame)
        else:
            self.asked = None
            self._give_up()

    def _show(self, frame: dict[str, Any]) -> None:
        if frame["messageId"] not in self.seen:
            self.seen.add(frame["messageId"])
            self.shown.append(frame["message"])

    def _on_system(self, frame: dict[str, Any]) -> None:
        if frame["event"] == "connected":
            self.greeted = True
            self.first_greeting = self.first_greeting or frame["messageId"]
        else:
            self._answered("sync")
            if frame["more"] and self.asked is None:
                self.sync()

    def _on_ack(self, frame: dict[str, Any]) -> None:
        if self.waiting is not None and frame["message"] == self.waiting.text:
            self.waiting.acked = True
            self.waiting = None
            self._answered("sendmessage")

    def _answered(self, action: str) -> None:
        """Replies may come twice, as everything that the stream brings: only the awaited one counts."""
        if self.asked == action:
            self.asked = None
