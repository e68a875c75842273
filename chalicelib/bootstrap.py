"""Builds the service on AWS: its tables, its gateway, its threads and its clock."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache, partial
from typing import Any

from chalicelib.aws.connections import ConnectionsTable
from chalicelib.aws.directory import DirectoryTable
from chalicelib.aws.dynamodb import make_client, milliseconds
from chalicelib.aws.idempotency import IdempotencyTable
from chalicelib.aws.management_api import MAX_CONCURRENT_POSTS, ManagementApi
from chalicelib.aws.messages import MessagesTable
from chalicelib.aws.rooms import RoomsTable
from chalicelib.aws.telemetry import aside, log_lines, note
from chalicelib.aws.tls import seconds_of_handshakes
from chalicelib.core.access import Access
from chalicelib.core.message_id import MessageIds
from chalicelib.core.ports import Calls, Tokens
from chalicelib.core.rate_limit import ROOM_BURST_SECONDS, RateLimit
from chalicelib.core.service import Limits, Runtime, Service, Stores, assemble
from chalicelib.settings import Settings

MAX_CONCURRENT_COPIES = 10
"""How many BatchWriteItem calls with copies of rooms' messages a process makes at once.

A room of 250 members needs ten for a message, so its messages take one call's time each.
"""


def wire(settings: Settings) -> Service:
    """Build the service. Call this once per process, because creating boto3 clients is slow."""
    log_lines()
    gateway = ManagementApi()
    gateway.load()
    access = access_of(settings)
    note("started", auth=access.in_words())
    stores = stores_of(make_client(), settings, milliseconds)
    return assemble(access, stores, gateway, _runtime(), limits_of(settings))


def stores_of(client: Any, settings: Settings, clock: Callable[[], int]) -> Stores:
    """Return the stores in DynamoDB. `clock` returns milliseconds since the epoch."""
    retention = settings.message_retention_seconds
    return Stores(
        connections=ConnectionsTable(
            client,
            settings.websockets_table,
            player_seconds=retention,
            rate=_rate_of(settings),
            connections_per_player=settings.connections_per_player,
            clock=clock,
        ),
        directory=DirectoryTable(client, settings.websockets_table),
        rooms=RoomsTable(
            client,
            settings.websockets_table,
            members_per_room=settings.room_members,
            rate=RateLimit(
                settings.room_messages_per_second, ROOM_BURST_SECONDS * settings.room_messages_per_second
            ),
            room_seconds=settings.room_seconds,
            clock=clock,
        ),
        messages=MessagesTable(client, settings.messages_table, retention, clock),
        sends=IdempotencyTable(client, settings.websockets_table, retention, clock),
    )


def limits_of(settings: Settings) -> Limits:
    return Limits(
        rate=_rate_of(settings),
        max_message_bytes=settings.max_message_bytes,
        max_room_message_bytes=settings.max_room_message_bytes,
        room_seconds=settings.room_seconds,
    )


def _rate_of(settings: Settings) -> RateLimit:
    return RateLimit(settings.messages_per_second, settings.message_burst)


def _runtime() -> Runtime:
    return Runtime(
        new_message_id=MessageIds(),
        clock=milliseconds,
        monotonic=_seconds_without_handshakes,
        sleep=time.sleep,
        jitter=random.random,
        run_per_player=concurrent_runner("players", MAX_CONCURRENT_POSTS),
        run_per_connection=concurrent_runner("connections", MAX_CONCURRENT_POSTS),
        run_per_chunk=bounded_runner("copies", MAX_CONCURRENT_COPIES),
        note=note,
    )


def access_of(settings: Settings) -> Access:
    """Return the stage's rule for who can connect. It imports the token library at the first token."""
    chosen = settings.tokens
    if chosen is None:
        return Access(is_open=settings.is_open, allowed_origins=settings.allowed_origins)

    @cache
    def tokens() -> Tokens:
        from chalicelib.aws.tokens import tokens_of  # A slow import that only `$connect` needs.

        return tokens_of(chosen)

    return Access(is_open=False, tokens=tokens, allowed_origins=settings.allowed_origins)


def concurrent_runner(name: str, threads: int) -> Callable[[Calls], None]:
    """Return a function that runs calls concurrently and re-raises the first call's exception, if any.

    The caller's thread runs the calls that no pool thread has started yet, one after the other. So a caller
    never waits for another caller's calls.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def run_concurrently(calls: Calls) -> None:
        several = list(calls)
        if len(several) <= 1:
            for call in several:
                call()
            return
        running = [pool.submit(aside(call)) for call in several[1:]]
        begun = [_run(aside(several[0]))]
        for call, future in zip(several[1:], running, strict=True):
            begun.append(_run(aside(call)) if future.cancel() else future)
        wait(begun)
        for done in begun:
            done.result()

    return run_concurrently


def bounded_runner(name: str, limit: int) -> Callable[[Calls], None]:
    """Return a `concurrent_runner` that runs at most `limit` calls at once, its callers' threads included."""
    run, slots = concurrent_runner(name, limit), threading.Semaphore(limit)

    def run_in_slot(call: Callable[[], None]) -> None:
        with slots:
            call()

    return lambda calls: run([partial(run_in_slot, call) for call in calls])


def _run(call: Callable[[], None]) -> "Future[None]":
    done: Future[None] = Future()
    try:
        call()
        done.set_result(None)
    except Exception as error:
        done.set_exception(error)
    return done


def _seconds_without_handshakes() -> float:
    """Return a monotonic time in seconds that leaves out this thread's TLS handshakes.

    Push measures its timeouts with it, because a slow handshake isn't a recipient's fault.
    """
    return time.monotonic() - seconds_of_handshakes()
