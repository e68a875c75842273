"""The environment that a stage gives the app, and no way to anybody's AWS."""

import json
import os
from pathlib import Path

for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]
os.environ.update(
    AWS_EC2_METADATA_DISABLED="true", AWS_ACCOUNT_ID_ENDPOINT_MODE="disabled", AWS_REGION="us-east-1"
)

PROJECT = Path(__file__).parent.parent
config = json.loads((PROJECT / ".chalice" / "config.json").read_text())
os.environ.update(config["stages"]["dev"]["environment_variables"])
