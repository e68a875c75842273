"""All installed and shipped packages and all actions of the workflows are locked."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml
from packaging.requirements import Requirement

from deployment import wheels
from deployment.stage import PYTHONS, Stage
from deployment.wheels import NotLocked, fetch, pinned
from tests.support.chalice_process import CHALICE, PROJECT
from tests.support.project_copy import copy_project

LOCKS = sorted(PROJECT.glob("requirements*.lock"))
WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
PLATFORMS = ({"sys_platform": "linux"}, {"sys_platform": "darwin"}, {"sys_platform": "win32"})


def requirements(path: Path) -> list[Requirement]:
    """Return the requirements of a file and of those that it includes; pip's options are left out."""
    found = []
    for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        text = line.partition("#")[0].partition("--hash")[0].strip()
        if text.startswith("-r "):
            found += requirements(path.parent / text.removeprefix("-r ").strip())
        elif text:
            found.append(Requirement(text))
    return found


def installed_on(all_of: list[Requirement], python: str, platform: dict[str, str]) -> dict[str, str]:
    """Return the versions by normalized name."""
    environment = {**platform, "python_version": python, "python_full_version": f"{python}.0"}
    applying = [each for each in all_of if each.marker is None or each.marker.evaluate(environment)]
    return {re.sub(r"[-_.]+", "-", each.name).lower(): str(each.specifier) for each in applying}


def steps(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def test_every_file_of_requirements_has_its_lock() -> None:
    assert {path.stem for path in LOCKS} == {path.stem for path in PROJECT.glob("requirements*.txt")}


@pytest.mark.parametrize("python", [f"3.{minor}" for minor in range(PYTHONS[0][1], PYTHONS[1][1] + 1)])
@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_the_lock_has_every_requirement_in_its_version_for_every_python_and_platform(
    lock: Path, python: str
) -> None:
    wanted, locked = requirements(lock.with_suffix(".txt")), requirements(lock)

    for platform in PLATFORMS:
        asked = installed_on(wanted, python, platform)
        assert asked
        assert asked.items() <= installed_on(locked, python, platform).items(), platform


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_locked_package_has_one_version_and_hashes_and_names_no_host(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text.replace("\\\n", " "))
    packages = [entry for entry in entries if not entry.startswith("#")]

    assert [entry for entry in packages if not re.search(r"==\S+ .*--hash=sha256:[0-9a-f]{64}", entry)] == []
    assert "://" not in text
    assert "--" not in re.sub("--hash=sha256:", "", text)


@pytest.mark.parametrize("of", ["", "-local", "-dev"])
def test_the_lock_has_exactly_the_packages_that_the_requirements_need(of: str) -> None:
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    locked = installed_on(requirements(PROJECT / f"requirements{of}.lock"), python, {})

    assert set(locked) == needed(requirements(PROJECT / f"requirements{of}.txt"))


def needed(wanted: list[Requirement]) -> set[str]:
    """Return the names of requirements and, by this environment's metadata, of all that they need."""
    names: set[str] = set()
    seen: set[tuple[str, str]] = set()
    while wanted:
        each = wanted.pop()
        for extra in ("", *each.extras):
            name = re.sub(r"[-_.]+", "-", each.name).lower()
            if (name, extra) in seen or (each.marker and not each.marker.evaluate()):
                continue
            seen.add((name, extra))
            names.add(name)
            for text in metadata.requires(name) or ():
                inner = Requirement(text)
                if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                    inner.marker = None
                    wanted.append(inner)
    return names


def test_the_tested_versions_are_shipped() -> None:
    shipped, local, dev = (requirements(PROJECT / f"requirements{of}.lock") for of in ("", "-local", "-dev"))

    for python in ("3.10", "3.12", "3.14"):
        tested = installed_on(dev, python, PLATFORMS[0]).items()
        assert installed_on(shipped, python, PLATFORMS[0]).items() <= tested
        assert installed_on(local, python, PLATFORMS[0]).items() <= tested


def test_a_shipped_package_that_is_not_locked_is_refused_with_a_command_to_run(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("Some_Package[extra]==2.0  # new\n", encoding="utf-8")
    (tmp_path / "requirements.lock").write_text(
        "some-package==1.0 \\\n    --hash=sha256:0\n", encoding="utf-8"
    )

    with pytest.raises(
        NotLocked, match=r"^requirements.txt has some-package==2.0, but .* lacks it: run make lock$"
    ):
        fetch(Stage("dev", "w", "m", project=tmp_path))


def test_without_a_lock_nothing_is_shipped(tmp_path: Path) -> None:
    with pytest.raises(NotLocked, match=r"^there is no requirements.lock: create it with make lock$"):
        fetch(Stage("dev", "w", "m", project=tmp_path))


def test_an_archive_that_chalice_kept_is_shipped_only_with_the_same_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    kept = tmp_path / ".chalice" / "deployments" / "0123-python3.12.zip"
    kept.parent.mkdir(parents=True)
    stage = Stage("dev", "w", "m", project=tmp_path)

    there = []
    for lock in ("one", "one", "other", "one"):
        monkeypatch.setattr(wheels, "fetch", lambda _, lock=lock: tmp_path / lock)
        wheels.use(stage)
        there.append(kept.exists())
        kept.touch()

    assert there == [False, True, False, False]


@pytest.mark.slow
def test_a_file_whose_content_is_not_the_locked_one_is_refused(tmp_path: Path) -> None:
    lock = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    (tmp_path / "requirements.txt").touch()
    changed = re.sub(r"sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, lock)
    (tmp_path / "requirements.lock").write_text(changed, encoding="utf-8")

    with pytest.raises(NotLocked, match="DO NOT MATCH THE HASHES"):
        fetch(Stage("dev", "w", "m", project=tmp_path))


@pytest.mark.slow
def test_chalice_ships_the_locked_versions_and_takes_no_file_from_elsewhere(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "AWS_DEFAULT_REGION": "us-east-1"}
    fetch(Stage.of("prod", project))

    subprocess.run(
        [CHALICE, "package", "--stage", "prod", "out"], cwd=project, env=os.environ | nowhere, check=True
    )

    shipped = {
        (re.sub(r"[-_.]+", "-", name).lower(), f"=={version}")
        for name, version in re.findall(
            r"^([^/\n]+)-([^/\n]+)\.dist-info/METADATA$",
            "\n".join(ZipFile(project / "out" / "deployment.zip").namelist()),
            re.MULTILINE,
        )
    }
    locked = requirements(PROJECT / "requirements.lock")
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert shipped == set(installed_on(locked, python, PLATFORMS[0]).items())


def test_versions_are_read_with_extras_and_markers() -> None:
    text = (
        "# a comment\nmoto[dynamodb]==5.2.5\nPyJWT==2.15.1 ; python_version > '3' \\\n    --hash=sha256:0\n"
    )

    assert pinned(text) == [("moto", "5.2.5"), ("pyjwt", "2.15.1")]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit_and_says_its_version(workflow: Path) -> None:
    used = [line for line in workflow.read_text(encoding="utf-8").splitlines() if "uses:" in line]

    assert used
    assert [line for line in used if not re.search(r"uses: \S+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)] == []


def test_the_deploy_job_installs_before_it_holds_credentials() -> None:
    of_job = steps(PROJECT / ".github" / "workflows" / "deploy.yml")
    does = [step.get("uses", "").partition("@")[0] or step["run"].split(maxsplit=2)[:2] for step in of_job]

    installs = does.index(["make", "wheels"])
    takes_credentials = does.index("aws-actions/configure-aws-credentials")
    assert installs < takes_credentials < does.index(["make", "deploy"])
    assert [step for step in of_job[takes_credentials:] if "install" in step.get("run", "")] == []
