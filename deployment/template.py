"""The CloudFormation templates of a stage: its tables alone, or what `chalice package` has to merge in.

cloudformation/tables.yaml says what the tables are. Here is what a stage adds to that: names, the queue for
batches that were given up, alarms, and that the tables of a stage that is not thrown away are kept.
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
"""Records of items that exist: those of deletions have no new image.

Lambda documents filters on the key `dynamodb` alone, so `eventName` is not used. `parse_record` looks at it.
"""

MAPPING: Mapping[str, Any] = {
    "MaximumRecordAgeInSeconds": 3600,
    "BisectBatchOnFunctionError": True,
    "ParallelizationFactor": 1,
    "FilterCriteria": {"Filters": [{"Pattern": json.dumps(NOT_DELETED)}]},
}
"""A batch fails only while DynamoDB does not answer, or by a bug: Lambda retries it for an hour, in halves.

Not in parallel, because AWS keeps the order of a partition key only with one call at a time per shard.
Deletions do not wake the function: each message expires, and would otherwise wake it twice.
"""

ROUTE_SETTINGS = {"ThrottlingRateLimit": 2000, "ThrottlingBurstLimit": 1000}
"""Frames a second of the stage, so that none uses up what the whole account has: 10,000."""

POLICY_OF = {
    "WebsocketConnectRole": "connect",
    "WebsocketMessageRole": "message",
    "WebsocketDisconnectRole": "disconnect",
    "PushMessagesRole": "push",
}
PROTECT = "ProtectTables"
LOGICAL_IDS = {
    "websocket_connect": "WebsocketConnect",
    "websocket_message": "WebsocketMessage",
    "websocket_disconnect": "WebsocketDisconnect",
    "push_messages": "PushMessages",
}


def tables(stage: Stage, creating: bool = False) -> Template:
    """Return the template of the tables' stack, which `chalice deploy` needs to be there.

    `creating`: without what keeps tables. CloudFormation could not delete a kept or protected table of a
    failed creation, and the next creation would find its name taken.
    """
    template: Template = yaml.safe_load(
        (PROJECT / "cloudformation" / "tables.yaml").read_text(encoding="utf-8")
    )
    template["Resources"] = {**template["Resources"], **_watched(stage)}
    if not stage.is_throwaway and not creating:
        template["Resources"] |= _kept_tables(template["Resources"])
        template["Parameters"][PROTECT] = {
            "Type": "String",
            "AllowedValues": ["true", "false"],
            "Default": "true",
            "Description": "Deletion protection of the tables. false while the stack is created.",
        }
    template["Outputs"]["FailedBatchesArn"] = {"Value": {"Fn::GetAtt": ["FailedBatches", "Arn"]}}
    return template


def table_names(stage: Stage) -> dict[str, str]:
    return {
        "WebsocketsTableName": stage.websockets_table,
        "MessagesTableName": stage.messages_table,
    }


def merged(stage: Stage) -> Template:
    """For `chalice package --merge-template`: with it, one stack has everything."""
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
    for role, policy in POLICY_OF.items():
        document = _exact(
            json.loads(
                (PROJECT / ".chalice" / f"policy-{stage.name}-{policy}.json").read_text(encoding="utf-8")
            )
        )
        policies = [{"PolicyName": policy, "PolicyDocument": document}]
        template["Resources"][role] = {"Properties": {"Policies": policies}}
    template["Resources"]["WebsocketAPIStage"] = {"Properties": {"DefaultRouteSettings": ROUTE_SETTINGS}}
    return template


def _kept_tables(resources: Template) -> Template:
    """Return the tables kept when the stack goes, recoverable for 35 days, protected, encrypted by KMS."""
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


def _watched(stage: Stage) -> Template:
    """The queue of the batches that were given up, a dashboard, and alarms for what a person must look at."""
    push = _function(stage, "push_messages")
    queue = [{"Name": "QueueName", "Value": stage.failed_batches_queue}]
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
        "PushesThrottled": _alarm(
            stage,
            "API Gateway or DynamoDB throttles pushes, so messages come late. First look at the dashboard: "
            "which table or API is it? Then compare its quotas in docs/scaling.md.",
            (NAMESPACE, "throttled", push),
            10,
            statistic="Sum",
            breaching=3,
        ),
        "PushesSlow": _alarm(
            stage,
            "One message in a hundred takes over five seconds from sender to recipient. First compare "
            "look_up_ms and post_ms in the log of push_messages.",
            (NAMESPACE, "push_latency_ms", push),
            5000,
            statistic="p99",
            breaching=3,
        ),
        "PushLags": _alarm(
            stage,
            "Messages wait over a minute for their push. First look in the log of push_messages for errors "
            "or timeouts, then whether its reserved concurrency is used up.",
            ("AWS/Lambda", "IteratorAge", push),
            60_000,
            breaching=2,
        ),
        "BatchesGivenUp": _alarm(
            stage,
            "Lambda gave up batches of messages after an hour: they are stored, but were not pushed. First "
            "read the messages of the failed-batches queue for the shard and the time, then the log of "
            "push_messages. Players get them when they connect again.",
            ("AWS/SQS", "ApproximateNumberOfMessagesVisible", queue),
            1,
        ),
        **{
            name: _alarm(
                stage,
                f"{stage.function_name(function)} fails or times out: {harm} First read ERROR and "
                "'Task timed out' in its log; after a deployment, deploy the commit before.",
                ("AWS/Lambda", "Errors", _function(stage, function)),
                1,
                statistic="Sum",
            )
            for name, function, harm in (
                ("ConnectFails", "websocket_connect", "players cannot connect."),
                ("MessageFails", "websocket_message", "frames get no reply."),
                ("DisconnectFails", "websocket_disconnect", "ended connections stay listed for a while."),
                ("PushFails", "push_messages", "messages are late."),
            )
        },
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
    """Alarm when `breaching` of the last five minutes are at the threshold or over it."""
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


def _exact(value: Any) -> Any:
    """A policy whose names of any region, account and API are those of the stack."""
    if isinstance(value, dict):
        return {key: _exact(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_exact(each) for each in value]
    if isinstance(value, str) and value.startswith("arn:*:"):
        exact = value.replace("arn:*:", "arn:${AWS::Partition}:", 1)
        exact = exact.replace(":*:*:*/", ":*:*:${WebsocketAPI}/", 1)
        return {"Fn::Sub": exact.replace(":*:*:", ":${AWS::Region}:${AWS::AccountId}:", 1)}
    return value
