"""Runs a command while a DynamoDB engine serves at DYNAMODB_ENGINE; exits with the command's code.

python -m tests.support.dynamodb_engine ENGINE COMMAND…      where ENGINE is the engine's program
"""

import os
import subprocess
import sys
import time

from measure.local import free_port
from tests.support.chalice_process import is_free
from tests.support.sockets import PATIENCE_SECONDS


def main() -> int:
    engine, command = sys.argv[1], sys.argv[2:]
    port = free_port()
    server = subprocess.Popen([engine, "serve", "--host", "127.0.0.1", "--port", str(port)])
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while is_free(port):
            if server.poll() is not None or time.monotonic() > deadline:
                print("The DynamoDB engine did not start; see its message.", file=sys.stderr)
                return 1
            time.sleep(0.05)
        environment = os.environ | {"DYNAMODB_ENGINE": f"http://127.0.0.1:{port}"}
        return subprocess.run(command, env=environment).returncode
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
