"""Downloads what the functions depend on, with pip or uv."""

import atexit
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

SETTINGS: Final = {
    "PIP_CONSTRAINT": os.devnull,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_COLOR": "1",
    "PIP_REQUIRE_VIRTUALENV": "0",
}
PLACES: Final = ("--no-user", "--prefix=", "--root=/")
"""Of the user's settings for pip, those that say where packages come from count, and these two do not."""
WHEELS: Final = (Path(os.__file__).parent / "ensurepip" / "_bundled", Path("/usr/share/python-wheels"))
"""Where CPython and Debian keep a wheel of pip, which runs without being installed."""


class DependenciesError(BaseException):
    """They cannot be downloaded; the message names them, and has the reason and what would be right.

    No Exception: CDK calls the bundling, and jsii would make 90 lines of a RuntimeError out of one.
    """


@cache
def dependencies(requirements: Path) -> Path:
    """Install the dependencies into a temporary folder, once for all functions, and return it.

    They are pure Python wheels, checked against their hashes.

    Raises:
        DependenciesError: they cannot be downloaded.
    """
    temporary = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, temporary)
    folder = Path(temporary, "dependencies")
    names = " and ".join(re.findall(r"^[\w.-]+==[\w.]+", requirements.read_text(), re.MULTILINE))
    command = _installer()
    if not command:
        raise DependenciesError(
            f"{names} are downloaded with pip or uv, and this machine has neither; right would be to install one"
        )
    install = subprocess.run(
        [
            *(*command, "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:", "--require-hashes"),
            *("--target", str(folder), "--requirement", str(requirements)),
        ],
        env=os.environ | SETTINGS,
        capture_output=True,
        text=True,
    )
    if install.returncode or not folder.exists():  # With PIP_DRY_RUN pip installs nothing, and says that it is well.
        # A connection's failure is a warning of pip's; its errors then say that there is no such version.
        cause = re.search(r"connection broken by (.*)|ERROR: (.*)", install.stderr)
        reason = cause[1] or cause[2] if cause else " ".join(install.stderr.split())
        raise DependenciesError(
            f"{names} cannot be downloaded: {reason}; right would be a package index that this machine reaches, "
            "as the settings of pip or uv name it"
        )
    return folder


def _installer() -> list[str]:
    """Return the command that installs packages, up to its options; empty where there is none."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", *PLACES]
    if uv := shutil.which("uv"):  # An environment that uv made has no pip.
        return [uv, "pip", "install", "--python", sys.executable]
    for wheel in [wheel for folder in WHEELS for wheel in folder.glob("pip-*.whl")]:
        return [sys.executable, str(wheel / "pip"), "install", *PLACES]
    pip = shutil.which("pip3")
    return [pip, "install", *PLACES] if pip else []
