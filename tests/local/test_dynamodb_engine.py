"""A command runs while an engine serves, and not without one."""

import subprocess
import sys
from pathlib import Path

from tests.support.chalice_process import PROJECT, is_free

SERVE = """\
import http.server, sys
http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), http.server.BaseHTTPRequestHandler).serve_forever()
"""
ASK_AND_EXIT_WITH_7 = """\
import os, sys, urllib.error, urllib.request
url = os.environ["DYNAMODB_ENGINE"]
try:
    urllib.request.urlopen(url)
except urllib.error.HTTPError as answer:
    print(url, answer.code)
sys.exit(7)
"""


def engine(directory: Path, program: str) -> str:
    path = directory / "engine"
    path.write_text(f"#!{sys.executable}\n{program}", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def run(engine: str, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.support.dynamodb_engine", engine, sys.executable, "-c", command],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def test_the_command_reaches_the_engine_and_its_exit_code_is_returned(tmp_path: Path) -> None:
    ran = run(engine(tmp_path, SERVE), ASK_AND_EXIT_WITH_7)

    url, code = ran.stdout.split()
    assert (code, ran.returncode) == ("501", 7)
    assert is_free(int(url.rpartition(":")[2]))


def test_the_command_does_not_run_without_an_engine(tmp_path: Path) -> None:
    ran = run(engine(tmp_path, "import sys; sys.exit('no memory')"), "print('ran')")

    assert (ran.stdout, ran.returncode) == ("", 1)
    assert ran.stderr.splitlines() == ["no memory", "The DynamoDB engine did not start; see its message."]
