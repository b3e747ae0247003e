"""The recipe of docs/extending.md that is a patch, done on a copy of the tree."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from local.install import ROOT, environment


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_a_second_function_is_a_patch_away(tmp_path: Path) -> None:
    for name in ("app.py", "cdk.json"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("stacks", "lambda_src"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (patch,) = re.findall(r"^```diff\n(.*?)^```$", (ROOT / "docs/extending.md").read_text(), re.MULTILINE | re.DOTALL)
    # Outside any repository, where `git apply` is a patch program.
    alone = environment() | {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    applied = subprocess.run(
        ["git", "apply", "--unidiff-zero", "-"], cwd=tmp_path, env=alone, input=patch, text=True, capture_output=True
    )
    assert applied.returncode == 0, applied.stderr
    synth = subprocess.run(["cdk", "synth", "--quiet"], cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert synth.returncode == 0, synth.stderr
    template = json.loads((tmp_path / "cdk.out" / "Dev-Service.template.json").read_text())
    handlers = {
        resource["Properties"]["Handler"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Lambda::Function"
    }
    assert handlers == {"handler.lambda_handler", "report.lambda_handler", "smoke_test.lambda_handler"}
