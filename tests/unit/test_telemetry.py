"""The lines that the functions write, and the metrics that CloudWatch reads from them."""

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.aws import telemetry
from chalicelib.aws.telemetry import aside, call, count, note, timed, watchers


class Written(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.texts]


@pytest.fixture
def written() -> Iterator[Written]:
    written = Written()
    before, telemetry.lines.handlers = telemetry.lines.handlers, [written]
    telemetry.log_lines()
    yield written
    telemetry.lines.handlers = before


def metrics(line: dict[str, Any]) -> dict[str, float]:
    """Return the metrics of a line, as CloudWatch's documentation defines them."""
    directives = line.get("_aws", {}).get("CloudWatchMetrics", [])
    return {metric["Name"]: line[metric["Name"]] for d in directives for metric in d["Metrics"]}


def test_every_frame_writes_one_line(written: Written) -> None:
    with call("message", "f"):
        note("stored", message="m", to="2")
        note("unanswered", because="gone")

    (line,) = written.lines
    assert (line["step"], line["outcome"]) == ("message", "stored, unanswered")
    assert (line["message"], line["to"], line["because"]) == ("m", "2", "gone")
    assert line["ms"] >= 0


def test_a_frame_whose_function_fails_writes_its_line(written: Written) -> None:
    def store_and_fail() -> None:
        with call("message", "f"):
            note("stored", message="m")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store_and_fail()

    assert [line["outcome"] for line in written.lines] == ["stored"]


def test_each_pushed_message_writes_a_line_and_the_batch_is_measured_once(written: Written) -> None:
    with call("push", "f", in_one_line=False, batch_size=2, iterator_age_ms=70):
        note("delivered", message="m1", push_latency_ms=5)
        note("delivered", message="m2", push_latency_ms=6)

    assert [line["message"] for line in written.lines] == ["m1", "m2"]
    assert [line["batch_size"] for line in written.lines] == [2, 2]
    assert [metrics(line) for line in written.lines] == [
        {"delivered": 1, "push_latency_ms": 5, "batch_size": 2, "iterator_age_ms": 70},
        {"delivered": 1, "push_latency_ms": 6},
    ]


def test_an_invocation_without_outcomes_writes_nothing(written: Written) -> None:
    with call("disconnect", "f"):
        pass

    assert written.texts == []


def test_a_line_has_the_durations_of_its_own_parts_only(written: Written) -> None:
    save = timed("save")(lambda: None)

    with call("push", "f", in_one_line=False):
        save()
        save()
        count("throttled")
        note("delivered", message="m1")
        note("delivered", message="m2")

    first, second = written.lines
    assert 0 <= first["save_ms"] <= first["ms"]
    assert first["throttled"] == metrics(first)["throttled"] == 1
    assert "save_ms" not in second
    assert "throttled" not in second


def test_failed_parts_have_durations(written: Written) -> None:
    @timed("save")
    def fail() -> None:
        raise ZeroDivisionError

    with call("message", "f"):
        with pytest.raises(ZeroDivisionError):
            fail()
        note("refused", code="unavailable")

    assert "save_ms" in written.lines[0]


def test_another_thread_belongs_to_the_same_invocation_and_has_its_own_durations(written: Written) -> None:
    def work() -> None:
        timed("post")(lambda: None)()
        note("delivered", message="m1")

    with call("push", "f", in_one_line=False, batch_size=2):
        count("find_ms", 3)
        thread = threading.Thread(target=aside(work))
        thread.start()
        thread.join()
        note("delivered", message="m2")

    aside_line, own_line = written.lines
    assert (aside_line["batch_size"], own_line["batch_size"]) == (2, 2)
    assert ("post_ms" in aside_line, "find_ms" in aside_line) == (True, False)
    assert ("post_ms" in own_line, own_line["find_ms"]) == (False, 3)


def test_a_line_outside_an_invocation_has_only_the_given_fields(written: Written) -> None:
    count("anything")
    note("started", auth="open")

    assert written.lines == [{"outcome": "started", "auth": "open"}]


def test_an_observer_is_called_before_the_line_is_complete(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[object, int]] = []
    monkeypatch.setattr(telemetry, "watchers", [*watchers, lambda o, a: seen.append((o, len(written.texts)))])

    with call("message", "f"):
        note("stored", message="m")

    assert seen == [("stored", 0)]
    assert len(written.texts) == 1


@pytest.mark.parametrize("outcome", telemetry.METRICS_BY_OUTCOME)
def test_metrics_are_in_the_format_that_cloudwatch_reads(written: Written, outcome: str) -> None:
    with call("step", "the-function", batch_size=1, iterator_age_ms=2):
        note(outcome, code="429", replayed=3, push_latency_ms=4)

    (line,) = written.lines
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert isinstance(line["_aws"]["Timestamp"], int)
    assert directive["Namespace"] == "serverless-websockets"
    assert directive["Dimensions"] == [["FunctionName"], ["FunctionName", "code"]]
    assert (line["FunctionName"], line["code"]) == ("the-function", "429")
    assert all(isinstance(line[metric["Name"]], int | float) for metric in directive["Metrics"])
    assert {metric["Unit"] for metric in directive["Metrics"]} <= {"Count", "Milliseconds"}
    assert metrics(line)[telemetry.METRICS_BY_OUTCOME[outcome]] == 1


def test_outcomes_without_a_metric_write_no_metric(written: Written) -> None:
    with call("message", "f"):
        note("pinged", connection="c")

    assert "_aws" not in written.lines[0]
