"""The CloudFormation templates of a stage: its tables alone, or what `chalice package` has to merge in.

cloudformation/tables.yaml says what the tables are. Here is what a stage adds to that: names, the queue for
batches that were given up, alarms, and that the tables of a stage that is not thrown away are kept.
"""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from chalicelib.telemetry import NAMESPACE
from deployment import dashboard
from deployment.stage import APP, PROJECT, Stage

Template = dict[str, Any]

MAPPING: Mapping[str, int | bool] = {
    "MaximumRecordAgeInSeconds": 3600,
    "BisectBatchOnFunctionError": True,
    "ParallelizationFactor": 1,
}
"""A batch fails only while DynamoDB does not answer, or by a bug: for an hour it is tried again, in halves.

Not in parallel: AWS promises order by partition key only to one call at a time a shard.
"""

ROUTE_SETTINGS = {"ThrottlingRateLimit": 2000, "ThrottlingBurstLimit": 1000}
"""Frames a second of the stage, so that none uses up what the whole account has: 10,000."""

POLICY_OF = {
    "WebsocketConnectRole": "connect",
    "WebsocketMessageRole": "message",
    "WebsocketDisconnectRole": "disconnect",
    "PushMessagesRole": "push",
}
LOGICAL_IDS = {
    "websocket_connect": "WebsocketConnect",
    "websocket_message": "WebsocketMessage",
    "websocket_disconnect": "WebsocketDisconnect",
    "push_messages": "PushMessages",
}


def tables(stage: Stage) -> Template:
    """A stack of its own, which `chalice deploy` needs to be there."""
    template: Template = yaml.safe_load((PROJECT / "cloudformation" / "tables.yaml").read_text())
    template["Resources"] = {**_kept_tables(stage, template["Resources"]), **_watched(stage)}
    template["Outputs"]["FailedBatchesArn"] = {"Value": {"Fn::GetAtt": ["FailedBatches", "Arn"]}}
    return template


def table_names(stage: Stage) -> dict[str, str]:
    """The parameters of the template."""
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
            json.loads((PROJECT / ".chalice" / f"policy-{stage.name}-{policy}.json").read_text())
        )
        policies = [{"PolicyName": policy, "PolicyDocument": document}]
        template["Resources"][role] = {"Properties": {"Policies": policies}}
    template["Resources"]["WebsocketAPIStage"] = {"Properties": {"DefaultRouteSettings": ROUTE_SETTINGS}}
    return template


def _kept_tables(stage: Stage, resources: Template) -> Template:
    """Kept when the stack goes, recoverable for 35 days, protected, encrypted with a key of the account."""
    if stage.is_throwaway:
        return resources
    return {
        name: {
            **table,
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": {
                **table["Properties"],
                "DeletionProtectionEnabled": True,
                "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
                "SSESpecification": {"SSEEnabled": True},
            },
        }
        for name, table in resources.items()
    }


def _watched(stage: Stage) -> Template:
    """The queue of the batches that were given up, a dashboard, and alarms for what a person must look at."""
    push = [{"Name": "FunctionName", "Value": stage.function_name("push_messages")}]
    message = [{"Name": "FunctionName", "Value": stage.function_name("websocket_message")}]
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
            "API Gateway or DynamoDB hold pushes back", NAMESPACE, "throttled", push, 10, "Sum"
        ),
        "PushesSlow": _alarm(
            "one message in a hundred takes over five seconds",
            NAMESPACE,
            "push_latency_ms",
            push,
            5000,
            "p99",
        ),
        "PushLags": _alarm(
            "messages wait over a minute for their push", "AWS/Lambda", "IteratorAge", push, 60_000
        ),
        "PushFails": _alarm("batches of the stream fail", "AWS/Lambda", "Errors", push, 1),
        "MessageFails": _alarm("frames are answered by nobody", "AWS/Lambda", "Errors", message, 1),
        "BatchesGivenUp": _alarm(
            "messages were not pushed for an hour",
            "AWS/SQS",
            "ApproximateNumberOfMessagesVisible",
            queue,
            1,
        ),
    }


def _alarm(
    description: str,
    namespace: str,
    metric: str,
    dimensions: list[dict[str, str]],
    threshold: int,
    statistic: str = "Maximum",
) -> Template:
    return {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "AlarmDescription": description,
            "Namespace": namespace,
            "MetricName": metric,
            "Dimensions": dimensions,
            "ExtendedStatistic" if statistic.startswith("p") else "Statistic": statistic,
            "Period": 60,
            "EvaluationPeriods": 3,
            "Threshold": threshold,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "TreatMissingData": "notBreaching",
        },
    }


def _exact(value: Any) -> Any:
    """A policy whose names of any region, account and API are those of the stack."""
    if isinstance(value, dict):
        return {key: _exact(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_exact(each) for each in value]
    if isinstance(value, str) and value.startswith("arn:aws:"):
        exact = value.replace("arn:aws:", "arn:${AWS::Partition}:", 1)
        exact = exact.replace(":*:*:*/", ":*:*:${WebsocketAPI}/", 1)
        return {"Fn::Sub": exact.replace(":*:*:", ":${AWS::Region}:${AWS::AccountId}:", 1)}
    return value
