"""Replays missed messages to a connection: one page per marker in the stream.

docs/architecture.md explains why a replay neither skips nor reorders messages.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from chalicelib.core.delivery import RESERVE_SECONDS, Posts, Recipient
from chalicelib.core.frames import frame_of
from chalicelib.core.message_id import cursor_at, moved_back, timestamp_of
from chalicelib.core.model import Delivery, Message, Page, ReplayMarker, ReplayProgress, Unavailable
from chalicelib.core.ports import POST_SECONDS, ConnectionStore, MessageStore, Telemetry
from chalicelib.core.presence import Presence
from chalicelib.core.service_frames import Connected, Synced

PAGE_MESSAGES = 50

PAGE_BYTES = 256 * 1024
"""The limit for the texts of one page. Two messages of the largest size fit."""

PAGE_SECONDS = (0.02, 0.5)
"""The minimum and maximum time for posting a page. In between, it is as long as the marker has waited.

So a replay takes at most half of its shard's time, whether a post takes 1 ms or 20.
"""

OVERLAP_MS = 15_000
"""How long after its id was made a message can be stored: the function's 10 s timeout, and clock skew.

A replay begins this much before its cursor, because messages with earlier ids might be stored later.
"""

TRIES = 8
"""A replay drops its connection after this many consecutive failed posts, one per marker.

The next marker arrives after about 10 ms on the local AWS, and 250 ms on AWS.
"""


class _NotDelivered(Exception):
    def __init__(self, delivery: Delivery, has_timed_out: bool) -> None:
        super().__init__(delivery)
        self.delivery = delivery
        self.has_timed_out = has_timed_out


@dataclass(frozen=True, slots=True, kw_only=True)
class Replays:
    """Replays missed messages. `clock` returns milliseconds since the epoch."""

    connections: ConnectionStore
    presence: Presence
    messages: MessageStore
    posts: Posts
    new_message_id: Callable[[], str]
    clock: Callable[[], int]
    note: Telemetry
    page_size: int = PAGE_MESSAGES

    def take_turn(self, recipient: Recipient, marker: ReplayMarker) -> None:
        """Post a page of missed messages. After the last page, greet the connection and make it live."""
        if not _is_its_turn(recipient, marker):
            return
        first_cursor = marker.first_cursor or _earliest(marker.after, recipient.missed_from)
        turn = Turn(self, recipient, marker, first_cursor)
        try:
            if recipient.time_left() < RESERVE_SECONDS or (
                recipient.has_replayed and first_cursor is not None
            ):
                turn.postpone()  # One page per player and batch, so that other players don't wait long.
            else:
                turn.take()
        except Unavailable:
            self.posts.drop(recipient, marker.connection_id, Delivery.FAILED)


class Turn:
    """The work on one marker in one batch.

    `first_cursor` is where the replay began, or None if nothing was missed. `_cursor` is the id of the last
    message that was posted or skipped.
    """

    def __init__(
        self, replays: Replays, recipient: Recipient, marker: ReplayMarker, first_cursor: str | None
    ) -> None:
        self._replays = replays
        self._recipient = recipient
        self._marker = marker
        self._first_cursor = first_cursor
        self._asked_at = marker.asked_at
        self._start, self._until = self._stretch()
        self._cursor = self._start
        self._sent = 0

    def take(self) -> None:
        """Post the page, then put the next marker: a crash in between repeats a page but never skips one."""
        page = self._read()
        try:
            is_cut_short = self._post_page(page)
            if self._has_next(is_cut_short or page.more):
                self._put_next(tries=0)
                self._advance_missed()
            elif self._marker.sync:
                self._post(self._synced(is_cut_short or page.more))
            else:
                self._go_live()
        except _NotDelivered as failed:
            self._fail(failed)
        if self._sent:
            about = {"player": self._recipient.id, "connection": self._marker.connection_id}
            self._replays.note("replayed", **about, replayed=self._sent)

    def postpone(self) -> None:
        """Postpone this turn to another batch."""
        self._put_next(self._marker.tries)

    def _stretch(self) -> tuple[str, str | None]:
        """Return the message id that this page begins after, and the last one that it can contain."""
        marker, first_cursor = self._marker, self._first_cursor
        if marker.has_progress:
            progress = self._recipient.progress[marker.connection_id]
            return progress.to, progress.until
        if first_cursor is None:
            return "", None
        if marker.first_cursor is None or marker.after is None:
            return moved_back(first_cursor, OVERLAP_MS), None
        if marker.asked_at is None:
            return marker.after, None
        # Version 1.0.0 put this marker, so push hasn't posted messages that were stored late.
        overlap = cursor_at(marker.asked_at - OVERLAP_MS)
        return max(moved_back(marker.after, OVERLAP_MS), min(marker.after, overlap)), None

    def _read(self) -> Page:
        if self._first_cursor is None:
            return Page((), more=False, end="")
        self._asked_at = self._replays.clock()
        return self._replays.messages.page(
            self._recipient.id, self._cursor, self._until, self._replays.page_size
        )

    def _post_page(self, page: Page) -> bool:
        """Post the page until its limits. Return whether messages are left over. Raises _NotDelivered."""
        monotonic, posts_until = self._replays.posts.monotonic, self._posts_until()
        text_bytes = 0
        for message in page.messages:
            text_bytes += len(message.text.encode())
            if self._sent and (text_bytes > PAGE_BYTES or monotonic() > posts_until):
                return True
            self._post(frame_of(message, replayed=True))
            self._record_sent(message)
        if page.more:
            self._cursor = page.end
        return False

    def _has_next(self, more: bool) -> bool:
        """Return whether a next marker is needed. A `sync` ends with the page that passes its cursor."""
        if self._marker.sync:
            return more and self._first_cursor is not None and self._cursor <= self._first_cursor
        return more

    def _posts_until(self) -> float:
        """Return the monotonic time at which posting the page must stop."""
        waited = (self._replays.clock() - timestamp_of(self._marker.id)) / 1000
        least, most = PAGE_SECONDS
        left = self._recipient.time_left() - RESERVE_SECONDS
        return self._replays.posts.monotonic() + min(max(least, waited), most, left)

    def _record_sent(self, message: Message) -> None:
        self._sent += 1
        self._cursor = message.id
        self._recipient.has_replayed = True
        if not self._marker.sync:
            self._recipient.replayed_to = message.id

    def _post(self, frame: str) -> None:
        """Post a frame without retries, which would delay other players. Raises _NotDelivered."""
        posts, recipient = self._replays.posts, self._recipient
        asked = posts.monotonic()
        delivery = posts.gateway.post(recipient.endpoint, self._marker.connection_id, frame)
        if delivery is not Delivery.DELIVERED:
            raise _NotDelivered(delivery, posts.monotonic() - asked >= POST_SECONDS / 2)

    def _fail(self, failed: _NotDelivered) -> None:
        """Retry at a next marker if that can succeed; otherwise drop the connection."""
        marker = self._marker
        is_new = marker.first_cursor is None and not marker.sync and not self._sent
        might_help = failed.delivery is Delivery.FAILED and not failed.has_timed_out
        might_help = might_help or (failed.delivery is Delivery.GONE and is_new)
        tries = 1 if self._sent else marker.tries + 1
        if might_help and tries < TRIES:
            self._put_next(tries)
            return
        if failed.delivery is Delivery.FAILED:
            self._advance_missed()
        self._replays.posts.drop(self._recipient, marker.connection_id, failed.delivery)

    def _advance_missed(self) -> None:
        """Save that the player has the replayed messages, so that another replay begins after them."""
        recipient, first_cursor = self._recipient, self._first_cursor
        missed, reached = recipient.missed_from, recipient.replayed_to
        if (
            missed is not None
            and first_cursor is not None
            and reached is not None
            and first_cursor <= missed < reached
        ):
            self._replays.connections.advance_missed(recipient.id, missed, reached)
            recipient.missed_from = reached

    def _put_next(self, tries: int) -> None:
        """Put the next turn's marker, and then save the replay's progress.

        After a crash in between, Lambda redelivers the batch, and the first marker put is ignored because the
        saved progress doesn't name it.
        """
        replays, recipient, marker = self._replays, self._recipient, self._marker
        next_marker = replace(marker, id=replays.new_message_id(), tries=tries)
        if marker.first_cursor is not None or self._cursor != self._start:
            next_marker = replace(
                next_marker,
                after=self._cursor,
                first_cursor=self._first_cursor,
                replayed=marker.replayed + self._sent,
                asked_at=None if marker.sync else self._asked_at,
                has_progress=not marker.sync,
            )
        replays.messages.put(next_marker)
        if next_marker.has_progress:
            progress = ReplayProgress(self._cursor, next_marker.id, next_marker.id)
            recipient.progress[marker.connection_id] = progress
            replays.connections.save_progress(recipient.id, marker.connection_id, progress)

    def _go_live(self) -> None:
        """Greet the connection, then make it live.

        The greeting's post fails if the connection isn't open yet. After a crash in between, Lambda
        redelivers this batch before any later one of the shard.
        """
        recipient, connection_id = self._recipient, self._marker.connection_id
        self._post(self._connected())
        missed, first_cursor = recipient.missed_from, self._first_cursor
        caught_up = (
            missed if missed is not None and first_cursor is not None and first_cursor <= missed else None
        )
        start = self._marker.stream_position
        if not self._replays.presence.make_live(recipient.id, connection_id, start, caught_up):
            return
        recipient.live[connection_id] = start
        recipient.progress.pop(connection_id, None)
        if caught_up is not None:
            recipient.missed_from = None
        self._replays.note("live", player=recipient.id, connection=connection_id)

    def _connected(self) -> str:
        return Connected(
            connection_id=self._marker.connection_id,
            player_id=self._recipient.id,
            message_id=self._marker.id,
            replayed=self._marker.replayed + self._sent,
        ).to_json()

    def _synced(self, more: bool) -> str:
        """Return the `synced` frame, with the client's next position: the page's end, or this marker."""
        return Synced(
            message_id=self._cursor if more else self._marker.id,
            replayed=self._marker.replayed + self._sent,
            more=more,
            ack_id=self._marker.ack_id,
        ).to_json()


def _is_its_turn(recipient: Recipient, marker: ReplayMarker) -> bool:
    """Return whether the marker is due. Redelivered batches repeat markers and put some of them twice."""
    connection_id = marker.connection_id
    if connection_id not in recipient.connections:
        return False
    if marker.sync:
        return True
    if connection_id in recipient.live:
        return False
    progress = recipient.progress.get(connection_id)
    if marker.has_progress:
        return progress is not None and progress.turn == marker.id
    return progress is None or marker.first_cursor is not None


def _earliest(*cursors: str | None) -> str | None:
    return min((cursor for cursor in cursors if cursor is not None), default=None)
