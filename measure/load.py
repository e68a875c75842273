"""Runs load tests from the command line.

python -m measure.load pairs                        start a `chalice local`, and measure all ten steps
python -m measure.load pairs --url wss://…/dev/     measure the client's side of a deployment
python -m measure.load --compare one.json two.json  write a page that compares two runs
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import clients.player
from chalicelib.settings import authentication
from localdev.token import make
from measure import local, report, steps
from measure.loops import Load, Stage
from measure.observations import Observations
from measure.player import LoadPlayer, NotConnected
from measure.progress import Progress
from measure.scenarios import SCENARIOS

TOKEN_HOURS = 2
TIMING = clients.player.Timing(answer=60)
"""A long timeout, because slow replies under load are part of the measurement."""


@contextmanager
def target(
    url: str | None, telemetry: Path | None
) -> Iterator[tuple[str, Path | None, Callable[[], int | None]]]:
    """Yield the URL, the telemetry file, and a function that returns the server's memory in KiB.

    Without a URL, run a `chalice local` until the block ends. Raises local.NotStarted.
    """
    if url is not None:
        yield url, telemetry, lambda: None
        return
    with local.running() as own:
        yield own.url, own.telemetry, own.kib


def run(
    scenario: str, load: Load, url: str | None = None, telemetry: Path | None = None, label: str = ""
) -> dict[str, Any]:
    """Run the scenario and return its result. Raises NotConnected and local.NotStarted."""
    _raise_open_file_limit()
    observed, progress, prefix = Observations(), Progress(scenario), f"load-{secrets.token_hex(3)}-"
    with target(url, telemetry) as (server_url, telemetry_file, kib):

        def player(name: str) -> LoadPlayer:
            return LoadPlayer(prefix + name, partial(client, server_url, prefix + name), observed)

        stage = Stage(player, observed, progress, kib, server_url, prefix + "attacker")
        facts = asyncio.run(SCENARIOS[scenario][0](stage, load))
        progress.end()
        histograms = steps.histograms(observed, telemetry_file)
    return result(scenario, load, observed, histograms, facts, label)


def result(
    scenario: str,
    load: Load,
    observed: Observations,
    histograms: dict[str, Any],
    facts: dict[str, float],
    label: str,
) -> dict[str, Any]:
    """Return the result of a run, ready for JSON. docs/performance.md describes it."""
    received = [send for send in observed.measured if send.received is not None]
    return {
        "scenario": scenario,
        "label": label or scenario,
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}",
        "load": asdict(load),
        "sent": len(observed.measured),
        "delivered": len(received),
        "delivered_per_second": round(len(received) / max(facts["measured_seconds"], 1e-9), 1),
        "lost": observed.lost,
        "duplicated": observed.duplicated,
        "out_of_order": observed.out_of_order,
        "unanswered": observed.unanswered,
        "unexpected": observed.unexpected,
        "errors": dict(observed.errors),
        "facts": facts,
        "latencies": {name: report.summary(histogram) for name, histogram in histograms.items()},
        "timeline": _timeline(observed),
    }


def _timeline(observed: Observations) -> list[dict[str, float]]:
    """Return the number of delivered messages and the highest latency for each second."""
    seconds: dict[int, list[float]] = {}
    for send in observed.measured:
        if send.received is not None:
            seconds.setdefault(int(send.received - observed.since), []).append(send.received - send.due)
    return [
        {"second": second, "delivered": len(took), "slowest_ms": round(1000 * max(took), 2)}
        for second, took in sorted(seconds.items())
    ]


def client(url: str, name: str, observe: Callable[[str, Any], None]) -> clients.player.Player:
    """Return a player's client. It uses a token if JWT_SECRET is set, otherwise a `playerId`."""
    token = None
    if os.environ.get("JWT_SECRET"):
        _, settings = authentication(os.environ)
        assert settings is not None
        token = make(settings, name, TOKEN_HOURS, time.time())
    return clients.player.Player(url, name, token, timing=TIMING, observe=observe)


def _raise_open_file_limit() -> None:
    """Raise the limit of open files to its maximum, because each connection is an open file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m measure.load", description=__doc__.splitlines()[0])
    parser.add_argument("scenario", choices=SCENARIOS, nargs="?", default="pairs")
    parser.add_argument("--url", help="a running service; without it, start one on this machine")
    parser.add_argument(
        "--telemetry", type=Path, help="TELEMETRY_FILE of the service at --url, if it runs on this machine"
    )
    parser.add_argument("--clients", type=int, help="number of pairs, senders, connections or rooms")
    parser.add_argument("--members", type=int, help="number of members of each room")
    parser.add_argument("--rate", type=float, help="messages (churn: connects) per second; 0: closed loop")
    parser.add_argument("--seconds", type=float, help="duration of the measurement")
    parser.add_argument("--warm-up", type=float, help="seconds before the measurement")
    parser.add_argument("--label", default="", help="name of the run in plots and files")
    parser.add_argument("--out", type=Path, default=Path("build/load"), help="folder for the result")
    parser.add_argument("--compare", nargs=2, type=Path, metavar="RESULT", help="compare two results instead")
    return parser.parse_args()


def _load(asked: argparse.Namespace) -> Load:
    load = SCENARIOS[asked.scenario][1]
    given = {
        "clients": asked.clients,
        "rate": asked.rate,
        "seconds": asked.seconds,
        "warm_up_seconds": asked.warm_up,
        "members": asked.members,
    }
    load = replace(load, **{name: value for name, value in given.items() if value is not None})
    return replace(load, rate=load.rate or None)


def main() -> str | None:
    """Run the command of `sys.argv`. Return an error message, or None."""
    asked = _asked()
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.compare is not None:
        results = [json.loads(path.read_text(encoding="utf-8")) for path in asked.compare]
        page = asked.out / "comparison.html"
        page.write_text(report.page(results), encoding="utf-8")
        print(page)
        return None
    try:
        measured = run(asked.scenario, _load(asked), asked.url, asked.telemetry, asked.label)
    except NotConnected as failure:
        return f"could not connect: {failure}"
    except local.NotStarted as failure:
        return f"chalice local did not start: {failure}"
    name = asked.label or asked.scenario
    (asked.out / f"{name}.json").write_text(report.to_json(measured), encoding="utf-8")
    (asked.out / f"{name}.html").write_text(report.page([measured]), encoding="utf-8")
    print(report.table(measured))
    print(f"\n{asked.out / name}.html and .json")
    return "messages were lost" if measured["lost"] else None


if __name__ == "__main__":
    sys.exit(main())
