"""The one place that knows which table, gateway and clock the use cases get."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from chalicelib.connections_table import ConnectionsTable
from chalicelib.dynamodb import make_client
from chalicelib.message_id import MessageIds
from chalicelib.messages_table import MessagesTable
from chalicelib.messenger import Messenger
from chalicelib.posting import POSTS_AT_ONCE, ManagementApi
from chalicelib.push import Push
from chalicelib.settings import Settings
from chalicelib.telemetry import log_steps, note


@dataclass(frozen=True, slots=True)
class Service:
    messenger: Messenger
    push: Push


def wire(settings: Settings) -> Service:
    """Make the clients, once a process: they cost more than a frame does."""
    log_steps()
    client = make_client()
    retention = settings.message_retention_seconds
    connections = ConnectionsTable(client, settings.websockets_table, player_seconds=retention)
    messages = MessagesTable(client, settings.messages_table, retention)
    gateway = ManagementApi()
    return Service(
        Messenger(connections, messages, gateway, MessageIds(), _milliseconds, note),
        Push(connections, gateway, _threads(POSTS_AT_ONCE), time.sleep, note),
    )


def _threads(count: int) -> Callable[[Iterable[Callable[[], None]]], None]:
    pool = ThreadPoolExecutor(count, thread_name_prefix="push")

    def side_by_side(calls: Iterable[Callable[[], None]]) -> None:
        for done in [pool.submit(call) for call in calls]:
            done.result()

    return side_by_side


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
