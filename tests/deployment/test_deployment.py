"""The deployed resources: permissions, retention and alarms."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chalicelib.aws.telemetry import BATCH_UNITS, METRICS_BY_OUTCOME, NAMESPACE, UNITS
from deployment import template
from deployment.stage import FUNCTIONS, Stage, UnknownStage
from tests.support.chalice_process import CHALICE, PROJECT, bare_environment

ROLES = set(template.POLICY_BY_ROLE)
WITHOUT_NAMES = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
"""Actions that AWS cannot restrict to a resource."""


def run_in(directory: Path, *command: str) -> str:
    ran = subprocess.run(
        command,
        cwd=directory,
        env=bare_environment(directory, AWS_DEFAULT_REGION="us-east-1"),
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(
    scope="module", params=[pytest.param(stage, marks=pytest.mark.slow) for stage in ("dev", "prod")]
)
def packaged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Stage, Any]:
    """Run the two commands of `make package`, and return the stage and the template."""
    name, directory = request.param, tmp_path_factory.mktemp("package")
    shipped = ("app.py", "chalicelib", "requirements.txt", "requirements.lock")
    for part in (*shipped, "deployment", "localdev"):
        (directory / part).symlink_to(PROJECT / part)
    (directory / ".chalice").mkdir()
    for path in (PROJECT / ".chalice").glob("*.json"):
        (directory / ".chalice" / path.name).symlink_to(path)
    merge = run_in(directory, sys.executable, "-m", "deployment", "template", name)
    (directory / "merge.json").write_text(merge, encoding="utf-8")
    run_in(directory, str(CHALICE), "package", "--stage", name, "--merge-template", "merge.json", "out")
    return Stage.of(name), json.loads((directory / "out" / "sam.json").read_text(encoding="utf-8"))


def statements(policies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]


def resources_of(statement: dict[str, Any]) -> list[str]:
    given = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
    return [each["Fn::Sub"] if isinstance(each, dict) else each for each in given]


def test_the_template_of_a_stage_passes_cfn_lint(packaged: tuple[Stage, Any], tmp_path: Path) -> None:
    _, sam = packaged
    (tmp_path / "sam.json").write_text(json.dumps(sam), encoding="utf-8")

    ran = subprocess.run(
        [str(Path(sys.executable).parent / "cfn-lint"), "--regions", "us-east-1", "--", "sam.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"AWS_DEFAULT_REGION": "us-east-1"},
        encoding="utf-8",
    )

    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_the_template_of_the_tables_passes_cfn_lint(name: str, tmp_path: Path) -> None:
    (tmp_path / "tables.json").write_text(json.dumps(template.tables(Stage.of(name))), encoding="utf-8")

    ran = subprocess.run(
        [str(Path(sys.executable).parent / "cfn-lint"), "--", "tables.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )

    assert ran.returncode == 0, ran.stdout


def test_the_dashboard_and_the_alarms_show_metrics_that_there_are(packaged: tuple[Stage, Any]) -> None:
    resources = packaged[1]["Resources"]
    emitted = {*METRICS_BY_OUTCOME.values(), *UNITS, *BATCH_UNITS}
    dashboard = json.loads(resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    graphs = [widget["properties"]["metrics"] for widget in dashboard["widgets"]]
    shown = {metric[1] for metrics in graphs for metric in metrics if metric[0] == NAMESPACE}
    watched = {
        r["Properties"]["MetricName"]
        for r in resources.values()
        if r["Type"] == "AWS::CloudWatch::Alarm" and r["Properties"]["Namespace"] == NAMESPACE
    }

    searched = {search[2]["MetricName"] for search in searches_of(dashboard)}

    assert searched == {"refused"}
    assert shown >= {"accepted", "delivered", "replayed", "push_latency_ms", "gone", "closed", "throttled"}
    assert watched == {"throttled", "push_latency_ms"}
    assert shown | watched | searched <= emitted


SEARCH = re.compile(r"SEARCH\('\{([^}]*)\} ([^']*)', '(Sum|Average|Maximum|Minimum|p\d+)', (\d+)\)")
NAME = re.compile(r'[A-Za-z0-9]+(?:/[A-Za-z0-9]+)*|"[^"]+"')
TERM = re.compile(r'([A-Za-z0-9]+)=("[^"]+")')


def searches_of(dashboard: Any) -> list[tuple[str, list[str], dict[str, str]]]:
    """Read each search of a dashboard by CloudWatch's grammar: namespace, dimensions, exact terms."""
    expressions = [
        metric[0]["expression"]
        for widget in dashboard["widgets"]
        for metric in widget["properties"]["metrics"]
        if isinstance(metric[0], dict)
    ]
    searches = []
    for expression in expressions:
        parsed = SEARCH.fullmatch(expression)
        assert parsed, expression
        schema = [name.strip() for name in parsed[1].split(",")]
        assert all(NAME.fullmatch(name) for name in schema), expression
        terms = [TERM.fullmatch(term) for term in parsed[2].split(" ")]
        assert all(terms), expression
        exact = {term[1]: term[2].strip('"') for term in terms if term}
        searches.append((schema[0].strip('"'), schema[1:], exact))
    return searches


def test_every_search_of_the_dashboard_follows_the_grammar_and_finds_a_metric_of_this_stage(
    packaged: tuple[Stage, Any],
) -> None:
    stage, sam = packaged
    dashboard = json.loads(sam["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])

    searches = searches_of(dashboard)

    assert searches == [
        (
            NAMESPACE,
            ["FunctionName", "code"],
            {"MetricName": "refused", "FunctionName": stage.function_name(f)},
        )
        for f in ("websocket_connect", "websocket_message")
    ]


def alarms_of(sam: Any) -> dict[str, Any]:
    return {
        name: r["Properties"] for name, r in sam["Resources"].items() if r["Type"] == "AWS::CloudWatch::Alarm"
    }


def test_each_function_that_fails_once_alarms_though_the_next_minutes_are_fine(
    packaged: tuple[Stage, Any],
) -> None:
    stage, sam = packaged
    errors = [alarm for alarm in alarms_of(sam).values() if alarm["MetricName"] == "Errors"]

    assert {alarm["Dimensions"][0]["Value"] for alarm in errors} == {
        stage.function_name(function) for function in FUNCTIONS
    }
    for alarm in errors:
        assert (alarm["DatapointsToAlarm"], alarm["Threshold"]) == (1, 1)
        assert alarm["EvaluationPeriods"] * alarm["Period"] <= 300


def test_every_alarm_states_the_problem_and_the_first_remedy(packaged: tuple[Stage, Any]) -> None:
    for name, alarm in alarms_of(packaged[1]).items():
        assert re.search(r"[.?!] First \w+", alarm["AlarmDescription"]), name
        assert len(alarm["AlarmDescription"]) <= 1024
        assert alarm["TreatMissingData"] == "notBreaching"


def test_alarms_notify_the_topic_of_the_stage_if_it_names_one() -> None:
    topic = "arn:aws:sns:eu-west-1:123456789012:oncall"
    silent = alarms_of(template.tables(Stage("dev", "w", "m")))
    loud = alarms_of(template.tables(Stage("dev", "w", "m", alarm_topic_arn=topic)))

    assert all("AlarmActions" not in alarm for alarm in silent.values())
    assert all(alarm["AlarmActions"] == alarm["OKActions"] == [topic] for alarm in loud.values())


def test_a_stage_names_its_alarm_topic_and_its_api_stage_in_the_configuration(tmp_path: Path) -> None:
    tables = {"WEBSOCKETS_TABLE": "w", "MESSAGES_TABLE": "m"}
    beta = {"environment_variables": tables, "alarm_topic_arn": "t", "api_gateway_stage": "live"}
    (tmp_path / ".chalice").mkdir()
    (tmp_path / ".chalice" / "config.json").write_text(
        json.dumps({"stages": {"beta": beta}}), encoding="utf-8"
    )

    stage = Stage.of("beta", tmp_path)

    assert (stage.alarm_topic_arn, stage.api_gateway_stage) == ("t", "live")


def test_a_stage_without_its_tables_is_refused_with_the_missing_name(tmp_path: Path) -> None:
    (tmp_path / ".chalice").mkdir()
    (tmp_path / ".chalice" / "config.json").write_text(json.dumps({"stages": {"beta": {}}}), encoding="utf-8")

    with pytest.raises(UnknownStage, match="stage beta lacks WEBSOCKETS_TABLE under environment_variables"):
        Stage.of("beta", tmp_path)


def test_no_arn_names_a_partition(packaged: tuple[Stage, Any]) -> None:
    policies = {
        path: path.read_text(encoding="utf-8") for path in (PROJECT / ".chalice").glob("policy-*.json")
    }
    hard_coded = re.compile(r"arn:aws[a-z-]*:")

    assert [path.name for path, text in policies.items() if hard_coded.search(text)] == []
    assert hard_coded.findall(json.dumps(packaged[1])) == []


def test_the_tables_of_a_first_creation_can_be_deleted_when_it_fails() -> None:
    created = template.tables(Stage.of("prod"), creating=True)["Resources"]

    for table in ("WebsocketsTable", "MessagesTable"):
        assert "DeletionPolicy" not in created[table]
        assert "DeletionProtectionEnabled" not in created[table]["Properties"]


def test_every_function_has_its_own_role(packaged: tuple[Stage, Any]) -> None:
    resources = packaged[1]["Resources"]
    roles = [
        r["Properties"]["Role"]["Fn::GetAtt"][0] for r in resources.values() if "Serverless" in r["Type"]
    ]

    assert sorted(roles) == sorted(ROLES)
    assert {name for name, r in resources.items() if r["Type"] == "AWS::IAM::Role"} == ROLES


def test_every_permission_names_a_resource_in_this_region_and_account(packaged: tuple[Stage, Any]) -> None:
    for role in ROLES:
        for statement in statements(packaged[1]["Resources"][role]["Properties"]["Policies"]):
            if not set(statement["Action"]) <= WITHOUT_NAMES:
                for resource in resources_of(statement):
                    assert "${AWS::Region}:${AWS::AccountId}:" in resource, (role, resource)
                    assert not re.search(r":\*|^\*", resource.removesuffix(":*")), (role, resource)


def test_no_policy_allows_scans_table_deletion_or_wildcard_actions(packaged: tuple[Stage, Any]) -> None:
    actions = {
        action
        for role in ROLES
        for statement in statements(packaged[1]["Resources"][role]["Properties"]["Policies"])
        for action in statement["Action"]
    }

    assert not actions & {"dynamodb:Scan", "dynamodb:DeleteTable"}
    assert not [action for action in actions if "*" in action]


def test_only_functions_that_post_can_manage_this_apis_connections(
    packaged: tuple[Stage, Any],
) -> None:
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


def test_the_mapping_reads_the_tables_stream_and_keeps_failed_batches(packaged: tuple[Stage, Any]) -> None:
    events = packaged[1]["Resources"]["PushMessages"]["Properties"]["Events"]
    source = events["PushMessagesDynamodbEventSource"]["Properties"]

    assert source["Stream"] == {"Fn::GetAtt": ["MessagesTable", "StreamArn"]}
    assert source["DestinationConfig"]["OnFailure"]["Type"] == "SQS"
    assert (source["ParallelizationFactor"], source["StartingPosition"]) == (1, "TRIM_HORIZON")


def test_deleted_items_do_not_wake_the_push_function(packaged: tuple[Stage, Any]) -> None:
    events = packaged[1]["Resources"]["PushMessages"]["Properties"]["Events"]
    source = events["PushMessagesDynamodbEventSource"]["Properties"]

    (filtered,) = source["FilterCriteria"]["Filters"]
    pattern = {"dynamodb": {"NewImage": {"messageId": {"S": [{"exists": True}]}}}}
    assert json.loads(filtered["Pattern"]) == pattern
    assert template.MAPPING["FilterCriteria"] == source["FilterCriteria"]


def test_the_tables_of_every_stage_but_a_throwaway_one_are_kept_and_recoverable(
    packaged: tuple[Stage, Any],
) -> None:
    stage, sam = packaged
    for name in ("WebsocketsTable", "MessagesTable"):
        table = sam["Resources"][name]
        properties = table["Properties"]
        kept = (
            table.get("DeletionPolicy") == "RetainExceptOnCreate",
            table.get("UpdateReplacePolicy") == "Retain",
            properties.get("DeletionProtectionEnabled") == {"Ref": "ProtectTables"},
            properties.get("PointInTimeRecoverySpecification", {}).get("PointInTimeRecoveryEnabled", False),
            properties.get("SSESpecification", {}).get("SSEEnabled", False),
        )

        assert kept == (not stage.is_throwaway,) * 5


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_the_policies_of_a_stage_name_its_own_tables_functions_and_queue(name: str) -> None:
    stage = Stage.of(name)
    for path in (PROJECT / ".chalice").glob(f"policy-{name}-*.json"):
        for statement in json.loads(path.read_text(encoding="utf-8"))["Statement"]:
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
        UnknownStage, match=r"there is no stage beta in .chalice/config.json; its stages are dev, prod"
    ):
        Stage.of("beta")
