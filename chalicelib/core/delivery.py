"""Posting to one connection of a recipient: what is retried, and what ends the connection."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from chalicelib.core.ports import (
    POST_SECONDS,
    ConnectionStore,
    Delivery,
    Endpoint,
    Gateway,
    Message,
    PlayerConnections,
    StreamPosition,
    Telemetry,
    Unavailable,
    Walk,
)
from chalicelib.core.protocol import MessageFrame
from chalicelib.core.rate_limit import RateLimited

PATIENCE_SECONDS = 1.9
"""How long one connection can delay the others by failing, the time to close it included."""

PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between tries of a post, before jitter."""

RESERVE_SECONDS = 3.0
"""What is kept of the invocation to remove and close the connections that it had no time for."""


@dataclass(slots=True)
class Recipient:
    """A player as the work on a batch goes on. `time_left`: seconds of the invocation.

    `has_replayed`: whether the batch has had its page of the player, `replayed_to`: up to which message.
    `look_up_ms`: how long the batch took to find its players. `is_failing`: one of the player's connections
    has just failed.
    """

    id: str
    endpoint: Endpoint
    connections: frozenset[str]
    live: dict[str, StreamPosition]
    walks: dict[str, Walk]
    missed_from: str | None
    time_left: Callable[[], float]
    look_up_ms: float
    has_replayed: bool = False
    replayed_to: str | None = None
    is_failing: bool = False

    @classmethod
    def of(cls, player: PlayerConnections, time_left: Callable[[], float], look_up_ms: float) -> "Recipient":
        return cls(
            player.id,
            player.endpoint or Endpoint("", ""),
            player.connections,
            dict(player.live),
            {each: walk for each, walk in player.walks.items() if each not in player.live},
            player.missed_from,
            time_left,
            look_up_ms,
        )


@dataclass(frozen=True, slots=True)
class Posts:
    """`monotonic` is in seconds; `jitter` returns a number from 0 to 1."""

    gateway: Gateway
    connections: ConnectionStore
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    jitter: Callable[[], float]
    note: Telemetry

    def post(self, recipient: Recipient, connection_id: str, frame: str) -> Delivery:
        """Post a frame, and retry while that helps and delays others by less than PATIENCE_SECONDS."""
        started = self.monotonic()
        for pause in (*PAUSES, None):
            if recipient.time_left() < RESERVE_SECONDS:
                return Delivery.FAILED
            delivery = self.gateway.post(recipient.endpoint, connection_id, frame)
            needed = 2 * POST_SECONDS  # A retry might time out, and so might the closing after it.
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
        """Remove the connection, then close it unless it is gone.

        A later message that got through would hide the hole from the client, so nothing more is posted. If
        the connection cannot be removed, this raises Unavailable, and the batch has to come again.
        """
        recipient.live.pop(connection_id, None)
        recipient.walks.pop(connection_id, None)
        if delivery is Delivery.FAILED:
            recipient.is_failing = True
            self._charge(recipient, connection_id)
        try:
            self.connections.remove(recipient.id, connection_id)
        finally:
            if delivery is not Delivery.GONE and closes:
                self.gateway.close(recipient.endpoint, connection_id)
        outcome = "gone" if delivery is Delivery.GONE else "closed"
        self.note(outcome, player=recipient.id, connection=connection_id, because=delivery.value, **about)

    def _charge(self, recipient: Recipient, connection_id: str) -> None:
        """Charge the player's rate for the time that the others have lost, as a `sync` is charged."""
        with suppress(RateLimited, Unavailable):
            self.connections.charge_replay(recipient.id, connection_id)


def frame_of(message: Message, replayed: bool = False) -> str:
    return MessageFrame(
        message=message.text,
        message_id=message.id,
        src_player_id=message.src_player_id,
        destination_player_id=message.destination_player_id,
        sent_at=message.sent_at,
        replayed=True if replayed else None,
    ).to_json()
