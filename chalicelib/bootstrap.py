"""The one place that knows which table, gateway and clock the use cases get."""

import random
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache

from chalicelib.aws.connections import ConnectionsTable
from chalicelib.aws.dynamodb import make_client, milliseconds
from chalicelib.aws.idempotency import IdempotencyTable
from chalicelib.aws.management_api import POSTS_AT_ONCE, ManagementApi
from chalicelib.aws.messages import MessagesTable
from chalicelib.aws.telemetry import aside, log_lines, note
from chalicelib.aws.tls import seconds_of_handshakes
from chalicelib.core.access import Access
from chalicelib.core.delivery import Posts
from chalicelib.core.message_id import MessageIds
from chalicelib.core.messenger import Messenger
from chalicelib.core.ports import Tokens
from chalicelib.core.push import Calls, Push
from chalicelib.core.rate_limit import RateLimit
from chalicelib.core.replay import Replays
from chalicelib.settings import Settings


@dataclass(frozen=True, slots=True)
class Service:
    messenger: Messenger
    push: Push


def wire(settings: Settings) -> Service:
    """Make the clients, once a process: they cost more than a frame does."""
    log_lines()
    client = make_client()
    retention = settings.message_retention_seconds
    connections = ConnectionsTable(
        client,
        settings.websockets_table,
        retention,
        RateLimit(settings.messages_per_second, settings.message_burst),
        settings.connections_per_player,
        milliseconds,
    )
    messages = MessagesTable(client, settings.messages_table, retention, milliseconds)
    sends = IdempotencyTable(client, settings.websockets_table, retention, milliseconds)
    gateway = ManagementApi()
    gateway.load()
    new_message_id = MessageIds()
    posts = Posts(gateway, connections, _seconds_without_handshakes, time.sleep, random.random, note)
    access = access_of(settings)
    note("started", auth=access.in_words())
    return Service(
        Messenger(
            access,
            connections,
            messages,
            sends,
            gateway,
            new_message_id,
            milliseconds,
            note,
            settings.max_message_bytes,
        ),
        Push(
            connections,
            posts,
            Replays(connections, messages, posts, new_message_id, milliseconds, note),
            side_by_side_in_threads("players"),
            side_by_side_in_threads("connections"),
            milliseconds,
            _seconds_without_handshakes,
            note,
        ),
    )


def access_of(settings: Settings) -> Access:
    chosen = settings.tokens
    if chosen is None:
        return Access(settings.is_open, None, settings.allowed_origins)

    @cache
    def tokens() -> Tokens:
        from chalicelib.aws.tokens import tokens_of  # Takes long to load, and only `$connect` needs it.

        return tokens_of(chosen)

    return Access(False, tokens, settings.allowed_origins)


def side_by_side_in_threads(name: str) -> Callable[[Calls], None]:
    """Run calls concurrently; when all have ended, raise what the first of them raised.

    The caller's thread runs the calls that no thread of the pool has begun, one after the other: nobody
    waits for somebody else's calls.
    """
    pool = ThreadPoolExecutor(POSTS_AT_ONCE, thread_name_prefix=name)

    def side_by_side(calls: Calls) -> None:
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

    return side_by_side


def _run(call: Callable[[], None]) -> "Future[None]":
    done: Future[None] = Future()
    try:
        call()
        done.set_result(None)
    except Exception as error:
        done.set_exception(error)
    return done


def _seconds_without_handshakes() -> float:
    """Return the time that push measures its patience by. A slow handshake is no recipient's failure."""
    return time.monotonic() - seconds_of_handshakes()
