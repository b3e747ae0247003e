"""`make watch`: a second after an edit the deployed function runs it, without a synthesis."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from local.cloud import LocalCloud
from local.tests.fixtures import local_cloud
from local.watch import Watcher
from operations.aws import invoke
from proof.conftest import edit
from shared.frame import HEALTH

SERVING = "stacks/constructs/serving_function.py"


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    """A cloud of this file's own: an edit changes code that no template shows."""
    with local_cloud("watch") as cloud:
        cloud.bootstrap()
        cloud.deploy()
        yield cloud


def test_an_editors_own_files_are_no_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lambda_src").mkdir()
    for name in ("application.py", ".application.py.swp", "application.py~", "#application.py#"):
        (tmp_path / "lambda_src" / name).touch()
    module = tmp_path / "lambda_src" / "application.py"
    watcher = Watcher(MagicMock(function_log=lambda: ([], 0)), tmp_path)
    assert [*watcher._times()] == [module]
    monkeypatch.setattr("local.watch.application_files", lambda _: [module, tmp_path / "removed meanwhile"])
    assert [*watcher._times()] == [module]


def _answer(cloud: LocalCloud, event: object = None) -> dict[str, Any]:
    name = cloud.outputs("Service")["FunctionName"]
    answer: dict[str, Any] = invoke(cloud.client("lambda"), name, event)["answer"]
    return answer


def test_an_edit_in_a_function_is_answered_without_a_synthesis(
    cloud: LocalCloud, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher = Watcher(cloud, tree)
    assert not watcher.step()
    edit(tree / "lambda_src" / "application.py", " successfully loaded", ", edited, successfully loaded")
    (tree / "lambda_src" / "application.py").chmod(0o600)  # As under a umask of 077.
    assert watcher.step()
    assert _answer(cloud)["message"].startswith("DemoApp, edited, successfully")
    # The shared package is in every function; no bytecode of the file before runs.
    edit(tree / "lambda_src" / "shared" / "database.py", 'row[1] if row else ""', '"edited"')
    assert watcher.step()
    assert _answer(cloud, HEALTH)["tlsVersion"] == "edited"
    watcher.step()
    printed = capsys.readouterr().out
    assert "edited: lambda_src/application.py\nreplaced in 1 function in" in printed
    assert "edited: lambda_src/shared/database.py\nreplaced in 3 functions in" in printed
    assert re.search(r"^\S+ \S+  INFO invocation\.finished .*outcome=ok", printed, re.MULTILINE)


def test_an_edit_of_a_stack_or_a_new_module_is_deployed(
    cloud: LocalCloud, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher = Watcher(cloud, tree)
    edit(tree / SERVING, "memory_size=512", "memory_size=640")
    (tree / "lambda_src" / "shared" / "added.py").write_text("ADDED = 1\n")
    assert watcher.step()
    assert "deployed in" in capsys.readouterr().out
    name = cloud.outputs("Service")["FunctionName"]
    assert cloud.client("lambda").get_function_configuration(FunctionName=name)["MemorySize"] == 640
    assert _answer(cloud)["database"] == "devDB"
    # The next edit is put into the package that was deployed now, with the new module in it.
    edit(
        tree / "lambda_src" / "handler.py",
        "import application\n",
        "import application\nfrom shared import added as added\n",
    )
    assert watcher.step()
    assert "replaced in 1 function" in capsys.readouterr().out
    assert _answer(cloud)["database"] == "devDB"


def test_an_edit_that_cannot_be_deployed_says_why_and_the_next_one_is_applied(
    cloud: LocalCloud, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher = Watcher(cloud, tree)
    right = (tree / SERVING).read_text()
    edit(tree / SERVING, "memory_size=512", "memory_size=")
    assert watcher.step()
    assert "SyntaxError" in capsys.readouterr().out
    time.sleep(0.01)  # Another modification time.
    (tree / SERVING).write_text(right)
    edit(tree / "lambda_src" / "application.py", " successfully loaded", ", edited, successfully loaded")
    assert watcher.step()
    assert _answer(cloud)["message"].startswith("DemoApp, edited")
