"""The deployed function, and how it is invoked."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

import tools.aws
from local.cloud import ACCOUNT, LocalCloud


@pytest.fixture(scope="session")
def outputs(cloud: LocalCloud) -> dict[str, str]:
    return dict(cloud.outputs("Dev-Service"))


@pytest.fixture(scope="session")
def invoke(cloud: LocalCloud, outputs: dict[str, str]) -> Callable[[], dict[str, Any]]:
    """Invoke the deployed function; its payload, with the error, the log's end and the version beside it."""
    client = cloud.client("lambda")

    def invoke() -> dict[str, Any]:
        result = tools.aws.invoke(client, outputs["FunctionName"])
        answer: dict[str, Any] = result.pop("answer")
        return result | answer

    return invoke


def wait_for_rotation(cloud: LocalCloud, secret_id: str) -> None:
    """Until the pending version is the current one."""
    secrets = cloud.client("secretsmanager")
    give_up = time.monotonic() + 20
    while ["AWSPENDING"] in secrets.describe_secret(SecretId=secret_id)["VersionIdsToStages"].values():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def session_of_role(cloud: LocalCloud, role_arn: str) -> Any:
    """A session with the role's credentials; the role trusts the administrator while they are given."""
    iam, role = cloud.client("iam"), role_arn.rpartition("/")[2]
    trust = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
    administrator = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Action": "sts:AssumeRole",
    }
    extended = {**trust, "Statement": [*trust["Statement"], administrator]}
    iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(extended))
    try:
        given = cloud.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="test")["Credentials"]
    finally:
        iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(trust))
    return cloud.session(
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )
