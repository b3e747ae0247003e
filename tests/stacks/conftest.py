"""The package that a real synthesis makes."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def synthesised_package(synthesised: Path) -> dict[str, bytes]:
    """Every file of the functions' package, by its path within it."""
    (package,) = [path.parent for path in synthesised.glob("asset.*/handler.py")]
    return {str(Path(path).relative_to(package)): path.read_bytes() for path in package.rglob("*") if path.is_file()}
