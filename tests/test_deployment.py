"""What is deployed: who may do what, what is kept, and that nothing is open that need not be."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from chalicelib.telemetry import COUNTED_AS, NAMESPACE, UNITS, UNITS_OF_A_BATCH
from deployment import stack, template
from deployment.stage import FUNCTIONS, Stage, UnknownStage
from deployment.stream import find_stream
from tests.chalice_process import CHALICE, PROJECT, bare_environment

ROLES = set(template.POLICY_OF)
WITHOUT_NAMES = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
"""What AWS lets nobody narrow to a resource."""


def run_in(directory: Path, *command: str) -> str:
    ran = subprocess.run(
        command,
        cwd=directory,
        env=bare_environment(directory, AWS_DEFAULT_REGION="us-east-1"),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(
    scope="module", params=[pytest.param(stage, marks=pytest.mark.slow) for stage in ("dev", "prod")]
)
def packaged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Stage, Any]:
    """The template that `make package` makes, by its two commands; pip downloads what is shipped."""
    name, directory = request.param, tmp_path_factory.mktemp("package")
    for part in ("app.py", "chalicelib", "deployment", "localdev", "cloudformation", "requirements.txt"):
        (directory / part).symlink_to(PROJECT / part)
    (directory / ".chalice").mkdir()
    for path in (PROJECT / ".chalice").glob("*.json"):
        (directory / ".chalice" / path.name).symlink_to(path)
    merge = run_in(directory, sys.executable, "-m", "deployment", "template", name)
    (directory / "merge.json").write_text(merge)
    run_in(directory, str(CHALICE), "package", "--stage", name, "--merge-template", "merge.json", "out")
    return Stage.of(name), json.loads((directory / "out" / "sam.json").read_text())


def statements(policies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]


def resources_of(statement: dict[str, Any]) -> list[str]:
    given = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
    return [each["Fn::Sub"] if isinstance(each, dict) else each for each in given]


def test_the_template_of_a_stage_passes_cfn_lint(packaged: tuple[Stage, Any], tmp_path: Path) -> None:
    _, sam = packaged
    (tmp_path / "sam.json").write_text(json.dumps(sam))

    ran = subprocess.run(
        [str(Path(sys.executable).parent / "cfn-lint"), "--regions", "us-east-1", "--", "sam.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"AWS_DEFAULT_REGION": "us-east-1"},
    )

    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_the_template_of_the_tables_passes_cfn_lint(name: str, tmp_path: Path) -> None:
    (tmp_path / "tables.json").write_text(json.dumps(template.tables(Stage.of(name))))

    ran = subprocess.run(
        [str(Path(sys.executable).parent / "cfn-lint"), "--", "tables.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stdout


def test_the_dashboard_and_the_alarms_show_metrics_that_there_are(packaged: tuple[Stage, Any]) -> None:
    resources = packaged[1]["Resources"]
    emitted = {*COUNTED_AS.values(), *UNITS, *UNITS_OF_A_BATCH}
    dashboard = json.loads(resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    graphs = [widget["properties"]["metrics"] for widget in dashboard["widgets"]]
    shown = {metric[1] for metrics in graphs for metric in metrics if metric[0] == NAMESPACE}
    watched = {
        r["Properties"]["MetricName"]
        for r in resources.values()
        if r["Type"] == "AWS::CloudWatch::Alarm" and r["Properties"]["Namespace"] == NAMESPACE
    }

    assert shown >= {"accepted", "delivered", "replayed", "push_latency_ms", "gone", "closed", "throttled"}
    assert watched == {"throttled", "push_latency_ms"}
    assert shown | watched <= emitted


def test_every_function_has_a_role_of_its_own(packaged: tuple[Stage, Any]) -> None:
    resources = packaged[1]["Resources"]
    roles = [
        r["Properties"]["Role"]["Fn::GetAtt"][0] for r in resources.values() if "Serverless" in r["Type"]
    ]

    assert sorted(roles) == sorted(ROLES)
    assert {name for name, r in resources.items() if r["Type"] == "AWS::IAM::Role"} == ROLES


def test_every_right_is_for_something_named_in_this_region_and_account(packaged: tuple[Stage, Any]) -> None:
    for role in ROLES:
        for statement in statements(packaged[1]["Resources"][role]["Properties"]["Policies"]):
            if not set(statement["Action"]) <= WITHOUT_NAMES:
                for resource in resources_of(statement):
                    assert "${AWS::Region}:${AWS::AccountId}:" in resource, (role, resource)
                    assert not re.search(r":\*|^\*", resource.removesuffix(":*")), (role, resource)


def test_nobody_may_scan_or_delete_a_table_or_act_on_every_kind(packaged: tuple[Stage, Any]) -> None:
    actions = {
        action
        for role in ROLES
        for statement in statements(packaged[1]["Resources"][role]["Properties"]["Policies"])
        for action in statement["Action"]
    }

    assert not actions & {"dynamodb:Scan", "dynamodb:DeleteTable"}
    assert not [action for action in actions if "*" in action]


def test_connections_are_managed_by_whoever_posts_and_of_this_api_alone(packaged: tuple[Stage, Any]) -> None:
    stage, sam = packaged
    managed = {
        role: sorted(resource.rpartition("}/")[2] for resource in resources_of(statement))
        for role in ROLES
        for statement in statements(sam["Resources"][role]["Properties"]["Policies"])
        if "execute-api:ManageConnections" in statement["Action"]
        for resource in resources_of(statement)
        if resource.count(":${WebsocketAPI}/")
    }
    both = [f"{stage.name}/DELETE/@connections/*", f"{stage.name}/POST/@connections/*"]

    assert managed == {
        "WebsocketConnectRole": [
            f"{stage.name}/DELETE/@connections/*",
            f"{stage.name}/GET/@connections/*",
        ],
        "WebsocketMessageRole": both,
        "PushMessagesRole": both,
    }


def test_the_stream_function_has_no_public_route(packaged: tuple[Stage, Any]) -> None:
    resources = packaged[1]["Resources"]
    routes = {r["Properties"]["RouteKey"] for r in resources.values() if r["Type"].endswith("::Route")}
    permitted = [
        r["Properties"]["FunctionName"]["Ref"]
        for r in resources.values()
        if r["Type"] == "AWS::Lambda::Permission"
    ]

    assert routes == {"$connect", "$default", "$disconnect"}
    assert sorted(permitted) == ["WebsocketConnect", "WebsocketDisconnect", "WebsocketMessage"]
    assert list(resources["PushMessages"]["Properties"]["Events"]) == ["PushMessagesDynamodbEventSource"]
    assert not [r for r in resources.values() if r["Type"] == "AWS::Lambda::Url"]


def test_the_stream_is_the_tables_and_what_fails_is_kept(packaged: tuple[Stage, Any]) -> None:
    events = packaged[1]["Resources"]["PushMessages"]["Properties"]["Events"]
    source = events["PushMessagesDynamodbEventSource"]["Properties"]

    assert source["Stream"] == {"Fn::GetAtt": ["MessagesTable", "StreamArn"]}
    assert source["DestinationConfig"]["OnFailure"]["Type"] == "SQS"
    assert (source["ParallelizationFactor"], source["StartingPosition"]) == (1, "TRIM_HORIZON")


def test_the_tables_of_every_stage_but_a_throwaway_one_are_kept_and_recoverable(
    packaged: tuple[Stage, Any],
) -> None:
    stage, sam = packaged
    for name in ("WebsocketsTable", "MessagesTable"):
        table = sam["Resources"][name]
        properties = table["Properties"]
        kept = (
            table.get("DeletionPolicy") == "Retain",
            table.get("UpdateReplacePolicy") == "Retain",
            properties.get("DeletionProtectionEnabled", False),
            properties.get("PointInTimeRecoverySpecification", {}).get("PointInTimeRecoveryEnabled", False),
            properties.get("SSESpecification", {}).get("SSEEnabled", False),
        )

        assert kept == (not stage.is_throwaway,) * 5


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_the_policies_of_a_stage_name_its_own_tables_functions_and_queue(name: str) -> None:
    stage = Stage.of(name)
    for path in (PROJECT / ".chalice").glob(f"policy-{name}-*.json"):
        for statement in json.loads(path.read_text())["Statement"]:
            for resource in resources_of(statement):
                kind = resource.split(":")[2] if resource != "*" else "*"
                if kind == "dynamodb":
                    table = resource.partition("table/")[2].split("/")[0]
                    assert table in (stage.websockets_table, stage.messages_table)
                elif kind == "logs":
                    logged = [f"/aws/lambda/{stage.function_name(function)}:" for function in FUNCTIONS]
                    assert any(name in resource for name in logged)
                elif kind == "sqs":
                    assert resource.endswith(f":{stage.failed_batches_queue}")


def test_a_stage_that_is_not_configured_is_named_with_those_that_are() -> None:
    with pytest.raises(
        UnknownStage, match=r"there is no stage beta in .chalice/config.json: there are dev, prod"
    ):
        Stage.of("beta")


# Stacks


class CloudFormation:
    """Has one stack, or none; a change that would change nothing is an error, as on AWS."""

    def __init__(self, status: str | None = None, changes: bool = True, fails: bool = False) -> None:
        self.status, self.changes, self.fails = status, changes, fails
        self.called: list[str] = []

    def describe_stacks(self, StackName: str) -> Any:  # noqa: N803
        if self.status is None:
            raise refusal("ValidationError", f"Stack with id {StackName} does not exist")
        outputs = [{"OutputKey": "Table", "OutputValue": "t"}]
        return {"Stacks": [{"StackStatus": self.status, "Outputs": outputs}]}

    def create_stack(self, **request: Any) -> None:
        self.called.append("create")
        self.status = "CREATE_COMPLETE"

    def update_stack(self, **request: Any) -> None:
        self.called.append("update")
        if not self.changes:
            raise refusal("ValidationError", "No updates are to be performed.")

    def delete_stack(self, **request: Any) -> None:
        self.called.append("delete")
        self.status = None

    def describe_stack_events(self, StackName: str) -> Any:  # noqa: N803
        event = {
            "ResourceStatus": "CREATE_FAILED",
            "LogicalResourceId": "Table",
            "ResourceStatusReason": "taken",
        }
        return {"StackEvents": [event]}

    def get_waiter(self, condition: str) -> Any:
        return self

    def wait(self, **_: Any) -> None:
        if self.fails:
            raise WaiterError("wait", "terminal failure", {})


def refusal(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "operation")


@pytest.mark.parametrize(
    ("there", "called"),
    [
        (CloudFormation(), ["create"]),
        (CloudFormation("CREATE_COMPLETE"), ["update"]),
        (CloudFormation("UPDATE_COMPLETE", changes=False), ["update"]),
        (CloudFormation("DELETE_COMPLETE"), ["create"]),
    ],
)
def test_a_stack_is_made_or_changed_or_left_as_it_is(there: CloudFormation, called: list[str]) -> None:
    assert stack.deploy(there, "s", {}, {}, lambda text: None) == {"Table": "t"}
    assert there.called == called


def test_a_stack_that_fails_says_which_resource_and_why() -> None:
    with pytest.raises(stack.StackFailed, match="the stack s failed: Table: taken"):
        stack.deploy(CloudFormation(fails=True), "s", {}, {}, lambda text: None)


def test_deleting_a_stack_that_is_not_there_is_no_failure() -> None:
    there = CloudFormation()

    stack.delete(there, "s", lambda text: None)

    assert there.called == []


# chalice deploy


class Ended(Exception):
    pass


def end(message: str) -> Any:
    raise Ended(message)


def test_aws_that_cannot_be_asked_ends_the_deployment_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESSAGES_TABLE", "m")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    with pytest.raises(Ended, match=r"^AWS could not be asked for the stream of m: "):
        find_stream("dev", end)


def test_without_credentials_deploying_says_so(tmp_path: Path) -> None:
    ran = subprocess.run(
        [str(CHALICE), "deploy"],
        cwd=PROJECT,
        env=bare_environment(tmp_path, AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true"),
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 1
    assert ran.stderr.startswith("chalice: AWS could not be asked for the stream of")
    assert "Unable to locate credentials" in ran.stderr
