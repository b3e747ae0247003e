"""The recipes of docs/extending.md: each patch is applied to a copy of the tree, alone and with others."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from operations.commands import ROOT
from proof.copies import copied, filled, run_in
from proof.recipes import BEFORE, PATCHES, TOGETHER, run, tree_with

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="needs git")


def _synthesised(tree: Path) -> dict[str, list[dict[str, Any]]]:
    """The resources of all stacks by type."""
    run(tree, "cdk", "synth", "--quiet")
    found: dict[str, list[dict[str, Any]]] = {}
    for template in (tree / "cdk.out").glob("*.template.json"):
        for resource in json.loads(template.read_text())["Resources"].values():
            found.setdefault(resource["Type"], []).append(resource.get("Properties", {}))
    return found


def test_every_patch_is_a_recipe_of_the_page() -> None:
    linked = re.findall(r"\]\(recipes/([a-z-]+)\.patch\)", (ROOT / "docs/extending.md").read_text())
    assert sorted(linked) == sorted(PATCHES)


@pytest.mark.parametrize("recipe", PATCHES)
def test_each_patch_applies_alone_and_names_nothing_undefined(recipe: str, tmp_path: Path) -> None:
    run(tree_with(tmp_path, *BEFORE.get(recipe, ()), recipe), "ruff", "check", "--select", "F", "--no-cache", ".")


@pytest.mark.parametrize("recipe", TOGETHER)
def test_the_tests_stay_green_without_an_edit(recipe: str, tmp_path: Path) -> None:
    tree = tree_with(tmp_path, recipe)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "tests"]
    assert re.search(r"^\d+ passed", run(tree, *command, PYTEST_ADDOPTS="").splitlines()[-1])


def test_after_all_together_the_tests_and_those_of_the_local_cloud_stay_green(tmp_path: Path) -> None:
    copy = filled(copied(tmp_path / "copy", "proof"))
    for recipe in TOGETHER:
        run_in(copy, "git", "apply", str(PATCHES[recipe]), GIT_CEILING_DIRECTORIES=str(tmp_path))
    assert re.search(r"\d{4} passed", run_in(copy, "make", "test"))


def test_what_is_added_to_the_function_synthesises(tmp_path: Path) -> None:
    tree = tree_with(tmp_path, "a-second-secret", "an-http-api", "a-function-url")
    resources = _synthesised(tree)
    (function,) = [each for each in resources["AWS::Lambda::Function"] if each["Handler"] == "handler.lambda_handler"]
    assert "PARTNER_KEY" in function["Environment"]["Variables"]
    (url,) = resources["AWS::Lambda::Url"]
    assert url["AuthType"] == "AWS_IAM"
    assert url["Qualifier"] == "live"
    assert url["TargetFunctionArn"]["Fn::GetAtt"][0].startswith("Api")  # It reads the body.


def test_what_is_added_to_the_database_synthesises(tmp_path: Path) -> None:
    resources = _synthesised(tree_with(tmp_path, "a-secure-string", "a-read-replica", "stopping-at-night", "a-bastion"))
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
