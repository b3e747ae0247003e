"""The recipes of docs/extending.md that are patches, each applied to a copy of the tree."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.commands import ROOT, environment

PATCHES = re.findall(r"^```diff\n(.*?)^```$", (ROOT / "docs/extending.md").read_text(), re.MULTILINE | re.DOTALL)


def _patched(folder: Path, patch: str) -> Path:
    """A copy of the tree with the patch, outside any repository: there `git apply` only patches."""
    for name in ("app.py", "cdk.json", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for name in ("stacks", "lambda_src", "migrations"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "tests" / "lambda_src").mkdir(parents=True)
    alone = environment() | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    applied = subprocess.run(
        ["git", "apply", "--unidiff-zero", "-"], cwd=folder, env=alone, input=patch, text=True, capture_output=True
    )
    assert applied.returncode == 0, applied.stderr
    synth = subprocess.run(["cdk", "synth", "--quiet"], cwd=folder, env=alone, capture_output=True, text=True)
    assert synth.returncode == 0, synth.stderr
    return folder


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_a_table_and_a_query_are_a_patch_with_a_test(tmp_path: Path) -> None:
    tree = _patched(tmp_path, PATCHES[0])
    (migration,) = (tree / "cdk.out").glob("asset.*/migrations/0002_create_visit.sql")
    assert "CREATE TABLE visit" in migration.read_text()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/lambda_src/test_queries.py"]
    variables = environment() | {"PYTHONPATH": str(tree / "lambda_src"), "PYTEST_ADDOPTS": ""}
    tested = subprocess.run(command, cwd=tree, env=variables, capture_output=True, text=True)
    assert "1 passed" in tested.stdout, tested.stdout + tested.stderr


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_a_second_function_is_a_patch(tmp_path: Path) -> None:
    tree = _patched(tmp_path, PATCHES[1])
    template = json.loads((tree / "cdk.out" / "Dev-Service.template.json").read_text())
    handlers = {
        resource["Properties"]["Handler"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Lambda::Function"
    }
    assert handlers == {f"{name}.lambda_handler" for name in ("handler", "migration", "report", "smoke")}
