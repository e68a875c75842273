"""Copies a room's messages into the partitions of its members, in the order of the stream.

A copy is a message of its member like any other: push delivers it when the stream brings it.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from chalicelib.core.delivery import PAUSES, RESERVE_SECONDS
from chalicelib.core.model import Room, RoomMessage, Unavailable
from chalicelib.core.ports import COPIES_PER_CALL, Calls, MessageStore, RoomStore, Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOut:
    """Copies rooms' messages. `clock` returns milliseconds since the epoch.

    `chunk_size` is how many members get their copies with one call. `run_per_chunk` runs calls concurrently,
    and returns when all have ended.
    """

    messages: MessageStore
    rooms: RoomStore
    clock: Callable[[], int]
    room_seconds: int
    new_message_id: Callable[[], str]
    run_per_chunk: Callable[[Calls], None]
    sleep: Callable[[float], None]
    jitter: Callable[[], float]
    note: Telemetry
    chunk_size: int = COPIES_PER_CALL

    def copy(self, room: Room, messages: Sequence[RoomMessage], time_left: Callable[[], float]) -> None:
        """Copy the messages to all members. Raises Unavailable if Lambda must redeliver the batch.

        Each chunk of members gets the messages in order, and chunks don't wait for each other. A redelivered
        batch copies again; clients drop the duplicates, because all copies of a message have its id.
        """
        members, size = sorted(room.members), self.chunk_size
        chunks = [members[start : start + size] for start in range(0, len(members), size)]
        self.run_per_chunk([partial(self._copy_to, chunk, messages, time_left) for chunk in chunks])
        for message in messages:
            self.note("fanned_out", room=room.id, message=message.id, members=len(members))
        self._keep(room)

    def _keep(self, room: Room) -> None:
        """Renew a room half of whose time is over: the backend's messages don't renew it (best effort)."""
        if room.expires_at is not None and room.expires_at - self.clock() / 1000 < self.room_seconds / 2:
            with suppress(Unavailable):
                self.rooms.renew(room.id)

    def _copy_to(
        self, chunk: Sequence[str], messages: Sequence[RoomMessage], time_left: Callable[[], float]
    ) -> None:
        for message in messages:
            self._copy_one(chunk, message, time_left)

    def _copy_one(self, chunk: Sequence[str], message: RoomMessage, time_left: Callable[[], float]) -> None:
        """Put the message's copies, and retry those that DynamoDB hasn't processed. Raises Unavailable.

        Each attempt makes a new id just before its call. A replay begins only a little before its cursor, so
        it would miss a copy that is stored long after its id was made.
        """
        missing = chunk
        for pause in (*PAUSES, None):
            if time_left() < RESERVE_SECONDS:
                raise Unavailable("too little time is left to copy a room's message")
            new_id = self.new_message_id()
            unprocessed = self.messages.put_copies([message.copy_for(member, new_id) for member in missing])
            if not unprocessed:
                return
            missing = [copy.destination_player_id for copy in unprocessed]
            if pause is not None:
                self.sleep(pause * (0.5 + self.jitter() / 2))
        raise Unavailable("UnprocessedItems")
