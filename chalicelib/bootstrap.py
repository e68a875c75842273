"""Builds the object graph: the use cases with their tables, gateway and clock."""

import random
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache

from chalicelib.aws.connections import ConnectionsTable
from chalicelib.aws.dynamodb import make_client, milliseconds
from chalicelib.aws.idempotency import IdempotencyTable
from chalicelib.aws.management_api import MAX_CONCURRENT_POSTS, ManagementApi
from chalicelib.aws.messages import MessagesTable
from chalicelib.aws.telemetry import aside, log_lines, note
from chalicelib.aws.tls import seconds_of_handshakes
from chalicelib.core.access import Access
from chalicelib.core.delivery import Posts
from chalicelib.core.message_id import MessageIds
from chalicelib.core.messenger import Messenger
from chalicelib.core.ports import ConnectionStore, Gateway, MessageStore, Tokens
from chalicelib.core.push import Calls, Push
from chalicelib.core.rate_limit import RateLimit
from chalicelib.core.replay import Replays
from chalicelib.settings import Settings


@dataclass(frozen=True, slots=True)
class Service:
    messenger: Messenger
    push: Push


def wire(settings: Settings) -> Service:
    """Build the service. Call this once per process, because creating boto3 clients is slow."""
    log_lines()
    client = make_client()
    retention = settings.message_retention_seconds
    connections = ConnectionsTable(
        client,
        settings.websockets_table,
        player_seconds=retention,
        rate=RateLimit(settings.messages_per_second, settings.message_burst),
        connections_per_player=settings.connections_per_player,
        clock=milliseconds,
    )
    messages = MessagesTable(client, settings.messages_table, retention, milliseconds)
    gateway = ManagementApi()
    gateway.load()
    new_message_id = MessageIds()
    access = access_of(settings)
    note("started", auth=access.in_words())
    messenger = Messenger(
        access=access,
        connections=connections,
        messages=messages,
        sends=IdempotencyTable(client, settings.websockets_table, retention, milliseconds),
        gateway=gateway,
        new_message_id=new_message_id,
        clock=milliseconds,
        note=note,
        max_message_bytes=settings.max_message_bytes,
    )
    return Service(messenger, _push(connections, messages, gateway, new_message_id))


def _push(
    connections: ConnectionStore, messages: MessageStore, gateway: Gateway, new_message_id: Callable[[], str]
) -> Push:
    posts = Posts(
        gateway=gateway,
        connections=connections,
        monotonic=_seconds_without_handshakes,
        sleep=time.sleep,
        jitter=random.random,
        note=note,
    )
    replays = Replays(
        connections=connections,
        messages=messages,
        posts=posts,
        new_message_id=new_message_id,
        clock=milliseconds,
        note=note,
    )
    return Push(
        connections=connections,
        posts=posts,
        replays=replays,
        run_per_player=concurrent_runner("players"),
        run_per_connection=concurrent_runner("connections"),
        clock=milliseconds,
        monotonic=_seconds_without_handshakes,
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


def concurrent_runner(name: str) -> Callable[[Calls], None]:
    """Return a function that runs calls concurrently and re-raises the first call's exception, if any.

    The caller's thread runs the calls that no pool thread has started yet, one after the other. So a caller
    never waits for another caller's calls.
    """
    pool = ThreadPoolExecutor(MAX_CONCURRENT_POSTS, thread_name_prefix=name)

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
