"""Deploys a stage on AWS: `make deploy`, and hooks in Chalice's commands. None of it is shipped."""

from deployment.hooks import prepare as prepare
from deployment.hooks import prepare_package as prepare_package
