"""What starts with `chalice local`: DynamoDB and its tables, the stream mapping, and the WebSocket API."""

import asyncio
import gc
import os
import resource
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import boto3
from chalice import Chalice
from chalice.app import DynamoDBEventConfig

from chalicelib.access import Access
from chalicelib.settings import FURTHER_JWT_SETTINGS, KEYS
from localdev import command_line, direct_management, dynamodb
from localdev.command_line import ChaliceLocal
from localdev.functions import function, websocket_routes
from localdev.gateway import Gateway
from localdev.limits import LimitError, Limits
from localdev.playground import Playground, Steps
from localdev.reloading import end_with_parent, watch_only_sources
from localdev.stream_mapping import POLL_SECONDS, StreamMapping
from localdev.terminal import say, show_outcomes, viewers

API_ID = "local"
WEBSOCKET_PORT = 8001
DYNAMODB_PORT = 8002
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
    dynamodb: str
    poll_seconds: float
    written: threading.Event

    @classmethod
    def if_asked_for(cls) -> "LocalAws | None":
        """None unless this process is `chalice local`: deploying, packaging and Lambda never start it."""
        options = command_line.of_this_process()
        return None if options is None else cls.prepare(options)

    @classmethod
    def prepare(cls, options: ChaliceLocal) -> "LocalAws":
        sys.setswitchinterval(SWITCH_SECONDS)
        _open_many_files()
        watch_only_sources(Path.cwd())
        end_with_parent()
        _tell(os.environ.get("TELEMETRY_FILE"))
        _check_free(options.host, options.port)
        if not options.is_configured:
            _configure(options.stage)
        try:
            limits = Limits.from_environment(os.environ)
        except LimitError as wrong:
            end(str(wrong))
        written = threading.Event()
        named = os.environ.get("AWS_ENDPOINT_URL_DYNAMODB")
        _find_secret(is_embedded=not named)
        if named:
            dynamodb.use_named(named)
            return cls(options, limits, named, POLL_SECONDS, written)
        embedded = dynamodb.embed(on_write=written.set)
        port = _bind("DYNAMODB_PORT", DYNAMODB_PORT, lambda p: embedded.serve(options.host, p))
        url = f"http://{options.host}:{port} (embedded, in memory)"
        return cls(options, limits, url, SAFETY_POLL_SECONDS, written)

    def serve(self, app: Chalice, access: Access) -> None:
        """Start everything, and return; a port that is taken ends the process with one line."""
        tables = {
            "WebsocketsTable": os.environ["WEBSOCKETS_TABLE"],
            "MessagesTable": os.environ["MESSAGES_TABLE"],
        }
        made = dynamodb.create_tables(boto3.client("dynamodb"), tables)
        for source in app.event_sources:
            if isinstance(source, DynamoDBEventConfig):
                self._start_mapping(app, source, is_new="MessagesTable" in made)
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
            f"\n  Playground     http://{self.options.host}:{self.options.port}/\n"
            f"  WebSocket API  {url}?{'playerId=1' if access.is_open else 'token=…'}\n"
            f"  Players        {access.in_words()}\n"
            f"  DynamoDB       {self.dynamodb}\n"
            f"  Tables         {', '.join(tables.values())}\n"
        )

    def _start_mapping(self, app: Chalice, source: DynamoDBEventConfig, is_new: bool) -> None:
        """Of a table that was there before, only what is new is given: AWS too would not begin again."""
        table = source.stream_arn.split(":table/")[1].split("/")[0]
        StreamMapping(
            boto3.client("dynamodbstreams"),
            dynamodb.stream_arn(boto3.client("dynamodb"), table),
            source.name,
            function(app, source.name),
            source.batch_size,
            source.maximum_batching_window_in_seconds,
            source.starting_position if is_new else "LATEST",
            self.poll_seconds,
            self.written,
        ).start()

    def _start_gateway(self, app: Chalice, access: Access) -> tuple[Gateway, asyncio.AbstractEventLoop, str]:
        stage, host = self.options.api_stage, self.options.host
        gateway = Gateway(API_ID, stage, websocket_routes(app), self.limits, access.allowed_origins)
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, name="gateway", daemon=True).start()

        def start(port: int) -> int:
            return asyncio.run_coroutine_threadsafe(gateway.start(host, port), loop).result()

        port = _bind("WEBSOCKET_PORT", WEBSOCKET_PORT, start)
        endpoint = f"http://{host}:{port}/{stage}"
        os.environ["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"] = endpoint
        direct_management.attach(dynamodb.session(), endpoint, gateway.manage, loop)
        return gateway, loop, f"ws://{host}:{port}/{stage}/"


def _open_many_files() -> None:
    """Each connection is an open file, and what a shell lets open by default is few."""
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


def _bind(variable: str, default: int, serve: Callable[[int], int]) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdecimal() or int(text) > 65535:
        end(f"{variable} must be a port number, not {text!r}")
    try:
        return serve(int(text))
    except OSError:
        end(f"port {text} is taken: set {variable} to another")


def _check_free(host: str, port: int) -> None:
    """Chalice binds this port later, in a thread, where a failure would leave a process that hangs."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            end(f"port {port} is taken: give chalice local another with --port")


def end(message: str) -> NoReturn:
    """End the process from whatever thread this is: sys.exit would end only the thread."""
    print(f"chalice: {message}", file=sys.stderr, flush=True)
    os._exit(1)
