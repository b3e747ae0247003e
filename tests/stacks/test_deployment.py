"""The role that a workflow deploys with: one repository's one environment, and CDK's own roles."""

import json
from collections.abc import Callable

from tests.conftest import Templates

ISSUER = "token.actions.githubusercontent.com"


def test_without_a_repository_there_is_no_role(synthesise: Callable[..., Templates]) -> None:
    assert "Deployment" not in synthesise()


def test_only_one_environment_of_one_repository_may_take_the_role(synthesise: Callable[..., Templates]) -> None:
    template = synthesise(env="prod", github_repository="owner/name")["Deployment"]
    (role,) = [each["Properties"] for each in template["Resources"].values() if each["Type"] == "AWS::IAM::Role"]
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert f"oidc-provider/{ISSUER}" in json.dumps(statement["Principal"]["Federated"])
    assert statement["Condition"] == {
        "StringEquals": {f"{ISSUER}:aud": "sts.amazonaws.com", f"{ISSUER}:sub": "repo:owner/name:environment:prod"}
    }
    assert role["MaxSessionDuration"] == 3600


def test_the_role_may_take_on_cdks_roles_and_nothing_else(synthesise: Callable[..., Templates]) -> None:
    template = synthesise(env="prod", github_repository="owner/name")["Deployment"]
    policies = [each for each in template["Resources"].values() if each["Type"] == "AWS::IAM::ManagedPolicy"]
    (statement,) = policies[0]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Action"] == "sts:AssumeRole"
    assert len(statement["Resource"]) == 3
    assert all(":role/cdk-hnb659fds-" in json.dumps(each) for each in statement["Resource"])
    assert "*" not in json.dumps(template["Resources"])
