"""Deploy a stage, tear it down, or write what `chalice package` has to merge in.

python -m deployment deploy|destroy|template STAGE
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

from deployment import stack, template
from deployment.stage import FUNCTIONS, PROJECT, Stage, UnknownStage
from deployment.stream import deployed

CHALICE = Path(sys.executable).parent / "chalice"


class ChaliceFailed(Exception):
    """It has said why."""


def deploy(stage: Stage) -> None:
    """Tables, then Chalice, then what Chalice cannot set. May be repeated."""
    outputs = stack.deploy(
        boto3.client("cloudformation"),
        stage.tables_stack,
        template.tables(stage),
        template.table_names(stage),
        say,
    )
    _chalice("deploy", stage)
    _set_mapping(stage, outputs["FailedBatchesArn"])
    _set_throttling(stage)
    say("Done. The URL is the one that Chalice printed above.")


def destroy(stage: Stage) -> None:
    """Everything of the stage; the tables of a stage that is kept stay."""
    _chalice("delete", stage)
    stack.delete(boto3.client("cloudformation"), stage.tables_stack, say)
    logs = boto3.client("logs")
    for function in FUNCTIONS:
        with suppress(logs.exceptions.ResourceNotFoundException):
            logs.delete_log_group(logGroupName=f"/aws/lambda/{stage.function_name(function)}")
    if not stage.is_throwaway:
        say(f"The tables are kept: {stage.websockets_table}, {stage.messages_table}")


def write_template(stage: Stage) -> None:
    print(json.dumps(template.merged(stage), indent=2))


def _chalice(command: str, stage: Stage) -> None:
    if subprocess.run([str(CHALICE), command, "--stage", stage.name], cwd=PROJECT).returncode != 0:
        raise ChaliceFailed


def _set_mapping(stage: Stage, failed_batches_arn: str) -> None:
    client = boto3.client("lambda")
    for mapping in deployed(stage.name, "dynamodb_event"):
        client.update_event_source_mapping(
            UUID=mapping["event_uuid"],
            DestinationConfig={"OnFailure": {"Destination": failed_batches_arn}},
            **template.MAPPING,
        )
        say("Set what becomes of batches that fail")


def _set_throttling(stage: Stage) -> None:
    client = boto3.client("apigatewayv2")
    for api in deployed(stage.name, "websocket_api"):
        client.update_stage(
            ApiId=api["websocket_api_id"], StageName=stage.name, DefaultRouteSettings=template.ROUTE_SETTINGS
        )


def say(text: str) -> None:
    print(text, flush=True)


def main() -> str | int:
    """What went wrong, or 0."""
    commands: dict[str, Callable[[Stage], None]] = {
        "deploy": deploy,
        "destroy": destroy,
        "template": write_template,
    }
    parser = argparse.ArgumentParser(prog="python -m deployment", description=__doc__)
    parser.add_argument("command", choices=commands)
    parser.add_argument("stage")
    asked = parser.parse_args()
    try:
        commands[asked.command](Stage.of(asked.stage))
    except ChaliceFailed:
        return 1
    except (UnknownStage, stack.StackFailed) as failure:
        return str(failure)
    except (ClientError, BotoCoreError) as failure:
        return f"AWS refused: {failure}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
