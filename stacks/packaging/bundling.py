"""Makes each function's package of its own files of lambda_src/ and the two dependencies, without Docker."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Final

import aws_cdk as cdk
import jsii
from aws_cdk import aws_lambda as lambda_

from stacks.packaging.dependencies import dependencies
from stacks.packaging.runtime_python import MINOR, runtime_python

SOURCE: Final = Path(__file__).parent.parent.parent / "lambda_src"
RUNTIME: Final = lambda_.Runtime.PYTHON_3_13


FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "handler": ("handler.py", "application.py", "shared"),
    "rotation": ("rotation.py", "database_users.py", "shared"),
    "migration": ("migration.py", "shared"),
    "smoke": ("smoke.py", "shared/__init__.py", "shared/attempts.py", "shared/deadline.py"),
}
"""The files and folders of lambda_src/ that each entry point runs."""
MIGRATIONS: Final = SOURCE.parent / "migrations"
"""The SQL files, which the migration function's package has too."""
FORMAT: Final = "readable by all"
"""Part of each hash: packages that were made otherwise, in cdk.out/ or on AWS, are not taken for these."""
NOT_PACKAGED: Final = (
    "The functions' packages were not made, as by cdk ls or for a stack that --exclusively left out; "
    "right would be cdk synth first, then this command with --app cdk.out"
)


def function_code(stack: cdk.Stack, entry_point: str) -> lambda_.Code:
    """Return an asset with the files of one entry point, a key of `FILES`, and the dependencies.

    Each function has an asset of its own, so that a change deploys only the functions that
    run the changed file. The asset's hash is that of its files and of requirements.txt, which
    names every dependency's version and hash: a package that is already in cdk.out/ is not
    made again. The bytecode's version counts too, which all patch releases of a Python share.

    When CDK asks for no package, the asset is empty and has another hash. CDK's command line refuses to deploy it.

    Raises:
        DependenciesError: the dependencies cannot be downloaded.
        FileNotFoundError: lambda_src/ lacks one of the files.
    """
    digest = _digest(entry_point)
    # Only CDK's command line deploys. In memory, as for tests and comparisons, the template has the package's hash.
    if "CDK_OUTDIR" in os.environ and not stack.bundling_required:
        # Not CDK's own answer, which is lambda_src/ as it is, under the package's hash.
        cdk.Annotations.of(stack).add_error(NOT_PACKAGED)
        return lambda_.Code.from_asset(str(SOURCE), exclude=["*"], asset_hash=f"not packaged {digest}")
    _remove_unreadable(Path(cdk.Stage.of(stack).asset_outdir), entry_point)  # type: ignore[union-attr]
    return lambda_.Code.from_asset(
        str(SOURCE),
        asset_hash_type=cdk.AssetHashType.CUSTOM,
        asset_hash=digest,
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
        """Fill the package's folder, to which CDK gives its name afterwards, and return True: Docker is never asked.

        Files are 644 and folders 755, as Lambda needs them, whatever the umask is
        (https://docs.aws.amazon.com/lambda/latest/dg/python-package.html).

        Raises:
            DependenciesError: the dependencies cannot be downloaded.
        """
        folder = Path(output_dir)
        shutil.copytree(dependencies(SOURCE / "requirements.txt"), folder, dirs_exist_ok=True)
        for name, file in source_files(self._entry_point).items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        _compile(folder)
        for path in (folder, *folder.rglob("*")):
            path.chmod(_mode(path))
        return True


def _mode(path: Path) -> int:
    return 0o755 if path.is_dir() else 0o644


def _remove_unreadable(assembly: Path, entry_point: str) -> None:
    """Remove a package whose modes were changed, and the archive that CDK made of it: CDK takes what has the name."""
    for folder in [file.parent for file in assembly.glob(f"asset.*/{entry_point}.py")]:
        if any(_mode(path) & ~path.stat().st_mode for path in (folder, *folder.rglob("*"))):
            shutil.rmtree(folder)
            (assembly / ".cache" / f"{folder.suffix[1:]}.zip").unlink(missing_ok=True)


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
def _bytecode_version() -> str:
    """Return the version of the bytecode, as part of the asset's hash; empty without a Python that makes it.

    Not Python's: Lambda runs what one patch release compiled with another anyway, and reads no bytecode of another
    version (https://docs.python.org/3.13/library/importlib.html#importlib.util.MAGIC_NUMBER).
    """
    python = runtime_python()
    if not python:
        sys.stderr.write(
            f"This machine has no Python {MINOR}: the functions' packages hold no bytecode, and every cold start takes "
            f"some 120 ms longer. Install it, for example: uv python install {MINOR}\n"
        )
        return ""
    program = "import importlib.util; print(importlib.util.MAGIC_NUMBER.hex())"
    return subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, check=True).stdout


def is_source(file: Path) -> bool:
    """Return whether it is a file of ours, and not one that Python or an editor keeps beside them."""
    kept_beside = file.name.startswith((".", "#")) or file.name.endswith("~") or file.parent.name == "__pycache__"
    return file.is_file() and not kept_beside


def source_files(entry_point: str) -> dict[str, Path]:
    """Return the entry point's files by their path in the package, in order."""
    paths = [SOURCE / name for name in FILES[entry_point]]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    found = {str(each.relative_to(SOURCE)): each for each in sorted(filter(is_source, files))}
    if entry_point == "migration":
        found |= {f"migrations/{file.name}": file for file in sorted(MIGRATIONS.glob("[0-9]*.sql"))}
    return found


def _digest(entry_point: str) -> str:
    digest = hashlib.sha256(f"{FORMAT}{RUNTIME.name}{_bytecode_version()}".encode())
    for name, file in {"requirements.txt": SOURCE / "requirements.txt", **source_files(entry_point)}.items():
        content = file.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
