"""`chalice local` restarts itself when a file changes. Two things it does not do by itself are here.

It walks every file below the project once a second, a virtual environment's twenty thousand too, which
takes a third of each second; and it restarts for files that Python itself writes, so that every edit
would drop the connections twice. And a worker whose parent is killed keeps its ports.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from chalice.cli.factory import CLIFactory
from chalice.cli.filewatch.stat import StatFileWatcher

from localdev import command_line, threads
from localdev.ending import before_exit, prepare_restart
from localdev.terminal import say

SOURCES = (
    "app.py",
    "chalicelib/**/*.py",
    "localdev/**/*.py",
    ".chalice/*.json",
    "cloudformation/*",
)
PARENT_POLL_SECONDS = 0.5


def watch_only_sources(root: Path) -> None:
    """Let this process's watcher look at the project's own sources alone.

    A configuration that cannot be read would end the reloader, so that edit is not followed.
    """
    seen = dict(_mtimes(root))

    def restart_if_changed(_watcher: StatFileWatcher, _root_dir: str, restart: Callable[[], None]) -> None:
        nonlocal seen
        now = dict(_mtimes(root))
        if now == seen:
            return
        seen = now
        wrong = _wrong_configuration(root)
        if wrong is not None:
            say(f"chalice: {wrong}: edit it again")
            return
        prepare_restart()
        restart()

    setattr(StatFileWatcher, "_single_pass_poll", restart_if_changed)  # noqa: B010  # mypy forbids it plainly.


def _wrong_configuration(root: Path) -> str | None:
    """Return why Chalice would refuse .chalice/config.json, or None."""
    options = command_line.of_this_process()
    assert options is not None, "only `chalice local` watches files"
    try:
        CLIFactory(project_dir=str(root)).create_config_obj(chalice_stage_name=options.stage)
    except Exception as refusal:  # Chalice raises many kinds, and ends with each of them.
        return str(refusal)
    return None


def _mtimes(root: Path) -> Iterator[tuple[str, float]]:
    for pattern in SOURCES:
        for path in root.glob(pattern):
            try:
                yield str(path), path.stat().st_mtime
            except FileNotFoundError:
                continue


def end_with_parent() -> None:
    """End this process when the reloader that started it is no more, however it went.

    On Windows a process keeps its parent's number, so there the worker is not ended.
    """
    if "CHALICE_WORKER" in os.environ:
        threads.start("watch-parent", _watch_parent)


def _watch_parent() -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    for work in before_exit:
        work()
    os._exit(0)
