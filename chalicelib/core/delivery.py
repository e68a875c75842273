"""Posts to one connection: retries failed posts, and drops the connection if they keep failing."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from chalicelib.core.model import (
    Delivery,
    Endpoint,
    PlayerConnections,
    ReplayProgress,
    StreamPosition,
    Unavailable,
)
from chalicelib.core.ports import POST_SECONDS, ConnectionStore, Gateway, Telemetry
from chalicelib.core.presence import Presence
from chalicelib.core.rate_limit import RateLimited

PATIENCE_SECONDS = 1.9
"""The longest that one failing connection can delay the others, including the time to close it."""

PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between attempts of a post, before jitter."""

RESERVE_SECONDS = 3.0
"""Time reserved at an invocation's end to remove and close connections that it couldn't post to."""


@dataclass(slots=True, kw_only=True)
class Recipient:
    """A player's connections, updated while a batch is processed.

    `time_left` returns the seconds left of the invocation. `has_replayed`: this batch has already posted a
    page to the player, up to the message `replayed_to`. `look_up_ms`: how long the batch took to read its
    players. `is_failing`: a post to one of the player's connections has just failed.
    """

    id: str
    endpoint: Endpoint
    connections: frozenset[str]
    live: dict[str, StreamPosition]
    progress: dict[str, ReplayProgress]
    missed_from: str | None
    time_left: Callable[[], float]
    look_up_ms: float
    has_replayed: bool = False
    replayed_to: str | None = None
    is_failing: bool = False

    @classmethod
    def of(cls, player: PlayerConnections, time_left: Callable[[], float], look_up_ms: float) -> "Recipient":
        return cls(
            id=player.id,
            endpoint=player.endpoint or Endpoint("", ""),
            connections=player.connections,
            live=dict(player.live),
            progress={key: value for key, value in player.progress.items() if key not in player.live},
            missed_from=player.missed_from,
            time_left=time_left,
            look_up_ms=look_up_ms,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Posts:
    """Posts frames with retries. `monotonic` is in seconds; `jitter` returns a number from 0 to 1."""

    gateway: Gateway
    connections: ConnectionStore
    presence: Presence
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    jitter: Callable[[], float]
    note: Telemetry

    def post(self, recipient: Recipient, connection_id: str, frame: str) -> Delivery:
        """Post a frame and return the result. Retries failed posts for less than PATIENCE_SECONDS."""
        started = self.monotonic()
        for pause in (*PAUSES, None):
            if recipient.time_left() < RESERVE_SECONDS:
                return Delivery.FAILED
            delivery = self.gateway.post(recipient.endpoint, connection_id, frame)
            needed = 2 * POST_SECONDS  # The retry can time out, and so can closing the connection after it.
            if delivery is not Delivery.FAILED or pause is None:
                break
            if self.monotonic() - started + pause + needed > PATIENCE_SECONDS:
                break
            self.sleep(pause * (0.5 + self.jitter() / 2))
        return delivery

    def drop(
        self,
        recipient: Recipient,
        connection_id: str,
        delivery: Delivery,
        closes: bool = True,
        **about: str,
    ) -> None:
        """Remove the connection, then close it unless it is gone. Raises Unavailable if removing it fails.

        Nothing more is posted to the connection, because a later message would hide the gap from its client.
        After Unavailable, Lambda redelivers the batch.
        """
        recipient.live.pop(connection_id, None)
        recipient.progress.pop(connection_id, None)
        if delivery is Delivery.FAILED:
            recipient.is_failing = True
            self._charge(recipient, connection_id)
        try:
            self.presence.remove(recipient.id, connection_id)
        finally:
            if delivery is not Delivery.GONE and closes:
                self.gateway.close(recipient.endpoint, connection_id)
        outcome = "gone" if delivery is Delivery.GONE else "closed"
        self.note(outcome, player=recipient.id, connection=connection_id, because=delivery.value, **about)

    def _charge(self, recipient: Recipient, connection_id: str) -> None:
        """Charge the player's rate limit like a `sync`, because the failure has delayed other players."""
        with suppress(RateLimited, Unavailable):
            self.connections.charge_replay(recipient.id, connection_id)
