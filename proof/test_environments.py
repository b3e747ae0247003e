"""An environment is added by one constant: with a hyphen in its name, settings of its own, and all that reads them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from operations.commands import ROOT, environment

CONSTANT = 'Settings(env="pre-prod", protect_data=True, instance_class="m7g.large", reserved_concurrency=5),\n'

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="needs git")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the environment; its revision before has none."""
    copy = tmp_path_factory.mktemp("environment")
    listed = subprocess.check_output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT)
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        [*identity, "commit", "-qm", "before"],
    ):
        subprocess.run(["git", *command], cwd=copy, check=True)
    (copy / ".local").mkdir()
    for name in (".venv", "node_modules", ".local/cache", ".local/checkov", ".local/tmp"):
        (copy / name).symlink_to(ROOT / name)
    settings = copy / "stacks/settings/settings.py"
    before = settings.read_text()
    settings.write_text(before.replace('        Settings(env="dev"', f'        {CONSTANT}        Settings(env="dev"'))
    assert settings.read_text() != before
    context = json.loads((copy / "cdk.json").read_text())
    context["context"]["pre-prod"] = {"parameter_ttl": 7, "account": "210987654321", "region": "eu-west-3"}
    (copy / "cdk.json").write_text(json.dumps(context))
    return copy


def _run(tree: Path, *command: str) -> str:
    """What the command, run by the tree's Python, prints."""
    variables = environment() | {"PYTHONPATH": f"{tree}{os.pathsep}{tree / 'lambda_src'}"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command], cwd=tree, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_documents_the_cost_and_the_findings_take_it_in(tree: Path) -> None:
    script = """
from proof import cost, documents, findings
print(documents.settings())
print(documents.concurrency())
print(cost.totals())
print([sorted(map(str, findings.as_is("pre-prod", "endpoints"))), len(findings.VARIANTS)])
"""
    printed = _run(tree, "-c", script)
    assert "| setting | pre-prod | dev | prod | meaning |" in printed
    assert "pre-prod takes 12, dev " in printed
    assert "| pre-prod, endpoints | pre-prod, nat | dev, endpoints |" in printed
    assert "[[], 6]" in printed


def test_its_settings_are_its_constants_and_those_of_cdk_json(tree: Path) -> None:
    script = """
from app import lasting_settings, templates
settings = lasting_settings("pre-prod")
print(settings.parameter_ttl, settings.reserved_concurrency, settings.account, settings.region, settings.stack_prefix)
print(templates(env="pre-prod")["Service"]["Resources"].keys() >= {"AppConfig1FDF3617"})
"""
    assert _run(tree, "-c", script).split() == ["7", "5", "210987654321", "eu-west-3", "demoApp-pre-prod-", "True"]


def test_the_tests_of_templates_take_it_in(tree: Path) -> None:
    printed = _run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert re.search(r"^\d{3} passed", printed, re.MULTILINE)


def test_the_workflows_gate_gives_its_account(tree: Path) -> None:
    script = """
from dataclasses import replace
from operations import reviewers
settings = replace(reviewers.lasting_settings("pre-prod"), deploy_without_reviewers=True)
reviewers.lasting_settings = lambda _: settings
reviewers.main("pre-prod")
"""
    assert _run(tree, "-c", script) == "account=210987654321\n"


def test_the_difference_to_the_revision_before_says_that_it_is_new(tree: Path) -> None:
    printed = _run(tree, "-m", "operations.diff", "HEAD")
    assert "pre-prod is new: HEAD has no such environment. It has demoApp-pre-prod-Database, " in printed
    assert printed.count("Unchanged: ") == 2
