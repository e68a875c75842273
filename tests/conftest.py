"""The environment that a stage gives the app, and no way to anybody's AWS."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]
os.environ.update(
    AWS_EC2_METADATA_DISABLED="true", AWS_ACCOUNT_ID_ENDPOINT_MODE="disabled", AWS_REGION="us-east-1"
)

# `chalice local` watches the project while other tests run: nothing may be written there meanwhile.
sys.dont_write_bytecode = True
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(
    Path(tempfile.gettempdir()) / "serverless-websockets-hypothesis"
)

PROJECT = Path(__file__).parent.parent
config = json.loads((PROJECT / ".chalice" / "config.json").read_text(encoding="utf-8"))
os.environ.update(config["stages"]["dev"]["environment_variables"])

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")  # By default Hypothesis fails a test whose machine is slow.


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts `chalice local` as ChaliceLocal.start does, and ends all of them after the test."""
    from tests.support.chalice_process import (
        ChaliceLocal,  # After the environment above: it imports the service.
    )

    running: list[ChaliceLocal] = []

    def start(*options: str, **arguments: Any) -> ChaliceLocal:
        running.append(ChaliceLocal.start(tmp_path, *options, **arguments))
        return running[-1]

    yield start
    for one in running:
        one.kill()


@pytest.fixture(scope="session", autouse=True)
def what_was_logged() -> Iterator[None]:
    """No text of a message, no token and no secret, in no line of the whole run."""
    from tests.support import logs  # After the environment above: it imports the service.

    yield from logs.watch()
