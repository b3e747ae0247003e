"""The package that a real synthesis makes."""

import subprocess
from pathlib import Path

import pytest

from local.install import ROOT, environment


@pytest.fixture(scope="session")
def synthesised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a real synthesis of dev has written."""
    out = tmp_path_factory.mktemp("synthesised")
    subprocess.run(["cdk", "synth", "--quiet", "--output", out], cwd=ROOT, env=environment(), check=True)
    return out


@pytest.fixture(scope="session")
def synthesised_package(synthesised: Path) -> dict[str, bytes]:
    """Every file of the functions' package, by its path within it."""
    (package,) = [path.parent for path in synthesised.glob("asset.*/handler.py")]
    return {str(Path(path).relative_to(package)): path.read_bytes() for path in package.rglob("*") if path.is_file()}
