"""The fixtures of the tests below it, and copies of what they take apart."""

import shutil
from pathlib import Path

import pytest

from operations.application import copy_application
from tests.conftest import synthesise, templates  # noqa: F401 - fixtures

pytest_plugins = ["local.tests.fixtures"]


def copied(assembly: Path, target: Path) -> Path:
    """A copy of an assembly, without the lock files and archives that a deploy from it makes and removes meanwhile."""
    without = shutil.ignore_patterns("*.lock", ".cache")
    return Path(shutil.copytree(assembly, target, ignore=without, dirs_exist_ok=True))


@pytest.fixture(scope="session")
def synthesised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a real synthesis of dev has written, to be deployed and read. Tests share it."""
    from local.tests.fixtures import assembly  # Imported here, because pytest loads it after this module.

    return copied(assembly(), tmp_path_factory.mktemp("synthesised") / "dev")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the application, to edit."""
    return copy_application(tmp_path)


def edit(file: Path, old: str, new: str) -> None:
    """Replace text that must be in the file."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker is left alone with one at the end.

    The checks of a deployed environment are the first of them: on a cloud in which other tests have
    made functions fail, its alarms are in alarm for minutes.
    """
    first = ("proof/operations/test_verify.py", "proof/cloud/", "proof/", "local/tests/")
    items.sort(key=lambda item: [not item.nodeid.startswith(place) for place in first])
