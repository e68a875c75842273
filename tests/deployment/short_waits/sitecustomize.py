"""Shorten every wait of a process that has this folder on its PYTHONPATH.

Chalice, botocore and `deployment` poll AWS every five seconds. The rehearsal's emulator is ready sooner.
"""

import time
from typing import SupportsIndex

LONGEST_SECONDS = 0.2

unhurried_sleep = time.sleep


def sleep(seconds: float | SupportsIndex) -> None:
    unhurried_sleep(min(float(seconds), LONGEST_SECONDS))


time.sleep = sleep
