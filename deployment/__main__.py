"""Deploy or delete a stage, write Chalice's notes of it, download its packages, or print the template that
`chalice package` merges in.

python -m deployment deploy|destroy|notes|template|wheels STAGE
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from deployment import notes, template, wheels
from deployment.mapping import Mappings
from deployment.stack import Stacks
from deployment.stage import FUNCTIONS, PROJECT, CannotDeploy, Stage, check_python

CHALICE = Path(sys.executable).parent / "chalice"


class ChaliceFailed(Exception):
    """A Chalice command failed. Chalice has already printed the reason."""


def deploy(stage: Stage) -> None:
    """Deploy the tables, then the functions and the API, then apply the settings that Chalice can't.

    Idempotent: run it again after a failure at any step. Raises CannotDeploy and ChaliceFailed.
    """
    check_python()
    notes.complete(stage, say)
    outputs = Stacks(boto3.client("cloudformation"), say).deploy(
        stage.tables_stack,
        template.tables(stage),
        template.table_names(stage),
        at_creation=template.tables(stage, creating=True),
    )
    _chalice("deploy", stage)
    _set_throttling(stage)
    _set_mapping(stage, outputs["FailedBatchesArn"])
    say("Done. The URL is the one that Chalice printed above.")


def destroy(stage: Stage) -> None:
    """Delete all resources of the stage. The tables are deleted only if the stage is a throwaway.

    Raises CannotDeploy and ChaliceFailed.
    """
    notes.complete(stage, say)
    notes.delete_mappings(stage, say)
    _chalice("delete", stage)
    Stacks(boto3.client("cloudformation"), say).delete(stage.tables_stack)
    logs = boto3.client("logs")
    for function in FUNCTIONS:
        with suppress(logs.exceptions.ResourceNotFoundException):
            logs.delete_log_group(logGroupName=f"/aws/lambda/{stage.function_name(function)}")
    if not stage.is_throwaway:
        say(f"Kept the tables {stage.websockets_table} and {stage.messages_table}")


def write_notes(stage: Stage) -> None:
    """Write Chalice's notes from the resources that AWS has under the stage's names. Raises CannotDeploy."""
    resources = notes.complete(stage, say, take_over=True)
    say(f"Wrote {stage.notes_path.relative_to(PROJECT)}: {len(resources)} resources")


def write_template(stage: Stage) -> None:
    """Print the template that `chalice package` merges in. Raises CannotDeploy."""
    check_python()
    print(json.dumps(template.merged(stage), indent=2))


def fetch_wheels(stage: Stage) -> None:
    """Download the stage's packages. Raises CannotDeploy."""
    check_python()
    say(f"The packages are in {wheels.fetch(stage).relative_to(PROJECT)}")


def _chalice(command: str, stage: Stage) -> None:
    if subprocess.run([str(CHALICE), command, "--stage", stage.name], cwd=PROJECT).returncode != 0:
        raise ChaliceFailed


def _set_throttling(stage: Stage) -> None:
    client = boto3.client("apigatewayv2")
    if (api := notes.noted(stage, notes.API)) is None:
        return
    api_stage = {"ApiId": api["websocket_api_id"], "StageName": stage.api_gateway_stage}
    actual = client.get_stage(**api_stage).get("DefaultRouteSettings", {})
    if any(actual.get(name) != value for name, value in template.ROUTE_SETTINGS.items()):
        client.update_stage(**api_stage, DefaultRouteSettings=template.ROUTE_SETTINGS)
        say("Set the API's throttling")


def _set_mapping(stage: Stage, failed_batches_arn: str) -> None:
    if (mapping := notes.noted(stage, notes.MAPPING)) is None:
        return
    on_failure = {"OnFailure": {"Destination": failed_batches_arn}}
    wanted = {**template.MAPPING, "DestinationConfig": on_failure}
    if Mappings(boto3.client("lambda"), say).set(mapping["event_uuid"], wanted):
        say("Set the mapping's filter, retries and failed-batches queue")


def say(text: str) -> None:
    print(text, flush=True)


def main() -> str | int:
    """Run the command of `sys.argv`. Return the exit code, or the error message to print."""
    commands: dict[str, Callable[[Stage], None]] = {
        "deploy": deploy,
        "destroy": destroy,
        "notes": write_notes,
        "template": write_template,
        "wheels": fetch_wheels,
    }
    parser = argparse.ArgumentParser(prog="python -m deployment", description=__doc__)
    parser.add_argument("command", choices=commands)
    parser.add_argument("stage")
    asked = parser.parse_args()
    try:
        commands[asked.command](Stage.of(asked.stage))
    except ChaliceFailed:
        return 1
    except CannotDeploy as failure:
        return str(failure)
    except (ClientError, BotoCoreError) as failure:
        return f"a call to AWS failed: {failure}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
