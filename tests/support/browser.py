"""A real browser, controlled by the DevTools protocol."""

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.sockets import PATIENCE_SECONDS

COMMAND = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "about:blank",
)


def needs_browser(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test as slow; skip it where there is no browser, except in CI, where it fails."""
    is_missing = COMMAND is None and "CI" not in os.environ
    skips = pytest.mark.skipif(is_missing, reason="there is no chromium on this machine")
    marked: Callable[..., None] = pytest.mark.slow(skips(test))
    return marked


class PageFailed(Exception):
    """A script raised an exception. The text is the browser's."""


class Page:
    """One tab. `complaints` are uncaught exceptions and entries of the browser's log."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._last_id = 0
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last_id += 1
        self._socket.send(json.dumps({"id": self._last_id, "method": method, "params": parameters}))
        while (told := json.loads(self._socket.recv(PATIENCE_SECONDS))).get("id") != self._last_id:
            self._listen(told)
        if "error" in told:
            raise PageFailed(told["error"]["message"])
        result: dict[str, Any] = told["result"]
        return result

    def _listen(self, told: dict[str, Any]) -> None:
        if told["method"] == "Runtime.exceptionThrown":
            self.complaints.append(str(told["params"]["exceptionDetails"]))
        elif told["method"] == "Log.entryAdded":
            self.complaints.append(told["params"]["entry"]["text"])

    def open(self, url: str) -> None:
        self.command("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """Return the expression's value, or its promise's."""
        answer = self.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise PageFailed(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def until(self, condition: str) -> Any:
        """Wait for an expression to be true, and return it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (value := self.evaluate(condition)):
            shown = "document.body.innerText"
            assert time.monotonic() < deadline, f"{condition} never came: {self.evaluate(shown)}"
            time.sleep(0.02)
        return value

    def place_of(self, selector: str) -> tuple[float, float]:
        """Return the center of an element in the window, in CSS pixels."""
        x, y = self.evaluate(
            f"""(() => {{
                const {{left, top, width, height}} =
                  document.querySelector({json.dumps(selector)}).getBoundingClientRect();
                return [left + width / 2, top + height / 2];
            }})()"""
        )
        return x, y

    def type(self, text: str) -> None:
        self.command("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press and release the key Tab or Enter."""
        code = {"Tab": 9, "Enter": 13}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    @contextmanager
    def holding_key(self, key: str) -> Iterator[None]:
        """Hold a key that types no character, such as ArrowLeft."""
        self.command("Input.dispatchKeyEvent", type="rawKeyDown", key=key, code=key)
        yield
        self.command("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)

    @contextmanager
    def holding_finger(self, x: float, y: float) -> Iterator[None]:
        """Touch a point of the window, in CSS pixels."""
        self.command("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        yield
        self.command("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browsing(profile: Path) -> Iterator[Page]:
    """Start a browser with an empty page, and end it with the block."""
    assert COMMAND is not None, "there is no chromium on this machine"
    process = subprocess.Popen(
        [COMMAND, f"--user-data-dir={profile}", *OPTIONS],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with connect(_page_url(profile / "DevToolsActivePort"), max_size=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.wait()


def _page_url(port_file: Path) -> str:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (port_file.exists() and port_file.read_text(encoding="utf-8")):
        assert time.monotonic() < deadline, "the browser did not start"
        time.sleep(0.02)
    port = port_file.read_text(encoding="utf-8").splitlines()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
        pages = json.loads(answer.read())
    return str(next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page"))
