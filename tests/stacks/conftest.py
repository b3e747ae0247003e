"""The package that a real synthesis makes."""

import subprocess
from pathlib import Path

import pytest

from local.install import ROOT, environment


@pytest.fixture(scope="session")
def synthesised_package(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every file of the functions' package, by its path within it."""
    out = tmp_path_factory.mktemp("package")
    subprocess.run(["cdk", "synth", "--quiet", "--output", out], cwd=ROOT, env=environment(), check=True)
    (package,) = [path.parent for path in out.glob("asset.*/handler.py")]
    return {str(Path(path).relative_to(package)): path.read_bytes() for path in package.rglob("*") if path.is_file()}
