"""Deploys a stage on AWS, for `make deploy` and as hooks of Chalice's commands. Not shipped to Lambda."""

from deployment.hooks import prepare as prepare
from deployment.hooks import prepare_package as prepare_package
