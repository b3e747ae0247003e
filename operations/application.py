"""What the application is made of: the files that a synthesis reads, and a copy, a digest or a watcher takes."""

import shutil
from pathlib import Path
from typing import Final

from operations.commands import ROOT
from stacks.packaging.bundling import is_source

APPLICATION: Final = ("app.py", "cdk.json", "lambda_src", "migrations", "requirements.txt", "stacks")
"""Its files and folders, in the clone's folder."""


def application_files(root: Path = ROOT) -> list[Path]:
    """Return its files in a tree."""
    return sorted(
        filter(is_source, (file for name in APPLICATION for file in [root / name, *(root / name).rglob("*")]))
    )


def copy_application(target: Path) -> Path:
    """Copy its files, as they are now, into a folder that may exist; return the folder."""
    for file in application_files():
        copy = target / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    return target
