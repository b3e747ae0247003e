"""Finds a Python of the functions' runtime on this machine, with the standard library alone."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

MINOR: Final = "3.13"
"""Python's version in Lambda's runtime."""


@cache
def runtime_python() -> Path | None:
    """Return a Python of that version that starts: from the path, pyenv or uv; None where there is none.

    A name on the path may be pyenv's shim for a version that is not chosen, which does not start.
    """
    for python in _candidates():
        if not subprocess.run([python, "--version"], capture_output=True).returncode:
            return python
    return None


def _candidates() -> Iterator[Path]:
    if found := shutil.which(f"python{MINOR}"):
        yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    yield from sorted(pyenv.glob(f"versions/{MINOR}.*/bin/python{MINOR}"))
    if uv := shutil.which("uv"):
        command = [uv, "python", "find", "--no-project", "--offline", MINOR]
        found = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        if found:
            yield Path(found)
