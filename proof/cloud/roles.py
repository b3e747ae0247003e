"""Sessions with the credentials of a function's role."""

import json
from typing import Any

from local.cloud import ACCOUNT, LocalCloud


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
