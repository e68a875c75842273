"""Formats and resolves hosts, adds IPv6 to Chalice's server, and excludes local hosts from the proxy."""

import ipaddress
import os
import socket
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from chalice.local import LocalDevServer, ThreadedHTTPServer

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def in_url(host: str) -> str:
    """Return the host as it is written in a URL, with brackets around an IPv6 address."""
    return f"[{host}]" if ":" in host else host


def resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """Return the family and the address to bind, preferably IPv4. Raises OSError and UnicodeError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, address


def serve_ipv6() -> None:
    """Patch Chalice's server so that it binds an IPv6 address, and prints its URL with brackets."""

    def serve_forever(self: LocalDevServer) -> None:
        print(f"Serving on http://{in_url(self.host)}:{self.port}")
        self.server.serve_forever()

    setattr(ThreadedHTTPServer, "address_family", socket.AF_INET6)  # noqa: B010  # mypy rejects an assignment.
    setattr(LocalDevServer, "serve_forever", serve_forever)  # noqa: B010


def never_proxy(host: str, endpoint: str) -> None:
    """Exclude loopback hosts, `host`, and the host of a loopback `endpoint` from the user's proxy.

    botocore and urllib read `no_proxy` first, and compare it with the host as the URL spells it.
    """
    proxies = getproxies_environment()
    excluded = proxies.get("no", "")
    if not proxies or excluded == "*":  # no_proxy would hide the system's own proxy settings.
        return
    hosts = [*LOOPBACK, host, *_loopback_host(endpoint)]
    listed = dict.fromkeys([excluded, *hosts, *map(in_url, hosts)])
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(filter(None, listed))


def _loopback_host(url: str) -> list[str]:
    """Return the URL's host in a list if it is any loopback address, otherwise an empty list."""
    try:
        host = urlsplit(url).hostname or ""
        return [host] if ipaddress.ip_address(host).is_loopback else []
    except ValueError:
        return []
