"""Every schedule of two deploys, or two rotations, ends well, within bounds; and each fault that there was is found."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from operations.commands import ROOT
from proof.exploration.faults import FAULTS, put_back

FOUND = ("recorded as done is", "a file that fails is applied", "a login as", "keeps a right", "stays pending", "again")
"""What the exploration says of a fault."""


def _explore(sources: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proof.exploration", *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(sources)},
        capture_output=True,
        text=True,
    )


def test_no_schedule_records_what_is_not_there_changes_data_twice_or_refuses_a_login() -> None:
    started = time.monotonic()
    explored = _explore(ROOT / "lambda_src")
    print(f"{explored.stdout}{time.monotonic() - started:.0f} seconds")
    assert explored.returncode == 0, explored.stdout + explored.stderr[-2000:]


@pytest.mark.parametrize("name", FAULTS)
def test_the_exploration_finds_each_fault_that_there_was(name: str, tmp_path: Path) -> None:
    copy = shutil.copytree(ROOT / "lambda_src", tmp_path / "lambda_src")
    put_back(FAULTS[name], copy)
    explored = _explore(copy, "--only", FAULTS[name].scenario, "--fewest", str(FAULTS[name].runs))
    assert explored.returncode == 1, explored.stdout + explored.stderr[-2000:]
    assert any(each in explored.stdout for each in FOUND), explored.stdout + explored.stderr[-2000:]
