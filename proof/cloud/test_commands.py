"""`make demo`, `make up` and `make down` as a user runs them, and when they are interrupted."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import MagicMock

import psutil
import pytest

from local.__main__ import DEMO as DEMO_FOLDER
from local.__main__ import EXPORTS, UP, up, write_exports
from local.cloud import CloudError, LocalCloud
from local.processes import running
from local.signals import SIGNALS
from local.tests.fixtures import assembly
from operations.commands import ROOT, environment
from proof.copies import copied, filled, run_in, start_in

DEMO = LocalCloud(DEMO_FOLDER)


def _make(target: str) -> str:
    command = ["make", "--no-print-directory", target]  # make names it when it runs within `make check`.
    finished = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def _summary(printed: str) -> list[str]:
    return [line.strip() for line in printed.splitlines() if line.strip().startswith("✓")]


def _shown(printed: str) -> list[str]:
    """The demo's summary, without what differs from run to run."""
    without = [re.sub(r"from \d\S+$", "from the server", line) for line in _summary(printed)]
    return [re.sub(r"\d+(\.\d+)?", "0", line) for line in without]


@pytest.mark.skipif(DEMO.is_running, reason="somebody's demo is running")
def test_the_demo_shows_what_the_readme_says() -> None:
    printed = _make("demo")
    (transcript,) = re.findall(r"^make demo .*\n((?:  ✓.*\n)+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert _shown(printed) == _shown(transcript)
    assert not DEMO.is_running


def test_after_a_deploy_that_failed_the_cloud_can_be_asked_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = MagicMock(is_bootstrapped=True, debug_port=0, variables={"AWS_ENDPOINT_URL": "https://127.0.0.1:1"})
    failing.deploy.side_effect = CloudError("the smoke test fails")
    monkeypatch.setattr("local.__main__.LocalCloud", lambda _: failing)
    monkeypatch.setattr("local.__main__.EXPORTS", tmp_path / "env")
    with pytest.raises(CloudError):
        up()
    assert "export AWS_ENDPOINT_URL=https://127.0.0.1:1" in (tmp_path / "env").read_text()


@pytest.mark.skipif(LocalCloud(UP).is_running, reason="somebody's cloud is running")
def test_up_leaves_a_cloud_that_any_client_finds_and_down_ends_it() -> None:
    try:
        said = [line for line in _make("up").splitlines() if line.startswith("  ")]
        cloud = LocalCloud(UP)
        assert cloud.is_running
        assert EXPORTS.stat().st_mode & 0o077 == 0
        shell = subprocess.run(["sh", "-ec", "\n".join(said)], env=environment(), capture_output=True, text=True)
        assert "demoApp-dev-Service" in shell.stdout, shell.stderr
        assert '{"stored": 1}' in shell.stdout, shell.stderr
        assert "hello" in shell.stdout.rpartition("created_at")[2], shell.stderr
    finally:
        ended = _make("down")
    assert ended == "ending the cloud\n"
    assert not cloud.is_running
    assert not UP.exists()
    assert not EXPORTS.exists()
    assert _make("down") == "nothing is running\n"


@pytest.mark.skipif(LocalCloud(UP).is_running, reason="somebody's cloud is running")
def test_two_clones_are_up_at_the_same_time_each_with_its_own_data(tmp_path: Path) -> None:
    copy = filled(copied(tmp_path / "copy"))
    clones = {"here": ROOT, "there": copy}
    try:
        run_in(copy, "make", "development")  # So that both start their clouds in the same moment.
        started = [start_in(each, "make", "up") for each in clones.values()]
        printed = [each.communicate()[0] for each in started]
        assert [each.returncode for each in started] == [0, 0], printed
        for name, clone in clones.items():
            assert '{"stored": 1}' in run_in(clone, "make", "invoke", f'EVENT={{"note": "{name}"}}')
        for name, clone in clones.items():
            notes = run_in(clone, "make", "sql", "STATEMENT=SELECT text FROM note")
            assert {*clones} & {*notes.split()} == {name}
    finally:
        for clone in clones.values():
            run_in(clone, "make", "down")


def _processes() -> set[str]:
    """The command lines of this clone's processes of the demo and of `up`, this process's own workers left out."""
    groups = {LocalCloud(each)._given.get("pid") for each in (UP, DEMO_FOLDER)}
    return {
        each.command
        for each in running()
        if each.group in groups or f"{UP}/" in each.command or f"{DEMO_FOLDER}/" in each.command
    }


STEPS = {
    "demo": ["start an emulated cloud", "cdk bootstrap", "cdk deploy", "invoke the function", "rotate the password"],
    "up": ["starting the cloud", "cdk bootstrap", "cdk deploy"],
}
INTERRUPTIONS = [
    (command, step, number, ignored)
    for command, steps in STEPS.items()
    for step in steps
    for number in (*SIGNALS, signal.SIGKILL)
    for ignored in (False, True)
]
"""Every signal at every step, started as a person starts it and as a script does in the background."""
QUICK = [
    ("demo", "cdk bootstrap", signal.SIGTERM, False),
    ("demo", "cdk deploy", signal.SIGHUP, False),
    ("demo", "cdk deploy", signal.SIGKILL, False),
    ("up", "cdk bootstrap", signal.SIGINT, True),
    ("up", "cdk deploy", signal.SIGKILL, True),
]


@pytest.mark.parametrize(
    ("command", "step", "number", "ignored"),
    [
        pytest.param(*each, marks=[] if each in QUICK else pytest.mark.interruptions, id="-".join(map(str, each)))
        for each in INTERRUPTIONS
    ],
)
def test_however_a_command_ends_nothing_stays_and_the_next_one_works(
    command: str,
    step: str,
    number: signal.Signals,
    ignored: bool,  # noqa: FBT001
) -> None:
    module = ["-m", "local.demo"] if command == "demo" else ["-m", "local", "up"]
    trapped = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"] if ignored else []
    started = subprocess.Popen(
        [*trapped, sys.executable, "-u", *module],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert started.stdout
    seen = b""
    while step.encode() not in seen:
        byte = started.stdout.read(1)
        assert byte, seen.decode()
        seen += byte
    time.sleep(0.3)  # Into the step: where exactly does not matter.
    started.send_signal(number)
    started.communicate()
    assert started.returncode != 0
    if number != signal.SIGKILL and command == "demo":
        assert _processes() == set()
    # A command that was killed leaves its cloud, which the next command ends.
    assert subprocess.run([sys.executable, "-m", "local", "down"], cwd=ROOT, env=environment()).returncode == 0
    assert _processes() == set()


def test_up_goes_on_where_an_interrupted_bootstrap_ended() -> None:
    cloud = LocalCloud(UP)
    cloud.start()
    assert cloud.is_running
    assert not cloud.is_bootstrapped
    try:
        assert "cdk bootstrap" in _make("up")
        assert LocalCloud(UP).is_bootstrapped
    finally:
        _make("down")
        cloud.stop()


def test_processes_that_a_killed_cloud_left_are_ended() -> None:
    cloud = LocalCloud(DEMO_FOLDER)
    cloud.start()
    cloud.bootstrap()
    cloud.deploy(assembly=assembly())
    assert len(_processes()) >= 3
    os.kill(cloud._given["pid"], signal.SIGKILL)
    assert _make("down") == "ending the cloud\n"
    assert _processes() == set()
    cloud.stop()


def test_a_process_that_has_ended_is_not_running_while_nobody_has_waited_for_it() -> None:
    with subprocess.Popen(["true"]) as ended:
        # Returns when it has ended, and leaves it to be waited for.
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert psutil.pid_exists(ended.pid)
        assert ended.pid not in {each.pid for each in running()}


def test_an_empty_state_file_means_that_no_cloud_runs(tmp_path: Path) -> None:
    (tmp_path / "cloud.json").touch()
    cloud = LocalCloud(tmp_path)
    assert not cloud.is_running
    cloud.stop()


def test_exports_that_others_could_read_are_written_anew(cloud: LocalCloud, tmp_path: Path) -> None:
    exports = tmp_path / "env"
    exports.write_text("old")
    exports.chmod(0o644)
    write_exports(cloud, exports)
    assert exports.stat().st_mode & 0o077 == 0


def test_the_demo_works_in_an_ascii_terminal() -> None:
    program = "from local.signals import set_up_terminal; set_up_terminal(); print('\u25b8 \u2713')"
    variables = environment() | {"PYTHONIOENCODING": "ascii"}
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert run.stdout == "? ?\n", run.stderr
