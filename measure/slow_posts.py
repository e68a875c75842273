"""Runs `chalice local` with slow posts: python measure/slow_posts.py <milliseconds> <chalice> local …"""

import os
import runpy
import sys
import time
from typing import Any

import boto3

sys.path[0] = os.getcwd()

from localdev import direct_management  # noqa: E402


def slow_down(milliseconds: float) -> None:
    """Delay each call of `@connections` by the app itself."""
    attach = direct_management.attach

    def attach_slowly(session: boto3.Session, *rest: Any) -> None:
        attach(session, *rest)
        session.events.register(
            "provide-client-params.apigatewaymanagementapi", lambda **_: time.sleep(milliseconds / 1000)
        )

    direct_management.attach = attach_slowly  # type: ignore[assignment]  # it passes on what it is given


if __name__ == "__main__":
    slow_down(float(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_path(sys.argv[0], run_name="__main__")
