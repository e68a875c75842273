"""What starts with `chalice local`: DynamoDB and its tables, the stream mapping, and the WebSocket API."""

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
    check_ports,
    check_stage,
    in_one_line,
    keeps_tables,
    use_dynamodb,
    why_not,
)
from localdev.checks import WEBSOCKET_PORT as WEBSOCKET_PORT
from localdev.command_line import ChaliceLocal
from localdev.ending import end, read_note
from localdev.functions import function, websocket_routes
from localdev.gateway import Gateway
from localdev.limits import LimitError, Limits
from localdev.outlet import take_over
from localdev.playground import Playground, Steps
from localdev.reloading import end_with_parent
from localdev.stream_mapping import POLL_SECONDS, StreamMapping
from localdev.terminal import say, show_outcomes, viewers

try:
    import resource
except ImportError:  # Windows has neither this module nor this limit.
    resource = None  # type: ignore[assignment]

API_ID = "local"
SWITCH_SECONDS = 0.0005
"""How long a function may compute while the gateway waits for its turn, of which there is only one."""

GARBAGE_AT = (20_000, 10, 100)
"""How rarely rings of objects are looked for. By default that stops everybody for 100 ms once a second."""

SAFETY_POLL_SECONDS = 5.0
"""The embedded DynamoDB says when it was written to; its stream is polled only to be on the safe side."""


@dataclass(frozen=True, slots=True)
class LocalAws:
    """Prepared before the app makes its clients, so that they reach this machine and nothing else."""

    options: ChaliceLocal
    limits: Limits
    ports: Ports
    dynamodb: str
    poll_seconds: float
    written: threading.Event
    mappings: list[StreamMapping] = field(default_factory=list)
    are_kept: bool = False
    """Whether the tables are those of before an edit, with what their streams had not given yet."""

    @classmethod
    def if_asked_for(cls) -> "LocalAws | None":
        """None unless this process is `chalice local`: deploying, packaging and Lambda never start it."""
        options = command_line.of_this_process()
        return None if options is None else cls.prepare(options)

    @classmethod
    def prepare(cls, options: ChaliceLocal) -> "LocalAws":
        sys.setswitchinterval(SWITCH_SECONDS)
        take_over()
        read_note()
        _open_many_files()
        end_with_parent()
        _tell(os.environ.get("TELEMETRY_FILE"))
        try:
            return cls._checked(options)
        except (CannotStart, LimitError) as wrong:
            end(str(wrong))

    @classmethod
    def _checked(cls, options: ChaliceLocal) -> "LocalAws":
        """Raises CannotStart and LimitError."""
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
        _find_secret(is_embedded=not named)
        if named:
            use_dynamodb(named)
            return cls(options, limits, ports, named, POLL_SECONDS, written)
        embedded, mappings = dynamodb.embed(on_write=written.set), list[StreamMapping]()
        are_kept = keeps_tables(os.environ) and kept_tables.keep(embedded, mappings)
        port = _bind("DYNAMODB_PORT", options.host, ports.dynamodb, lambda p: embedded.serve(options.host, p))
        url = f"http://{in_url(options.host)}:{port} (embedded, in memory)"
        return cls(options, limits, ports, url, SAFETY_POLL_SECONDS, written, mappings, are_kept)

    def serve(self, app: Chalice, access: Access) -> None:
        """Start everything, and return; a port that is taken ends the process with one line."""
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
            end(f"the tables {', '.join(tables.values())} cannot be used: {in_one_line(failure)}")
        gateway, loop, url = self._start_gateway(app, access)

        def vanish(connection_id: str) -> None:
            asyncio.run_coroutine_threadsafe(gateway.vanish(connection_id), loop).result()

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
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE_AT)
        say(
            f"\n  Playground     http://{in_url(self.options.host)}:{self.options.port}/\n"
            f"  WebSocket API  {url}?{'playerId=1' if access.is_open else 'token=…'}\n"
            f"  Players        {access.in_words()}\n"
            f"  DynamoDB       {self.dynamodb}\n"
            f"  Tables         {', '.join(tables.values())}\n"
        )

    def _start_mapping(self, app: Chalice, source: DynamoDBEventConfig, is_new: bool) -> None:
        """Of a table that was there before, only what is new is given: AWS too would not begin again.

        The stream of a table that was kept over an edit has only what was not given yet.
        """
        table = source.stream_arn.split(":table/")[1].split("/")[0]
        try:
            arn = dynamodb.stream_arn(boto3.client("dynamodb"), table)
        except KeyError:
            end(f"table {table} has no stream: delete it, and chalice local makes it with one")
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


def _open_many_files() -> None:
    """Each connection is an open file, and what a shell lets open by default is few."""
    if resource is None:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # Some systems say that there is no limit, and set one.
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _tell(telemetry_file: str | None) -> None:
    try:
        show_outcomes(telemetry_file)
    except OSError as failure:
        end(f"TELEMETRY_FILE cannot be written: {failure.strerror}")


def _configure(stage: str) -> None:
    """A stage that the configuration does not name has its own tables, and is open unless it gets a key."""
    for table in ("websockets", "messages"):
        os.environ.setdefault(f"{table.upper()}_TABLE", f"serverless-websockets-{stage}-{table}")
    if not any(os.environ.get(name) for name in (*KEYS, *FURTHER_JWT_SETTINGS)):
        os.environ.setdefault("AUTH_MODE", "open")


def _find_secret(is_embedded: bool) -> None:
    """JWT_SECRET stands in for the secret that a stage names: this machine need not reach it."""
    if os.environ.get("JWT_SECRET"):
        os.environ.pop("JWT_SECRET_NAME", None)
    elif os.environ.get("JWT_SECRET_NAME") and is_embedded:
        end("JWT_SECRET_NAME is read from AWS, which is not reached from here: set JWT_SECRET in its place")


def _bind(variable: str, host: str, port: int, serve: Callable[[int], int]) -> int:
    """Serve, and return the port. Its check was before, so a failure means that it was taken since."""
    try:
        return serve(port)
    except OSError as failure:
        end(why_not(failure, host, port, variable))
