"""Downloads the wheels to ship, and checks them against requirements.lock.

Chalice runs `pip download -r requirements.txt`, which pins neither indirect packages nor hashes. `use` sets
environment variables that make Chalice's pip take files only from the checked folder. So while the process
holds AWS credentials, pip contacts no index and runs no package's build script.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

from deployment.stage import CannotDeploy, Stage

LOCK = "requirements.lock"
PIP_DOWNLOAD = (
    *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
    *("--require-hashes", "--only-binary=:all:", "--no-deps", "--requirement", LOCK),
)


class NotLocked(CannotDeploy):
    """requirements.lock is missing or incomplete, or pip cannot download its packages."""


def use(stage: Stage) -> None:
    """Download the wheels, and make every pip started from here use only them. Raises NotLocked."""
    folder = fetch(stage)
    _delete_archives_of_another_lock(stage.project / ".chalice" / "deployments", folder.name)
    os.environ["PIP_NO_INDEX"] = "1"
    os.environ["PIP_FIND_LINKS"] = folder.absolute().as_uri()  # A URI, because pip splits this at spaces.


def fetch(stage: Stage) -> Path:
    """Return the folder of the locked wheels, and download them if it doesn't exist. Raises NotLocked.

    Chalice resolves packages for this machine first, and then for Lambda, so the folder has both.
    """
    lock = stage.project / LOCK
    if not lock.exists():
        raise NotLocked(f"there is no {LOCK}: create it with make lock")
    _check_that_all_are_locked(stage.project)
    python, machine = sys.version_info[:2], stage.machine
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    folder = stage.project / "build" / "wheels" / f"{digest}-{python[0]}.{python[1]}-{machine}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(mkdtemp(dir=folder.parent))
        try:
            for target in ((), _options_for_lambda(python, machine)):
                _download(stage.project, unfinished, target)
            unfinished.rename(folder)
        except OSError:
            if not folder.exists():  # If it exists, another process finished first.
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _delete_archives_of_another_lock(archives: Path, name: str) -> None:
    """Delete Chalice's cached archives if requirements.lock has changed.

    Chalice reuses an archive as long as requirements.txt is unchanged, and ignores the lock file.
    """
    locked = archives / "locked"
    if locked.exists() and locked.read_text(encoding="utf-8") == name:
        return
    archives.mkdir(parents=True, exist_ok=True)
    for archive in archives.glob("*.zip"):
        archive.unlink(missing_ok=True)
    locked.write_text(name, encoding="utf-8")


def _download(project: Path, folder: Path, target: Sequence[str]) -> None:
    command = [*PIP_DOWNLOAD, "--dest", str(folder), *target]
    ran = subprocess.run(command, cwd=project, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    if ran.returncode != 0:
        raise NotLocked(f"the packages of {LOCK} cannot be downloaded: {ran.stderr.strip()}")


def _options_for_lambda(python: tuple[int, int], machine: str) -> list[str]:
    """Return pip's options for wheels that run on Lambda: Amazon Linux 2023 from Python 3.12 on, else 2."""
    newest_glibc = 34 if python >= (3, 12) else 26
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(newest_glibc, 16, -1)]
    options = ["--implementation", "cp", "--python-version", f"{python[0]}.{python[1]}"]
    options += ["--abi", f"cp{python[0]}{python[1]}", "--abi", "abi3", "--abi", "none"]
    for platform in [*platforms, f"manylinux2014_{machine}"]:
        options += ["--platform", platform]
    return options


def _check_that_all_are_locked(project: Path) -> None:
    locked = pinned((project / LOCK).read_text(encoding="utf-8"))
    for name, version in pinned((project / "requirements.txt").read_text(encoding="utf-8")):
        if (name, version) not in locked:
            raise NotLocked(f"requirements.txt has {name}=={version}, but {LOCK} lacks it: run make lock")


def pinned(requirements: str) -> list[tuple[str, str]]:
    """Return the normalized name and the version of each pinned package."""
    lines = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", requirements, re.MULTILINE)
    return [(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in lines]
