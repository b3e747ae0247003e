"""A tree is synthesised once, also in the background, and no synthesis outlives the command that began it."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from local.cloud import CloudError, LocalCloud
from local.processes import running
from tests.conftest import edit, local_cloud
from tools import assemblies
from tools.commands import ROOT


def test_a_tree_is_synthesised_again_only_when_it_was_edited(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    (tmp_path / "cloud").mkdir()
    queries = tree / "lambda_src" / "queries.py"

    def cdk(self: LocalCloud, *arguments: str, cwd: Path = ROOT) -> str:
        option = arguments[-1].partition("=")[0]
        asked.append(option)
        if option != "--app":
            self.assembly.mkdir(parents=True, exist_ok=True)
            (self.assembly / "manifest.json").write_text(queries.read_text())
        if len(asked) == 3:
            raise CloudError("the deploy failed")
        assert (self.assembly / "manifest.json").read_text() == queries.read_text()
        return ""

    monkeypatch.setattr(LocalCloud, "cdk", cdk)
    monkeypatch.setattr(assemblies, "ASSEMBLIES", tmp_path / "assemblies")
    LocalCloud(tmp_path / "cloud").deploy(root=tree)
    LocalCloud(tmp_path / "cloud").deploy(root=tree)
    edit(queries, "DemoApp", "DemoApq")
    with pytest.raises(CloudError):
        LocalCloud(tmp_path / "cloud").deploy(root=tree)
    LocalCloud(tmp_path / "cloud").deploy(root=tree)
    # An edit that is taken back finds the assembly of the same tree, in whichever cloud.
    edit(queries, "DemoApq", "DemoApp")
    LocalCloud(tmp_path / "cloud").deploy(root=tree)
    LocalCloud(tmp_path / "another").deploy(root=tree)
    LocalCloud(tmp_path / "cloud").deploy("egress=nat", root=tree)
    assert asked == ["--output", "--app", "--output", "--output", "--app", "--app", "--context"]


@pytest.fixture
def cdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in place of CDK's, which copies queries.py of the tree; where to write what it does before."""
    program = tmp_path / "bin" / "cdk"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n. "$0.before"\ncp -r lambda_src "${3#--output=}"\n')
    program.chmod(0o755)
    monkeypatch.setattr(assemblies, "environment", lambda: {"PATH": f"{program.parent}:{os.defpath}"})
    monkeypatch.setattr(assemblies, "ASSEMBLIES", tmp_path / "assemblies")
    return tmp_path / "bin" / "cdk.before"


@pytest.mark.parametrize("fails", [False, True], ids=["", "unless it failed"])
def test_a_deploy_takes_what_a_synthesis_before_it_made(
    *, fails: bool, cdk: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def deploy(cloud: LocalCloud, *arguments: str, cwd: Path) -> None:
        asked.append(f"{arguments[-1]} in {cwd}")
        if fails:
            shutil.copytree(cwd / "lambda_src", cloud.assembly)

    monkeypatch.setattr(LocalCloud, "cdk", deploy)
    cdk.write_text("exit 1" if fails else "")
    (tmp_path / "cloud").mkdir()
    cloud = LocalCloud(tmp_path / "cloud")
    cloud.begin_synthesis(root=tree)
    cloud.deploy(root=tree)
    assert asked == [f"{'--output' if fails else '--app'}={cloud.assembly} in {tree}"]
    assert (cloud.assembly / "queries.py").read_text() == (tree / "lambda_src" / "queries.py").read_text()


def test_a_synthesis_that_fails_or_whose_tree_is_edited_is_not_kept(cdk: Path, tree: Path, tmp_path: Path) -> None:
    cdk.write_text("exit 1")
    failed = assemblies.Synthesis(tree, [], tmp_path / "failed")
    failed.finish()
    cdk.write_text(f"until [ -e {shlex.quote(str(tmp_path / 'edited'))} ]; do sleep 0.01; done")
    begun = assemblies.Synthesis(tree, [], tmp_path / "begun")
    edit(tree / "lambda_src" / "queries.py", "DemoApp", "DemoApq")
    (tmp_path / "edited").touch()
    begun.finish()
    assert (tmp_path / "begun" / "queries.py").exists()
    assert failed.inputs == begun.inputs
    assert not assemblies.is_kept(begun.inputs)


def test_a_stopped_cloud_leaves_no_synthesis_running(tree: Path) -> None:
    with local_cloud("synthesis") as cloud:
        cloud.begin_synthesis(root=tree)
        assert cloud._synthesis
        process = cloud._synthesis.process
        assert any(each.group == process.pid for each in running())
        cloud.stop()
        assert not any(each.group == process.pid for each in running())
        assert process.returncode == -signal.SIGTERM


INTERRUPTED = """
import sys
from pathlib import Path
from local.cloud import LocalCloud
from local.signals import end_on_signals

end_on_signals()
cloud = LocalCloud(Path(sys.argv[1]))
cloud.begin_synthesis(root=Path(sys.argv[2]))
print(cloud._synthesis.process.pid, flush=True)
cloud._finish_synthesis()
"""


def test_an_interrupted_command_leaves_no_synthesis_running(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "cloud").mkdir()
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "cloud"), str(tree)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout
        group = int(process.stdout.readline())
        assert any(each.group == group for each in running())
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    assert not any(each.group == group for each in running())


def test_only_the_assemblies_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemblies, "ASSEMBLIES", tmp_path / "assemblies")
    (tmp_path / "made").mkdir()
    for number in range(assemblies.KEPT):
        assemblies.keep(str(number), tmp_path / "made")
        os.utime(assemblies.ASSEMBLIES / str(number), (number, number))
    assert assemblies.restore("0", tmp_path / "restored")
    assemblies.keep("another", tmp_path / "made")
    assert not assemblies.restore("1", tmp_path / "restored")
    assert {each.name for each in assemblies.ASSEMBLIES.iterdir()} == {
        "0",
        "another",
        *map(str, range(2, assemblies.KEPT)),
    }
