"""`make deploy` can be repeated after a failure at any step."""

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from deployment import hooks, notes, prepare, prepare_package, template
from deployment.mapping import POLL_SECONDS, SETTLE_SECONDS, MappingBusy, Mappings
from deployment.notes import NotNoted
from deployment.stack import StackFailed, Stacks
from deployment.stage import CannotDeploy, Stage, check_python
from localdev.command_line import stage_of
from tests.support.chalice_process import CHALICE, PROJECT, bare_environment

STAGE_ID = "arn:aws:cloudformation:r:1:stack/s/"


def refusal(code: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "operation")


@dataclass
class Clock:
    now: float = 0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


# The mapping


@dataclass
class Lambda:
    """One mapping. `states` are successive reads, the last one repeated. `refusals` are errors of writes."""

    states: list[str]
    settings: dict[str, Any] = field(default_factory=dict)
    refusals: int = 0
    written: list[dict[str, Any]] = field(default_factory=list)

    def get_event_source_mapping(self, UUID: str) -> Any:  # noqa: N803
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state == "gone":
            raise refusal("ResourceNotFoundException")
        return {"State": state, **self.settings}

    def update_event_source_mapping(self, **settings: Any) -> None:
        self._write(settings)

    def delete_event_source_mapping(self, **settings: Any) -> None:
        self._write({"deleted": True})
        self.states = ["Deleting", "Deleting", "gone"]

    def _write(self, settings: dict[str, Any]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise refusal("ResourceInUseException", "Cannot update the event source mapping: it is in use.")
        self.written.append(settings)


def mappings(client: Lambda, clock: Clock, said: list[str] | None = None) -> Mappings:
    said = [] if said is None else said
    return Mappings(client, said.append, clock=clock, sleep=clock.sleep)


def test_a_mapping_is_changed_once_it_has_settled_and_its_state_is_printed_meanwhile() -> None:
    client, clock, said = Lambda(["Creating", "Creating", "Enabled"]), Clock(), list[str]()

    assert mappings(client, clock, said).set("u", {"ParallelizationFactor": 1})

    assert client.written == [{"UUID": "u", "ParallelizationFactor": 1}]
    assert clock.now == 2 * POLL_SECONDS
    assert said == ["Waiting for the event source mapping, which is Creating"] * 2


@pytest.mark.parametrize("state", ["Creating", "Enabling", "Updating", "Disabling", "Deleting"])
def test_a_mapping_that_does_not_settle_ends_with_a_remedy(state: str) -> None:
    client, clock = Lambda([state]), Clock()

    with pytest.raises(MappingBusy, match=f"u was still {state} after 180 s: run the same command again"):
        mappings(client, clock).set("u", {"ParallelizationFactor": 1})

    assert client.written == []
    assert SETTLE_SECONDS <= clock.now <= SETTLE_SECONDS + POLL_SECONDS


def test_a_change_and_a_deletion_that_are_refused_as_in_use_are_retried() -> None:
    changed, deleted, clock = Lambda(["Enabled"], refusals=3), Lambda(["Disabled"], refusals=3), Clock()

    mappings(changed, clock).set("u", {"ParallelizationFactor": 1})
    mappings(deleted, clock).delete("u")

    assert (len(changed.written), deleted.written) == (1, [{"deleted": True}])
    assert deleted.states == ["gone"]


def test_a_change_that_is_refused_for_another_reason_is_not_retried() -> None:
    class Refusing(Lambda):
        def _write(self, settings: dict[str, Any]) -> None:
            raise refusal("InvalidParameterValueException")

    clock = Clock()
    with pytest.raises(ClientError, match="InvalidParameterValueException"):
        mappings(Refusing(["Enabled"]), clock).set("u", {"ParallelizationFactor": 1})

    assert clock.now == 0


def test_a_mapping_with_the_right_settings_is_not_changed() -> None:
    (filtered,) = template.MAPPING["FilterCriteria"]["Filters"]
    reformatted = {"FilterCriteria": {"Filters": [{"Pattern": filtered["Pattern"].replace(" ", "")}]}}
    client = Lambda(["Enabled"], {**template.MAPPING, **reformatted, "BatchSize": 100})

    assert not mappings(client, Clock()).set("u", template.MAPPING)
    assert client.written == []


def test_only_the_settings_that_differ_are_changed() -> None:
    client = Lambda(["Enabled"], {**template.MAPPING, "FilterCriteria": None})

    assert mappings(client, Clock()).set("u", template.MAPPING)
    assert client.written == [{"UUID": "u", "FilterCriteria": template.MAPPING["FilterCriteria"]}]


def test_deleting_a_missing_mapping_succeeds() -> None:
    client = Lambda(["gone"])

    mappings(client, Clock()).delete("u")

    assert client.written == []


# The notes


class NoSuchThing(Exception):
    pass


@dataclass
class Account:
    """The resources of a stage on AWS. `apis` says of each API whether it has a stage."""

    apis: dict[str, bool] = field(default_factory=dict)
    roles: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    mappings: list[str] = field(default_factory=list)

    class exceptions:  # noqa: N801  # As boto3 names it.
        NoSuchEntityException = NoSuchThing
        ResourceNotFoundException = NoSuchThing

    def client_of(self, service: str) -> "Account":
        return self

    def get_paginator(self, operation: str) -> Any:
        account = self

        class Pages:
            def paginate(self, **_: Any) -> Any:
                if operation == "get_apis":
                    named = [
                        {"ApiId": api, "Name": STAGE.api_name, "ApiEndpoint": f"wss://{api}"}
                        for api in account.apis
                    ]
                    return [{"Items": [{"ApiId": "other", "Name": "other"}]}, {"Items": named}]
                found = [{"UUID": u, "EventSourceArn": "s", "FunctionArn": "f"} for u in account.mappings]
                return [{"EventSourceMappings": found}]

        return Pages()

    def get_stages(self, ApiId: str) -> Any:  # noqa: N803
        return {"Items": [{"StageName": "dev"}] if self.apis[ApiId] else []}

    def delete_api(self, ApiId: str) -> None:  # noqa: N803
        del self.apis[ApiId]

    def get_role(self, RoleName: str) -> Any:  # noqa: N803
        if RoleName not in self.roles:
            raise NoSuchThing
        return {"Role": {"Arn": f"arn:{RoleName}"}}

    def get_function(self, FunctionName: str) -> Any:  # noqa: N803
        if FunctionName not in self.functions:
            raise NoSuchThing
        return {"Configuration": {"FunctionArn": f"arn:{FunctionName}"}}

    def describe_log_groups(self, logGroupNamePrefix: str) -> Any:  # noqa: N803
        return {"logGroups": []}


STAGE = Stage("dev", "w", "m")
ROLE = STAGE.function_name("websocket_connect")


def stage_in(directory: Path, resources: list[dict[str, Any]] | None = None, **further: Any) -> Stage:
    stage = Stage("dev", "w", "m", project=directory)
    if resources is not None:
        stage.notes_path.parent.mkdir(parents=True)
        text = {"resources": resources, "schema_version": "2.0", "backend": "api", **further}
        stage.notes_path.write_text(json.dumps(text), encoding="utf-8")
    return stage


def complete(stage: Stage, account: Account, take_over: bool = False) -> list[str]:
    """Return the names that are noted afterwards."""
    resources = notes.complete(stage, lambda text: None, take_over, account.client_of)
    assert json.loads(stage.notes_path.read_text(encoding="utf-8"))["resources"] == resources
    return [resource["name"] for resource in resources]


def api_note(api_id: str) -> dict[str, Any]:
    return {"name": "websocket_api", "resource_type": "websocket_api", "websocket_api_id": api_id}


def test_a_first_deployment_leaves_a_mark_that_chalice_ignores(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)

    assert complete(stage, Account()) == []

    assert json.loads(stage.notes_path.read_text(encoding="utf-8")) == {
        "resources": [],
        "schema_version": "2.0",
        "backend": "api",
        "attempt": True,
    }


@pytest.mark.parametrize(
    ("account", "named"),
    [
        (Account(apis={"a1": True}), "the API a1"),
        (Account(apis={"a1": False}), "the API a1"),
        (Account(roles={ROLE}), f"the role {ROLE}"),
        (Account(functions={ROLE}), f"the function {ROLE}"),
    ],
)
@pytest.mark.parametrize("noted", [None, []])
def test_resources_missing_from_the_notes_are_kept_and_named_with_a_remedy(
    account: Account, named: str, noted: list[dict[str, Any]] | None, tmp_path: Path
) -> None:
    before = json.dumps([account.apis, sorted(account.roles), sorted(account.functions)])

    with pytest.raises(
        NotNoted, match=rf"AWS has {named}, but .*dev.json does not mention them. .*make notes STAGE=dev"
    ):
        complete(stage_in(tmp_path, noted), account)

    assert json.dumps([account.apis, sorted(account.roles), sorted(account.functions)]) == before


def test_an_unfinished_api_of_an_earlier_attempt_is_deleted(tmp_path: Path) -> None:
    account = Account(apis={"a1": False}, roles={ROLE})

    noted = complete(stage_in(tmp_path, [], attempt=True), account)

    assert account.apis == {}
    assert noted == ["websocket_connect_role"]


def test_a_finished_api_and_the_mapping_of_an_earlier_attempt_are_noted(tmp_path: Path) -> None:
    account = Account(apis={"a1": True, "a2": False}, mappings=["u"])
    stage = stage_in(tmp_path, [], attempt=True)

    noted = complete(stage, account)

    assert noted == ["websocket_api", "push_messages-dynamodb-event-source"]
    assert account.apis == {"a1": True}
    assert notes.noted(stage, notes.API) == {**api_note("a1"), "websocket_api_url": "wss://a1/api/"}


def test_an_api_of_another_deployment_is_refused_even_after_the_own_one_was_deleted(
    tmp_path: Path,
) -> None:
    account = Account(apis={"a2": True})

    with pytest.raises(NotNoted, match="the API a2"):
        complete(stage_in(tmp_path, [api_note("a1")]), account)


def test_several_finished_apis_are_named_and_none_is_deleted(tmp_path: Path) -> None:
    account = Account(apis={"a1": True, "a2": True})

    with pytest.raises(NotNoted, match="several APIs named serverless-websockets-dev-websocket-api: a1, a2"):
        complete(stage_in(tmp_path, [], attempt=True), account)

    assert account.apis == {"a1": True, "a2": True}


def test_notes_keep_unusual_entries_and_drop_deleted_resources(tmp_path: Path) -> None:
    domain = {"name": "websocket_api_custom_domain", "resource_type": "domain_name"}
    gone = {"name": "push_messages", "resource_type": "lambda_function", "lambda_arn": "gone"}
    stage = stage_in(tmp_path, [gone, api_note("a1"), domain])

    assert complete(stage, Account(apis={"a1": True})) == ["websocket_api", "websocket_api_custom_domain"]


def test_notes_can_be_written_from_the_resources_on_aws(tmp_path: Path) -> None:
    account = Account(apis={"a1": True}, roles={ROLE}, functions={ROLE}, mappings=["u"])

    noted = complete(stage_in(tmp_path), account, take_over=True)

    assert noted == [
        "websocket_connect_role",
        "websocket_connect",
        "websocket_api",
        "push_messages-dynamodb-event-source",
    ]


# Stacks


class CloudFormation:
    """Has one stack or none. An update without changes is an error, as on AWS.

    `ends`: the status that the next operation of a kind ends with. A deleted stack is found by its id alone.
    """

    def __init__(self, status: str | None = None, changes: bool = True, **ends: str) -> None:
        self.status, self.changes, self.ends = status, changes, ends
        self.called: list[str] = []
        self.templates: list[Any] = []
        self.upcoming: list[str] = []

    def describe_stacks(self, StackName: str) -> Any:  # noqa: N803
        if self.upcoming:
            self.status = self.upcoming.pop(0)
        if self.status is None or (self.status == "DELETE_COMPLETE" and StackName != STAGE_ID):
            raise refusal("ValidationError", f"Stack with id {StackName} does not exist")
        outputs = [{"OutputKey": "Table", "OutputValue": "t"}]
        return {
            "Stacks": [
                {"StackName": "s", "StackId": STAGE_ID, "StackStatus": self.status, "Outputs": outputs}
            ]
        }

    def create_stack(self, **request: Any) -> Any:
        assert request["OnFailure"] == "DELETE"
        self._begin("create", "CREATE_COMPLETE", request)
        return {"StackId": STAGE_ID}

    def update_stack(self, **request: Any) -> None:
        if not self.changes:
            raise refusal("ValidationError", "No updates are to be performed.")
        self._begin("update", "UPDATE_COMPLETE", request)

    def delete_stack(self, **request: Any) -> None:
        self._begin("delete", "DELETE_COMPLETE", request)

    def _begin(self, operation: str, usual_end: str, request: Any) -> None:
        self.called.append(operation)
        self.templates.append(json.loads(request.get("TemplateBody", "null")))
        self.status = None
        self.upcoming = [f"{operation.upper()}_IN_PROGRESS", self.ends.get(operation, usual_end)]

    def describe_stack_events(self, StackName: str) -> Any:  # noqa: N803
        assert StackName == STAGE_ID, "events of a deleted stack are found by its id alone"
        events = [
            ("Queue", "CREATE_FAILED", "Resource creation cancelled"),
            ("Table", "CREATE_FAILED", "taken"),
            ("s", "CREATE_IN_PROGRESS", "User Initiated"),
            ("Earlier", "CREATE_FAILED", "another time"),
        ]
        names = ("LogicalResourceId", "ResourceStatus", "ResourceStatusReason")
        return {"StackEvents": [dict(zip(names, event, strict=True)) for event in events]}


def stacks(client: CloudFormation, clock: Clock | None = None) -> Stacks:
    clock = clock or Clock()
    return Stacks(client, lambda text: None, clock=clock, sleep=clock.sleep)


@pytest.mark.parametrize(
    ("there", "called"),
    [
        (CloudFormation(), ["create", "update"]),
        (CloudFormation(changes=False), ["create"]),
        (CloudFormation("CREATE_COMPLETE"), ["update"]),
        (CloudFormation("UPDATE_COMPLETE", changes=False), []),
        (CloudFormation("UPDATE_ROLLBACK_COMPLETE"), ["update"]),
        (CloudFormation("DELETE_COMPLETE"), ["create", "update"]),
        (CloudFormation("ROLLBACK_COMPLETE"), ["delete", "create", "update"]),
        (CloudFormation("CREATE_FAILED"), ["delete", "create", "update"]),
        (CloudFormation("DELETE_FAILED"), ["delete", "create", "update"]),
    ],
)
def test_a_stack_is_created_or_changed_or_left_and_a_dead_one_is_deleted_first(
    there: CloudFormation, called: list[str]
) -> None:
    assert stacks(there).deploy("s", {}, {}, {}) == {"Table": "t"}
    assert there.called == called


def test_a_new_stack_is_created_deletable_and_protected_after_that() -> None:
    there = CloudFormation()

    stacks(there).deploy("s", {"protected": True}, {}, at_creation={"protected": False})

    assert there.templates == [{"protected": False}, {"protected": True}]


def test_a_creation_that_fails_says_which_resource_and_why_though_the_stack_is_deleted() -> None:
    there = CloudFormation(create="DELETE_COMPLETE")

    with pytest.raises(StackFailed, match=r"^the stack s failed \(DELETE_COMPLETE\): Table: taken$"):
        stacks(there).deploy("s", {}, {}, {})


def test_deploy_waits_for_a_stack_that_another_command_is_changing() -> None:
    there = CloudFormation()
    there.upcoming = ["CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE"]

    stacks(there).deploy("s", {}, {}, {})

    assert there.called == ["update"]


def test_deleting_a_missing_stack_succeeds() -> None:
    there = CloudFormation()

    stacks(there).delete("s")

    assert there.called == []


# chalice deploy


class Ended(Exception):
    pass


def end(message: str) -> Any:
    raise Ended(message)


@pytest.mark.parametrize("version", [(3, 9), (3, 15), (4, 0)])
def test_a_python_that_lambda_does_not_have_is_refused(version: tuple[int, int]) -> None:
    with pytest.raises(
        CannotDeploy, match=rf"Lambda does not support Python {version[0]}.{version[1]}: .*3.10 to 3.14"
    ):
        check_python(version)


@pytest.mark.parametrize("version", [(3, 10), (3, 12), (3, 14)])
def test_a_python_that_lambda_has_is_taken(version: tuple[int, int]) -> None:
    check_python(version)


def test_an_unreachable_aws_ends_the_deployment_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    with pytest.raises(Ended, match=r"^cannot read stage dev from AWS: "):
        prepare("dev", end)


def test_chalice_package_refuses_a_python_that_lambda_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "check_python", lambda: check_python((3, 9)))

    with pytest.raises(Ended, match=r"^Lambda does not support Python 3\.9: "):
        prepare_package("dev", end)


@pytest.mark.parametrize(
    ("arguments", "stage"),
    [
        (["package", "out"], "dev"),
        (["package", "--stage", "prod", "--merge-template", "t.json", "out"], "prod"),
        (["deploy"], None),
        (["local"], None),
        (["package"], None),
    ],
)
def test_the_stage_of_chalice_package_is_read_from_its_arguments(
    arguments: list[str], stage: str | None
) -> None:
    assert stage_of("package", ["chalice", *arguments]) == stage


def test_a_stage_that_is_not_configured_ends_chalice_deploy_with_one_line() -> None:
    with pytest.raises(Ended, match=r"^there is no stage beta in .chalice/config.json"):
        prepare("beta", end)


def test_without_credentials_deploying_says_so(tmp_path: Path) -> None:
    ran = subprocess.run(
        [str(CHALICE), "deploy"],
        cwd=PROJECT,
        env=bare_environment(tmp_path, AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true"),
        capture_output=True,
        text=True,
        encoding="utf-8",
    )

    assert ran.returncode == 1
    assert ran.stderr.startswith("chalice: cannot read stage dev from AWS: ")
    assert "Unable to locate credentials" in ran.stderr


# The workflow


def steps() -> list[dict[str, Any]]:
    workflow = yaml.safe_load((PROJECT / ".github" / "workflows" / "deploy.yml").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = workflow["jobs"]["deploy"]["steps"]
    return found


@pytest.mark.parametrize(
    ("answer", "goes_on"),
    [
        ("An error occurred (NoSuchKey) when calling the GetObject operation: none", True),
        ("An error occurred (NoSuchBucket) when calling the GetObject operation: none", False),
        ("An error occurred (AccessDenied) when calling the GetObject operation: no", False),
        ("Could not connect to the endpoint URL", False),
        ("Unable to locate credentials", False),
    ],
)
def test_only_notes_that_do_not_exist_make_a_deployment_the_first(
    answer: str, goes_on: bool, tmp_path: Path
) -> None:
    (tmp_path / "aws").write_text(f'#!/bin/sh\necho "{answer}" >&2\nexit 254\n', encoding="utf-8")
    (tmp_path / "aws").chmod(0o755)
    (fetch,) = [step for step in steps() if step.get("id") == "notes"]

    ran = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", fetch["run"]],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "STAGE": "dev", "DEPLOYED_BUCKET": "b"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )

    assert (ran.returncode == 0) == goes_on
    assert answer in ran.stderr


def test_the_notes_are_kept_after_a_failed_deployment_too_and_only_if_they_were_fetched() -> None:
    (keep,) = [step for step in steps() if "put-object" in step.get("run", "")]

    assert keep["if"] == "always() && steps.notes.outcome == 'success'"
