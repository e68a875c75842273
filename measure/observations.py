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
    """

    sender: str
    number: int
    due: float
    acknowledged: float | None = None
    received: float | None = None
    message_id: str | None = None
    error: str | None = None


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

    def send(self, sender: str, number: int, due: float) -> Send:
        self.sends[sender, number] = Send(sender, number, due)
        return self.sends[sender, number]

    def receive(self, recipient: str, sender: str, number: int, now: float) -> Send | None:
        """Record a received message and return it, or None if it is a duplicate or was never sent."""
        send = self.sends.get((sender, number))
        if send is None:
            self.unexpected += 1
            return None
        if send.received is not None:
            self.duplicated += 1
            return None
        send.received = now
        if number < self._latest.get((recipient, sender), -1):
            self.out_of_order += 1
        self._latest[recipient, sender] = max(number, self._latest.get((recipient, sender), -1))
        return send

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
        """The number of messages that were acknowledged but never received. It must be 0."""
        return sum(send.acknowledged is not None and send.received is None for send in self.sends.values())

    @property
    def unanswered(self) -> int:
        return sum(send.error is None and send.acknowledged is None for send in self.sends.values())
