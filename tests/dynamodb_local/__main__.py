"""Runs a command while DynamoDB Local, AWS's own engine, serves at the URL in DYNAMODB_LOCAL_URL.

python -m tests.dynamodb_local LIBRARIES COMMAND …      where LIBRARIES are what Maven fetched
"""

import os
import subprocess
import sys
import time

from measure.local import free_port
from tests.chalice_process import is_free

START_SECONDS = 60


def main() -> int:
    libraries, command = sys.argv[1], sys.argv[2:]
    port = free_port()
    server = subprocess.Popen(
        [
            "java",
            f"-Djava.library.path={libraries}",
            "-cp",
            f"{libraries}/*",
            "software.amazon.dynamodb.services.local.main.ServerRunner",
            "-inMemory",
            "-disableTelemetry",
            "-port",
            str(port),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while is_free(port):
            if server.poll() is not None or time.monotonic() > deadline:
                print("DynamoDB Local does not start: it needs Java 17 or newer", file=sys.stderr)
                return 1
            time.sleep(0.1)
        environment = os.environ | {"DYNAMODB_LOCAL_URL": f"http://127.0.0.1:{port}"}
        return subprocess.run(command, env=environment).returncode
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
