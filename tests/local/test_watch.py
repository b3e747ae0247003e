"""`make watch`: a second after an edit the deployed function runs it, without a synthesis."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.cloud import CloudError, LocalCloud
from local.processes import running
from local.watch import Watcher
from tests.conftest import local_cloud
from tools import assemblies
from tools.aws import invoke
from tools.commands import ROOT


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    """A cloud of this file's own: an edit changes code that no template shows."""
    with local_cloud("watch") as cloud:
        cloud.bootstrap()
        cloud.deploy()
        yield cloud


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the repository to edit."""
    for name in ("app.py", "cdk.json"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("stacks", "lambda_src", "migrations"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def _answer(cloud: LocalCloud) -> dict[str, Any]:
    name = cloud.outputs("Dev-Service")["FunctionName"]
    answer: dict[str, Any] = invoke(cloud.client("lambda"), name)["answer"]
    return answer


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_an_edit_in_a_function_is_answered_without_a_synthesis(
    cloud: LocalCloud, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher = Watcher(cloud, tree)
    assert not watcher.step()
    _edit(tree / "lambda_src" / "queries.py", "DemoApp successfully", "DemoApp, edited, successfully")
    assert watcher.step()
    assert _answer(cloud)["message"].startswith("DemoApp, edited, successfully")
    # The shared package is in every function; no bytecode of the file before runs.
    _edit(tree / "lambda_src" / "shared" / "database.py", 'row[1] if row else ""', '"edited"')
    assert watcher.step()
    assert _answer(cloud)["tlsVersion"] == "edited"
    watcher.step()
    printed = capsys.readouterr().out
    assert "edited: lambda_src/queries.py\nreplaced in 1 function in" in printed
    assert "edited: lambda_src/shared/database.py\nreplaced in 3 functions in" in printed
    assert re.search(r"^  INFO invocation\.finished .*outcome=ok", printed, re.MULTILINE)


def test_an_edit_of_a_stack_or_a_new_module_is_deployed(
    cloud: LocalCloud, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher = Watcher(cloud, tree)
    _edit(tree / "stacks" / "service.py", "memory_size=512", "memory_size=640")
    (tree / "lambda_src" / "shared" / "added.py").write_text("ADDED = 1\n")
    assert watcher.step()
    assert "deployed in" in capsys.readouterr().out
    name = cloud.outputs("Dev-Service")["FunctionName"]
    assert cloud.client("lambda").get_function_configuration(FunctionName=name)["MemorySize"] == 640
    assert _answer(cloud)["database"] == "devDB"
    # The next edit is put into the package that was deployed now, with the new module in it.
    _edit(tree / "lambda_src" / "handler.py", "import queries\n", "import queries\nfrom shared import added as added\n")
    assert watcher.step()
    assert "replaced in 1 function" in capsys.readouterr().out
    assert _answer(cloud)["database"] == "devDB"


def test_an_edit_that_cannot_be_deployed_says_why_and_the_next_one_is_applied(
    cloud: LocalCloud, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher = Watcher(cloud, tree)
    right = (tree / "stacks" / "service.py").read_text()
    _edit(tree / "stacks" / "service.py", "memory_size=512", "memory_size=")
    assert watcher.step()
    assert "SyntaxError" in capsys.readouterr().out
    time.sleep(0.01)  # Another modification time.
    (tree / "stacks" / "service.py").write_text(right)
    _edit(tree / "lambda_src" / "queries.py", "DemoApp successfully", "DemoApp, edited, successfully")
    assert watcher.step()
    assert _answer(cloud)["message"].startswith("DemoApp, edited")


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
    _edit(queries, "DemoApp", "DemoApq")
    with pytest.raises(CloudError):
        LocalCloud(tmp_path / "cloud").deploy(root=tree)
    LocalCloud(tmp_path / "cloud").deploy(root=tree)
    # An edit that is taken back finds the assembly of the same tree, in whichever cloud.
    _edit(queries, "DemoApq", "DemoApp")
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


def test_a_deploy_takes_what_a_synthesis_before_it_made(
    cdk: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(LocalCloud, "cdk", lambda _, *arguments, cwd: asked.append(f"{arguments[-1]} in {cwd}"))
    cdk.write_text("")
    (tmp_path / "cloud").mkdir()
    cloud = LocalCloud(tmp_path / "cloud")
    cloud.begin_synthesis(root=tree)
    cloud.deploy(root=tree)
    assert asked == [f"--app={cloud.assembly} in {tree}"]
    assert (cloud.assembly / "queries.py").read_text() == (tree / "lambda_src" / "queries.py").read_text()


def test_a_synthesis_that_fails_or_whose_tree_is_edited_is_not_kept(cdk: Path, tree: Path, tmp_path: Path) -> None:
    cdk.write_text("exit 1")
    failed = assemblies.Synthesis(tree, [], tmp_path / "failed")
    failed.finish()
    cdk.write_text(f"until [ -e {shlex.quote(str(tmp_path / 'edited'))} ]; do sleep 0.01; done")
    begun = assemblies.Synthesis(tree, [], tmp_path / "begun")
    _edit(tree / "lambda_src" / "queries.py", "DemoApp", "DemoApq")
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
