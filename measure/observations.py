"""What the clients of a load test saw: every connect and every message, and what became of each."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Connect:
    """Times are in seconds since the epoch; None for what has not happened."""

    asked: float
    accepted: float | None = None
    greeted: float | None = None
    connection_id: str | None = None


@dataclass(slots=True)
class Send:
    """One message. `due`: when it was to be sent, from which its latencies count, however late it went out.

    A sender that waits for a slow server sends late, and what it measured from its own late sending would
    leave out the very wait that somebody who came at that time would have had.
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
    """`since`: what was due before that was warm-up, and is checked but not measured; so are connects that
    were asked for before `connects_since`.
    """

    since: float = 0.0
    connects_since: float = 0.0
    connects: list[Connect] = field(default_factory=list)
    sends: dict[tuple[str, int], Send] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    duplicated: int = 0
    out_of_order: int = 0
    strange: int = 0
    """Messages that nobody of this test had sent."""
    _latest: dict[tuple[str, str], int] = field(default_factory=dict)

    def send(self, sender: str, number: int, due: float) -> Send:
        self.sends[sender, number] = Send(sender, number, due)
        return self.sends[sender, number]

    def receive(self, recipient: str, sender: str, number: int, now: float) -> Send | None:
        """Take down a message that arrived; None when it had arrived before, or was never sent."""
        send = self.sends.get((sender, number))
        if send is None:
            self.strange += 1
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
        """Sends that are neither refused nor acknowledged and received yet."""
        return sum(
            send.error is None and (send.acknowledged is None or send.received is None)
            for send in self.sends.values()
        )

    @property
    def lost(self) -> int:
        """Acknowledged, and never received: what must never be."""
        return sum(send.acknowledged is not None and send.received is None for send in self.sends.values())

    @property
    def unanswered(self) -> int:
        return sum(send.error is None and send.acknowledged is None for send in self.sends.values())
