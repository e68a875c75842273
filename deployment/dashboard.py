"""What a stage's CloudWatch dashboard shows: a person should see at a glance whether messages arrive."""

import json
from typing import Any

from chalicelib.aws.telemetry import NAMESPACE
from deployment.stage import FUNCTIONS, Stage

COLUMNS, HEIGHT = 12, 6

Metric = list[Any]


def body(stage: Stage) -> str:
    """The dashboard in CloudWatch's JSON, with the region for CloudFormation to fill in."""
    connect = stage.function_name("websocket_connect")
    message, push = stage.function_name("websocket_message"), stage.function_name("push_messages")
    graphs = [
        _graph(
            "Messages a minute",
            [
                [NAMESPACE, "accepted", "FunctionName", message],
                *([NAMESPACE, name, "FunctionName", push] for name in ("delivered", "missed", "replayed")),
            ],
        ),
        _graph(
            "From sent to delivered, in ms",
            [
                [NAMESPACE, "push_latency_ms", "FunctionName", push, {"stat": statistic}]
                for statistic in ("p50", "p99", "Maximum")
            ],
        ),
        _graph(
            "Refused, by code",
            [
                [{"expression": _refusals_of(function), "id": f"refused{n}", "label": ""}]
                for n, function in enumerate((connect, message))
            ],
        ),
        _graph(
            "Connections that ended in a push, and throttled calls",
            [
                *([NAMESPACE, name, "FunctionName", push] for name in ("gone", "closed", "throttled")),
                [NAMESPACE, "throttled", "FunctionName", message],
            ],
        ),
        _graph(
            "The stream: how far behind, in ms, and records a batch",
            [
                ["AWS/Lambda", "IteratorAge", "FunctionName", push, {"stat": "Maximum"}],
                [NAMESPACE, "batch_size", "FunctionName", push, {"stat": "Average", "yAxis": "right"}],
            ],
        ),
        _graph(
            "Functions that failed or were held back",
            [
                ["AWS/Lambda", name, "FunctionName", stage.function_name(function)]
                for name in ("Errors", "Throttles")
                for function in FUNCTIONS
            ],
        ),
        _graph(
            "How long functions take, p99, in ms",
            [
                ["AWS/Lambda", "Duration", "FunctionName", stage.function_name(function), {"stat": "p99"}]
                for function in FUNCTIONS
            ],
        ),
        _graph(
            "What DynamoDB held back",
            [
                ["AWS/DynamoDB", name, "TableName", table]
                for name in ("WriteThrottleEvents", "ReadThrottleEvents")
                for table in (stage.websockets_table, stage.messages_table)
            ],
        ),
    ]
    return json.dumps({"widgets": [_placed(graph, n) for n, graph in enumerate(graphs)]})


def _refusals_of(function: str) -> str:
    """A search, because the codes are not known beforehand.

    In its schema a name with other characters than letters and digits is quoted; in a term quotes mean an
    exact match.
    """
    search = f'{{"{NAMESPACE}",FunctionName,code}} MetricName="refused" FunctionName="{function}"'
    return f"SEARCH('{search}', 'Sum', 60)"


def _graph(title: str, metrics: list[Metric]) -> dict[str, Any]:
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


def _placed(graph: dict[str, Any], number: int) -> dict[str, Any]:
    """Two in a row."""
    return {**graph, "x": COLUMNS * (number % 2), "y": HEIGHT * (number // 2)}
