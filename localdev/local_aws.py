"""Starts the local AWS: DynamoDB with its tables, the event source mapping, and the WebSocket API."""

import asyncio
import gc
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import boto3
from chalice import Chalice
from chalice.app import DynamoDBEventConfig

from chalicelib.core.access import Access
from chalicelib.settings import FURTHER_JWT_SETTINGS, KEYS
from localdev import command_line, direct_management, dynamodb, kept_tables, threads
from localdev.addresses import in_url, never_proxy, resolve, serve_ipv6
from localdev.checks import DYNAMODB_PORT as DYNAMODB_PORT
from localdev.checks import (
    FAILURES,
    NAMED_DYNAMODB,
    CannotStart,
    Ports,
    bind_error,
    check_ports,
    check_stage,
    keeps_tables,
    one_line,
    use_dynamodb,
)
from localdev.checks import WEBSOCKET_PORT as WEBSOCKET_PORT
from localdev.command_line import ChaliceLocal
from localdev.ending import end, read_note
from localdev.functions import function, websocket_routes
from localdev.gateway import Gateway
from localdev.limits import LimitError, Limits
from localdev.outlet import redirect_output
from localdev.playground import Playground, Steps
from localdev.reloading import end_with_parent
from localdev.stream_mapping import POLL_SECONDS, StreamMapping
from localdev.terminal import say, show_outcomes, viewers

try:
    import resource
except ImportError:  # Windows has neither this module nor this limit.
    resource = None  # type: ignore[assignment]

API_ID = "local"
THREAD_SWITCH_SECONDS = 0.0005
"""How long a function's thread can hold the interpreter lock while the gateway's thread waits."""

GC_THRESHOLDS = (20_000, 10, 100)
"""Garbage-collector thresholds. The defaults pause all threads for 100 ms every second."""

SAFETY_POLL_SECONDS = 5.0
"""How often the embedded stream is polled. This is only a fallback, because writes signal the mapping."""


@dataclass(frozen=True, slots=True)
class LocalAws:
    """The local AWS. Prepare it before the app creates boto3 clients, so that they reach only it."""

    options: ChaliceLocal
    limits: Limits
    ports: Ports
    dynamodb: str
    poll_seconds: float
    written: threading.Event
    mappings: list[StreamMapping] = field(default_factory=list)
    are_kept: bool = False
    """Whether the tables are those from before an edit. Their streams then hold only undelivered records."""

    @classmethod
    def if_asked_for(cls) -> "LocalAws | None":
        """Return the local AWS if this process is `chalice local`, otherwise None."""
        options = command_line.of_this_process()
        return None if options is None else cls.prepare(options)

    @classmethod
    def prepare(cls, options: ChaliceLocal) -> "LocalAws":
        """Check the settings and start DynamoDB. End the process with an error message if that fails."""
        sys.setswitchinterval(THREAD_SWITCH_SECONDS)
        redirect_output()
        read_note()
        _raise_open_file_limit()
        end_with_parent()
        _open_telemetry(os.environ.get("TELEMETRY_FILE"))
        try:
            return cls._checked(options)
        except (CannotStart, LimitError) as wrong:
            end(str(wrong))

    @classmethod
    def _checked(cls, options: ChaliceLocal) -> "LocalAws":
        """Do the work of `prepare`. Raises CannotStart and LimitError."""
        check_stage(options)
        ports = check_ports(options, os.environ)
        if resolve(options.host, options.port)[0] == socket.AF_INET6:
            serve_ipv6()
        if not options.is_configured:
            _configure(options.stage)
        limits = Limits.from_environment(os.environ)
        written = threading.Event()
        named = os.environ.get(NAMED_DYNAMODB)
        never_proxy(options.host, named or "")
        _resolve_secret(is_embedded=not named)
        if named:
            use_dynamodb(named)
            return cls(options, limits, ports, named, POLL_SECONDS, written)
        embedded, mappings = dynamodb.embed(on_write=written.set), list[StreamMapping]()
        are_kept = keeps_tables(os.environ) and kept_tables.keep(embedded, mappings)
        port = _bind("DYNAMODB_PORT", options.host, ports.dynamodb, lambda p: embedded.serve(options.host, p))
        url = f"http://{in_url(options.host)}:{port} (embedded, in memory)"
        return cls(options, limits, ports, url, SAFETY_POLL_SECONDS, written, mappings, are_kept)

    def serve(self, app: Chalice, access: Access) -> None:
        """Start the tables, the mapping, the gateway and the playground. End the process if that fails."""
        tables = {
            "WebsocketsTable": os.environ["WEBSOCKETS_TABLE"],
            "MessagesTable": os.environ["MESSAGES_TABLE"],
        }
        try:
            made = dynamodb.create_tables(boto3.client("dynamodb"), tables)
            for source in app.event_sources:
                if isinstance(source, DynamoDBEventConfig):
                    self._start_mapping(app, source, is_new=self.are_kept or "MessagesTable" in made)
        except FAILURES as failure:
            end(f"cannot use the tables {', '.join(tables.values())}: {one_line(failure)}")
        gateway, loop, url = self._start_gateway(app, access)

        def vanish(connection_id: str) -> None:
            asyncio.run_coroutine_threadsafe(gateway.vanish(connection_id), loop).result()

        self._add_playground(app, access, tables, url, vanish)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        say(
            f"\n  Playground     http://{in_url(self.options.host)}:{self.options.port}/\n"
            f"  WebSocket API  {url}?{'playerId=1' if access.is_open else 'token=…'}\n"
            f"  Players        {access.in_words()}\n"
            f"  DynamoDB       {self.dynamodb}\n"
            f"  Tables         {', '.join(tables.values())}\n"
        )

    def _add_playground(
        self, app: Chalice, access: Access, tables: dict[str, str], url: str, vanish: Callable[[str], None]
    ) -> None:
        steps = Steps()
        viewers.append(steps.add)
        Playground(
            url,
            access.is_open,
            self.options.host,
            {"Websockets": tables["WebsocketsTable"], "Messages": tables["MessagesTable"]},
            boto3.client("dynamodb"),
            steps,
            vanish,
        ).add_to(app)

    def _start_mapping(self, app: Chalice, source: DynamoDBEventConfig, is_new: bool) -> None:
        """Start the mapping of an event source.

        If the table already existed, start at the stream's end: a mapping on AWS wouldn't start over either.
        The stream of a table that was kept across an edit holds only undelivered records, so start at its
        beginning.
        """
        table = source.stream_arn.split(":table/")[1].split("/")[0]
        try:
            arn = dynamodb.stream_arn(boto3.client("dynamodb"), table)
        except KeyError:
            end(f"table {table} has no stream: delete the table, and chalice local creates it with one")
        mapping = StreamMapping(
            boto3.client("dynamodbstreams"),
            arn,
            source.name,
            function(app, source.name),
            source.batch_size,
            source.maximum_batching_window_in_seconds,
            source.starting_position if is_new else "LATEST",
            self.poll_seconds,
            self.written,
        )
        mapping.start()
        self.mappings.append(mapping)

    def _start_gateway(self, app: Chalice, access: Access) -> tuple[Gateway, asyncio.AbstractEventLoop, str]:
        stage, host = self.options.api_stage, self.options.host
        gateway = Gateway(API_ID, stage, websocket_routes(app), self.limits, access.allowed_origins)
        loop = asyncio.new_event_loop()
        threads.start("gateway", loop.run_forever)

        def start(port: int) -> int:
            return asyncio.run_coroutine_threadsafe(gateway.start(host, port), loop).result()

        port = _bind("WEBSOCKET_PORT", host, self.ports.websocket, start)
        endpoint = f"http://{in_url(host)}:{port}/{stage}"
        os.environ["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"] = endpoint
        direct_management.attach(dynamodb.session(), endpoint, gateway.manage, loop)
        return gateway, loop, f"ws://{in_url(host)}:{port}/{stage}/"


def _raise_open_file_limit() -> None:
    """Raise the limit of open files to its maximum, because each connection is an open file."""
    if resource is None:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # Some systems report no limit, but refuse to set that.
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _open_telemetry(path: str | None) -> None:
    try:
        show_outcomes(path)
    except OSError as failure:
        end(f"cannot write to TELEMETRY_FILE: {failure.strerror}")


def _configure(stage: str) -> None:
    """Give a stage that the configuration lacks its own tables. Open it unless the environment has a key."""
    for table in ("websockets", "messages"):
        os.environ.setdefault(f"{table.upper()}_TABLE", f"serverless-websockets-{stage}-{table}")
    if not any(os.environ.get(name) for name in (*KEYS, *FURTHER_JWT_SETTINGS)):
        os.environ.setdefault("AUTH_MODE", "open")


def _resolve_secret(is_embedded: bool) -> None:
    """Prefer JWT_SECRET to the secret that the stage names, which this machine might not be able to read."""
    if os.environ.get("JWT_SECRET"):
        os.environ.pop("JWT_SECRET_NAME", None)
    elif os.environ.get("JWT_SECRET_NAME") and is_embedded:
        end("JWT_SECRET_NAME names a secret on AWS, which chalice local cannot read: set JWT_SECRET instead")


def _bind(variable: str, host: str, port: int, serve: Callable[[int], int]) -> int:
    """Serve, and return the port. End the process if another process took the port after it was checked."""
    try:
        return serve(port)
    except OSError as failure:
        end(bind_error(failure, host, port, variable))
