"""The recipes of docs/extending.md that are patches, each applied to a copy of the tree."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from operations.application import copy_application
from operations.commands import ROOT, environment

PATCHES = {
    section.partition("\n")[0]: patch
    for section in (ROOT / "docs/extending.md").read_text().split("\n## ")
    for patch in re.findall(r"^```diff\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
}

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="needs git")


def _run(folder: Path, *command: str, stdin: str = "", **variables: str) -> str:
    """Run a command in a copy of the tree, outside any repository: there `git apply` only patches."""
    outside = environment() | {"GIT_CEILING_DIRECTORIES": str(folder.parent)} | variables
    done = subprocess.run(command, cwd=folder, env=outside, input=stdin, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is synthesised."""
    copy_application(tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests" / "lambda_src").mkdir(parents=True)
    return tmp_path


def _synthesised(tree: Path, *recipes: str) -> dict[str, list[dict[str, Any]]]:
    """The resources of all stacks by type, with the patches of the recipes."""
    for recipe in recipes:
        _run(tree, "git", "apply", "-", stdin=PATCHES[recipe])
    _run(tree, "cdk", "synth", "--quiet")
    found: dict[str, list[dict[str, Any]]] = {}
    for template in (tree / "cdk.out").glob("*.template.json"):
        for resource in json.loads(template.read_text())["Resources"].values():
            found.setdefault(resource["Type"], []).append(resource.get("Properties", {}))
    return found


@pytest.mark.parametrize("recipe", PATCHES)
def test_each_patch_applies_alone_and_names_nothing_undefined(recipe: str, tree: Path) -> None:
    _run(tree, "git", "apply", "-", stdin=PATCHES[recipe])
    _run(tree, "ruff", "check", "--select", "F", "--no-cache", ".")


def test_a_table_and_a_query_are_a_patch_with_a_test(tree: Path) -> None:
    _run(tree, "git", "apply", "-", stdin=PATCHES["A table and a query"])
    assert "CREATE TABLE visit" in (tree / "migrations/0003_create_visit.sql").read_text()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/lambda_src/test_visits.py"]
    assert "1 passed" in _run(tree, *command, PYTHONPATH=str(tree / "lambda_src"), PYTEST_ADDOPTS="")


def test_what_is_added_to_the_function_synthesises(tree: Path) -> None:
    resources = _synthesised(
        tree, "A table and a query", "A second function", "A second secret", "A Function URL with IAM in front"
    )
    assert list((tree / "cdk.out").glob("asset.*/migrations/0003_create_visit.sql"))
    functions = {each["Handler"]: each for each in resources["AWS::Lambda::Function"]}
    assert set(functions) == {
        f"{name}.lambda_handler" for name in ("handler", "migration", "report_handler", "rotation", "smoke")
    }
    assert "PARTNER_KEY" in functions["handler.lambda_handler"]["Environment"]["Variables"]
    (report,) = (tree / "cdk.out").glob("asset.*/report.py")
    assert '{"tables": ' in report.read_text()
    (url,) = resources["AWS::Lambda::Url"]
    assert url["AuthType"] == "AWS_IAM"
    assert url["Qualifier"] == "live"


def test_what_is_added_to_the_database_synthesises(tree: Path) -> None:
    resources = _synthesised(
        tree,
        "A SecureString",
        "A read replica, or a blue/green deployment",
        "Stopping dev at night",
        "The database from a laptop",
    )
    assert "AWS::SSM::Parameter" not in resources
    policies = json.dumps(resources["AWS::IAM::ManagedPolicy"])
    assert "kms:EncryptionContext:PARAMETER_ARN" in policies
    source, replica = sorted(resources["AWS::RDS::DBInstance"], key=lambda each: "SourceDBInstanceIdentifier" in each)
    assert "ManageMasterUserPassword" not in source
    assert "SourceDBInstanceIdentifier" in replica
    called = {
        json.dumps(each["Target"]["Arn"]).rpartition(":")[2].strip('"]} ')
        for each in resources["AWS::Scheduler::Schedule"]
    }
    assert called == {"stopDBInstance", "startDBInstance"}
    (bastion,) = resources["AWS::EC2::Instance"]
    assert "NetworkInterfaces" not in bastion
