"""Deploys a stage on AWS: `make deploy` and its hook in `chalice deploy`. None of it is shipped."""

from deployment.notes import prepare as prepare
