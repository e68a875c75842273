"""Decides which requests the local ports answer: those of programs, and of pages from this machine.

Any web page can make the browser send requests to localhost. Two headers that a page cannot set identify
such requests. `Host` is the name in the request's URL. An attacker can point a domain to this machine (DNS
rebinding), but not `localhost` or an IP address. `Origin` is the page's origin; programs don't send it.
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
    """Checks requests. `own_host` is the value of `--host`.

    `allowed_origins` can open WebSockets, as can the origins on this machine.

    Each method takes all values of the request's Host and Origin headers. It returns the reason for a
    refusal, or None. It accepts any port, because ports can be forwarded. A request without a Host isn't from
    a browser, because only HTTP/1.0 programs omit it.
    """

    own_host: str
    allowed_origins: frozenset[str] = frozenset()

    def refusal_of_program(self, hosts: Sequence[str], origins: Sequence[str]) -> str | None:
        """Check a request to DynamoDB or `@connections`, which no web page needs."""
        if not self._is_this_machine(hosts):
            return WRONG_HOST
        return NOT_FOR_PAGES if origins else None

    def refusal_of_page(self, hosts: Sequence[str], origins: Sequence[str]) -> str | None:
        """Check a request to the playground, which only its own page needs."""
        if not self._is_this_machine(hosts):
            return WRONG_HOST
        own = [f"http://{host}" for host in hosts]
        return NOT_FOR_OTHER_PAGES if origins and list(origins) != own else None

    def refusal_of_player(self, hosts: Sequence[str], origins: Sequence[str]) -> str | None:
        """Check a WebSocket's handshake, which can come from a game's page on another port of this machine.

        An Origin that is an IP address isn't enough, because an attacker can serve a page from one too.
        """
        if not self._is_this_machine(hosts):
            return WRONG_HOST
        if not origins or (len(origins) == 1 and self._is_allowed_origin(hosts, origins[0])):
            return None
        return NOT_FOR_OTHER_SITES

    def _is_this_machine(self, hosts: Sequence[str]) -> bool:
        if len(hosts) != 1:
            return not hosts
        name = hostname(hosts[0])
        if name is None:
            return False
        return _is_localhost(name) or _address(name) is not None or name == self.own_host.lower()

    def _is_allowed_origin(self, hosts: Sequence[str], origin: str) -> bool:
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
    """Return the host of a Host header, with the brackets of an IPv6 address, or None if malformed."""
    parts = _HOST.fullmatch(host)
    return parts[1].lower() if parts else None


def hostname(host: str) -> str | None:
    """Return the host of a Host header without brackets and the final dot, or None if malformed."""
    bare = host_without_port(host)
    return None if bare is None else bare.strip("[]").removesuffix(".")


def _is_localhost(name: str) -> bool:
    """Return whether browsers resolve the name to this machine without DNS."""
    return name == "localhost" or name.endswith(".localhost")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
