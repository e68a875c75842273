"""Load tests, from a person's or a program's point of view.

python -m measure.load pairs                        against a `chalice local` of its own: all ten steps
python -m measure.load pairs --url wss://…/dev/     against a deployment: what a client can see
python -m measure.load --compare one.json two.json  a page that compares two runs
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
from measure.observations import Observations
from measure.player import LoadPlayer, NotConnected
from measure.progress import Progress
from measure.scenarios import SCENARIOS, Load, Stage

TOKEN_HOURS = 2
TIMING = clients.player.Timing(answer=60)
"""A service under load may take long, and that is what is measured."""


@contextmanager
def target(
    url: str | None, telemetry: Path | None
) -> Iterator[tuple[str, Path | None, Callable[[], int | None]]]:
    """Where to connect, where its telemetry is, and how much memory it takes."""
    if url is not None:
        yield url, telemetry, lambda: None
        return
    with local.running() as own:
        yield own.url, own.telemetry, own.kib


def run(
    scenario: str, load: Load, url: str | None = None, telemetry: Path | None = None, label: str = ""
) -> dict[str, Any]:
    """Run it and return the result. Raises NotConnected and local.NotStarted."""
    _open_many_files()
    observed, progress, prefix = Observations(), Progress(scenario), f"load-{secrets.token_hex(3)}-"
    with target(url, telemetry) as (where, lines, kib):

        def player(name: str) -> LoadPlayer:
            return LoadPlayer(prefix + name, partial(client, where, prefix + name), observed)

        stage = Stage(player, observed, progress, kib, where, prefix + "attacker")
        facts = asyncio.run(SCENARIOS[scenario][0](stage, load))
        progress.end()
        histograms = steps.histograms(observed, lines)
    return result(scenario, load, observed, histograms, facts, label)


def result(
    scenario: str,
    load: Load,
    observed: Observations,
    histograms: dict[str, Any],
    facts: dict[str, float],
    label: str,
) -> dict[str, Any]:
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
        "strange": observed.strange,
        "errors": dict(observed.errors),
        "facts": facts,
        "latencies": {name: report.summary(histogram) for name, histogram in histograms.items()},
        "timeline": _timeline(observed),
    }


def _timeline(observed: Observations) -> list[dict[str, float]]:
    """Second by second: how many arrived, and the slowest of them."""
    seconds: dict[int, list[float]] = {}
    for send in observed.measured:
        if send.received is not None:
            seconds.setdefault(int(send.received - observed.since), []).append(send.received - send.due)
    return [
        {"second": second, "delivered": len(took), "slowest_ms": round(1000 * max(took), 2)}
        for second, took in sorted(seconds.items())
    ]


def client(url: str, name: str, observe: Callable[[str, Any], None]) -> clients.player.Player:
    """Who a player is: by a token if JWT_SECRET is set, and else by saying so."""
    token = None
    if os.environ.get("JWT_SECRET"):
        _, settings = authentication(os.environ)
        assert settings is not None
        token = make(settings, name, TOKEN_HOURS, time.time())
    return clients.player.Player(url, name, token, timing=TIMING, observe=observe)


def _open_many_files() -> None:
    """Each connection is an open file, and what is let open by default is few."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m measure.load", description=__doc__.splitlines()[0])
    parser.add_argument("scenario", choices=SCENARIOS, nargs="?", default="pairs")
    parser.add_argument("--url", help="of a service that runs; without it one is started on this machine")
    parser.add_argument(
        "--telemetry", type=Path, help="TELEMETRY_FILE of the service at --url, if it is here"
    )
    parser.add_argument("--clients", type=int, help="pairs, senders or connections")
    parser.add_argument("--rate", type=float, help="messages (churn: connects) a second; 0: closed loop")
    parser.add_argument("--seconds", type=float, help="how long it is measured")
    parser.add_argument("--warm-up", type=float, help="seconds before that")
    parser.add_argument("--label", default="", help="what the run is called in plots")
    parser.add_argument("--out", type=Path, default=Path("build/load"), help="folder of the result")
    parser.add_argument("--compare", nargs=2, type=Path, metavar="RESULT", help="results to compare instead")
    return parser.parse_args()


def _load(asked: argparse.Namespace) -> Load:
    load = SCENARIOS[asked.scenario][1]
    given = {
        "clients": asked.clients,
        "rate": asked.rate,
        "seconds": asked.seconds,
        "warm_up_seconds": asked.warm_up,
    }
    load = replace(load, **{name: value for name, value in given.items() if value is not None})
    return replace(load, rate=load.rate or None)


def main() -> str | None:
    """What went wrong, if something did."""
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
