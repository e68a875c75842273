"""Set the environment variables of the stage dev, and remove all that lead to an AWS account.

Fixtures import the service only when they run, because it reads the environment when it is imported.
"""

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

# `chalice local` restarts when a file of the project changes, so tests must not write there.
sys.dont_write_bytecode = True
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(
    Path(tempfile.gettempdir()) / "serverless-websockets-hypothesis"
)

PROJECT = Path(__file__).parent.parent
config = json.loads((PROJECT / ".chalice" / "config.json").read_text(encoding="utf-8"))
os.environ.update(config["stages"]["dev"]["environment_variables"])

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")  # By default Hypothesis fails a test whose machine is slow.


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "chalice_local(*options, **variables): arguments of ChaliceLocal.start for `local`",
    )


@pytest.fixture(scope="module")
def local(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A `chalice local` for all tests of a module that leave it running. Each test has its own players.

    A module that needs options sets `pytestmark = pytest.mark.chalice_local(...)`.
    """
    from tests.support.chalice_process import ChaliceLocal  # After the environment above.

    given = request.node.get_closest_marker("chalice_local") or pytest.mark.chalice_local().mark
    with ChaliceLocal.running(tmp_path_factory.mktemp("local"), *given.args, **given.kwargs) as local:
        yield local


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start `chalice local` as ChaliceLocal.start does. All that were started are killed after the test."""
    from tests.support.chalice_process import ChaliceLocal  # After the environment above.

    running: list[ChaliceLocal] = []

    def start(*options: str, **arguments: Any) -> ChaliceLocal:
        running.append(ChaliceLocal.start(tmp_path, *options, **arguments))
        return running[-1]

    yield start
    for one in running:
        one.kill()


@pytest.fixture(scope="session", autouse=True)
def what_was_logged() -> Iterator[None]:
    """Fail if any log line of the run contains the text of a message, a token or a secret."""
    from tests.support import logs  # After the environment above.

    yield from logs.watch()
