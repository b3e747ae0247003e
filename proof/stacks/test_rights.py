"""The rights of the workflows' roles: what the checks ask, and what CloudFormation reads in their name for drift."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import templates
from stacks.settings import ENVIRONMENTS

SCHEMAS = Path(str(importlib.util.find_spec("cfnlint").origin)).parent / "data" / "schemas"  # type: ignore[union-attr]
PROVIDER = json.loads((SCHEMAS / "providers" / "us-east-1.json").read_text())
VARIANTS = [
    {"env": env, "egress": egress, "alarm_email": "a@example.com", "github_repository": "owner/name"}
    for env in ENVIRONMENTS
    for egress in ("endpoints", "nat")
]
NEVER_READ = {"secretsmanager:GetSecretValue"}
"""Nobody who verifies reads a secret: the types that need it are not checked for drift."""
ASKED_BY_CHECKS = {
    "cloudformation:DescribeStackDriftDetectionStatus",
    "cloudformation:DescribeStackResourceDrifts",
    "cloudformation:DescribeStacks",
    "cloudformation:DetectStackDrift",
    "cloudformation:DetectStackResourceDrift",  # CloudFormation asks for both.
    "cloudformation:GetTemplate",
    "cloudformation:ListStackResources",
    "iam:SimulatePrincipalPolicy",
    "lambda:GetFunctionConcurrency",
    "lambda:InvokeFunction",
    "lambda:ListFunctionUrlConfigs",
    "rds:DescribeDBMajorEngineVersions",
    "ssm:GetParameter",
    "xray:GetTraceSummaries",
}
ASKED_BY_PREFLIGHT = {
    "cloudformation:DescribeStackResources",
    "ec2:DescribeVpcEndpointServices",
    "freetier:GetAccountPlanState",
    "iam:ListOpenIDConnectProviders",
    "lambda:GetAccountSettings",
    "rds:DescribeDBSnapshots",
    "rds:DescribeOrderableDBInstanceOptions",
}


def _read(kind: str) -> set[str]:
    """What CloudFormation calls to read a resource of a type."""
    schema = json.loads((SCHEMAS / "resources" / f"{PROVIDER[kind]}.json").read_text())
    return set(schema.get("handlers", {}).get("read", {}).get("permissions", []))


def _statements(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            yield from resource["Properties"]["PolicyDocument"]["Statement"]


def _actions(statement: dict[str, Any]) -> set[str]:
    actions = statement["Action"]
    return {actions} if isinstance(actions, str) else set(actions)


@pytest.fixture(scope="module")
def synthesised() -> list[dict[str, Any]]:
    return [template for variant in VARIANTS for template in templates(**variant).values()]


def test_the_roles_may_read_each_resource_for_drift_and_what_is_asked_and_nothing_more(
    synthesised: list[dict[str, Any]],
) -> None:
    kinds = {resource["Type"] for template in synthesised for resource in template["Resources"].values()}
    needed = {action for kind in kinds if kind.startswith("AWS::") for action in _read(kind)}
    assert needed >= NEVER_READ
    needed = needed - NEVER_READ | ASKED_BY_CHECKS | ASKED_BY_PREFLIGHT
    deployment = [each for each in synthesised if "RoleArn" in each.get("Outputs", {})]
    assert len(deployment) == len(VARIANTS)
    for template in deployment:
        granted = {action for each in _statements(template) for action in _actions(each)} - {"sts:AssumeRole"}
        assert (sorted(needed - granted), sorted(granted - needed)) == ([], []), "missing, and too much"


def test_what_gives_out_code_values_or_answers_is_narrowed_to_the_environment(
    synthesised: list[dict[str, Any]],
) -> None:
    narrowed = ("lambda:GetFunction", "lambda:InvokeFunction", "ssm:GetParameter", "ssm:GetParameters", "kms:Decrypt")
    for template in synthesised:
        if "RoleArn" in template.get("Outputs", {}):
            statements = list(_statements(template))
            wide = {action for each in statements if each["Resource"] == "*" for action in _actions(each)}
            assert not wide & set(narrowed)
            (decrypt,) = [each for each in statements if "kms:Decrypt" in _actions(each)]
            assert "function:" in json.dumps(decrypt["Condition"]["ArnLike"])


def test_the_policy_is_within_iams_limit(synthesised: list[dict[str, Any]]) -> None:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: 6,144 characters without spaces."""
    for template in synthesised:
        for resource in template["Resources"].values():
            if resource["Type"] == "AWS::IAM::ManagedPolicy":
                assert len("".join(json.dumps(resource["Properties"]["PolicyDocument"]).split())) < 5500
