"""GitHub's workflows: valid, pinned, with no more rights than they need."""

import re
import subprocess
from typing import Any

import pytest
import yaml

from operations.commands import ROOT, environment
from stacks.constructs.runtime_python import MINOR

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*command, *map(str, WORKFLOWS)], env=environment(), capture_output=True, text=True)


def test_actionlint_accepts_the_workflows() -> None:
    checked = _run("check-jsonschema", "--builtin-schema", "vendor.github-workflows")
    assert checked.returncode == 0, checked.stdout
    assert len(WORKFLOWS) == 2


def test_updates_wait_a_week_and_reach_every_lock_file() -> None:
    file = ROOT / ".github" / "dependabot.yml"
    checked = subprocess.run(
        ["check-jsonschema", "--builtin-schema", "vendor.dependabot", file], env=environment(), capture_output=True
    )
    assert checked.returncode == 0, checked.stdout
    updates = yaml.safe_load(file.read_text())["updates"]
    assert [each["cooldown"]["default-days"] for each in updates] == [7] * len(updates)
    locks = [path for path in ROOT.glob("*/*.txt") if "--hash=sha256:" in path.read_text()] + [
        ROOT / "requirements.txt"
    ]
    assert set(updates[0]["directories"]) == {f"/{path.parent.relative_to(ROOT)}".rstrip(".") for path in locks}
    assert len(locks) == 9


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_job_has_the_functions_python(workflow: Any) -> None:
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        versions = [step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", "")]
        assert versions == [MINOR]


def test_zizmor_finds_nothing_in_the_workflows() -> None:
    checked = _run("zizmor", "--offline", "--pedantic", "--quiet")
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_and_jobs_ask_for_their_rights(workflow: Any) -> None:
    parsed = yaml.safe_load(workflow.read_text())
    assert parsed["permissions"] == {}
    for job in parsed["jobs"].values():
        assert set(job["permissions"].items()) <= {("contents", "read"), ("id-token", "write")}
        for step in job["steps"]:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step.get("uses", "a/b@" + "0" * 40))


def test_a_pull_request_is_checked_as_at_home_and_holds_no_credentials() -> None:
    text = (ROOT / ".github/workflows/check.yml").read_text()
    assert "- run: .ci/run\n" in text
    assert "make check" in (ROOT / ".ci/run").read_text()
    assert "id-token" not in text
    assert "secrets." not in text


def test_no_key_is_stored_and_prod_comes_after_dev() -> None:
    deploy = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text())
    assert "secrets." not in (ROOT / ".github/workflows/deploy.yml").read_text()
    assert deploy["jobs"]["prod"]["needs"] == "dev"
    assert {name: job["environment"] for name, job in deploy["jobs"].items()} == {"dev": "dev", "prod": "prod"}
