"""A CloudFormation stack, made, changed and deleted, with what went wrong in words."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError, WaiterError

POLL = {"Delay": 5, "MaxAttempts": 360}


class StackFailed(Exception):
    """The text names each resource that failed, and why."""


def deploy(
    client: Any,
    name: str,
    template: Mapping[str, Any],
    parameters: Mapping[str, str],
    say: Callable[[str], None],
) -> dict[str, str]:
    """Make the stack or change it, and return its outputs; a stack that is as it should be stays so."""
    request = {
        "StackName": name,
        "TemplateBody": json.dumps(template),
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    }
    if _status(client, name) is None:
        say(f"Making the stack {name}")
        client.create_stack(OnFailure="DELETE", **request)
        _wait(client, name, "stack_create_complete")
    elif _update(client, request):
        say(f"Changing the stack {name}")
        _wait(client, name, "stack_update_complete")
    else:
        say(f"The stack {name} is as it should be")
    (stack,) = client.describe_stacks(StackName=name)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def delete(client: Any, name: str, say: Callable[[str], None]) -> None:
    if _status(client, name) is None:
        say(f"There is no stack {name}")
        return
    say(f"Deleting the stack {name}")
    client.delete_stack(StackName=name)
    _wait(client, name, "stack_delete_complete")


def _status(client: Any, name: str) -> str | None:
    try:
        (stack,) = client.describe_stacks(StackName=name)["Stacks"]
    except ClientError as failure:
        if failure.response["Error"]["Code"] == "ValidationError":  # That is how it says: none of that name.
            return None
        raise
    status = str(stack["StackStatus"])
    return None if status == "DELETE_COMPLETE" else status


def _update(client: Any, request: Mapping[str, Any]) -> bool:
    try:
        client.update_stack(**request)
    except ClientError as failure:
        if "No updates are to be performed" in failure.response["Error"]["Message"]:
            return False
        raise
    return True


def _wait(client: Any, name: str, condition: str) -> None:
    try:
        client.get_waiter(condition).wait(StackName=name, WaiterConfig=POLL)
    except WaiterError:
        raise StackFailed(f"the stack {name} failed: {_reasons(client, name)}") from None


def _reasons(client: Any, name: str) -> str:
    try:
        events = client.describe_stack_events(StackName=name)["StackEvents"]
    except ClientError as failure:
        return str(failure)
    failed = [event for event in events if event["ResourceStatus"].endswith("_FAILED")]
    return "; ".join(
        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason')}"
        for event in failed[:5]
    )
