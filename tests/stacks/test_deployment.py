"""The role that a workflow deploys with: for one environment of one repository."""

import json
import re
from collections.abc import Callable

import pytest

from app import lasting_settings
from tests.conftest import Templates

ISSUER = "token.actions.githubusercontent.com"


def test_without_a_repository_there_is_no_role(synthesise: Callable[..., Templates]) -> None:
    assert "Deployment" not in synthesise()


@pytest.mark.parametrize("repository", ["owner/name", "owner@1234/name@56789"])
def test_only_one_environment_of_one_repository_may_take_the_role(
    synthesise: Callable[..., Templates], repository: str
) -> None:
    template = synthesise(env="prod", github_repository=repository)["Deployment"]
    (role,) = [each["Properties"] for each in template["Resources"].values() if each["Type"] == "AWS::IAM::Role"]
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert f"oidc-provider/{ISSUER}" in json.dumps(statement["Principal"]["Federated"])
    assert statement["Condition"] == {
        "StringEquals": {f"{ISSUER}:aud": "sts.amazonaws.com", f"{ISSUER}:sub": f"repo:{repository}:environment:prod"}
    }
    assert role["MaxSessionDuration"] == 3600


def test_the_role_may_take_on_cdks_roles_and_verify_and_nothing_else(synthesise: Callable[..., Templates]) -> None:
    template = synthesise(env="prod", github_repository="owner/name")["Deployment"]
    policies = [each for each in template["Resources"].values() if each["Type"] == "AWS::IAM::ManagedPolicy"]
    statements = [each for policy in policies for each in policy["Properties"]["PolicyDocument"]["Statement"]]
    (assume,) = [each for each in statements if each["Action"] == "sts:AssumeRole"]
    assert len(assume["Resource"]) == 3
    assert all(":role/cdk-hnb659fds-" in json.dumps(each) for each in assume["Resource"])
    others = {json.dumps(each["Action"]): json.dumps(each["Resource"]) for each in statements if each is not assume}
    prefix = lasting_settings("prod").stack_prefix
    assert all(prefix in resource or ":ssm:" in resource for resource in others.values())
    assert not re.search("secretsmanager|Put|Update|Delete|Create", "".join(others))
