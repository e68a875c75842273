"""Writes the functions' IAM policies: python -m deployment.policies

Chalice reads the policy of each function from `.chalice/policy-<stage>-<function>.json`. This module defines
each permission once, for all stages. The API's id isn't known before the deployment, so the permission to
manage connections covers every API that has a stage of that name.
"""

import json
from typing import Any

from deployment.stage import PROJECT, Stage, stage_names

Statement = dict[str, Any]


def main() -> None:
    """Write the policies of all stages in .chalice/config.json."""
    for name in stage_names():
        for file, text in policies(Stage.of(name)).items():
            (PROJECT / ".chalice" / file).write_text(text, encoding="utf-8")


def policies(stage: Stage) -> dict[str, str]:
    """Return the stage's policies as JSON, by the names of their files."""
    common = _trace() if stage.has_tracing else []
    statements = {
        "connect": [_log(stage, "websocket_connect"), *_connect(stage), *_read_secret(stage)],
        "message": [_log(stage, "websocket_message"), *_message(stage)],
        "disconnect": [_log(stage, "websocket_disconnect"), *_disconnect(stage)],
        "push": [_log(stage, "push_messages"), *_push(stage)],
    }
    return {
        f"policy-{stage.name}-{function}.json": _policy([*own, *common])
        for function, own in statements.items()
    }


def _connect(stage: Stage) -> list[Statement]:
    return [
        _on_connections(stage, "Register", "GetItem", "PutItem", "UpdateItem", "DeleteItem"),
        _on_messages(stage, "StoreMarker", "PutItem", "BatchWriteItem"),
        _manage_connections(stage, "CheckAndClose", "GET", "DELETE"),
    ]


def _message(stage: Stage) -> list[Statement]:
    return [
        _on_connections(
            stage, "CountFrame", "GetItem", "BatchGetItem", "PutItem", "UpdateItem", "DeleteItem"
        ),
        _on_messages(stage, "StoreMessage", "PutItem", "BatchWriteItem"),
        _manage_connections(stage, "Reply", "POST", "DELETE"),
    ]


def _disconnect(stage: Stage) -> list[Statement]:
    return [
        _on_connections(stage, "RemoveConnection", "GetItem", "UpdateItem", "DeleteItem"),
        _on_messages(stage, "TellRooms", "BatchWriteItem"),
    ]


def _push(stage: Stage) -> list[Statement]:
    stream = ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")
    return [
        _on_connections(stage, "FindRecipients", "BatchGetItem", "UpdateItem", "DeleteItem"),
        _on_messages(stage, "ReplayAndFanOut", "Query", "PutItem", "BatchWriteItem"),
        _on_table(f"{stage.messages_table}/stream/*", "ReadStream", stream),
        _manage_connections(stage, "Push", "POST", "DELETE"),
        _allow("SendFailedBatches", ["sqs:SendMessage"], f"arn:*:sqs:*:*:{stage.failed_batches_queue}"),
    ]


def _log(stage: Stage, function: str) -> Statement:
    group = f"/aws/lambda/{stage.function_name(function)}"
    actions = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
    return _allow("Log", actions, f"arn:*:logs:*:*:log-group:{group}:*")


def _trace() -> list[Statement]:
    return [_allow("Trace", ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "*")]


def _read_secret(stage: Stage) -> list[Statement]:
    if stage.secret_name is None:
        return []
    parameter = f"parameter/{stage.secret_name.removeprefix('/')}"
    return [_allow("ReadSecret", ["ssm:GetParameter"], f"arn:*:ssm:*:*:{parameter}")]


def _on_connections(stage: Stage, sid: str, *operations: str) -> Statement:
    return _on_table(stage.websockets_table, sid, operations)


def _on_messages(stage: Stage, sid: str, *operations: str) -> Statement:
    return _on_table(stage.messages_table, sid, operations)


def _on_table(resource: str, sid: str, operations: tuple[str, ...]) -> Statement:
    actions = [f"dynamodb:{operation}" for operation in operations]
    return _allow(sid, actions, f"arn:*:dynamodb:*:*:table/{resource}")


def _manage_connections(stage: Stage, sid: str, *methods: str) -> Statement:
    api_stage = f"arn:*:execute-api:*:*:*/{stage.api_gateway_stage}"
    return _allow(
        sid, ["execute-api:ManageConnections"], [f"{api_stage}/{method}/@connections/*" for method in methods]
    )


def _allow(sid: str, actions: list[str], resource: str | list[str]) -> Statement:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource}


def _policy(statements: list[Statement]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2) + "\n"


if __name__ == "__main__":
    main()
