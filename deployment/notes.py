"""Keeps Chalice's notes of its deployed resources, `.chalice/deployed/<stage>.json`, consistent with AWS.

Chalice writes the notes only after a complete success, and finds the WebSocket API and the mapping only
through them. So each deployment first completes the notes from AWS.

Before the first attempt, `complete` writes a mark into the notes. With the mark, an API that the notes lack
comes from a failed attempt: an unfinished API is deleted, and a finished one is noted. Without the mark, the
API belongs to someone else: it is left alone, and the deployment is refused.
"""

import json
from collections.abc import Callable
from typing import Any

import boto3

from deployment.mapping import Mappings
from deployment.stage import FUNCTIONS, CannotDeploy, Stage

API = "websocket_api"
MAPPING = "push_messages-dynamodb-event-source"
ATTEMPT = "attempt"
"""The mark. It says that AWS had no API of the stage before the first attempt."""

Resource = dict[str, Any]


class NotNoted(CannotDeploy):
    """The notes lack resources that AWS has under the stage's names."""


def complete(
    stage: Stage,
    say: Callable[[str], None],
    take_over: bool = False,
    client_of: Callable[[str], Any] = boto3.client,
) -> list[Resource]:
    """Write the notes from the resources that AWS has under the stage's names, and return those resources.

    `take_over` treats the notes as if they had the mark. `client_of` returns a service's client. Raises
    NotNoted.
    """
    notes = _read(stage)
    found = _roles_logs_and_functions(stage, client_of)
    client = client_of("apigatewayv2")
    found += _note_of_api(stage, notes, found, client=client, take_over=take_over, say=say)
    mappings = Mappings(client_of("lambda"), say).of_function(stage.function_name("push_messages"))
    found += [_note_of(mapping) for mapping in mappings[:1]]
    own = {*_names(), API, MAPPING}
    notes["resources"] = found + [each for each in notes["resources"] if each["name"] not in own]
    _write(stage, notes)
    resources: list[Resource] = notes["resources"]
    return resources


def _note_of_api(
    stage: Stage,
    notes: dict[str, Any],
    others: list[Resource],
    *,
    client: Any,
    take_over: bool,
    say: Callable[[str], None],
) -> list[Resource]:
    """Return a list with the API's note, which is empty if there is no API. Raises NotNoted.

    `others` are the stage's other resources on AWS. With `take_over`, also marks `notes` as an attempt.
    """
    apis = {api["ApiId"]: api for api in _apis(client, stage)}
    by_name = {each["name"]: each for each in notes["resources"]}
    has_mark = ATTEMPT in notes
    if take_over:
        notes[ATTEMPT] = True
    if by_name.get(API, {}).get("websocket_api_id") in apis:
        return [by_name[API]]
    if take_over or has_mark:
        return _left_by_an_attempt(client, stage, list(apis.values()), say)
    unknown = [f"the API {api_id}" for api_id in apis]
    if not by_name:
        unknown += _in_words(stage, others)
    if unknown:
        raise _not_noted(stage, unknown)
    notes[ATTEMPT] = True
    return []


def noted(stage: Stage, name: str) -> Resource | None:
    """Return the note of a resource by Chalice's name for it, or None."""
    return next((each for each in _read(stage)["resources"] if each["name"] == name), None)


def delete_mappings(stage: Stage, say: Callable[[str], None]) -> None:
    """Delete every mapping of `push_messages`, and the note of it. Raises MappingBusy."""
    mappings = _mappings(say)
    for mapping in mappings.of_function(stage.function_name("push_messages")):
        mappings.delete(mapping["UUID"])
    _note_mapping(stage, None)


def follow(stage: Stage, stream_arn: str, say: Callable[[str], None]) -> None:
    """Delete the mappings of the table's earlier streams, and note this stream's mapping once it has settled.

    Raises MappingBusy.
    """
    mappings, current = _mappings(say), None
    earlier = f":table/{stage.messages_table}/stream/"
    was_noted = (noted(stage, MAPPING) or {}).get("event_uuid")
    for mapping in mappings.of_function(stage.function_name("push_messages")):
        if mapping["EventSourceArn"] == stream_arn:
            current = mappings.settled(mapping["UUID"]) or current
        elif earlier in mapping["EventSourceArn"] or mapping["UUID"] == was_noted:
            mappings.delete(mapping["UUID"])
    _note_mapping(stage, current)


def _mappings(say: Callable[[str], None]) -> Mappings:
    return Mappings(boto3.client("lambda"), say)


def _note_mapping(stage: Stage, mapping: Resource | None) -> None:
    notes = _read(stage)
    notes["resources"] = [each for each in notes["resources"] if each["name"] != MAPPING]
    if mapping is not None:
        notes["resources"].append(_note_of(mapping))
    _write(stage, notes)


def _note_of(mapping: Resource) -> Resource:
    return {
        "name": MAPPING,
        "resource_type": "dynamodb_event",
        "stream_arn": mapping["EventSourceArn"],
        "event_uuid": mapping["UUID"],
        "lambda_arn": mapping["FunctionArn"],
    }


def _left_by_an_attempt(
    client: Any, stage: Stage, apis: list[Resource], say: Callable[[str], None]
) -> list[Resource]:
    """Delete unfinished APIs, and return the note of the finished one, if any. Raises NotNoted.

    Chalice creates an API's stage last, so an API without a stage is unfinished.
    """
    finished = []
    for api in apis:
        if client.get_stages(ApiId=api["ApiId"])["Items"]:
            finished.append(api)
        else:
            say(f"Deleting the API {api['ApiId']}, which an earlier attempt left unfinished")
            client.delete_api(ApiId=api["ApiId"])
    if len(finished) > 1:
        ids = ", ".join(api["ApiId"] for api in finished)
        raise NotNoted(
            f"there are several APIs named {stage.api_name}: {ids}. "
            "Delete the unused ones with aws apigatewayv2 delete-api --api-id <id>, and try again"
        )
    return [
        {
            "name": API,
            "resource_type": API,
            "websocket_api_url": f"{api['ApiEndpoint']}/{stage.api_gateway_stage}/",
            "websocket_api_id": api["ApiId"],
        }
        for api in finished
    ]


def _in_words(stage: Stage, resources: list[Resource]) -> list[str]:
    return [
        f"the {each['resource_type'].replace('iam_', '').replace('lambda_', '')} "
        f"{stage.function_name(each['name'].removesuffix('_role'))}"
        for each in resources
        if each["resource_type"] != "log_group"
    ]


def _not_noted(stage: Stage, named: list[str]) -> NotNoted:
    notes = f".chalice/deployed/{stage.name}.json"
    return NotNoted(
        f"AWS has {', '.join(named)}, but {notes} does not mention them. Copy that file from the machine "
        f"that deployed {stage.name}, or write it from AWS with make notes STAGE={stage.name}. "
        "If they belong to another region or program, give this stage another name"
    )


def _apis(client: Any, stage: Stage) -> list[Resource]:
    pages = client.get_paginator("get_apis").paginate()
    return [api for page in pages for api in page["Items"] if api["Name"] == stage.api_name]


def _roles_logs_and_functions(stage: Stage, client_of: Callable[[str], Any]) -> list[Resource]:
    """Return Chalice's notes of the existing ones, in the order in which Chalice creates them."""
    iam, logs, functions = client_of("iam"), client_of("logs"), client_of("lambda")
    found: list[Resource] = []
    for function in FUNCTIONS:
        name = stage.function_name(function)
        try:
            arn = iam.get_role(RoleName=name)["Role"]["Arn"]
            found.append(
                {"name": f"{function}_role", "resource_type": "iam_role", "role_arn": arn, "role_name": name}
            )
        except iam.exceptions.NoSuchEntityException:
            pass
        group = f"/aws/lambda/{name}"
        groups = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
        if group in [each["logGroupName"] for each in groups]:
            found.append(
                {"name": f"{function}-log-group", "resource_type": "log_group", "log_group_name": group}
            )
        try:
            arn = functions.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
            found.append({"name": function, "resource_type": "lambda_function", "lambda_arn": arn})
        except functions.exceptions.ResourceNotFoundException:
            pass
    return found


def _names() -> list[str]:
    """Return Chalice's names of all resources that `_roles_logs_and_functions` can find."""
    return [
        name for function in FUNCTIONS for name in (f"{function}_role", f"{function}-log-group", function)
    ]


def stream_of(client: Any, table: str) -> str | None:
    """Return the ARN of the table's stream, or None if the table or its stream doesn't exist."""
    try:
        described = client.describe_table(TableName=table)["Table"]
    except client.exceptions.ResourceNotFoundException:
        return None
    stream_arn: str | None = described.get("LatestStreamArn")
    return stream_arn if described.get("StreamSpecification", {}).get("StreamEnabled") else None


def _read(stage: Stage) -> dict[str, Any]:
    if not stage.notes_path.exists():
        return {"resources": [], "schema_version": "2.0", "backend": "api"}
    notes: dict[str, Any] = json.loads(stage.notes_path.read_text(encoding="utf-8"))
    return notes


def _write(stage: Stage, notes: dict[str, Any]) -> None:
    stage.notes_path.parent.mkdir(parents=True, exist_ok=True)
    new = stage.notes_path.with_suffix(".new")
    new.write_text(json.dumps(notes, indent=2), encoding="utf-8")
    new.replace(stage.notes_path)
