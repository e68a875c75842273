"""Compares the import and the first call of app.py with a bare Chalice app with boto3 and pydantic."""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from measure.cold import CREDENTIALS, PROJECT, SETTINGS, run_with_cpu_share
from measure.counted_aws import seconds_of

RUNS = 15

BARE = """
import boto3, pydantic
from chalice import Chalice
app = Chalice(app_name="bare")
app.experimental_feature_flags.update(["WEBSOCKETS"])

class Frame(pydantic.BaseModel):
    action: str

@app.on_ws_message()
def websocket_message(event):
    Frame.model_validate_json(event.body)
    boto3.client("dynamodb").get_item(TableName="t", Key={"id": {"S": "1"}})
    app.websocket_api.configure("domain.invalid", "dev")
    app.websocket_api.session = boto3.session.Session()
    app.websocket_api.send(event.connection_id, "{}")
"""

ANSWER_CALLS = """
import boto3
from botocore.awsrequest import AWSResponse
boto3.setup_default_session()

def answer(params, **_):
    return AWSResponse(params["url"], 200, {}, None), {"ResponseMetadata": {"HTTPStatusCode": 200}}

boto3.session.Session = lambda *a, **k: boto3.DEFAULT_SESSION
boto3.DEFAULT_SESSION.events.register("before-call", answer)
"""

FIRST_CALL = """
from chalice.local import LambdaContext
context = {"connectionId": "c", "apiId": "a", "stage": "dev", "domainName": "d", "routeKey": "$default"}
event = {"requestContext": context, "body": '{"action": "ping"}'}
call = lambda: module.app.handler_map["websocket_message"](event, LambdaContext("f", 512))
"""

TIMED = """
import sys, time
print("ready", flush=True)
sys.stdin.readline()
started = time.perf_counter()
call()
print()
print(time.perf_counter() - started)
"""


@contextmanager
def imports() -> Iterator[tuple[str, str]]:
    """Yield two programs, which import app.py and the bare app as `module`."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "bare.py").write_text(BARE, encoding="utf-8")
        yield (
            f"import sys; sys.path.insert(0, {str(PROJECT)!r}); import app as module",
            f"import sys; sys.path.insert(0, {directory!r}); import bare as module",
        )


def importing() -> float:
    """Return the ratio of app.py's import time to the bare app's."""
    with imports() as programs:
        return _ratio(*[partial(_seconds_of_running, program) for program in programs])


def importing_and_first_call() -> float:
    """Return the ratio of app.py's time for import and first call to the bare app's."""
    with imports() as programs:
        return _ratio(
            *[
                partial(_seconds_of_running, ANSWER_CALLS + program + FIRST_CALL + "call()")
                for program in programs
            ]
        )


def first_call(share: float) -> float:
    """Return the ratio of the time of app.py's first call to the bare app's, as on Lambda.

    Both import with a whole CPU, and make the call with `share` of a CPU.
    """
    with imports() as programs:
        return _ratio(
            *[
                partial(_seconds_of_first_call, ANSWER_CALLS + program + FIRST_CALL + TIMED, share)
                for program in programs
            ]
        )


def _ratio(ours: Callable[[], float], bare: Callable[[], float]) -> float:
    """Return the ratio of the medians. Runs alternate, so that other load affects both equally."""
    pairs = [(ours(), bare()) for _ in range(RUNS)]
    return statistics.median(pair[0] for pair in pairs) / statistics.median(pair[1] for pair in pairs)


def _seconds_of_running(program: str) -> float:
    run = partial(
        subprocess.run,
        [sys.executable, "-c", program],
        env={**SETTINGS, **CREDENTIALS},
        check=True,
        capture_output=True,
    )
    return seconds_of(lambda: [run()].clear())


def _seconds_of_first_call(program: str, share: float) -> float:
    on_lambda = {**SETTINGS, **CREDENTIALS, "AWS_LAMBDA_FUNCTION_NAME": "app-dev-websocket_message"}
    return float(run_with_cpu_share(["-c", program], on_lambda, share).splitlines()[-1])
