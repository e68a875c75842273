"""Runs the service on a local AWS, for `chalice local`. Not shipped to Lambda."""

import os
from pathlib import Path

from localdev.reloading import watch_only_sources

if "CHALICE_WORKER" in os.environ:  # Chalice's watcher is already running, so don't wait for slow imports.
    watch_only_sources(Path.cwd())

from localdev.command_line import deploying as deploying
from localdev.command_line import packaging as packaging
from localdev.ending import end as end
from localdev.local_aws import LocalAws as LocalAws
