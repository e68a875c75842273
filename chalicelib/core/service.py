"""Builds the use cases from the stores, the gateway and the runtime."""

from collections.abc import Callable
from dataclasses import dataclass

from chalicelib.core.access import Access
from chalicelib.core.delivery import Posts
from chalicelib.core.fan_out import FanOut
from chalicelib.core.messenger import Messenger
from chalicelib.core.ports import (
    COPIES_PER_CALL,
    Calls,
    ConnectionStore,
    Directory,
    Gateway,
    IdempotencyStore,
    MessageStore,
    RoomStore,
    Telemetry,
)
from chalicelib.core.presence import Presence
from chalicelib.core.presence_events import PresenceEvents
from chalicelib.core.push import Push
from chalicelib.core.rate_limit import RateLimit
from chalicelib.core.registration import Registration
from chalicelib.core.replay import PAGE_MESSAGES, Replays
from chalicelib.core.rooms import Rooms
from chalicelib.core.sending import Sending
from chalicelib.core.signals import Signals


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    connections: ConnectionStore
    directory: Directory
    rooms: RoomStore
    messages: MessageStore
    sends: IdempotencyStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What the use cases take from the process that runs them.

    `clock` returns milliseconds since the epoch. `monotonic` and `sleep` are in seconds. `jitter` returns a
    number from 0 to 1. Each `run_per_…` runs calls concurrently, and returns when all have ended.
    """

    new_message_id: Callable[[], str]
    clock: Callable[[], int]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    jitter: Callable[[], float]
    run_per_player: Callable[[Calls], None]
    run_per_connection: Callable[[Calls], None]
    run_per_chunk: Callable[[Calls], None]
    note: Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes are in bytes. `page_messages` is how many messages a page of replay reads.

    `copies_per_call` is how many copies of a room's message one call stores.
    """

    rate: RateLimit
    max_message_bytes: int
    max_room_message_bytes: int
    room_seconds: int
    page_messages: int = PAGE_MESSAGES
    copies_per_call: int = COPIES_PER_CALL


@dataclass(frozen=True, slots=True)
class Service:
    registration: Registration
    messenger: Messenger
    push: Push


def assemble(access: Access, stores: Stores, gateway: Gateway, runtime: Runtime, limits: Limits) -> Service:
    presence = Presence(
        connections=stores.connections, messages=stores.messages, new_message_id=runtime.new_message_id
    )
    registration = Registration(
        access=access,
        connections=stores.connections,
        presence=presence,
        messages=stores.messages,
        gateway=gateway,
        new_message_id=runtime.new_message_id,
        clock=runtime.clock,
        note=runtime.note,
    )
    return Service(
        registration,
        _messenger(stores, gateway, presence, runtime, limits),
        _push(stores, gateway, presence, runtime, limits),
    )


def _messenger(
    stores: Stores, gateway: Gateway, presence: Presence, runtime: Runtime, limits: Limits
) -> Messenger:
    sending = Sending(
        messages=stores.messages,
        rooms=stores.rooms,
        sends=stores.sends,
        new_message_id=runtime.new_message_id,
        clock=runtime.clock,
        note=runtime.note,
        max_message_bytes=limits.max_message_bytes,
        max_room_message_bytes=limits.max_room_message_bytes,
    )
    rooms = Rooms(
        rooms=stores.rooms,
        connections=stores.connections,
        directory=stores.directory,
        presence=presence,
        note=runtime.note,
    )
    signals = Signals(
        directory=stores.directory,
        rooms=stores.rooms,
        gateway=gateway,
        presence=presence,
        rate=limits.rate,
        run_per_connection=runtime.run_per_connection,
        note=runtime.note,
    )
    return Messenger(
        connections=stores.connections,
        messages=stores.messages,
        sending=sending,
        rooms=rooms,
        signals=signals,
        presence=presence,
        rate=limits.rate,
        gateway=gateway,
        new_message_id=runtime.new_message_id,
        clock=runtime.clock,
        note=runtime.note,
    )


def _push(stores: Stores, gateway: Gateway, presence: Presence, runtime: Runtime, limits: Limits) -> Push:
    posts = Posts(
        gateway=gateway,
        connections=stores.connections,
        presence=presence,
        monotonic=runtime.monotonic,
        sleep=runtime.sleep,
        jitter=runtime.jitter,
        note=runtime.note,
    )
    replays = Replays(
        connections=stores.connections,
        presence=presence,
        messages=stores.messages,
        posts=posts,
        new_message_id=runtime.new_message_id,
        clock=runtime.clock,
        note=runtime.note,
        page_size=limits.page_messages,
    )
    fan_out = FanOut(
        messages=stores.messages,
        rooms=stores.rooms,
        clock=runtime.clock,
        room_seconds=limits.room_seconds,
        new_message_id=runtime.new_message_id,
        run_per_chunk=runtime.run_per_chunk,
        sleep=runtime.sleep,
        jitter=runtime.jitter,
        note=runtime.note,
        chunk_size=limits.copies_per_call,
    )
    presence_events = PresenceEvents(
        connections=stores.connections,
        directory=stores.directory,
        posts=posts,
        run_per_connection=runtime.run_per_connection,
        note=runtime.note,
    )
    return Push(
        connections=stores.connections,
        directory=stores.directory,
        posts=posts,
        replays=replays,
        fan_out=fan_out,
        presence_events=presence_events,
        run_per_player=runtime.run_per_player,
        run_per_connection=runtime.run_per_connection,
        clock=runtime.clock,
        monotonic=runtime.monotonic,
        note=runtime.note,
    )
