"""`chalice local` restarts itself when a file changes. Two things it does not do by itself are here.

It walks every file below the project once a second, a virtual environment's twenty thousand too, which
takes a third of each second; and it restarts for files that Python itself writes, so that every edit
would drop the connections twice. And a worker whose parent is killed keeps its ports.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from chalice.cli.filewatch.stat import StatFileWatcher

SOURCES = (
    "app.py",
    "chalicelib/**/*.py",
    "localdev/**/*.py",
    ".chalice/*.json",
    "cloudformation/*",
)
PARENT_POLL_SECONDS = 0.5


def watch_only_sources(root: Path) -> None:
    """From now on this process's watcher looks at the project's own sources alone."""
    loaded = dict(_mtimes(root))

    def restart_if_changed(_watcher: StatFileWatcher, _root_dir: str, restart: Callable[[], None]) -> None:
        if dict(_mtimes(root)) != loaded:
            restart()

    setattr(StatFileWatcher, "_single_pass_poll", restart_if_changed)  # noqa: B010  # mypy forbids it plainly.


def _mtimes(root: Path) -> Iterator[tuple[str, float]]:
    for pattern in SOURCES:
        for path in root.glob(pattern):
            try:
                yield str(path), path.stat().st_mtime
            except FileNotFoundError:
                continue


def end_with_parent() -> None:
    """End this process when the reloader that started it is no more, however it went."""
    if "CHALICE_WORKER" in os.environ:
        threading.Thread(target=_watch_parent, name="watch-parent", daemon=True).start()


def _watch_parent() -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os._exit(0)
