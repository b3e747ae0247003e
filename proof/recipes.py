"""The patches of docs/recipes/, and copies of the tree with some of them."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

from operations.application import copy_application
from operations.commands import ROOT, environment

FOLDER: Final = ROOT / "docs" / "recipes"
PATCHES: Final = {file.stem: file for file in sorted(FOLDER.glob("*.patch"))}
COPIED: Final = ("pyproject.toml", "tests", "docs/runbook", "operations")
"""What the tests and the checks of an application need beside it."""
TOGETHER: Final = (
    "a-second-function",
    "an-http-api",
    "a-queue",
    "a-schedule",
    "a-setting",
    "an-alarm",
    "another-account",
    "a-table-and-a-query",
)
"""Those that a copy may take all together. `pytest tests` stays green with each alone, and with all."""
BEFORE: Final = {"a-function-url": ("an-http-api",)}
"""What a patch needs to have been applied."""


def run(folder: Path, *command: str, **variables: str) -> str:
    """Run a command in a copy of the tree and return what it printed."""
    done = subprocess.run(command, cwd=folder, env=environment() | variables, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tree_with(folder: Path, *recipes: str) -> Path:
    """Copy the tree into a folder, apply the recipes in turn, and return the folder."""
    copy_application(folder)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    for recipe in recipes:
        # Outside any repository, where `git apply` only patches.
        run(folder, "git", "apply", str(PATCHES[recipe]), GIT_CEILING_DIRECTORIES=str(folder.parent))
    return folder
