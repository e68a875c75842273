"""`make help` and `make` alone list the targets."""

import re
import subprocess

from tests.support.chalice_process import PROJECT

MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")


def test_make_alone_lists_every_target_with_its_purpose() -> None:
    (phony,) = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)

    printed = subprocess.run(
        ["make", "--no-print-directory"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    ).stdout

    listed = re.findall(r"^make (\S+) +\S", printed, re.MULTILINE)
    assert sorted(listed) == sorted(phony.replace("\\", " ").split())
    assert len(listed) == len(printed.splitlines())
