"""A real browser connects with its token in a subprotocol, because it cannot set headers."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import browsing, needs_browser
from tests.support.chalice_process import ChaliceLocal
from tests.support.tokens import SECRET, token

CONNECT = """new Promise(tell => {
  const socket = new WebSocket(URL_, PROTOCOLS), frames = [];
  socket.onmessage = event => {
    frames.push(JSON.parse(event.data));
    if (frames.length === 1) socket.send('{"action": "ping"}');
    else tell({protocol: socket.protocol, frames});
  };
  socket.onclose = event => tell({closed: event.code, frames});
})"""


pytestmark = pytest.mark.chalice_local("--stage", "tokens", JWT_SECRET=SECRET)


def connect(local: ChaliceLocal, protocols: list[str], profile: Path) -> dict[str, Any]:
    """Connect from a page of this machine, and return what the page received."""
    with browsing(profile) as page:
        page.open(f"http://127.0.0.1:{local.http_port}/")
        page.until("location.protocol === 'http:' && document.readyState === 'complete'")
        script = CONNECT.replace("URL_", json.dumps(local.url)).replace("PROTOCOLS", json.dumps(protocols))
        told: dict[str, Any] = page.evaluate(script)
        return told


@needs_browser
def test_a_browser_connects_with_a_token_in_a_subprotocol_and_gets_only_the_other_one(
    local: ChaliceLocal, tmp_path: Path
) -> None:
    told = connect(local, ["chat", f"bearer.{token(sub='browser')}"], tmp_path)

    assert told["protocol"] == "chat"
    assert [frame["type"] for frame in told["frames"]] == ["system", "pong"]
    assert told["frames"][0]["playerId"] == "browser"


@needs_browser
def test_a_browser_with_a_bad_token_is_refused(local: ChaliceLocal, tmp_path: Path) -> None:
    told = connect(local, ["chat", f"bearer.{token('another secret of 32 bytes or more')}"], tmp_path)

    assert told == {"closed": 1006, "frames": []}
