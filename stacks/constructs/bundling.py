"""Bundles each function's own files of lambda_src/, and the two dependencies, without Docker."""

import atexit
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Final

import aws_cdk as cdk
import jsii
from aws_cdk import aws_lambda as lambda_

from stacks.constructs.runtime_python import MINOR, runtime_python

SOURCE: Final = Path(__file__).parent.parent.parent / "lambda_src"
RUNTIME: Final = lambda_.Runtime.PYTHON_3_13


FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "handler": ("handler.py", "queries.py", "shared"),
    "rotation": ("rotation.py", "database_users.py", "shared"),
    "migration": ("migration.py", "shared"),
    "smoke": ("smoke.py", "shared/__init__.py", "shared/deadline.py"),
}
"""The files and folders of lambda_src/ that each entry point runs."""
MIGRATIONS: Final = SOURCE.parent / "migrations"
"""The SQL files, which the migration function's asset has too."""


def function_code(entry_point: str) -> lambda_.Code:
    """Return an asset with the files of one entry point, a key of `FILES`, and the dependencies.

    Each function has an asset of its own, so that a change deploys only the functions that
    run the changed file. The asset's hash is that of its files and of requirements.txt, which
    names every dependency's version and hash: an asset that is already in cdk.out/ is not
    made again. The version of the Python that made the bytecode counts too.

    Raises:
        FileNotFoundError: lambda_src/ lacks one of the files.
    """
    return lambda_.Code.from_asset(
        str(SOURCE),
        asset_hash_type=cdk.AssetHashType.CUSTOM,
        asset_hash=_digest(entry_point),
        bundling=cdk.BundlingOptions(
            image=RUNTIME.bundling_image,  # CDK requires an image; it is never pulled.
            local=LocalBundling(entry_point),
        ),
    )


@jsii.implements(cdk.ILocalBundling)
class LocalBundling:
    """Copies the files and installs the dependencies: pure Python wheels, checked against their hashes."""

    def __init__(self, entry_point: str) -> None:
        self._entry_point = entry_point

    def try_bundle(self, output_dir: str, *_: Any, **__: Any) -> bool:
        """Fill `output_dir` (a path) and return True, so that CDK never falls back to Docker.

        Raises:
            subprocess.CalledProcessError: pip failed; its output is written to standard error.
        """
        shutil.copytree(_dependencies(SOURCE / "requirements.txt"), output_dir, dirs_exist_ok=True)
        for name, file in source_files(self._entry_point).items():
            target = Path(output_dir) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        _compile(Path(output_dir))
        return True


@cache
def _dependencies(requirements: Path) -> Path:
    """Install the dependencies into a temporary folder, once for all functions, and return it."""
    temporary = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, temporary)
    folder = Path(temporary, "dependencies")  # pip makes it, readable for all as an asset is.
    pip = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-compile", "--only-binary=:all:", "--require-hashes"),
            *("--target", str(folder), "--requirement", str(requirements)),
        ],
        capture_output=True,
        text=True,
    )
    if pip.returncode:
        sys.stderr.write(pip.stderr)
        pip.check_returncode()
    return folder


def _compile(folder: Path) -> None:
    """Put bytecode beside every module, when this machine has the runtime's Python.

    Lambda's /var/task is read-only: without bytecode, every cold start compiles every module that
    it imports. The bytecode is bound to its source by hash and not by time, so that the same
    files make the same package, and is not checked again when it is loaded
    (https://docs.python.org/3.13/reference/import.html#cached-bytecode-invalidation).
    """
    python = runtime_python()
    if not python:
        return
    options = ["-m", "compileall", "-q", "-j", "1", "--invalidation-mode", "unchecked-hash"]
    # Tracebacks show the path in Lambda.
    paths = ["-s", str(folder), "-p", "/var/task", str(folder)]
    isolated = {"PATH": os.defpath, "PYTHONHASHSEED": "0"}
    subprocess.run([python, *options, *paths], check=True, env=isolated)


def bytecode_of(file: str) -> str:
    """Return the path of a module's bytecode in the package."""
    path = PurePosixPath(file)
    return str(path.parent / "__pycache__" / f"{path.stem}.cpython-{MINOR.replace('.', '')}.pyc")


@cache
def _compiler() -> str:
    """Return the version of the Python that makes the bytecode, as part of the asset's hash; empty without one."""
    python = runtime_python()
    if not python:
        sys.stderr.write(
            f"This machine has no Python {MINOR}: the functions' packages hold no bytecode, and every cold start takes "
            f"some 120 ms longer. Install it, for example: uv python install {MINOR}\n"
        )
        return ""
    return subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout


def source_files(entry_point: str) -> dict[str, Path]:
    """Return the entry point's files by their path in the asset, in order."""
    paths = [SOURCE / name for name in FILES[entry_point]]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    kept = sorted(each for each in files if not each.is_dir() and each.parent.name != "__pycache__")
    found = {str(each.relative_to(SOURCE)): each for each in kept}
    if entry_point == "migration":
        found |= {f"migrations/{file.name}": file for file in sorted(MIGRATIONS.glob("*.sql"))}
    return found


def _digest(entry_point: str) -> str:
    digest = hashlib.sha256(f"{RUNTIME.name}{_compiler()}".encode())
    for name, file in {"requirements.txt": SOURCE / "requirements.txt", **source_files(entry_point)}.items():
        content = file.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
