"""Creates, updates and deletes a CloudFormation stack, and reports why an operation failed."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from deployment.stage import CannotDeploy

POLL_SECONDS = 5
TIMEOUT_SECONDS = 1800
DEAD = frozenset({"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"})
"""Statuses after a failed creation or deletion. Such a stack can only be deleted."""


class StackFailed(CannotDeploy):
    """A stack operation failed. The text names each failed resource and the reason."""


@dataclass(frozen=True, slots=True)
class Stacks:
    """Creates, updates and deletes stacks. `clock` and `sleep` use seconds."""

    client: Any
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def deploy(
        self,
        name: str,
        template: Mapping[str, Any],
        parameters: Mapping[str, str],
        at_creation: Mapping[str, Any],
    ) -> dict[str, str]:
        """Create or update the stack, and return its outputs. Raises StackFailed.

        A new stack is created from the template `at_creation`, and then updated to `template`. A failed
        creation deletes the stack, so that it can be retried.
        """
        stack = self._settled(name)
        if stack is not None and stack["StackStatus"] in DEAD:
            self.say(f"Deleting the stack {name}, which is {stack['StackStatus']}")
            self._delete(stack)
            stack = None
        if stack is None:
            self.say(f"Creating the stack {name}")
            stack_id = self.client.create_stack(
                OnFailure="DELETE", **_request(name, at_creation, parameters)
            )["StackId"]
            self._wait(name, stack_id, "CREATE_COMPLETE")
        if self._update(_request(name, template, parameters)):
            self.say(f"Updating the stack {name}")
            self._wait(name, self._described(name)["StackId"], "UPDATE_COMPLETE")
        else:
            self.say(f"The stack {name} is up to date")
        outputs = self._described(name).get("Outputs", [])
        return {output["OutputKey"]: output["OutputValue"] for output in outputs}

    def delete(self, name: str) -> None:
        """Delete the stack if it exists. Raises StackFailed."""
        stack = self._settled(name)
        if stack is None:
            self.say(f"There is no stack {name}")
            return
        self.say(f"Deleting the stack {name}")
        self._delete(stack)

    def _delete(self, stack: Mapping[str, Any]) -> None:
        self.client.delete_stack(StackName=stack["StackId"])
        self._wait(stack["StackName"], stack["StackId"], "DELETE_COMPLETE")

    def _update(self, request: Mapping[str, Any]) -> bool:
        try:
            self.client.update_stack(**request)
        except ClientError as failure:
            if "No updates are to be performed" in failure.response["Error"]["Message"]:
                return False
            raise
        return True

    def _described(self, name_or_id: str) -> dict[str, Any]:
        (stack,) = self.client.describe_stacks(StackName=name_or_id)["Stacks"]
        return dict(stack)

    def _settled(self, name: str) -> dict[str, Any] | None:
        """Wait until no operation is in progress, and return the stack, or None if it doesn't exist.

        Raises StackFailed.
        """
        try:
            stack = self._described(name)
        except ClientError as failure:
            if failure.response["Error"]["Code"] == "ValidationError":  # CloudFormation's "does not exist".
                return None
            raise
        if _is_changing(stack):
            self.say(f"Waiting for the stack {name}, which is {stack['StackStatus']}")
            stack = self._finished(name, stack["StackId"])
        return None if stack["StackStatus"] == "DELETE_COMPLETE" else stack

    def _finished(self, name: str, stack_id: str) -> dict[str, Any]:
        deadline = self.clock() + TIMEOUT_SECONDS
        while _is_changing(stack := self._described(stack_id)):
            if self.clock() >= deadline:
                raise StackFailed(
                    f"the stack {name} was still {stack['StackStatus']} after {TIMEOUT_SECONDS} s: "
                    "run the same command again"
                )
            self.sleep(POLL_SECONDS)
        return stack

    def _wait(self, name: str, stack_id: str, wanted: str) -> None:
        """Wait until the operation has finished. Raises StackFailed unless the status is `wanted`.

        After a failed creation only the id still finds the stack, so wait by the id.
        """
        status = self._finished(name, stack_id)["StackStatus"]
        if status not in (wanted, f"{wanted}_CLEANUP_IN_PROGRESS"):
            raise StackFailed(f"the stack {name} failed ({status}): {self._reasons(name, stack_id)}")

    def _reasons(self, name: str, stack_id: str) -> str:
        """Return the failed resources of the stack's latest operation and the reasons, oldest first."""
        failed = []
        for event in self.client.describe_stack_events(StackName=stack_id)["StackEvents"]:
            status, resource = event["ResourceStatus"], event["LogicalResourceId"]
            if resource == name and status in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS"):
                break
            if status.endswith("_FAILED") and "cancelled" not in event.get("ResourceStatusReason", ""):
                failed.append(f"{resource}: {event.get('ResourceStatusReason', 'no reason given')}")
        return "; ".join(reversed(failed)) or "CloudFormation gave no reason"


def _request(name: str, template: Mapping[str, Any], parameters: Mapping[str, str]) -> dict[str, Any]:
    return {
        "StackName": name,
        "TemplateBody": json.dumps(template),
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    }


def _is_changing(stack: Mapping[str, Any]) -> bool:
    status = stack["StackStatus"]
    return bool(status.endswith("_IN_PROGRESS")) and status not in (
        "REVIEW_IN_PROGRESS",
        "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
    )
