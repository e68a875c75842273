"""Clients that follow the protocol: they keep a position, drop duplicates and retry sends."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chalicelib.core.model import ROOM
from tests.simulation.memberships import Kind, Request
from tests.simulation.world import Socket, World, position_of

REPLY_SECONDS = 12.0
"""A client that waits longer for a reply considers the connection dead."""


@dataclass(eq=False, slots=True)
class Sent:
    """One message of a device, to a player or to ROOM and a room id. It was sent first at `began`.

    `idempotent`: it has a clientMessageId, so it is sent until it is acked or refused.
    `table_was_deleted`: the Messages table was deleted after the first try, so no guarantee holds.
    """

    text: str
    by: str
    to: str
    number: int
    idempotent: bool
    began: float = 0.0
    acked: bool = False
    table_was_deleted: bool = False


@dataclass(eq=False, slots=True)
class Device:
    """One client of a player. `shown` has the texts that its user has seen, in order.

    `requested` is the action that waits for a reply. `confirmed`: a recent pong showed that it is live.
    `observe` gets every frame first. It returns whether the frame concerns nobody else.
    """

    name: str
    player_id: str
    wants_all: bool
    world: World
    socket: Socket | None = None
    position: str | None = None
    greeted: bool = False
    confirmed: bool = False
    seen: set[str] = field(default_factory=set)
    shown: list[str] = field(default_factory=list)
    shown_at: dict[str, float] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    unacked: Sent | None = None
    requested: str | None = None
    requested_at: float = 0.0
    pings: int = 0
    last_ignored_ping: int = 0
    first_greeting: str | None = None
    memberships: list[Request] = field(default_factory=list)
    observe: Callable[[dict[str, Any]], bool] = lambda frame: False

    @property
    def connected(self) -> bool:
        return self.socket is not None and self.socket.opened

    @property
    def is_settled(self) -> bool:
        """Return whether the connection is open and confirmed, and no message waits for its ack."""
        return self.socket is not None and self.socket.open and self.confirmed and self.unacked is None

    def connect(self) -> None:
        after = self.position or ("0" if self.wants_all else None)
        self.wants_all = True  # If this attempt fails, the device can't know what it missed.
        self.socket = self.world.connect(self.player_id, after)
        self.greeted = self.confirmed = False
        self.requested = None

    def leave(self, cut: bool) -> None:
        assert self.socket is not None
        if cut:
            self.world.cut_off(self.socket)
        else:
            self.world.close(self.socket)
            self.socket.arriving.clear()
        self.socket = None
        self._give_up()

    def send_message(self, to: str, idempotent: bool) -> None:
        """Send a new message, or retry the unacknowledged one."""
        if self.unacked is None:
            number = len(self.sent)
            began = self.world.schedule.moment()
            self.unacked = Sent(f"{self.name}#{number}", self.name, to, number, idempotent, began)
            self.sent.append(self.unacked)
        frame = {"action": "sendmessage", "message": self.unacked.text}
        if self.unacked.to.startswith(ROOM):
            frame["roomId"] = self.unacked.to.removeprefix(ROOM)
        else:
            frame["destinationPlayerId"] = self.unacked.to
        if self.unacked.idempotent:
            frame["clientMessageId"] = self.unacked.text
        self.send_frame(frame)

    def join_room(self, room_id: str, presence: bool | None = None) -> None:
        more = {} if presence is None else {"presence": presence}
        self._request_membership("join", Kind.JOIN, room_id, more)

    def leave_room(self, room_id: str) -> None:
        self._request_membership("leave", Kind.REMOVAL, room_id, {})

    def _request_membership(self, action: str, kind: Kind, room_id: str, more: dict[str, bool]) -> None:
        self.memberships.append(self.world.request_membership(kind, room_id, self.player_id))
        self.send_frame({"action": action, "roomId": room_id, "ackId": len(self.memberships) - 1, **more})

    def ping(self) -> None:
        self.pings += 1
        self.send_frame({"action": "ping", "ackId": self.pings})

    def require_new_pong(self) -> None:
        """Accept only the pong of a later ping as confirmation. A pong in flight could be outdated."""
        self.confirmed = False
        self.last_ignored_ping = self.pings

    def sync(self) -> None:
        self.send_frame({"action": "sync", "after": self.position or "0"})

    def read(self) -> bool:
        """Process the next frame or the end of the connection. Return False if there is neither."""
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
        if self.requested is not None and self.world.schedule.now - self.requested_at > REPLY_SECONDS:
            self.leave(cut=True)
            return True
        return False

    def send_frame(self, frame: dict[str, Any]) -> None:
        assert self.socket is not None
        if self.requested is None:
            self.requested, self.requested_at = frame["action"], self.world.schedule.now
        self.world.send(self.socket, frame)

    def _give_up(self) -> None:
        """Stop waiting for the ack of a message without a clientMessageId: a retry could store it twice."""
        if self.unacked is not None and not self.unacked.idempotent:
            self.unacked = None

    def _take(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if self.observe(frame):
            return
        if kind in ("message", "system"):
            self.position = max(self.position or "0", position_of(frame))
        if kind == "message":
            self._show(frame)
        elif kind == "system":
            self._on_system(frame)
        elif kind == "pong":
            self._complete("ping")
            self.confirmed = self.greeted and frame["ackId"] > self.last_ignored_ping
        elif kind == "ack":
            self._on_ack(frame)
        elif kind in ("joined", "left"):
            request = self.memberships[frame["ackId"]]
            request.acked = min(request.acked, self.world.schedule.moment())
            self._complete("join" if kind == "joined" else "leave")
        else:
            self._on_error(frame)

    def _show(self, frame: dict[str, Any]) -> None:
        if frame["messageId"] not in self.seen:
            self.seen.add(frame["messageId"])
            self.shown.append(frame["message"])
            self.shown_at.setdefault(frame["message"], self.world.schedule.now)

    def _on_system(self, frame: dict[str, Any]) -> None:
        if frame["event"] == "connected":
            self.greeted = True
            self.first_greeting = self.first_greeting or frame["messageId"]
        else:
            self._complete("sync")
            if frame["more"] and self.requested is None:
                self.sync()

    def _on_ack(self, frame: dict[str, Any]) -> None:
        if self.unacked is not None and frame["message"] == self.unacked.text:
            self.unacked.acked = True
            self.unacked = None
            self._complete("sendmessage")

    def _on_error(self, frame: dict[str, Any]) -> None:
        """Retry later, except if the player can't send to the room now."""
        if frame["code"] in ("not_a_member", "forbidden") and self.requested == "sendmessage":
            self.unacked = None
        self.requested = None
        self._give_up()

    def _complete(self, action: str) -> None:
        """Clear the pending request if it is this action. The stream can deliver a reply twice."""
        if self.requested == action:
            self.requested = None
