"""What was synthesised before: a tree is synthesised again only when something in it was edited."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from stacks.constructs.runtime_python import runtime_python
from tools.commands import CACHE, environment

SYNTHESISED: Final = (
    "app.py",
    "cdk.json",
    "lambda_src",
    "migrations",
    "requirements-dev.txt",
    "requirements.txt",
    "stacks",
)
"""The files and folders that a synthesis reads."""
ASSEMBLIES: Final = CACHE / "assemblies"
KEPT: Final = 20


def application_files(root: Path) -> list[Path]:
    """Return the files of SYNTHESISED in a tree."""
    files = [file for name in SYNTHESISED for file in [root / name, *(root / name).rglob("*")]]
    return [file for file in files if file.is_file() and file.parent.name != "__pycache__"]


def digest(root: Path, context: Sequence[str]) -> str:
    """Return a name for what a synthesis of the tree, as it is now, gives with this context."""
    # The functions' Python makes the bytecode in the assets.
    found = hashlib.sha256(f"{root}{sys.version}{runtime_python()}{context}".encode())
    for file in sorted(application_files(root)):
        found.update(f"{file}{file.stat().st_size}".encode() + file.read_bytes())
    return found.hexdigest()


class Synthesis:
    """A `cdk synth` that goes on while other things are done."""

    def __init__(self, root: Path, context: Sequence[str], folder: Path) -> None:
        """Begin it; the folder must not exist."""
        self._root, self._context, self._folder = root, context, folder
        self.inputs = digest(root, context)
        self.process = subprocess.Popen(
            ["cdk", "synth", "--quiet", f"--output={folder}", *(f"--context={each}" for each in context)],
            cwd=root,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # When it fails, the deploy synthesises again and says why.
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def finish(self) -> None:
        """Wait until it ends, and keep what it made, unless it failed or the tree was edited meanwhile."""
        if self.process.wait() == 0 and digest(self._root, self._context) == self.inputs:
            keep(self.inputs, self._folder)


def is_kept(name: str) -> bool:
    """Whether there is an assembly of that name."""
    return (ASSEMBLIES / name).exists()


def restore(name: str, target: Path) -> bool:
    """Copy the assembly of that name to a folder; return whether there is one."""
    if not is_kept(name):
        return False
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ASSEMBLIES / name, target)
    os.utime(ASSEMBLIES / name)
    return True


def keep(name: str, assembly: Path) -> None:
    """Keep a copy of an assembly, and of older ones those that were used last."""
    copy = ASSEMBLIES / f"{name}-{os.getpid()}"
    shutil.copytree(assembly, copy)
    try:
        copy.rename(ASSEMBLIES / name)
    except OSError:  # Another process was quicker.
        shutil.rmtree(copy)
    for old in oldest(ASSEMBLIES, KEPT):
        shutil.rmtree(old, ignore_errors=True)


def oldest(folder: Path, kept: int) -> list[Path]:
    """Return all but so many of what is in a folder, by when it was used last."""
    return sorted(folder.iterdir(), key=lambda each: each.stat().st_mtime)[:-kept]
