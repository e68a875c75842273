"""Runs the service on a local AWS, for `chalice local`. Not shipped to Lambda."""

import os
from pathlib import Path

from localdev.reloading import watch_only_sources

if "CHALICE_WORKER" in os.environ:  # Chalice's watcher is already running, so don't wait for slow imports.
    watch_only_sources(Path.cwd())

from localdev.preparation import prepare as prepare
