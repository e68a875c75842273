"""The one place that knows which table, gateway and clock the use cases get."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache

from chalicelib.access import Access
from chalicelib.connections_table import ConnectionsTable
from chalicelib.dynamodb import make_client
from chalicelib.message_id import MessageIds
from chalicelib.messages_table import MessagesTable
from chalicelib.messenger import Messenger
from chalicelib.ports import Tokens
from chalicelib.posting import POSTS_AT_ONCE, ManagementApi
from chalicelib.push import Calls, Push
from chalicelib.rate_limit import RateLimit
from chalicelib.sends_table import SendsTable
from chalicelib.settings import Settings
from chalicelib.telemetry import aside, log_lines, note
from chalicelib.tls import seconds_of_handshakes


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
    )
    messages = MessagesTable(client, settings.messages_table, retention)
    sends = SendsTable(client, settings.websockets_table, retention)
    gateway = ManagementApi()
    gateway.load()
    new_message_id = MessageIds()
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
            _milliseconds,
            note,
            settings.max_message_bytes,
        ),
        Push(
            connections,
            messages,
            gateway,
            new_message_id,
            side_by_side_in_threads("players"),
            side_by_side_in_threads("connections"),
            _milliseconds,
            _seconds_without_handshakes,
            time.sleep,
            random.random,
            note,
        ),
    )


def access_of(settings: Settings) -> Access:
    chosen = settings.tokens
    if chosen is None:
        return Access(settings.is_open, None, settings.allowed_origins)

    @cache
    def tokens() -> Tokens:
        from chalicelib.tokens import tokens_of  # Takes long to load, and only `$connect` needs it.

        return tokens_of(chosen)

    return Access(False, tokens, settings.allowed_origins)


def side_by_side_in_threads(name: str) -> Callable[[Calls], None]:
    """Runs calls side by side; what the first of them raised is raised when all have ended."""
    pool = ThreadPoolExecutor(POSTS_AT_ONCE, thread_name_prefix=name)

    def side_by_side(calls: Calls) -> None:
        several = list(calls)
        if len(several) == 1:
            several[0]()
            return
        running = [pool.submit(aside(call)) for call in several]
        wait(running)
        for done in running:
            done.result()

    return side_by_side


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def _seconds_without_handshakes() -> float:
    """Return the time that push measures its patience by. A slow handshake is no recipient's failure."""
    return time.monotonic() - seconds_of_handshakes()
