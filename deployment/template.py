"""Builds the CloudFormation templates of a stage: the tables' stack, and the part for `chalice package`.

deployment/tables.yaml defines the tables. This module adds each stage's names, dead-letter queue, dashboard
and alarms, and protects the tables of every stage that isn't a throwaway.
"""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from chalicelib.aws.telemetry import NAMESPACE
from deployment import dashboard
from deployment.stage import APP, PROJECT, Stage

Template = dict[str, Any]

NOT_DELETED = {"dynamodb": {"NewImage": {"messageId": {"S": [{"exists": True}]}}}}
"""A filter that skips deletions, whose records have no new image.

Lambda documents filters only for the key `dynamodb`, so `parse_record`, not the filter, checks `eventName`.
"""

MAPPING: Mapping[str, Any] = {
    "MaximumRecordAgeInSeconds": 3600,
    "BisectBatchOnFunctionError": True,
    "ParallelizationFactor": 1,
    "FilterCriteria": {"Filters": [{"Pattern": json.dumps(NOT_DELETED)}]},
}
"""The mapping's settings. A batch fails only if DynamoDB is unavailable or the code has a bug.

Lambda then splits the batch in half and retries it for an hour. One call at a time per shard keeps a
player's messages in order. The filter halves the invocations, because every message is deleted one day.
"""

ROUTE_SETTINGS = {"ThrottlingRateLimit": 2000, "ThrottlingBurstLimit": 1000}
"""Requests per second for the stage, so that one stage can't use up the account's quota of 10,000."""

POLICY_BY_ROLE = {
    "WebsocketConnectRole": "connect",
    "WebsocketMessageRole": "message",
    "WebsocketDisconnectRole": "disconnect",
    "PushMessagesRole": "push",
}
TABLES = PROJECT / "deployment" / "tables.yaml"
PROTECT = "ProtectTables"
LOGICAL_IDS = {
    "websocket_connect": "WebsocketConnect",
    "websocket_message": "WebsocketMessage",
    "websocket_disconnect": "WebsocketDisconnect",
    "push_messages": "PushMessages",
}


def tables(stage: Stage, creating: bool = False) -> Template:
    """Return the template of the tables' stack, which `chalice deploy` depends on.

    With `creating`, the tables aren't protected. Otherwise CloudFormation couldn't delete the tables of a
    failed creation, and the next creation would find their names in use.
    """
    template: Template = yaml.safe_load(TABLES.read_text(encoding="utf-8"))
    template["Resources"] = {**template["Resources"], **_monitoring(stage)}
    if not stage.is_throwaway and not creating:
        template["Resources"] |= _kept_tables(template["Resources"])
        template["Parameters"][PROTECT] = {
            "Type": "String",
            "AllowedValues": ["true", "false"],
            "Default": "true",
            "Description": "Deletion protection of the tables. Must be false while the stack is created.",
        }
    template["Outputs"]["FailedBatchesArn"] = {"Value": {"Fn::GetAtt": ["FailedBatches", "Arn"]}}
    return template


def table_names(stage: Stage) -> dict[str, str]:
    """Return the parameters of the tables' stack."""
    return {
        "WebsocketsTableName": stage.websockets_table,
        "MessagesTableName": stage.messages_table,
    }


def merged(stage: Stage) -> Template:
    """Return the template for `chalice package --merge-template`: one stack then has all resources."""
    template = tables(stage)
    for name, value in table_names(stage).items():
        template["Parameters"][name]["Default"] = value
    tables_in_use = {
        "WEBSOCKETS_TABLE": {"Ref": "WebsocketsTable"},
        "MESSAGES_TABLE": {"Ref": "MessagesTable"},
    }
    for function, logical_id in LOGICAL_IDS.items():
        properties = {
            "FunctionName": stage.function_name(function),
            "Environment": {"Variables": tables_in_use},
        }
        template["Resources"][logical_id] = {"Properties": properties}
    template["Resources"]["PushMessages"]["Properties"]["Events"] = {
        "PushMessagesDynamodbEventSource": {
            "Properties": {
                "Stream": {"Fn::GetAtt": ["MessagesTable", "StreamArn"]},
                "DestinationConfig": {
                    "OnFailure": {"Type": "SQS", "Destination": {"Fn::GetAtt": ["FailedBatches", "Arn"]}}
                },
                **MAPPING,
            }
        }
    }
    template["Resources"] |= _roles(stage)
    template["Resources"]["WebsocketAPIStage"] = {"Properties": {"DefaultRouteSettings": ROUTE_SETTINGS}}
    return template


def _roles(stage: Stage) -> Template:
    """Return the functions' roles with their policies, narrowed to the stack."""
    roles = {}
    for role, policy in POLICY_BY_ROLE.items():
        path = PROJECT / ".chalice" / f"policy-{stage.name}-{policy}.json"
        document = _narrowed(json.loads(path.read_text(encoding="utf-8")))
        policies = [{"PolicyName": policy, "PolicyDocument": document}]
        roles[role] = {"Properties": {"Policies": policies}}
    return roles


def _kept_tables(resources: Template) -> Template:
    """Return the tables retained when the stack is deleted, with deletion protection and KMS encryption.

    Point-in-time recovery covers the last 35 days.
    """
    return {
        name: {
            **table,
            "DeletionPolicy": "RetainExceptOnCreate",
            "UpdateReplacePolicy": "Retain",
            "Properties": {
                **table["Properties"],
                "DeletionProtectionEnabled": {"Ref": PROTECT},
                "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
                "SSESpecification": {"SSEEnabled": True},
            },
        }
        for name, table in resources.items()
        if table["Type"] == "AWS::DynamoDB::Table"
    }


def _monitoring(stage: Stage) -> Template:
    """Return the dead-letter queue of failed batches, the dashboard, and the alarms."""
    return {
        "FailedBatches": {
            "Type": "AWS::SQS::Queue",
            "Properties": {
                "QueueName": stage.failed_batches_queue,
                "MessageRetentionPeriod": 14 * 24 * 3600,
                "SqsManagedSseEnabled": True,
            },
        },
        "Dashboard": {
            "Type": "AWS::CloudWatch::Dashboard",
            "Properties": {
                "DashboardName": f"{APP}-{stage.name}",
                "DashboardBody": {"Fn::Sub": dashboard.body(stage)},
            },
        },
        **_alarms_of_push(stage),
        **_alarms_of_errors(stage),
    }


def _alarms_of_push(stage: Stage) -> Template:
    push = _function(stage, "push_messages")
    queue = [{"Name": "QueueName", "Value": stage.failed_batches_queue}]
    return {
        "PushesThrottled": _alarm(
            stage,
            "API Gateway or DynamoDB is throttling pushes, so messages arrive late. First find the throttled "
            "table or API on the dashboard. Then compare its quotas in docs/scaling.md.",
            (NAMESPACE, "throttled", push),
            10,
            statistic="Sum",
            breaching=3,
        ),
        "PushesSlow": _alarm(
            stage,
            "1% of messages take over 5 seconds from sender to recipient. First compare look_up_ms and "
            "post_ms in the log of push_messages.",
            (NAMESPACE, "push_latency_ms", push),
            5000,
            statistic="p99",
            breaching=3,
        ),
        "PushLags": _alarm(
            stage,
            "Messages wait over a minute for push_messages. First look for errors or timeouts in its log. "
            "Then check whether its reserved concurrency is used up.",
            ("AWS/Lambda", "IteratorAge", push),
            60_000,
            breaching=2,
        ),
        "BatchesGivenUp": _alarm(
            stage,
            "Lambda gave up on batches after an hour of retries. Their messages are stored and will be "
            "replayed when the players reconnect, but were not pushed. First read the shard and the time "
            "in the failed-batches queue, then the log of push_messages.",
            ("AWS/SQS", "ApproximateNumberOfMessagesVisible", queue),
            1,
        ),
    }


def _alarms_of_errors(stage: Stage) -> Template:
    return {
        name: _alarm(
            stage,
            f"{stage.function_name(function)} fails or times out: {harm} First search its log for ERROR "
            "and 'Task timed out'. If it began with a deployment, deploy the previous commit.",
            ("AWS/Lambda", "Errors", _function(stage, function)),
            1,
            statistic="Sum",
        )
        for name, function, harm in (
            ("ConnectFails", "websocket_connect", "players cannot connect."),
            ("MessageFails", "websocket_message", "frames get no reply."),
            ("DisconnectFails", "websocket_disconnect", "closed connections stay listed for a while."),
            ("PushFails", "push_messages", "messages arrive late."),
        )
    }


def _function(stage: Stage, function: str) -> list[dict[str, str]]:
    return [{"Name": "FunctionName", "Value": stage.function_name(function)}]


def _alarm(
    stage: Stage,
    description: str,
    metric: tuple[str, str, list[dict[str, str]]],
    threshold: int,
    statistic: str = "Maximum",
    breaching: int = 1,
) -> Template:
    """Return an alarm that fires when `breaching` of the last 5 minutes reach the threshold."""
    namespace, name, dimensions = metric
    topic = stage.alarm_topic_arn
    return {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "AlarmDescription": description,
            "Namespace": namespace,
            "MetricName": name,
            "Dimensions": dimensions,
            "ExtendedStatistic" if statistic.startswith("p") else "Statistic": statistic,
            "Period": 60,
            "EvaluationPeriods": 5,
            "DatapointsToAlarm": breaching,
            "Threshold": threshold,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "TreatMissingData": "notBreaching",
            **({"AlarmActions": [topic], "OKActions": [topic]} if topic else {}),
        },
    }


def _narrowed(value: Any) -> Any:
    """Return a policy with its wildcards replaced by the stack's partition, region, account and API."""
    if isinstance(value, dict):
        return {key: _narrowed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_narrowed(each) for each in value]
    if isinstance(value, str) and value.startswith("arn:*:"):
        exact = value.replace("arn:*:", "arn:${AWS::Partition}:", 1)
        exact = exact.replace(":*:*:*/", ":*:*:${WebsocketAPI}/", 1)
        return {"Fn::Sub": exact.replace(":*:*:", ":${AWS::Region}:${AWS::AccountId}:", 1)}
    return value
