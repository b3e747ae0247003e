"""A bootstrap for each environment: who deploys one of an account changes no stack of another."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import ACCOUNT, HERE, REGION, LocalCloud
from local.tests.fixtures import local_cloud
from operations.application import copy_application
from operations.commands import ROOT
from proof.cloud.roles import session_of_role
from stacks.deployment import CHANGES

TEMPLATE = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
CHANGED = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": "a"}}}})


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """An account with a bootstrap and GitHub's roles for dev and for prod, and a stack of each."""
    tree = copy_application(tmp_path_factory.mktemp("bootstraps"))
    settings = json.loads((tree / "cdk.json").read_text())
    settings["context"] |= {env: {"bootstrap_qualifier": env} for env in ("dev", "prod")}
    (tree / "cdk.json").write_text(json.dumps(settings))
    with local_cloud("bootstraps") as cloud:
        for env in ("dev", "prod"):
            options = ["--qualifier", env, "--toolkit-stack-name", f"CDK-{env}", f"aws://{ACCOUNT}/{REGION}"]
            cloud.cdk("bootstrap", *options, cwd=cloud.folder)
            given = [f"--context={each}" for each in (*HERE, f"env={env}", "github_repository=owner/name")]
            options = ["--exclusively", "--require-approval=never", f"--output={cloud.folder / env}", *given]
            cloud.cdk("deploy", *options, f"demoApp-{env}-Deployment", cwd=tree)
            cloud.client("cloudformation").create_stack(StackName=f"demoApp-{env}-Service", TemplateBody=TEMPLATE)
        yield cloud


CHANGE: dict[str, Callable[[Any, str], Any]] = {
    "update": lambda client, stack: client.update_stack(StackName=stack, TemplateBody=CHANGED),
    "change set": lambda client, stack: client.create_change_set(
        StackName=stack, ChangeSetName="a", TemplateBody=CHANGED
    ),
    "protection": lambda client, stack: client.update_termination_protection(
        StackName=stack, EnableTerminationProtection=False
    ),
    "delete": lambda client, stack: client.delete_stack(StackName=stack),
}


@pytest.mark.parametrize("change", CHANGE)
def test_the_role_that_deploys_dev_changes_no_stack_of_prod(account: LocalCloud, change: str) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/cdk-dev-deploy-role-{ACCOUNT}-{REGION}"
    client = session_of_role(account, role).client("cloudformation")
    with pytest.raises(ClientError, match="AccessDenied"):
        CHANGE[change](client, "demoApp-prod-Service")
    CHANGE[change](client, "demoApp-dev-Service")


def test_every_change_that_cdks_role_may_make_is_denied() -> None:
    """By the template of the CDK that is installed."""
    (template,) = Path(ROOT / "node_modules/aws-cdk").rglob("bootstrap-template.yaml")
    text = template.read_text().partition("  DeploymentActionRole:")[2].partition("  CloudFormationExecutionRole:")[0]
    actions = set(re.findall(r"- cloudformation:(\w+)", text))
    assert {"ExecuteChangeSet", "DeleteStack"} < actions
    assert {each for each in actions if not each.startswith(tuple(CHANGES.split()))} == {
        each for each in actions if re.match("Describe|Get|List|Detect|Validate", each)
    }
