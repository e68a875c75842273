"""The local AWS: what `chalice local` runs the service on. None of it is shipped."""

import os
from pathlib import Path

from localdev.reloading import watch_only_sources

if "CHALICE_WORKER" in os.environ:  # Chalice's watcher runs already: after the slow imports is too late.
    watch_only_sources(Path.cwd())

from localdev.command_line import deploying as deploying
from localdev.command_line import packaging as packaging
from localdev.ending import end as end
from localdev.local_aws import LocalAws as LocalAws
