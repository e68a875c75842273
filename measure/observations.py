"""Records every connect and every message of a load test, as its clients saw them."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Connect:
    """A connect. Times are in epoch seconds, or None if the event has not happened."""

    asked: float
    accepted: float | None = None
    greeted: float | None = None
    connection_id: str | None = None


@dataclass(slots=True)
class Send:
    """A message. Latencies count from `due`, the time at which the load test scheduled it.

    A sender that waits for a slow server sends late. Latencies from the actual time of sending would hide
    that wait (coordinated omission).

    `received` is the time at which the last of `recipients` received it. `place` counts the messages by the
    first time that anybody received them.
    """

    sender: str
    number: int
    due: float
    room_id: str | None = None
    recipients: int = 1
    acknowledged: float | None = None
    received: float | None = None
    received_by: set[str] = field(default_factory=set)
    place: int = 0
    message_id: str | None = None
    error: str | None = None

    @property
    def missing(self) -> int:
        """The number of recipients that haven't received it."""
        return self.recipients - len(self.received_by)


@dataclass(slots=True)
class Observations:
    """All connects and messages of a run, and counters of errors.

    Messages due before `since` and connects before `connects_since` are warm-up: they are checked, but not
    measured.
    """

    since: float = 0.0
    connects_since: float = 0.0
    connects: list[Connect] = field(default_factory=list)
    sends: dict[tuple[str, int], Send] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    duplicated: int = 0
    out_of_order: int = 0
    unexpected: int = 0
    """Received messages that no player of this test sent."""

    _latest: dict[tuple[str, str], int] = field(default_factory=dict)
    _latest_place: dict[tuple[str, str | None], int] = field(default_factory=dict)
    _places: int = 0

    def send(
        self, sender: str, number: int, due: float, room_id: str | None = None, recipients: int = 1
    ) -> Send:
        self.sends[sender, number] = Send(sender, number, due, room_id, recipients)
        return self.sends[sender, number]

    def receive(self, recipient: str, sender: str, number: int, now: float) -> Send | None:
        """Record a received message. Return it if this was the last recipient that it was missing."""
        send = self.sends.get((sender, number))
        if send is None:
            self.unexpected += 1
            return None
        if recipient in send.received_by:
            self.duplicated += 1
            return None
        send.received_by.add(recipient)
        self.out_of_order += self._is_out_of_order(recipient, send)
        if send.missing:
            return None
        send.received = now
        return send

    def _is_out_of_order(self, recipient: str, send: Send) -> bool:
        """Return whether the recipient already has a later message of the sender or of the room.

        All members of a room receive its messages in one order. So the order in which anybody first receives
        them is every member's.
        """
        if not send.place:
            self._places += 1
            send.place = self._places
        latest = self._latest.get((recipient, send.sender), -1)
        latest_place = self._latest_place.get((recipient, send.room_id), 0)
        self._latest[recipient, send.sender] = max(send.number, latest)
        self._latest_place[recipient, send.room_id] = max(send.place, latest_place)
        return send.number < latest or (send.room_id is not None and send.place < latest_place)

    def fail(self, send: Send, code: str) -> None:
        send.error = code
        self.errors[code] += 1

    @property
    def measured(self) -> list[Send]:
        return [send for send in self.sends.values() if send.due >= self.since]

    @property
    def measured_connects(self) -> list[Connect]:
        return [connect for connect in self.connects if connect.asked >= self.connects_since]

    @property
    def unsettled(self) -> int:
        """The number of messages that are neither refused nor both acknowledged and received."""
        return sum(
            send.error is None and (send.acknowledged is None or send.received is None)
            for send in self.sends.values()
        )

    @property
    def lost(self) -> int:
        """How often a recipient never received an acknowledged message. It must be 0."""
        return sum(send.missing for send in self.sends.values() if send.acknowledged is not None)

    @property
    def unanswered(self) -> int:
        return sum(send.error is None and send.acknowledged is None for send in self.sends.values())
