"""Copies of the repository, as somebody makes who takes it for their own."""

import os
import shutil
import subprocess
from pathlib import Path

from operations.commands import CACHE, ROOT, environment


def copied(target: Path, *without: str) -> Path:
    """Copy what git lists, without some folders."""
    listed = subprocess.check_output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT)
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file() and name.partition("/")[0] not in without:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def filled(copy: Path) -> Path:
    """Give a copy the caches of this clone, so that nothing is downloaded twice.

    By hard links, because they have 1.2 GB; the tools write new files, and change none.
    """
    for cache in ("pip", "uv", "npm", "jsii"):
        if (CACHE / cache).exists():
            shutil.copytree(CACHE / cache, copy / ".local" / "cache" / cache, symlinks=True, copy_function=os.link)
    return copy


def run_in(folder: Path, *command: str, status: int = 0, **variables: str) -> str:
    """Run a command in a copy as a person's shell would, without this clone's tools; return what it printed."""
    started = start_in(folder, *command, **variables)
    printed, _ = started.communicate()
    assert started.returncode == status, printed[-5000:]
    return printed


def start_in(folder: Path, *command: str, **variables: str) -> "subprocess.Popen[str]":
    """Start such a command."""
    inherited = {key: value for key, value in environment().items() if "MAKE" not in key and str(ROOT) not in value}
    path = os.pathsep.join(each for each in os.environ["PATH"].split(os.pathsep) if not Path(each).is_relative_to(ROOT))
    return subprocess.Popen(
        command,
        cwd=folder,
        env=inherited | {"PATH": path, "PYTEST_ADDOPTS": "-p no:cacheprovider"} | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
