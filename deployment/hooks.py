"""What happens before `chalice deploy` and `chalice package`, which load app.py first.

`end` prints a sentence and ends the process.
"""

import os
from collections.abc import Callable
from typing import NoReturn

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from deployment import notes, wheels
from deployment.stage import CannotDeploy, Stage, check_python


def prepare(stage_name: str, end: Callable[[str], NoReturn]) -> None:
    """Prepare notes, mapping and packages for `chalice deploy`, and tell the app the stream's ARN.

    Chalice does not notice that a mapping reads a stream of a deleted table. It makes a mapping where none is
    noted, so an outdated one is deleted first.
    """
    try:
        check_python()
        stage = Stage.of(stage_name)
        stream_arn = notes.stream_of(boto3.client("dynamodb"), stage.messages_table)
        if stream_arn is None:
            end(
                f"there is no table {stage.messages_table} with a stream: "
                f"run make deploy STAGE={stage_name}, which makes it"
            )
        notes.complete(stage, _say)
        notes.follow(stage, stream_arn, _say)
        wheels.use(stage)
    except CannotDeploy as refusal:
        end(str(refusal))
    except (ClientError, BotoCoreError) as failure:
        end(f"AWS could not be asked about stage {stage_name}: {failure}")
    os.environ["MESSAGES_STREAM_ARN"] = stream_arn


def prepare_package(stage_name: str, end: Callable[[str], NoReturn]) -> None:
    """Refuse a Python that Lambda does not have, and let `chalice package` take the locked packages."""
    try:
        check_python()
        wheels.use(Stage.of(stage_name))
    except CannotDeploy as refusal:
        end(str(refusal))


def _say(text: str) -> None:
    print(text, flush=True)
