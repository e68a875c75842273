"""Checks the options and settings of `chalice local` before anything starts.

Each error is one line that says how to fix it.
"""

import errno
import itertools
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from localdev import dynamodb
from localdev.addresses import resolve
from localdev.command_line import ChaliceLocal

WEBSOCKET_PORT = 8001
DYNAMODB_PORT = 8002
NAMED_DYNAMODB = "AWS_ENDPOINT_URL_DYNAMODB"
REMEDIES = {
    "--port": "give chalice local another with --port",
    "WEBSOCKET_PORT": "set WEBSOCKET_PORT to another",
    "DYNAMODB_PORT": "set DYNAMODB_PORT to another",
}
ADDRESSES = "an address of this machine, such as 127.0.0.1 or ::1"
EXAMPLE = "such as http://127.0.0.1:8000"
ANSWER_SECONDS = 10
FAILURES = (BotoCoreError, ClientError, ResponseParserError, ValueError)
"""The exceptions that boto3 raises when a server does not answer as DynamoDB does."""


class CannotStart(Exception):
    """`chalice local` cannot start. The text says why, and how to fix it."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports to serve on. 0 stands for any free port."""

    websocket: int
    dynamodb: int


def check_stage(options: ChaliceLocal) -> None:
    """Raise CannotStart if the stage's name isn't valid in a URL and in table names."""
    for stage in (options.stage, options.api_stage):
        if not re.fullmatch("[A-Za-z0-9_-]{1,128}", stage):
            raise CannotStart(f"a stage must be 1 to 128 of A-Z a-z 0-9 _ -, not {stage!r}")


def check_ports(options: ChaliceLocal, environ: Mapping[str, str]) -> Ports:
    """Return the ports to serve on. Raises CannotStart if one is invalid or in use."""
    if not 1 <= options.port <= 65535:
        raise CannotStart(f"--port must be a port number from 1 to 65535, not {options.port}")
    ports = {"--port": options.port, "WEBSOCKET_PORT": _port(environ, "WEBSOCKET_PORT", WEBSOCKET_PORT)}
    if not environ.get(NAMED_DYNAMODB):
        ports["DYNAMODB_PORT"] = _port(environ, "DYNAMODB_PORT", DYNAMODB_PORT)
    for one, other in itertools.combinations(ports, 2):
        if ports[one] == ports[other] != 0:
            raise CannotStart(f"{one} and {other} are both {ports[one]}: {REMEDIES[other]}")
    for setting, port in ports.items():
        try:
            _bind_once(options.host, port)
        except (OSError, UnicodeError) as failure:
            raise CannotStart(bind_error(failure, options.host, port, setting)) from None
    return Ports(ports["WEBSOCKET_PORT"], ports.get("DYNAMODB_PORT", 0))


def _port(environ: Mapping[str, str], variable: str, default: int) -> int:
    text = environ.get(variable) or str(default)
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise CannotStart(
            f"{variable} must be a port number from 1 to 65535, or 0 for any free port, not {text!r}"
        )
    return int(text)


def keeps_tables(environ: Mapping[str, str]) -> bool:
    """Return whether the embedded tables survive an edit. Raises CannotStart unless it is yes or no."""
    text = environ.get("KEEP_TABLES") or "yes"
    if text not in ("yes", "no"):
        raise CannotStart(f"KEEP_TABLES must be yes or no, not {text!r}")
    return text == "yes"


def _bind_once(host: str, port: int) -> None:
    """Bind the port and release it. Raises CannotStart, OSError and UnicodeError.

    Chalice binds its own port in a thread. A failure there would leave a process that serves nothing.
    """
    if not host:
        raise CannotStart(f"--host must be {ADDRESSES}")
    family, address = resolve(host, port)
    with socket.socket(family) as probe:
        if os.name == "posix":  # On Windows this option would bind a port that is in use.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def bind_error(failure: Exception, host: str, port: int, setting: str) -> str:
    """Return a sentence that says why the port cannot be bound. `setting` names the option that gave it."""
    reason = getattr(failure, "strerror", None) or str(failure)
    if isinstance(failure, socket.gaierror | UnicodeError):
        return f"cannot resolve --host {host!r} ({reason}): give {ADDRESSES}"
    number = getattr(failure, "errno", None)
    if number == errno.EADDRINUSE:
        return f"port {port} is in use: {REMEDIES[setting]}"
    reason = os.strerror(number) if number else reason
    if number in (errno.EACCES, errno.EPERM):
        return f"port {port} is not allowed ({reason}): {REMEDIES[setting]}, 1024 or higher"
    return f"cannot listen on --host {host!r} ({reason}): give {ADDRESSES}"


def use_dynamodb(url: str) -> None:
    """Make every client use the DynamoDB at the URL. Raises CannotStart unless a DynamoDB answers there."""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        raise CannotStart(f"{NAMED_DYNAMODB} must be a URL, {EXAMPLE}, not {url!r}")
    quick = Config(
        connect_timeout=ANSWER_SECONDS, read_timeout=ANSWER_SECONDS, retries={"total_max_attempts": 1}
    )
    try:
        dynamodb.use_endpoint(url)
        answer = boto3.client("dynamodb", config=quick).list_tables(Limit=1)
    except FAILURES as failure:
        raise CannotStart(
            f"{NAMED_DYNAMODB}: no DynamoDB answers at {url} ({one_line(failure)}): "
            "start it, or unset the variable to use the embedded one"
        ) from None
    if "TableNames" not in answer:
        raise CannotStart(
            f"{NAMED_DYNAMODB}: the server at {url} is not a DynamoDB: "
            "give the URL of one, or unset the variable to use the embedded one"
        )


def one_line(failure: Exception) -> str:
    """Return the exception's name and text in one line of at most 300 characters."""
    return " ".join(f"{type(failure).__name__}: {failure}".split())[:300]
