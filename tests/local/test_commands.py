"""`make demo`, `make up` and `make down`, as a person types them."""

import re
import subprocess

import pytest

from local.__main__ import EXPORTS, UP
from local.install import LOCAL, ROOT, environment
from local.running import LocalCloud

DEMO = LocalCloud(LOCAL / "demo")


def _make(target: str) -> str:
    command = ["make", "--no-print-directory", target]  # make names it when it runs within `make check`.
    finished = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def _shown(printed: str) -> list[str]:
    """The demo's steps and its summary, without what differs from run to run."""
    lines = [line.strip() for line in printed.splitlines() if line.strip().startswith(("▸", "✓"))]
    return [re.sub(r"\d+(\.\d+)?", "0", re.sub(r"from \d\S+$", "from the server", line)) for line in lines]


@pytest.mark.skipif(DEMO.is_running, reason="somebody's demo is running")
def test_the_demo_shows_what_the_readme_says() -> None:
    printed = _make("demo")
    (transcript,) = re.findall(r"^```text\n(▸.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert _shown(printed) == _shown(transcript)
    assert not DEMO.is_running


@pytest.mark.skipif(LocalCloud(UP).is_running, reason="somebody's cloud is running")
def test_up_leaves_a_cloud_that_any_client_finds_and_down_ends_it() -> None:
    try:
        said = [line for line in _make("up").splitlines() if line.startswith("  ")]
        cloud = LocalCloud(UP)
        assert cloud.is_running
        assert EXPORTS.stat().st_mode & 0o077 == 0
        shell = subprocess.run(["sh", "-ec", "\n".join(said)], env=environment(), capture_output=True, text=True)
        assert '"tlsVersion"' in shell.stdout, shell.stderr
    finally:
        ended = _make("down")
    assert ended == "ending the cloud\n"
    assert not cloud.is_running
    assert not UP.exists()
    assert not EXPORTS.exists()
    assert _make("down") == "nothing is running\n"
