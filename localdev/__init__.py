"""The local AWS: what `chalice local` runs the service on. None of it is shipped."""

import os
from pathlib import Path

from localdev.reloading import watch_only_sources

if "CHALICE_WORKER" in os.environ:  # Chalice's watcher runs already: after the slow imports is too late.
    watch_only_sources(Path.cwd())

from localdev.preparation import prepare as prepare
