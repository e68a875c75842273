"""Fixes two problems of Chalice's reloader, which restarts `chalice local` when a file changes.

Chalice's watcher checks every file below the project once per second, including the 20,000 files of a virtual
environment. That takes a third of a CPU. It also restarts for files that Python writes, so each edit would
drop the connections twice. `watch_only_sources` limits it to the sources.

A worker whose reloader is killed keeps running and keeps its ports. `end_with_parent` ends it.
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
    "deployment/tables.yaml",
)
PARENT_POLL_SECONDS = 0.5


def watch_only_sources(root: Path) -> None:
    """Make this process's watcher check only the project's sources.

    An invalid configuration would end the reloader, so print the error and don't restart.
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
            say(f"chalice: did not restart, because .chalice/config.json is not valid: {wrong}")
            return
        prepare_restart()
        restart()

    setattr(StatFileWatcher, "_single_pass_poll", restart_if_changed)  # noqa: B010  # mypy rejects an assignment.


def _wrong_configuration(root: Path) -> str | None:
    """Return the reason why Chalice would reject .chalice/config.json, or None."""
    options = command_line.of_this_process()
    assert options is not None, "only `chalice local` watches files"
    try:
        CLIFactory(project_dir=str(root)).create_config_obj(chalice_stage_name=options.stage)
    except Exception as refusal:  # Chalice raises many types, and exits on each of them.
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
    """End this process when the reloader that started it ends for any reason. Does nothing on Windows.

    On Windows a process keeps its parent's id after the parent has ended.
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
