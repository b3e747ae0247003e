"""One command destroys an environment, and leaves what docs/operations.md says and nothing else."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from app import lasting_settings
from local.cloud import LocalCloud
from local.tests.fixtures import assembly, local_cloud
from operations.commands import ROOT, environment
from operations.destroy import DestroyError, destroy
from proof.testbed import account


@pytest.fixture
def protected() -> Iterator[LocalCloud]:
    """The environment prod, with the roles of a repository."""
    with local_cloud("destroy") as cloud:
        cloud.bootstrap()
        cloud.deploy(assembly=assembly("env=prod", "github_repository=owner/name"))
        yield cloud


def _destroy(cloud: LocalCloud, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "operations.destroy", *arguments],
        cwd=ROOT,
        env=environment() | cloud.variables,
        capture_output=True,
        text=True,
    )


def _left(cloud: LocalCloud) -> dict[str, set[str]]:
    """What an account shows of the environment, by what the page calls it."""

    def names(service: str, operation: str, key: str, name: str) -> set[str]:
        found = getattr(cloud.client(service), operation)()[key]
        return {str(each[name]) for each in found}

    keys = cloud.client("kms")
    return {
        "stacks": {
            each["StackName"]
            for each in cloud.client("cloudformation").describe_stacks()["Stacks"]
            if each["StackName"] != "CDKToolkit"
        },
        "roles": {each for each in names("iam", "list_roles", "Roles", "RoleName") if not each.startswith("cdk-")},
        "policies": {each["PolicyName"] for each in cloud.client("iam").list_policies(Scope="Local")["Policies"]},
        "groups": {
            *names("rds", "describe_db_subnet_groups", "DBSubnetGroups", "DBSubnetGroupName"),
            *names("rds", "describe_db_parameter_groups", "DBParameterGroups", "DBParameterGroupName"),
        },
        "functions": names("lambda", "list_functions", "Functions", "FunctionName"),
        "parameters": {
            each
            for each in names("ssm", "describe_parameters", "Parameters", "Name")
            if not each.startswith("/cdk-bootstrap/")
        },
        "alarms": names("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
        "topics": names("sns", "list_topics", "Topics", "TopicArn"),
        "networks": {
            each["VpcId"] for each in cloud.client("ec2").describe_vpcs()["Vpcs"] if not each.get("IsDefault")
        },
        "instances": names("rds", "describe_db_instances", "DBInstances", "DBInstanceIdentifier"),
        "snapshots": names("rds", "describe_db_snapshots", "DBSnapshots", "DBInstanceIdentifier"),
        "keys": {
            each["KeyId"]
            for each in keys.list_keys()["Keys"]
            if keys.describe_key(KeyId=each["KeyId"])["KeyMetadata"]["KeyState"] == "Enabled"
        },
        "secrets": names("secretsmanager", "list_secrets", "SecretList", "Name"),
        "logs": names("logs", "describe_log_groups", "logGroups", "logGroupName"),
    }


def test_a_protected_environment_is_destroyed_by_its_name_and_leaves_what_is_written(protected: LocalCloud) -> None:
    refused = _destroy(protected, "prod", "demoApp-dev")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "make destroy ENV=prod NAME=demoApp-prod" in refused.stderr
    before = _left(protected)
    assert len(before["stacks"]) == 5
    finished = _destroy(protected, "prod", "demoApp-prod")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert re.findall("^demoApp-prod-([A-Za-z]+): deleted$", finished.stdout, re.MULTILINE) == [
        *("Monitoring", "Service", "Database", "Network", "Deployment")
    ]
    after = {name: found for name, found in _left(protected).items() if found}
    assert set(after) == {"snapshots", "keys", "secrets", "logs"}
    page = (ROOT / "docs" / "operations.md").read_text()
    (said,) = re.findall(r"## Destroy\n(.*?)\n## ", page, re.DOTALL)
    assert "the keys, the secrets, the logs, a last snapshot and, for 14 days, the automated" in " ".join(said.split())
    assert after["snapshots"] == {"prod-demoapp"}
    for name in after["secrets"]:
        assert f"kept: AWS::SecretsManager::Secret {_arn(protected, name)}" in finished.stdout
    again = _destroy(protected, "prod", "demoApp-prod")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == "nothing of demoApp-prod in us-east-1 of account 000000000000\n"


def _arn(cloud: LocalCloud, name: str) -> str:
    return str(cloud.client("secretsmanager").describe_secret(SecretId=name)["ARN"])


def test_a_stack_that_is_left_is_named_with_what_holds_it() -> None:
    """As EC2 answers while Lambda keeps its interfaces."""
    reason = "resource sg-1 has a dependent object (Service: Ec2, Status Code: 400)"
    event = {
        "StackId": "id",
        "EventId": "1",
        "StackName": "demoApp-dev-Service",
        "Timestamp": datetime.now(UTC),
        "LogicalResourceId": "FunctionSecurityGroup",
        "ResourceStatus": "DELETE_FAILED",
        "ResourceStatusReason": reason,
    }

    def described(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        if asked["StackName"] == "demoApp-dev-Monitoring":
            return account.refusal("ValidationError")
        return {"Stacks": [account.stack("demoApp-dev-Service", "DELETE_FAILED") | {"StackId": "id"}]}

    session = account.session(
        cloudformation__DescribeStacks=described,
        cloudformation__DeleteStack={},
        cloudformation__DescribeStackEvents={"StackEvents": [event]},
    )
    with pytest.raises(DestroyError, match="demoApp-dev-Service is not deleted") as raised:
        list(destroy(lasting_settings(), session))
    assert f"FunctionSecurityGroup: {reason}" in str(raised.value)
