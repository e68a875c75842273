"""Formats the result of a load test as JSON, as a table, and as a page with plots."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hdrh.histogram import HdrHistogram

from measure.steps import STEPS, TOTALS

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
COUNTS = ("sent", "delivered", "delivered_per_second", "lost", "duplicated", "out_of_order", "unanswered")

Result = Mapping[str, Any]
"""The result that measure.load's `result` returns. docs/performance.md describes it."""


def summary(histogram: HdrHistogram) -> dict[str, Any]:
    """Return the percentiles in milliseconds, and the histogram in HDR's encoding, to compare runs with."""
    at = {f"p{p:g}": histogram.get_value_at_percentile(p) / 1000 for p in PERCENTILES}
    return {
        "count": histogram.get_total_count(),
        **at,
        "max": histogram.get_max_value() / 1000,
        "histogram": histogram.encode().decode(),
    }


def table(result: Result) -> str:
    """Return the result as plain text for the terminal."""
    columns = [*(f"p{p:g}" for p in PERCENTILES), "max"]
    rows = [f"{'milliseconds':<16}{'count':>8}" + "".join(f"{column:>10}" for column in columns)]
    for name, step in result["latencies"].items():
        if name == next(iter(TOTALS)):
            rows.append("")
        rows.append(f"{name:<16}{step['count']:>8}" + "".join(f"{step[column]:>10.2f}" for column in columns))
    counts = [f"{name.replace('_', ' '):<24}{result[name]:>12,}" for name in COUNTS]
    errors = [f"error {code:<18}{count:>12,}" for code, count in result["errors"].items()]
    facts = [f"{name.replace('_', ' '):<32}{value:>12,.1f}" for name, value in result["facts"].items()]
    return "\n".join([*rows, "", *counts, *errors, "", *facts])


def page(results: Sequence[Result]) -> str:
    """Return a self-contained HTML page that shows one run, or compares two."""
    title = " and ".join(_name(result) for result in results)
    plots = [_percentile_plot(results), _steps_plot(results), _timeline_plot(results)]
    return PAGE.format(
        title=html.escape(title),
        plots="\n".join(f"<figure>{plot}</figure>" for plot in plots),
        tables="\n".join(_html_table(result) for result in results),
        steps="\n".join(f"<dt>{name}</dt><dd>{meaning}</dd>" for name, meaning in (STEPS | TOTALS).items()),
        comparison=_comparison(results),
    )


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Load test: {title}</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }}
  body {{ color: #222; background: #fff }}
  table {{ border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }}
  th, td {{ padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd }}
  th:first-child, td:first-child {{ text-align: left }}
  figure {{ margin: 1.5rem 0 }} svg {{ max-width: 100%; height: auto }}
  dt {{ font-weight: 600; float: left; clear: left }} dd {{ margin-left: 10rem }}
  .wrong {{ color: #b00020; font-weight: 700 }}
</style>
<h1>Load test</h1>
{tables}
{comparison}
{plots}
<h2>Steps</h2>
<p>Latencies count from the time at which a message was due, not from the time at which it was sent.</p>
<dl>{steps}</dl>
</html>
"""


def _name(result: Result) -> str:
    return f"{result['label']} ({result['scenario']}, {result['at']})"


def _html_table(result: Result) -> str:
    columns = ["count", *(f"p{p:g}" for p in PERCENTILES), "max"]
    head = "".join(f"<th>{column}" for column in ["milliseconds", *columns])
    rows = [
        f"<tr><td>{name}<td>{step['count']:,}" + "".join(f"<td>{step[c]:,.2f}" for c in columns[1:])
        for name, step in result["latencies"].items()
    ]
    wrong = {"lost", "duplicated", "out_of_order", "unanswered"}
    counts = [
        f"<tr{' class=wrong' if name in wrong and result[name] else ''}>"
        f"<td>{name.replace('_', ' ')}<td>{result[name]:,}"
        for name in COUNTS
    ]
    errors = [
        f"<tr class=wrong><td>error {html.escape(code)}<td>{n:,}" for code, n in result["errors"].items()
    ]
    facts = [f"<tr><td>{n.replace('_', ' ')}<td>{v:,.1f}" for n, v in result["facts"].items()]
    asked = ", ".join(f"{name} {value}" for name, value in result["load"].items() if value is not None)
    return (
        f"<h2>{html.escape(_name(result))}</h2><p>{html.escape(asked)}; {html.escape(result['machine'])}</p>"
        f"<table><tr>{head}{''.join(rows)}</table><table>{''.join([*counts, *errors, *facts])}</table>"
    )


def _comparison(results: Sequence[Result]) -> str:
    """Return a table with the ratio of the second run's latencies to the first run's."""
    if len(results) < 2:
        return ""
    first, second = (result["latencies"] for result in results[:2])
    columns = [*(f"p{p:g}" for p in PERCENTILES), "max"]
    rows = [
        f"<tr><td>{name}"
        + "".join(f"<td>{second[name][c] / max(first[name][c], 0.001):.2f}" for c in columns)
        for name in first
        if name in second
    ]
    head = "".join(f"<th>{column}" for column in ["second ÷ first", *columns])
    return f"<h2>Comparison</h2><table><tr>{head}{''.join(rows)}</table>"


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # Imported here because it takes a second.

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any, described: str) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    picture = base64.b64encode(text.getvalue().encode()).decode()
    return f'<img alt="{html.escape(described)}" src="data:image/svg+xml;base64,{picture}">'


def percentile_figure(results: Sequence[Result]) -> Any:
    """Return a plot of latency by percentile. Each tick to the right is ten times as rare."""
    figure, axes = _axes(9, 4.5)
    for style, result in zip(("-", "--"), results, strict=False):
        for color, name in zip(("C0", "C1", "C2"), TOTALS, strict=True):
            if name in result["latencies"]:
                histogram = HdrHistogram.decode(result["latencies"][name]["histogram"].encode())
                axes.plot(*_curve(histogram), style, color=color, label=f"{name}, {result['label']}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    nines = [1, 2, 10, 100, 1000, 10000]
    axes.set_xticks(nines, ["0", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"])
    axes.set_xlabel("share of messages with a lower latency")
    axes.set_ylabel("milliseconds")
    axes.legend(frameon=False)
    return figure


def _curve(histogram: HdrHistogram) -> tuple[list[float], list[float]]:
    count = histogram.get_total_count()
    rarities = [10 ** (n / 20) for n in range(101) if 10 ** (n / 20) <= max(count, 1)]
    return rarities, [histogram.get_value_at_percentile(100 - 100 / rarity) / 1000 for rarity in rarities]


def _percentile_plot(results: Sequence[Result]) -> str:
    return _svg(percentile_figure(results), "Latency against percentile")


def _steps_plot(results: Sequence[Result]) -> str:
    figure, axes = _axes(9, 4)
    names = [name for name in STEPS if any(name in result["latencies"] for result in results)]
    for offset, result in enumerate(results[:2]):
        steps = [result["latencies"].get(name, {"p50": 0, "p99": 0}) for name in names]
        places = [n + 0.4 * offset for n in range(len(names))]
        axes.barh(places, [s["p99"] for s in steps], 0.35, color=f"C{offset}", alpha=0.35)
        axes.barh(places, [s["p50"] for s in steps], 0.35, color=f"C{offset}", label=result["label"])
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds: p50 dark, p99 light")
    axes.legend(frameon=False)
    return _svg(figure, "Latency of each step, p50 and p99")


def _timeline_plot(results: Sequence[Result]) -> str:
    figure, axes = _axes(9, 3.5)
    for style, result in zip(("-", "--"), results, strict=False):
        seconds = [second["second"] for second in result["timeline"]]
        axes.plot(seconds, [s["delivered"] for s in result["timeline"]], "C0" + style, label="delivered")
        axes.plot(seconds, [s["slowest_ms"] for s in result["timeline"]], "C3" + style, label="slowest, ms")
    axes.set_xlabel("second of the test")
    axes.legend(frameon=False)
    return _svg(figure, "Delivered messages and highest latency by second")


def to_json(result: Result) -> str:
    return json.dumps(result, indent=1) + "\n"
