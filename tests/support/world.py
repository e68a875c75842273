"""The service's rules over fakes, with a clock that only moves when a test or a pause moves it."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from chalicelib.core.access import Access
from chalicelib.core.handshake import HandshakeRejected
from chalicelib.core.message_id import MessageIds
from chalicelib.core.messenger import Messenger
from chalicelib.core.model import EVERY_ROOM, Connection, Endpoint, Entry, Message, ReplayMarker
from chalicelib.core.ports import ConnectionStore
from chalicelib.core.protocol import LARGEST_FRAME_BYTES
from chalicelib.core.registration import Registration
from chalicelib.core.service import Limits, Runtime, Service, Stores, assemble
from tests.support.fakes import (
    FakeGateway,
    InMemoryConnections,
    InMemoryDirectory,
    InMemoryIdempotency,
    InMemoryMessages,
    InMemoryRooms,
    Notes,
    one_after_the_other,
)
from tests.support.stream_records import position

HERE = Endpoint("api", "dev")
ROOM_BYTES = 8192
ROOM_SECONDS = 7 * 24 * 60 * 60


def at(second: float) -> str:
    """Return a message id that was made at that second."""
    return MessageIds(lambda: round(second * 1_000_000_000))()


class World:
    """A messenger and a push that share fakes.

    `now` is the time in milliseconds. `slept` is how many seconds pauses and slow calls took in all.
    `time_left` is how many seconds an invocation of push has left.
    """

    def __init__(
        self,
        access: Access = Access(is_open=True),  # noqa: B008  # Immutable.
        now: int = 1000,
        new_message_id: Callable[[], str] | None = None,
        max_message_bytes: int = LARGEST_FRAME_BYTES,
    ) -> None:
        self.access = access
        self.max_message_bytes = max_message_bytes
        self.connections = InMemoryConnections(clock=self.clock)
        self.connection_store: ConnectionStore = self.connections
        self.rooms = InMemoryRooms(clock=self.clock)
        self.directory = InMemoryDirectory(self.connections, self.rooms)
        self.messages = InMemoryMessages()
        self.sends = InMemoryIdempotency()
        self.gateway = FakeGateway()
        self.notes = Notes()
        self.now = now
        self.slept = 0.0
        self.time_left = 30.0
        self.markers_read = 0
        numbers, seconds = count(1), count(1_000_000)
        self.new_message_id = new_message_id or (lambda: f"id-{next(numbers)}")
        self.new_marker_id = lambda: at(next(seconds))

    @property
    def service(self) -> Service:
        return self._assemble(self.new_message_id)

    @property
    def registration(self) -> Registration:
        return self.service.registration

    @property
    def messenger(self) -> Messenger:
        return self.service.messenger

    def _assemble(self, new_message_id: Callable[[], str]) -> Service:
        stores = Stores(
            connections=self.connection_store,
            directory=self.directory,
            rooms=self.rooms,
            messages=self.messages,
            sends=self.sends,
        )
        runtime = Runtime(
            new_message_id=new_message_id,
            clock=self.clock,
            monotonic=lambda: self.slept,
            sleep=self.sleep,
            jitter=lambda: 1.0,
            run_per_player=one_after_the_other,
            run_per_connection=one_after_the_other,
            run_per_chunk=one_after_the_other,
            note=self.notes,
        )
        limits = Limits(
            rate=self.connections.rate,
            max_message_bytes=self.max_message_bytes,
            max_room_message_bytes=ROOM_BYTES,
            room_seconds=ROOM_SECONDS,
        )
        return assemble(self.access, stores, self.gateway, runtime, limits)

    def clock(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.now += round(1000 * seconds)

    def connect(self, player_id: str, connection_id: str, **query: str) -> None:
        self.shake_hands(connection_id, {"playerId": player_id} | query)

    def shake_hands(
        self, connection_id: str, query: dict[str, str], headers: dict[str, str] | None = None
    ) -> str | None:
        return self.registration.connect(
            connection_id,
            HERE,
            {name: [value] for name, value in query.items()},
            {name: [value] for name, value in (headers or {}).items()},
        )

    def refusal(self, query: dict[str, str], headers: dict[str, str] | None = None) -> int:
        """Return the status that a handshake is refused with, and check that nothing was stored."""
        before = dict(self.connections.registered), list(self.messages.stored)
        with pytest.raises(HandshakeRejected) as caught:
            self.shake_hands("refused", query, headers)
        assert (self.connections.registered, self.messages.stored) == before
        return caught.value.status

    def send(self, connection_id: str, **frame: Any) -> dict[str, Any]:
        return self.send_text(connection_id, json.dumps(frame))

    def send_text(self, connection_id: str, body: str) -> dict[str, Any]:
        self.messenger.receive(connection_id, HERE, body)
        return self.frames(connection_id)[-1]

    def register(self, player_id: str, connection_id: str, endpoint: Endpoint = HERE) -> None:
        """Add a connection whose marker push has not handled yet."""
        self.connections.register(Connection(connection_id, player_id, endpoint, 0, {}, rooms=EVERY_ROOM))

    def live(self, player_id: str, *connection_ids: str) -> None:
        """Add connections that receive messages."""
        for connection_id in connection_ids:
            self.register(player_id, connection_id)
            self.connections.make_live(player_id, connection_id, position(0))

    def store(self, *messages: Message) -> None:
        self.messages.stored += messages

    def batch(self, *entries: Entry) -> None:
        """Invoke push with these entries of the stream."""
        self._assemble(self.new_marker_id).push.batch(entries, lambda: self.time_left)

    def frames(self, connection_id: str) -> list[dict[str, Any]]:
        return [json.loads(frame) for frame in self.gateway.frames_to(connection_id)]

    def received(self, connection_id: str) -> list[str]:
        """The texts posted to a connection, and `connected` or `synced`."""
        return [f["message"] if f["type"] == "message" else f["event"] for f in self.frames(connection_id)]

    def put_markers(self) -> list[ReplayMarker]:
        return [entry for entry in self.messages.stored if isinstance(entry, ReplayMarker)]

    def batch_of_next_marker(self) -> bool:
        """Invoke push with the next marker that it has put. Return False if there is none."""
        markers = self.put_markers()
        if self.markers_read == len(markers):
            return False
        self.markers_read += 1
        read = replace(markers[self.markers_read - 1], stream_position=position(1000 + self.markers_read))
        self.batch(read)
        return True

    def work(self) -> None:
        """Invoke push until there are no more markers."""
        while self.batch_of_next_marker():
            pass
