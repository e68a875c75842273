"""Defines a stage's CloudWatch dashboard, which shows at a glance whether messages are delivered."""

import json
from typing import Any

from chalicelib.aws.telemetry import NAMESPACE
from deployment.stage import FUNCTIONS, Stage

COLUMNS, HEIGHT = 12, 6

Metric = list[Any]
Graph = dict[str, Any]


def body(stage: Stage) -> str:
    """Return the dashboard as CloudWatch's JSON. CloudFormation substitutes `${AWS::Region}`."""
    graphs = [*_service_graphs(stage), *_aws_graphs(stage)]
    return json.dumps({"widgets": [_positioned(graph, n) for n, graph in enumerate(graphs)]})


def _service_graphs(stage: Stage) -> list[Graph]:
    """Return the graphs of the metrics that the service emits."""
    connect = stage.function_name("websocket_connect")
    message, push = stage.function_name("websocket_message"), stage.function_name("push_messages")
    return [
        _graph(
            "Messages per minute",
            [
                [NAMESPACE, "accepted", "FunctionName", message],
                *([NAMESPACE, name, "FunctionName", push] for name in ("delivered", "missed", "replayed")),
            ],
        ),
        _graph(
            "Push latency, sent to delivered (ms)",
            [
                [NAMESPACE, "push_latency_ms", "FunctionName", push, {"stat": statistic}]
                for statistic in ("p50", "p99", "Maximum")
            ],
        ),
        _graph(
            "Refused frames and handshakes, by error code",
            [
                [{"expression": _refusals_expression(function), "id": f"refused{n}", "label": ""}]
                for n, function in enumerate((connect, message))
            ],
        ),
        _graph(
            "Connections that a push found gone or closed, and throttled calls",
            [
                *([NAMESPACE, name, "FunctionName", push] for name in ("gone", "closed", "throttled")),
                [NAMESPACE, "throttled", "FunctionName", message],
            ],
        ),
    ]


def _aws_graphs(stage: Stage) -> list[Graph]:
    """Return the graphs of the stream, the functions and the tables."""
    push = stage.function_name("push_messages")
    return [
        _graph(
            "Stream: iterator age (ms), and records per batch",
            [
                ["AWS/Lambda", "IteratorAge", "FunctionName", push, {"stat": "Maximum"}],
                [NAMESPACE, "batch_size", "FunctionName", push, {"stat": "Average", "yAxis": "right"}],
            ],
        ),
        _graph(
            "Function errors and throttles",
            [
                ["AWS/Lambda", name, "FunctionName", stage.function_name(function)]
                for name in ("Errors", "Throttles")
                for function in FUNCTIONS
            ],
        ),
        _graph(
            "Function duration, p99 (ms)",
            [
                ["AWS/Lambda", "Duration", "FunctionName", stage.function_name(function), {"stat": "p99"}]
                for function in FUNCTIONS
            ],
        ),
        _graph(
            "DynamoDB throttling",
            [
                ["AWS/DynamoDB", name, "TableName", table]
                for name in ("WriteThrottleEvents", "ReadThrottleEvents")
                for table in (stage.websockets_table, stage.messages_table)
            ],
        ),
    ]


def _refusals_expression(function: str) -> str:
    """Return a search expression that finds the function's metric of each error code.

    In the schema, a name must be quoted unless it has only letters and digits. In a term, quotes ask for an
    exact match.
    """
    search = f'{{"{NAMESPACE}",FunctionName,code}} MetricName="refused" FunctionName="{function}"'
    return f"SEARCH('{search}', 'Sum', 60)"


def _graph(title: str, metrics: list[Metric]) -> Graph:
    return {
        "type": "metric",
        "width": COLUMNS,
        "height": HEIGHT,
        "properties": {
            "title": title,
            "region": "${AWS::Region}",
            "stat": "Sum",
            "period": 60,
            "metrics": metrics,
        },
    }


def _positioned(graph: Graph, number: int) -> Graph:
    """Return the widget with its position: two widgets to a row."""
    return {**graph, "x": COLUMNS * (number % 2), "y": HEIGHT * (number // 2)}
