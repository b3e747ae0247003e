"""The role that a workflow deploys with: for one environment of one repository."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

import app
from stacks.settings import ENVIRONMENTS
from tests.conftest import Templates

ISSUER = "token.actions.githubusercontent.com"


def test_without_a_repository_there_is_no_role(synthesise: Callable[..., Templates]) -> None:
    assert "Deployment" not in synthesise()


@pytest.mark.parametrize("repository", ["owner/name", "owner@1234/name@56789"])
def test_one_environment_may_deploy_and_the_default_branch_may_verify(
    synthesise: Callable[..., Templates], repository: str
) -> None:
    template = synthesise(env="prod", github_repository=repository)["Deployment"]
    roles = {
        name[:-8]: each["Properties"]
        for name, each in template["Resources"].items()
        if each["Type"] == "AWS::IAM::Role"
    }
    subjects = {"Role": "environment:prod", "VerifyRole": "ref:refs/heads/main"}
    assert set(roles) == set(subjects)
    for name, role in roles.items():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
        assert f"oidc-provider/{ISSUER}" in json.dumps(statement["Principal"]["Federated"])
        assert statement["Condition"] == {
            "StringEquals": {
                f"{ISSUER}:aud": "sts.amazonaws.com",
                f"{ISSUER}:sub": f"repo:{repository}:{subjects[name]}",
            }
        }
        assert role["MaxSessionDuration"] == 3 * 3600
        assert "ManagedPolicyArns" not in role


@pytest.mark.parametrize("qualifier", ["hnb659fds", "prod"])
def test_only_the_role_that_deploys_takes_on_cdks_roles_of_its_own_bootstrap(
    synthesise: Callable[..., Templates], qualifier: str
) -> None:
    templates = synthesise(env="prod", github_repository="owner/name", bootstrap_qualifier=qualifier)
    policies = [
        each["Properties"]
        for each in templates["Deployment"]["Resources"].values()
        if each["Type"] == "AWS::IAM::ManagedPolicy"
    ]
    (assuming,) = [each for each in policies if "sts:AssumeRole" in json.dumps(each)]
    (statement,) = assuming["PolicyDocument"]["Statement"]
    assert len(statement["Resource"]) == 3
    assert all(f":role/cdk-{qualifier}-" in json.dumps(each) for each in statement["Resource"])
    assert [each["Ref"][:-8] for each in assuming["Roles"]] == ["Role"]
    (version,) = [each["Default"] for name, each in templates["Network"]["Parameters"].items() if "Bootstrap" in name]
    assert version == f"/cdk-bootstrap/{qualifier}/version"


def test_what_verifies_changes_nothing_and_reads_no_secret(synthesise: Callable[..., Templates]) -> None:
    template = synthesise(env="prod", github_repository="owner/name")["Deployment"]
    (policy,) = [
        each["Properties"]
        for each in template["Resources"].values()
        if each["Type"] == "AWS::IAM::ManagedPolicy" and "sts:AssumeRole" not in json.dumps(each)
    ]
    actions = [
        action
        for each in policy["PolicyDocument"]["Statement"]
        for action in ([each["Action"]] if isinstance(each["Action"], str) else each["Action"])
    ]
    others = {each for each in actions if not re.search(":(Get|Describe|List|Detect)", each)}
    assert others == {"iam:SimulatePrincipalPolicy", "kms:Decrypt", "lambda:InvokeFunction"}
    assert "secretsmanager:GetSecretValue" not in actions


def test_who_deploys_by_one_bootstrap_changes_no_stack_of_an_environment_that_has_another() -> None:
    def synthesised(**context: Any) -> dict[str, Any]:
        return app.templates(github_repository="owner/name", account="", region="", **context)

    def denied(env: str, **settings: Any) -> list[dict[str, Any]]:
        template = synthesised(env=env, **settings)["Deployment"]
        return [
            {"to": each["Properties"].get("Roles"), **statement}
            for each in template["Resources"].values()
            for statement in each["Properties"].get("PolicyDocument", {}).get("Statement", [])
            if statement["Effect"] == "Deny"
        ]

    assert denied("dev") == denied("dev", bootstrap_qualifier="shared") == []
    assert denied("dev", **{env: {"bootstrap_qualifier": "own"} for env in ENVIRONMENTS}) == []
    stacks, application = set(synthesised()), app.lasting_settings().application
    others = {("dev", "hnb659fds"): {"prod"}, ("prod", "prod"): set(ENVIRONMENTS) - {"prod"}}
    for (env, qualifier), out_of_reach in others.items():
        (statement,) = denied(env, prod={"bootstrap_qualifier": "prod"})
        assert [f"cdk-{qualifier}-deploy-role-" in json.dumps(each) for each in statement["to"]] == [True]
        found = re.findall(
            rf":cloudformation:\*:.*?:stack/{application}-([\w-]+)-(\w+)/\*", json.dumps(statement["Resource"])
        )
        assert set(found) == {(other, stack) for other in out_of_reach for stack in stacks}
