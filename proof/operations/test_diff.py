"""What a pull request shows of what a deploy would change."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from operations import diff
from operations.commands import ROOT, environment


def test_changed_stacks_are_shown_by_cdk_and_unchanged_ones_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    after = diff._synthesise(ROOT, "dev", tmp_path / "after")
    before = tmp_path / "before"
    before.mkdir()
    for template in after.glob("*.template.json"):
        resources = json.loads(template.read_text())
        if template.name.startswith("demoApp-dev-Network"):
            (vpc,) = [each for each in resources["Resources"].values() if each["Type"] == "AWS::EC2::VPC"]
            vpc["Properties"]["CidrBlock"] = "10.0.0.0/16"
            (before / template.name).write_text(json.dumps(resources))
        elif not template.name.startswith("demoApp-dev-Monitoring"):
            (before / template.name).write_text(template.read_text())
    (before / "demoApp-dev-Gone.template.json").write_text("{}")
    diff._print_differences("dev", before, after)
    printed = capsys.readouterr().out
    assert "10.0.0.0/16" in printed
    assert "Unchanged: demoApp-dev-Database, demoApp-dev-Service" in printed
    assert "[+] AWS::CloudWatch::Alarm" in printed
    assert "**demoApp-dev-Gone goes**" in printed


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
@pytest.mark.parametrize("arguments", [[], ["no-such-revision"]])
def test_an_unknown_base_revision_is_refused(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "operations.diff", *arguments]
    refused = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert refused.returncode == 1
    assert "revision" in refused.stderr or "right would be" in refused.stderr


def test_without_git_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SystemExit, match="comes from git, which is not on the PATH"):
        diff.main("main")
