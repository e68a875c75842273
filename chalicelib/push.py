"""What happens when messages come down the stream: each is posted to the recipient's live connections.

The Messages table is the truth and a push only saves the client from asking, so nothing that a gateway or
a client does ever fails the batch. It comes again only when DynamoDB would not say who is there, or would
not take down who missed something.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from chalicelib.message_id import made_at, moved_back, position_at
from chalicelib.ports import (
    POST_SECONDS,
    ConnectionStore,
    Delivery,
    Endpoint,
    Entry,
    Gateway,
    Message,
    MessageStore,
    Page,
    Player,
    ReplayMarker,
    StreamPosition,
    Telemetry,
    Unavailable,
)
from chalicelib.protocol import Connected, MessageFrame, Synced

REPLAY_PAGE = 50
"""Messages replayed before other players of the shard have their turn: about a second's posts."""

OVERLAP_MS = 15_000
"""How long after its id was made a message's put may take effect: its function's ten seconds, and skew.

Replays begin so much before their cursor, every page of them: a message of before may have come since.
"""

PATIENCE_SECONDS = 1.9
"""How long one connection may hold up the others by failing, its closing included."""

PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between tries of a post, before jitter."""

RESERVE_SECONDS = 3.0
"""What is kept of the invocation to remove and close the connections that it had no time for."""

Calls = Iterable[Callable[[], None]]


@dataclass(slots=True)
class Recipient:
    """A player as the work on a batch goes on. `time_left`: seconds of the invocation.

    `has_replayed`: whether the batch has had its page of the player, `replayed_to`: up to which message.
    `look_up_ms`: how long the batch took to find its players.
    """

    id: str
    endpoint: Endpoint
    connections: frozenset[str]
    live: dict[str, StreamPosition]
    missed_from: str | None
    time_left: Callable[[], float]
    look_up_ms: float
    has_replayed: bool = False
    replayed_to: str | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """`players_at_once` and `connections_at_once` run calls side by side and return when all have ended.

    `clock` is in milliseconds since the epoch, `monotonic` in seconds; `jitter` gives a number from 0 to 1.
    """

    connections: ConnectionStore
    messages: MessageStore
    gateway: Gateway
    new_message_id: Callable[[], str]
    players_at_once: Callable[[Calls], None]
    connections_at_once: Callable[[Calls], None]
    clock: Callable[[], int]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    jitter: Callable[[], float]
    note: Telemetry
    page_size: int = REPLAY_PAGE

    def batch(self, entries: Iterable[Entry], time_left: Callable[[], float]) -> None:
        """Push one batch of the stream. Raises Unavailable when it has to come again.

        May be repeated, whole or in parts: clients drop messages that they have seen.
        """
        by_player: dict[str, list[Entry]] = {}
        for entry in entries:
            by_player.setdefault(entry.destination_player_id, []).append(entry)
        if not by_player:
            return
        asked = self.monotonic()
        players = self.connections.players(by_player.keys())
        look_up_ms = round(1000 * (self.monotonic() - asked), 2)
        self.players_at_once(
            [
                partial(self._push_to, _recipient(players[player_id], time_left, look_up_ms), theirs)
                for player_id, theirs in by_player.items()
            ]
        )

    def _push_to(self, recipient: Recipient, entries: list[Entry]) -> None:
        """Everything of a batch for one player, in order."""
        messages: list[Message] = []
        for entry in entries:
            if isinstance(entry, Message):
                messages.append(entry)
            else:
                self._deliver(recipient, messages)
                messages = []
                self._replay(recipient, entry)
        self._deliver(recipient, messages)

    # Messages

    def _deliver(self, recipient: Recipient, messages: list[Message]) -> None:
        """Post to all live connections side by side, and remember the first message that reached none.

        A message before a connection's start has reached it by replay, or has reached another connection.
        A retried batch has it again, and posting it then would break the order.
        """
        starts = recipient.live.values()
        covered = {m.id for m in messages if any(m.stream_position <= start for start in starts)}
        lanes = [
            partial(
                self._run_lane,
                recipient,
                connection_id,
                [m for m in messages if m.stream_position > start],
                covered,
            )
            for connection_id, start in recipient.live.items()
        ]
        try:
            self.connections_at_once(lanes)
        finally:
            missed = [message.id for message in messages if message.id not in covered]
            if missed and recipient.missed_from is None:
                self.connections.note_missed(recipient.id, missed[0])
                recipient.missed_from = missed[0]
            for message_id in missed:
                self.note("missed", player=recipient.id, message=message_id)

    def _run_lane(
        self, recipient: Recipient, connection_id: str, messages: list[Message], reached: set[str]
    ) -> None:
        """Post to one connection, in order, until one post fails; add to `reached` what came through."""
        for message in messages:
            delivery = self._post(recipient, connection_id, _frame(message))
            if delivery is not Delivery.DELIVERED:
                self._drop(recipient, connection_id, delivery, message=message.id)
                return
            reached.add(message.id)
            self.note(
                "delivered",
                player=recipient.id,
                connection=connection_id,
                message=message.id,
                look_up_ms=recipient.look_up_ms,
                push_latency_ms=self.clock() - message.sent_at,
            )

    # Replay

    def _replay(self, recipient: Recipient, marker: ReplayMarker) -> None:
        """Post a page of what the connection missed; when nothing is left, let it receive and say so."""
        connection_id = marker.connection_id
        live_from = recipient.live.get(connection_id)
        if connection_id not in recipient.connections:
            return
        if live_from is not None and not marker.sync and live_from != marker.stream_position:
            return  # One of two runs of markers, which a repeated batch makes, is enough.
        began = marker.began or _earliest(marker.after, recipient.missed_from)
        half_done = live_from is not None and not marker.sync  # Live, and perhaps not told so yet.
        if began is not None and recipient.has_replayed and not half_done:
            self._put_again(marker)
            return
        try:
            self._replay_page(recipient, marker, began)
        except Unavailable:
            self._drop(recipient, connection_id, Delivery.FAILED)
            return
        except _NotDelivered as failed:
            if failed.delivery is Delivery.FAILED:
                self._advance_missed(recipient, began)
            self._drop(recipient, connection_id, failed.delivery)

    def _replay_page(self, recipient: Recipient, marker: ReplayMarker, began: str | None) -> None:
        """First the page, then what follows from it: a crash in between repeats the page."""
        asked_at = self.clock()
        page = self._page(recipient.id, marker, began)
        replayed = marker.replayed + len(page.messages)
        not_yet_connected = marker.began is None and not marker.sync
        for message in page.messages:
            self._must_post(recipient, marker, _frame(message, replayed=True), not_yet_connected)
            not_yet_connected, recipient.has_replayed = False, True
            if not marker.sync:
                recipient.replayed_to = message.id
        if page.messages:
            about = {"player": recipient.id, "connection": marker.connection_id}
            self.note("replayed", **about, replayed=len(page.messages))
        if marker.sync:
            self._must_post(recipient, marker, _synced(marker, page, replayed))
        elif page.more and marker.connection_id not in recipient.live:
            self._put_next(marker, page, began, replayed, asked_at)
            self._advance_missed(recipient, began)
        elif self._make_live(recipient, marker, began):
            self._must_post(recipient, marker, _connected(marker, replayed), not_yet_connected)
            self.note("live", player=recipient.id, connection=marker.connection_id)

    def _page(self, player_id: str, marker: ReplayMarker, began: str | None) -> Page:
        """From its cursor on, and before it what may have been stored since the page before was asked for."""
        if began is None:
            return Page((), more=False)
        cursor = began if marker.began is None or marker.after is None else marker.after
        since = moved_back(cursor, OVERLAP_MS)
        if marker.asked_at is not None:
            since = max(since, min(cursor, position_at(marker.asked_at - OVERLAP_MS)))
        return self.messages.page(player_id, since, cursor, self.page_size)

    def _put_next(
        self, marker: ReplayMarker, page: Page, began: str | None, replayed: int, asked_at: int
    ) -> None:
        self.messages.put(
            replace(
                marker,
                id=self.new_message_id(),
                after=page.messages[-1].id,
                began=began,
                replayed=replayed,
                asked_at=asked_at,
            )
        )

    def _put_again(self, marker: ReplayMarker) -> None:
        """One page of a player is enough for a batch, for which others wait: this one has its turn later."""
        self.messages.put(replace(marker, id=self.new_message_id()))

    def _advance_missed(self, recipient: Recipient, began: str | None) -> None:
        """What was replayed is missed no longer: should this replay break off, the next one gets further."""
        missed, reached = recipient.missed_from, recipient.replayed_to
        if missed is not None and began is not None and reached is not None and began <= missed < reached:
            self.connections.advance_missed(recipient.id, missed, reached)
            recipient.missed_from = reached

    def _make_live(self, recipient: Recipient, marker: ReplayMarker, began: str | None) -> bool:
        missed = recipient.missed_from
        caught_up = missed if missed is not None and began is not None and began <= missed else None
        start = marker.stream_position
        if not self.connections.make_live(recipient.id, marker.connection_id, start, caught_up):
            return False
        recipient.live[marker.connection_id] = start
        if caught_up is not None:
            recipient.missed_from = None
        return True

    # Posts

    def _must_post(
        self, recipient: Recipient, marker: ReplayMarker, frame: str, not_yet_connected: bool = False
    ) -> None:
        """Raises _NotDelivered. Gone may mean that the connection's `$connect` has not returned yet.

        That is waited for while the marker is young: clients that gave up while connecting hold up nobody
        for longer, however many they are.
        """
        age = (self.clock() - made_at(marker.id)) / 1000 if not_yet_connected else None
        delivery = self._post(recipient, marker.connection_id, frame, age)
        if delivery is not Delivery.DELIVERED:
            raise _NotDelivered(delivery)

    def _post(
        self, recipient: Recipient, connection_id: str, frame: str, age: float | None = None
    ) -> Delivery:
        """Post, and again while that may help and holds nobody up for longer than PATIENCE_SECONDS.

        `age`: for how many seconds a connection has been waited for that may not be there yet.
        """
        started = self.monotonic()
        for pause in (*PAUSES, None):
            if recipient.time_left() < RESERVE_SECONDS:
                return Delivery.FAILED
            asked = self.monotonic()
            delivery = self.gateway.post(recipient.endpoint, connection_id, frame)
            if delivery is Delivery.FAILED:
                needed = 2 * POST_SECONDS  # A further try may hang, and then the closing too.
            elif (
                delivery is Delivery.GONE
                and age is not None
                and self._is_registered(recipient, connection_id)
            ):
                needed = age + self.monotonic() - asked
            else:
                break
            if pause is None or self.monotonic() - started + pause + needed > PATIENCE_SECONDS:
                break
            self.sleep(pause * (0.5 + self.jitter() / 2))
        return delivery

    def _is_registered(self, recipient: Recipient, connection_id: str) -> bool:
        return connection_id in self.connections.players([recipient.id])[recipient.id].connections

    def _drop(self, recipient: Recipient, connection_id: str, delivery: Delivery, **about: str) -> None:
        """Forget the connection, and end it unless it is gone: first the one, then the other.

        A message that came through to it after one that did not would hide the hole from its client.
        So if it cannot be forgotten, the batch has to come again.
        """
        recipient.live.pop(connection_id, None)
        try:
            self.connections.remove(recipient.id, connection_id)
        finally:
            if delivery is not Delivery.GONE:
                self.gateway.close(recipient.endpoint, connection_id)
        outcome = "gone" if delivery is Delivery.GONE else "closed"
        self.note(outcome, player=recipient.id, connection=connection_id, because=delivery.value, **about)


class _NotDelivered(Exception):
    def __init__(self, delivery: Delivery) -> None:
        super().__init__(delivery)
        self.delivery = delivery


def _recipient(player: Player, time_left: Callable[[], float], look_up_ms: float) -> Recipient:
    endpoint = player.endpoint or Endpoint("", "")
    return Recipient(
        player.id, endpoint, player.connections, dict(player.live), player.missed_from, time_left, look_up_ms
    )


def _earliest(*positions: str | None) -> str | None:
    return min((position for position in positions if position is not None), default=None)


def _frame(message: Message, replayed: bool = False) -> str:
    return MessageFrame(
        message=message.text,
        message_id=message.id,
        src_player_id=message.src_player_id,
        destination_player_id=message.destination_player_id,
        sent_at=message.sent_at,
        replayed=True if replayed else None,
    ).to_json()


def _connected(marker: ReplayMarker, replayed: int) -> str:
    return Connected(
        connection_id=marker.connection_id,
        player_id=marker.destination_player_id,
        message_id=marker.id,
        replayed=replayed,
    ).to_json()


def _synced(marker: ReplayMarker, page: Page, replayed: int) -> str:
    """The position to ask on with: where the page ended, or here when nothing is left."""
    position = page.messages[-1].id if page.more else marker.id
    return Synced(message_id=position, replayed=replayed, more=page.more, ack_id=marker.ack_id).to_json()
