"""Deploys to an emulator of AWS, tests the deployment, deletes it, and checks that nothing is left.

python -m tests.deployment.rehearse PYTHON

with the Python of an environment that has requirements-rehearsal.txt.

The emulator listens on loopback alone and enforces the permissions of roles.
tests/integration/test_acceptance.py marks its differences from AWS.
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import boto3

from deployment.stage import FUNCTIONS, Stage
from measure.local import free_port
from tests.support.chalice_process import PROJECT
from tests.support.failing_aws import IN_USE, FailingAws, Failure, failing

STAGE = "dev"
START_SECONDS = 60
SHORT_WAITS = PROJECT / "tests" / "deployment" / "short_waits"
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", "deployed", "deployments", "__pycache__", ".*_cache", "build"
)


class RehearsalFailed(Exception):
    """The rehearsal failed. The text says where."""


@contextmanager
def emulator(python: str, home: Path) -> Iterator[str]:
    """Run MiniStack, and yield the URL of all its services."""
    port = free_port()
    environment = {
        "PATH": f"{Path(python).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "TMPDIR": str(home),
        "S3_DATA_DIR": str(home / "s3"),
        "STATE_DIR": str(home / "state"),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "AUTH": "true",
        "LAMBDA_EXECUTOR": "local",
    }
    log = (home / "ministack.log").open("wb")
    process = subprocess.Popen(
        [python, "-m", "ministack"], cwd=home, env=environment, stdout=log, stderr=log, start_new_session=True
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(lambda: _answers(f"{url}/_ministack/health"), "MiniStack does not start")
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def rehearse(python: str) -> None:
    with TemporaryDirectory(prefix="rehearsal-") as directory:
        home, project = Path(directory, "home"), Path(directory, "project")
        home.mkdir()
        shutil.copytree(PROJECT, project, ignore=LEFT_OUT)
        _run_here(project)
        with emulator(python, home) as url, failing(url) as aws:
            _use(aws.url)
            before = _everything()
            say("Deploying without tables is refused with what to run")
            refused = _run(project, "-m", "chalice.cli", "deploy", "--stage", STAGE, may_fail=True)
            _must("run make deploy STAGE=dev" in refused, f"chalice deploy said: {refused}")
            _deploy_though_steps_fail(project, aws)
            api_id = _noted(project, "websocket_api")["websocket_api_id"]
            _post_to(project, f"{url}/_aws/execute-api/{api_id}/{STAGE}")
            deployed, mapping = _everything(), _mapping(project)
            say("Deploying from a machine without the notes is refused until they are written from AWS")
            (project / ".chalice" / "deployed" / f"{STAGE}.json").unlink()
            refused = _run(project, "-m", "deployment", "deploy", STAGE, may_fail=True)
            _must(f"make notes STAGE={STAGE}" in refused, f"make deploy said: {refused}")
            _run(project, "-m", "deployment", "notes", STAGE)
            say("Deploying again, which changes nothing")
            _run(project, "-m", "deployment", "deploy", STAGE)
            _must(_everything() == deployed, "the second deployment made something new")
            _must(_mapping(project) == mapping, "the second deployment changed the mapping")
            say("Trying what was deployed")
            _accept(f"{url.replace('http', 'ws')}/_aws/execute-api/{api_id}/{STAGE}")
            say("Recreating the Messages table: the mapping must follow")
            _make_table_anew(Stage.of(STAGE, project))
            aws.failures = [Failure("DeleteEventSourceMapping", times=1, error=IN_USE)]
            _run(project, "-m", "chalice.cli", "deploy", "--stage", STAGE)
            _must(
                _mapping(project)["EventSourceArn"] != mapping["EventSourceArn"], "the mapping is the old one"
            )
            _accept(f"{url.replace('http', 'ws')}/_aws/execute-api/{api_id}/{STAGE}", "-k", "arrives")
            say("Tearing down, with a failure on the way")
            aws.failures = [Failure("DeleteRole", passing=1)]
            _run(project, "-m", "deployment", "destroy", STAGE, may_fail=True)
            _must(aws.failed["DeleteRole"] == 1, "no deletion of a role failed")
            _tear_down(project, before)
            say("Tearing down an unfinished deployment")
            aws.failures = [Failure("CreateRoute", passing=1)]
            _run(project, "-m", "deployment", "deploy", STAGE, may_fail=True)
            _tear_down(project, before)
    say("Rehearsed: failed at each step, deployed, tried, deployed again, torn down, nothing left.")


STEPS = (
    Failure("CreateRole"),
    Failure("CreateFunction", done=True),
    Failure("CreateEventSourceMapping", done=True),
    Failure("CreateLogGroup"),
    Failure("CreateApi", done=True),
    Failure("CreateIntegration", passing=1),
    Failure("CreateRoute", passing=1),
    Failure("CreateDeployment"),
    Failure("CreateStage", done=True),
    Failure("AddPermission"),
    Failure("UpdateStage"),
    Failure("UpdateEventSourceMapping"),
)
"""One of each kind of write of a first deployment."""


def _deploy_though_steps_fail(project: Path, aws: FailingAws) -> None:
    """Let one attempt fail at each step; the last one meets a mapping that is still in use."""
    for step in STEPS:
        say(f"Deploying: {step.operation} fails")
        aws.failures = [step]
        before = aws.failed[step.operation]
        failed = _run(project, "-m", "deployment", "deploy", STAGE, may_fail=True)
        _must(aws.failed[step.operation] == before + 1, f"{step.operation} was not called")
        _must("Done." not in failed, f"the deployment did not notice that {step.operation} failed")
    say("Deploying")
    aws.failures = [Failure("UpdateEventSourceMapping", passing=1, times=1, error=IN_USE)]
    _run(project, "-m", "deployment", "deploy", STAGE)
    _must(aws.failed["UpdateEventSourceMapping"] == 2, "the mapping was not in use")
    kinds = [thing.split()[0] for thing in _everything()]
    counted = {kind: kinds.count(kind) for kind in ("function", "mapping", "role", "api", "log")}
    once = {"function": len(FUNCTIONS), "mapping": 1, "role": len(FUNCTIONS), "api": 1, "log": len(FUNCTIONS)}
    _must(counted == once, f"after failures there are {counted}")


def _tear_down(project: Path, before: set[str]) -> None:
    _run(project, "-m", "deployment", "destroy", STAGE)
    left = _everything() - before
    _must(not left, f"left behind: {', '.join(sorted(left))}")


def _run_here(project: Path) -> None:
    """Build the packages for this machine, because the emulator runs functions here."""
    config = project / ".chalice" / "config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings["lambda_architecture"] = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    config.write_text(json.dumps(settings), encoding="utf-8")


def _post_to(project: Path, endpoint: str) -> None:
    """Set the endpoint of posts. The emulator's id of the API is known only after the deployment."""
    config = project / ".chalice" / "config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    variables = settings["stages"][STAGE]["environment_variables"]
    variables["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"] = endpoint
    config.write_text(json.dumps(settings), encoding="utf-8")


def _use(url: str) -> None:
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[variable]
    os.environ.update(
        AWS_ENDPOINT_URL=url,
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION="us-east-1",
        AWS_EC2_METADATA_DISABLED="true",
    )


def _run(project: Path, *arguments: str, may_fail: bool = False) -> str:
    command = [sys.executable, *arguments]
    if arguments[:2] == ("-m", "chalice.cli"):
        command = [str(Path(sys.executable).parent / "chalice"), *arguments[2:]]
    ran = subprocess.run(
        command,
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(SHORT_WAITS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    print("".join(f"    {line}\n" for line in ran.stdout.splitlines()), end="", flush=True)
    _must(may_fail or ran.returncode == 0, f"{' '.join(arguments)} failed")
    return ran.stdout


def _accept(url: str, *options: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"ACCEPT_URL": url, "ACCEPT_TARGET": "ministack"}
    command = [sys.executable, "-m", "pytest", "tests/integration/test_acceptance.py", "-rxX", *options]
    ran = subprocess.run(command, cwd=PROJECT, env=environment)
    _must(ran.returncode == 0, "the acceptance tests failed")


def _noted(project: Path, resource_type: str) -> dict[str, Any]:
    noted = json.loads((project / ".chalice" / "deployed" / f"{STAGE}.json").read_text(encoding="utf-8"))
    return next(each for each in noted["resources"] if each["resource_type"] == resource_type)


def _mapping(project: Path) -> dict[str, Any]:
    uuid = _noted(project, "dynamodb_event")["event_uuid"]
    described: dict[str, Any] = boto3.client("lambda").get_event_source_mapping(UUID=uuid)
    changing = ("ResponseMetadata", "LastModified", "LastProcessingResult", "State")
    return {name: value for name, value in described.items() if name not in changing}


def _make_table_anew(stage: Stage) -> None:
    client = boto3.client("dynamodb")
    table = client.describe_table(TableName=stage.messages_table)["Table"]
    client.delete_table(TableName=stage.messages_table)
    client.create_table(
        TableName=stage.messages_table,
        AttributeDefinitions=table["AttributeDefinitions"],
        KeySchema=table["KeySchema"],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification=table["StreamSpecification"],
    )


def _everything() -> set[str]:
    """Return all resources of the kinds that a deployment creates."""
    client = boto3.client
    stacks = client("cloudformation").list_stacks()["StackSummaries"]
    return {
        *(f"function {f['FunctionName']}" for f in client("lambda").list_functions()["Functions"]),
        *(
            f"mapping {m['UUID']}"
            for m in client("lambda").list_event_source_mappings()["EventSourceMappings"]
        ),
        *(f"role {r['RoleName']}" for r in client("iam").list_roles()["Roles"]),
        *(f"api {a['ApiId']}" for a in client("apigatewayv2").get_apis()["Items"]),
        *(f"table {t}" for t in client("dynamodb").list_tables()["TableNames"]),
        *(f"queue {q}" for q in client("sqs").list_queues().get("QueueUrls", [])),
        *(f"alarm {a['AlarmName']}" for a in client("cloudwatch").describe_alarms()["MetricAlarms"]),
        *(f"log group {g['logGroupName']}" for g in client("logs").describe_log_groups()["logGroups"]),
        *(f"stack {s['StackName']}" for s in stacks if s["StackStatus"] != "DELETE_COMPLETE"),
    }


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _wait_for(condition: Callable[[], bool], failure: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        _must(time.monotonic() < deadline, failure)
        time.sleep(0.1)


def _must(holds: bool, failure: str) -> None:
    if not holds:
        raise RehearsalFailed(failure)


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


def main() -> str | int:
    """Return the error's text, or 0."""
    try:
        rehearse(str(Path(sys.argv[1]).absolute()))
    except RehearsalFailed as failure:
        return f"the rehearsal failed: {failure}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
