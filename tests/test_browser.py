"""A real browser connects with its token in a subprotocol, which is the only way that it has."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest

from tests.chalice_process import ChaliceLocal
from tests.tokens import SECRET, token

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_SECONDS = 60
PAGE = """<!doctype html><script>
const socket = new WebSocket(URL_, PROTOCOLS);
const frames = [];
const tell = about => fetch("/", {method: "POST", body: JSON.stringify({...about, frames})});
socket.onmessage = event => {
  frames.push(JSON.parse(event.data));
  if (frames.length == 1) socket.send('{"action": "ping"}');
  else tell({protocol: socket.protocol});
};
socket.onclose = event => tell({closed: event.code});
</script>"""

needs_browser = pytest.mark.skipif(
    BROWSER is None and "CI" not in os.environ, reason="there is no chromium on this machine"
)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaliceLocal]:
    started = ChaliceLocal.start(tmp_path_factory.mktemp("browser"), "--stage", "tokens", JWT_SECRET=SECRET)
    try:
        yield started.started()
    finally:
        started.kill()


def visit(url: str, protocols: list[str], profile: Path) -> dict[str, Any]:
    """Open a page that connects, and return what it tells."""
    told: Queue[dict[str, Any]] = Queue()
    page = PAGE.replace("URL_", json.dumps(url)).replace("PROTOCOLS", json.dumps(protocols)).encode()

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def do_POST(self) -> None:
            told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    site = HTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    assert BROWSER is not None, "CI needs chromium"
    browser = subprocess.Popen(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
            f"http://127.0.0.1:{site.server_port}/",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return told.get(timeout=PATIENCE_SECONDS)
    except Empty:
        raise AssertionError("the page told nothing") from None
    finally:
        browser.terminate()
        browser.wait()
        site.shutdown()


@needs_browser
def test_a_browser_connects_with_a_token_in_a_subprotocol_and_reads_only_the_ordinary_one(
    local: ChaliceLocal, tmp_path: Path
) -> None:
    told = visit(local.url, ["chat", f"bearer.{token(sub='browser')}"], tmp_path)

    assert told["protocol"] == "chat"
    assert [frame["type"] for frame in told["frames"]] == ["system", "pong"]
    assert told["frames"][0]["playerId"] == "browser"


@needs_browser
def test_a_browser_with_a_bad_token_does_not_get_in(local: ChaliceLocal, tmp_path: Path) -> None:
    told = visit(local.url, ["chat", f"bearer.{token('another secret of 32 bytes or more')}"], tmp_path)

    assert told == {"closed": 1006, "frames": []}
