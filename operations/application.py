"""What the application is made of: the files that a synthesis reads, and a copy, a digest or a watcher takes."""

import shutil
from pathlib import Path
from typing import Final

from operations.commands import ROOT

APPLICATION: Final = ("app.py", "cdk.json", "lambda_src", "migrations", "requirements.txt", "stacks")
"""Its files and folders, in the clone's folder."""


def application_files(root: Path = ROOT) -> list[Path]:
    """Return its files in a tree, without those that an editor keeps beside them."""
    files = [file for name in APPLICATION for file in [root / name, *(root / name).rglob("*")]]
    kept = [file for file in files if not file.name.startswith((".", "#")) and not file.name.endswith("~")]
    return sorted(file for file in kept if file.is_file() and file.parent.name != "__pycache__")


def copy_application(target: Path) -> Path:
    """Copy its files, as they are now, into a folder that may exist; return the folder."""
    for file in application_files():
        copy = target / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    return target
