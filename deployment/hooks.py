"""Hooks that app.py calls when `chalice deploy` or `chalice package` loads it.

`end` prints an error message and ends the process.
"""

import os
from collections.abc import Callable
from typing import NoReturn

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from deployment import notes, wheels
from deployment.stage import CannotDeploy, Stage, check_python


def prepare(stage_name: str, end: Callable[[str], NoReturn]) -> None:
    """Prepare the notes, the mapping and the packages for `chalice deploy`, and set MESSAGES_STREAM_ARN.

    Chalice doesn't notice when the noted mapping reads the stream of a deleted table. Because Chalice creates
    a mapping if none is noted, delete such a mapping first.
    """
    try:
        check_python()
        stage = Stage.of(stage_name)
        stream_arn = notes.stream_of(boto3.client("dynamodb"), stage.messages_table)
        if stream_arn is None:
            end(
                f"there is no table {stage.messages_table} with a stream: "
                f"run make deploy STAGE={stage_name}, which creates it"
            )
        notes.complete(stage, _say)
        notes.follow(stage, stream_arn, _say)
        wheels.use(stage)
    except CannotDeploy as refusal:
        end(str(refusal))
    except (ClientError, BotoCoreError) as failure:
        end(f"cannot read stage {stage_name} from AWS: {failure}")
    os.environ["MESSAGES_STREAM_ARN"] = stream_arn


def prepare_package(stage_name: str, end: Callable[[str], NoReturn]) -> None:
    """Make `chalice package` use the locked packages. End the process if Lambda lacks this Python version."""
    try:
        check_python()
        wheels.use(Stage.of(stage_name))
    except CannotDeploy as refusal:
        end(str(refusal))


def _say(text: str) -> None:
    print(text, flush=True)
