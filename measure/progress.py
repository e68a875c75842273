"""Shows a progress bar on the terminal."""

import sys
import time

WIDTH = 40
EACH_SECONDS = 0.2


class Progress:
    """A progress bar on standard error. It shows nothing unless standard error is a terminal."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown = 0.0
        self._is_terminal = sys.stderr.isatty()

    def show(self, done: float, total: float, doing: str = "") -> None:
        now = time.monotonic()
        if not self._is_terminal or now - self._shown < EACH_SECONDS or total <= 0:
            return
        self._shown = now
        share = min(1.0, done / total)
        line = f"[{'#' * round(WIDTH * share):<{WIDTH}}] {self._name} {doing or f'{share:.0%}'}"
        print(f"\r{line:<79}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._is_terminal:
            print(f"\r{' ' * 79}\r", end="", file=sys.stderr, flush=True)
