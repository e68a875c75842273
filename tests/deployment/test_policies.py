"""The IAM policies that Chalice reads are those that deployment/policies.py defines."""

from dataclasses import replace

from deployment.policies import policies
from deployment.stage import PROJECT, Stage, stage_names


def test_the_policy_files_are_current() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in (PROJECT / ".chalice").glob("policy-*")}

    defined = {file: text for name in stage_names() for file, text in policies(Stage.of(name)).items()}

    assert files == defined, "run make policies"


def test_only_connect_can_read_the_secret_and_only_if_the_stage_names_one() -> None:
    prod = Stage.of("prod")

    with_secret, without_secret = policies(prod), policies(replace(prod, secret_name=None))

    assert [file for file, text in with_secret.items() if "ssm:" in text] == ["policy-prod-connect.json"]
    assert not any("ssm:" in text for text in without_secret.values())


def test_functions_can_write_traces_only_in_a_stage_with_tracing() -> None:
    prod = Stage.of("prod")

    assert all("xray:" in text for text in policies(replace(prod, has_tracing=True)).values())
    assert not any("xray:" in text for text in policies(replace(prod, has_tracing=False)).values())
