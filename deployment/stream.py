"""The Messages table's stream, for `chalice deploy`: which it is, and that its mapping is from it."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import boto3
from botocore.exceptions import BotoCoreError, ClientError


def find_stream(stage: str, end: Callable[[str], NoReturn]) -> None:
    """Tell the app the stream's ARN, which is another whenever the stream was made anew.

    Chalice does not notice that a mapping reads a stream that is no more. It makes a mapping where there is
    none, so an outdated one is deleted before Chalice looks.
    """
    table = os.environ.get("MESSAGES_TABLE", "")
    try:
        stream_arn = _stream_of(boto3.client("dynamodb"), table)
        if stream_arn is None:
            end(f"there is no table {table} with a stream: run make deploy STAGE={stage}, which makes it")
        _delete_outdated_mapping(boto3.client("lambda"), stage, stream_arn)
    except (ClientError, BotoCoreError) as failure:
        end(f"AWS could not be asked for the stream of {table}: {failure}")
    os.environ["MESSAGES_STREAM_ARN"] = stream_arn


def deployed(stage: str, resource_type: str) -> list[dict[str, Any]]:
    """What Chalice noted of the resources of a kind when it deployed them."""
    return [each for each in _noted(stage)["resources"] if each["resource_type"] == resource_type]


def _noted(stage: str) -> dict[str, Any]:
    path = _notes_of(stage)
    noted: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"resources": []}
    return noted


def _notes_of(stage: str) -> Path:
    return Path(".chalice") / "deployed" / f"{stage}.json"


def _stream_of(client: Any, table: str) -> str | None:
    try:
        described = client.describe_table(TableName=table)["Table"]
    except client.exceptions.ResourceNotFoundException:
        return None
    stream_arn: str | None = described.get("LatestStreamArn")
    return stream_arn if described.get("StreamSpecification", {}).get("StreamEnabled") else None


def _delete_outdated_mapping(client: Any, stage: str, stream_arn: str) -> None:
    """Delete it, and Chalice's note of it, by which it would be deleted once more."""
    noted = _noted(stage)
    outdated = [each for each in deployed(stage, "dynamodb_event") if each["stream_arn"] != stream_arn]
    for mapping in outdated:
        with suppress(client.exceptions.ResourceNotFoundException):
            client.delete_event_source_mapping(UUID=mapping["event_uuid"])
    if outdated:
        noted["resources"] = [each for each in noted["resources"] if each not in outdated]
        _notes_of(stage).write_text(json.dumps(noted, indent=2))
