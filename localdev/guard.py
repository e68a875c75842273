"""Which requests the ports of the local AWS answer: those of programs and of this machine's own pages.

A browser sends the requests of any web page to localhost too. Two headers that a page cannot set tell them
apart. `Host` is the name that was asked for: a stranger can make a name of theirs point to this machine (DNS
rebinding), but not `localhost` or an address. `Origin` says where the page is from; programs don't send it.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]*)?", re.IGNORECASE)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(.+)", re.IGNORECASE)

WRONG_HOST = "The Host header must be localhost, an IP address, or the name given as --host."
NOT_FOR_PAGES = "Web pages cannot use this port: the request must have no Origin header."
NOT_FOR_OTHER_PAGES = "The Origin header must be the playground's own, http:// and the Host header."
NOT_FOR_OTHER_SITES = (
    "The Origin header must name localhost, the host that is connected to, or an origin in ALLOWED_ORIGINS."
)


@dataclass(frozen=True, slots=True)
class Guard:
    """`own_host` is the value of `--host`; `allowed_origins` can open WebSockets besides local ones.

    Each method is given all values of the request's Host and Origin headers, and returns why the request is
    refused, or None. Any port will do, because ports are forwarded. Without a Host, a request isn't from a
    browser: only HTTP/1.0 programs leave it out.
    """

    own_host: str
    allowed_origins: frozenset[str] = frozenset()

    def refusal_of_program(self, hosts: Sequence[str], origins: Sequence[str]) -> str | None:
        """For DynamoDB and `@connections`, which no web page has a use for."""
        if not self._is_here(hosts):
            return WRONG_HOST
        return NOT_FOR_PAGES if origins else None

    def refusal_of_page(self, hosts: Sequence[str], origins: Sequence[str]) -> str | None:
        """For the playground, which only its own page uses."""
        if not self._is_here(hosts):
            return WRONG_HOST
        own = [f"http://{host}" for host in hosts]
        return NOT_FOR_OTHER_PAGES if origins and list(origins) != own else None

    def refusal_of_player(self, hosts: Sequence[str], origins: Sequence[str]) -> str | None:
        """For the WebSocket, which a game's page uses from its own port of this machine.

        An address alone proves nothing about a page: a stranger can serve one from an address.
        """
        if not self._is_here(hosts):
            return WRONG_HOST
        if not origins or (len(origins) == 1 and self._may_play(hosts, origins[0])):
            return None
        return NOT_FOR_OTHER_SITES

    def _is_here(self, hosts: Sequence[str]) -> bool:
        if len(hosts) != 1:
            return not hosts
        name = hostname(hosts[0])
        if name is None:
            return False
        return _is_localhost(name) or _address(name) is not None or name == self.own_host.lower()

    def _may_play(self, hosts: Sequence[str], origin: str) -> bool:
        if origin in self.allowed_origins:
            return True
        parts = _ORIGIN.fullmatch(origin)
        name = hostname(parts[1]) if parts else None
        if name is None:
            return False
        address = _address(name)
        is_loopback = _is_localhost(name) or (address is not None and address.is_loopback)
        return is_loopback or name in [hostname(host) for host in hosts]


def host_without_port(host: str) -> str | None:
    """Return the host in a Host header, an IPv6 address in its brackets; None if it is malformed."""
    parts = _HOST.fullmatch(host)
    return parts[1].lower() if parts else None


def hostname(host: str) -> str | None:
    """Return the name or address in a Host header, without brackets and the root's dot; None if malformed."""
    bare = host_without_port(host)
    return None if bare is None else bare.strip("[]").removesuffix(".")


def _is_localhost(name: str) -> bool:
    """Whether it is a name that browsers take for this machine without asking DNS."""
    return name == "localhost" or name.endswith(".localhost")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
