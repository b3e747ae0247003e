"""The fixtures of `local.tests.fixtures`, and how the workers of pytest share the tests."""

from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler.loadfile import LoadFileScheduling  # type: ignore[import-untyped]

pytest_plugins = ["local.tests.fixtures"]

HERE = Path(__file__).parent
DEPLOYED = {f"local/tests/{file.name}" for file in HERE.glob("test_*.py") if "cloud: LocalCloud" in file.read_text()}
"""What asks the deployed cloud."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a file's tests to one worker, and all of the deployed cloud to one: each worker deploys its own."""
    scheduler = LoadFileScheduling(config, log)
    file_of = scheduler._split_scope
    scheduler._split_scope = lambda nodeid: "" if file_of(nodeid) in DEPLOYED else file_of(nodeid)
    return scheduler
