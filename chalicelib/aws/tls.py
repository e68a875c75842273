"""TLS of all connections to AWS: one context per process loads the CA bundle once, and handshakes take turns.

botocore makes one context per client, but urllib3 loads the CA bundle into it again for each connection
(urllib3#3623). With OpenSSL 3 that takes 15 to 30 ms of CPU (cpython#95031), and a handshake only 1 or 2.
A push function opens up to a hundred connections at once, with a part of a CPU.
"""

import ssl
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import Any

from botocore.httpsession import get_cert_path

HANDSHAKES_AT_ONCE = 4
"""Enough to overlap the waits for the network. With more, the handshakes share the CPU and all end late."""

TURN_SECONDS = 5.0
"""How long a connection waits for its turn. Only an endpoint that answers no handshake makes it longer."""

_of_thread = threading.local()


class SharedContext(ssl.SSLContext):
    """Loads each CA bundle once, and runs at most HANDSHAKES_AT_ONCE handshakes at a time.

    urllib3 sets the ALPN protocols for each connection too. Once is enough for these as well, because
    OpenSSL frees the list that a handshake in another thread may be reading.
    """

    def __init__(self, protocol: int) -> None:
        super().__init__()
        self.minimum_version = ssl.TLSVersion.TLSv1_2
        self._changing = threading.Lock()
        self._done: set[Any] = set()
        self._turns = threading.Semaphore(HANDSHAKES_AT_ONCE)

    def load_verify_locations(self, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
        self._once(super().load_verify_locations, cafile, capath, cadata)

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        self._once(super().set_alpn_protocols, tuple(alpn_protocols))

    def _once(self, change: Callable[..., None], *arguments: Any) -> None:
        with self._changing:
            if (change.__name__, arguments) not in self._done:
                change(*arguments)
                self._done.add((change.__name__, arguments))

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """Raise TimeoutError when no turn comes. The socket's own timeout begins with the turn."""
        started = time.monotonic()
        try:
            if not self._turns.acquire(timeout=TURN_SECONDS):
                raise TimeoutError("no turn for a handshake: timed out")
            try:
                return super().wrap_socket(*args, **kwargs)
            finally:
                self._turns.release()
        finally:
            _of_thread.seconds = seconds_of_handshakes() + time.monotonic() - started


def seconds_of_handshakes() -> float:
    """Return the seconds that this thread has spent on handshakes and on waiting for its turns."""
    return float(getattr(_of_thread, "seconds", 0))


@cache
def shared_context() -> SharedContext:
    return SharedContext(ssl.PROTOCOL_TLS_CLIENT)


def share_context(client: Any) -> None:
    """Let a boto3 client that has no connection yet open its connections with the shared context.

    boto3 has no public way to do this. If a later version lacks one of the private names, the client keeps
    boto3's own context, which works but takes longer.
    """
    if not client.meta.endpoint_url.startswith("https:"):
        return
    with suppress(AttributeError):
        http = client._endpoint.http_session
        shared_context().load_verify_locations(get_cert_path(http._verify))
        http._manager.connection_pool_kw["ssl_context"] = shared_context()
