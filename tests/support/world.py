"""The service's rules over fakes, with a clock that only moves when a test or a pause moves it."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from chalicelib.core.access import Access
from chalicelib.core.delivery import Posts
from chalicelib.core.handshake import HandshakeRejected
from chalicelib.core.message_id import MessageIds
from chalicelib.core.messenger import Messenger
from chalicelib.core.model import Connection, Endpoint, Entry, Message, ReplayMarker
from chalicelib.core.push import Push
from chalicelib.core.replay import Replays
from chalicelib.settings import LARGEST_FRAME_BYTES
from tests.support.fakes import (
    FakeGateway,
    InMemoryConnections,
    InMemoryIdempotency,
    InMemoryMessages,
    Notes,
    one_after_the_other,
)
from tests.support.stream_records import position

HERE = Endpoint("api", "dev")


def at(second: float) -> str:
    """Return a message id that was made at that second."""
    return MessageIds(lambda: round(second * 1_000_000_000))()


class World:
    """A messenger and a push that share fakes.

    `now` is the time in milliseconds. `slept` is how many seconds pauses and slow calls took in all.
    `time_left` is how many seconds an invocation of push has left.
    """

    def __init__(self, access: Access = Access(is_open=True), now: int = 1000) -> None:  # noqa: B008  # Immutable.
        self.connections = InMemoryConnections(clock=self.clock)
        self.messages = InMemoryMessages()
        self.sends = InMemoryIdempotency()
        self.gateway = FakeGateway()
        self.notes = Notes()
        self.now = now
        self.slept = 0.0
        self.time_left = 30.0
        self.markers_read = 0
        self.messenger = self._messenger(access)
        self.push = self._push()

    def _messenger(self, access: Access) -> Messenger:
        numbers = count(1)
        return Messenger(
            access=access,
            connections=self.connections,
            messages=self.messages,
            sends=self.sends,
            gateway=self.gateway,
            new_message_id=lambda: f"id-{next(numbers)}",
            clock=self.clock,
            note=self.notes,
            max_message_bytes=LARGEST_FRAME_BYTES,
        )

    def _push(self) -> Push:
        seconds = count(1_000_000)
        monotonic: Callable[[], float] = lambda: self.slept  # noqa: E731
        posts = Posts(
            gateway=self.gateway,
            connections=self.connections,
            monotonic=monotonic,
            sleep=self.sleep,
            jitter=lambda: 1.0,
            note=self.notes,
        )
        replays = Replays(
            connections=self.connections,
            messages=self.messages,
            posts=posts,
            new_message_id=lambda: at(next(seconds)),
            clock=self.clock,
            note=self.notes,
        )
        return Push(
            connections=self.connections,
            posts=posts,
            replays=replays,
            run_per_player=one_after_the_other,
            run_per_connection=one_after_the_other,
            clock=self.clock,
            monotonic=monotonic,
            note=self.notes,
        )

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
        return self.messenger.connect(
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
        self.connections.register(Connection(connection_id, player_id, endpoint, 0, {}))

    def live(self, player_id: str, *connection_ids: str) -> None:
        """Add connections that receive messages."""
        for connection_id in connection_ids:
            self.register(player_id, connection_id)
            self.connections.make_live(player_id, connection_id, position(0))

    def store(self, *messages: Message) -> None:
        self.messages.stored += messages

    def batch(self, *entries: Entry) -> None:
        """Invoke push with these entries of the stream."""
        self.push.batch(entries, lambda: self.time_left)

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
