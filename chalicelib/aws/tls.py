"""TLS for all connections to AWS: one shared context loads the CA bundle once and limits handshakes.

botocore creates one context per client, but urllib3 loads the CA bundle into it again for each connection
(urllib3#3623). With OpenSSL 3 that takes 15 to 30 ms of CPU (cpython#95031), and a handshake only 1 or 2 ms.
`push_messages` opens up to 100 connections at once with a share of a CPU.
"""

import ssl
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import Any

from botocore.httpsession import get_cert_path

MAX_CONCURRENT_HANDSHAKES = 4
"""The limit of concurrent handshakes. Four overlap their network waits; more would compete for the CPU."""

TURN_SECONDS = 5.0
"""How long a connection waits for its handshake to start. Only an unresponsive endpoint takes longer."""

_of_thread = threading.local()


class SharedContext(ssl.SSLContext):
    """Loads each CA bundle once, and runs at most MAX_CONCURRENT_HANDSHAKES handshakes concurrently.

    It also sets the ALPN protocols once, although urllib3 sets them for each connection. Setting them again
    would free a list that a handshake in another thread might be reading.
    """

    def __init__(self, protocol: int) -> None:
        super().__init__()
        self.minimum_version = ssl.TLSVersion.TLSv1_2
        self._changing = threading.Lock()
        self._done: set[Any] = set()
        self._turns = threading.Semaphore(MAX_CONCURRENT_HANDSHAKES)

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
        """Run the handshake once it may start. Raises TimeoutError after TURN_SECONDS.

        The socket's own timeout doesn't include the wait.
        """
        started = time.monotonic()
        try:
            if not self._turns.acquire(timeout=TURN_SECONDS):
                raise TimeoutError("timed out waiting for other TLS handshakes")
            try:
                return super().wrap_socket(*args, **kwargs)
            finally:
                self._turns.release()
        finally:
            _of_thread.seconds = seconds_of_handshakes() + time.monotonic() - started


def seconds_of_handshakes() -> float:
    """Return the seconds that this thread has spent on handshakes, including waits for other handshakes."""
    return float(getattr(_of_thread, "seconds", 0))


@cache
def shared_context() -> SharedContext:
    return SharedContext(ssl.PROTOCOL_TLS_CLIENT)


def share_context(client: Any) -> None:
    """Make a new boto3 client use the shared context. Call this before the client's first request.

    boto3 has no public API for this. If a later version lacks one of these private attributes, the client
    keeps its own context, which works but is slower.
    """
    if not client.meta.endpoint_url.startswith("https:"):
        return
    with suppress(AttributeError):
        http = client._endpoint.http_session
        shared_context().load_verify_locations(get_cert_path(http._verify))
        http._manager.connection_pool_kw["ssl_context"] = shared_context()
