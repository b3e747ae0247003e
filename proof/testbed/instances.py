"""Instances of the local cloud's RDS, each in a stack with a key, without the application."""

import json
from ssl import create_default_context
from typing import Any

import pymysql
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from operations.waiting import wait_until

FRESH = {
    "Engine": "mysql",
    "EngineVersion": "8.4",
    "DBInstanceClass": "db.t4g.micro",
    "AllocatedStorage": "20",
    "DBName": "shop",
    "MasterUsername": "owner",
    "ManageMasterUserPassword": True,
    "StorageEncrypted": True,
    "KmsKeyId": {"Fn::GetAtt": ["Key", "Arn"]},
}
RESTORED = {
    name: FRESH[name] for name in ("Engine", "EngineVersion", "DBInstanceClass", "ManageMasterUserPassword")
} | {"StorageEncrypted": True}


def deploy(cloud: LocalCloud, name: str, properties: dict[str, Any]) -> str:
    """Create or update a stack of a key and an instance; return the first reason of a failure."""
    client = cloud.client("cloudformation")
    policy = {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}]}
    resources = {
        "Key": {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": policy}},
        "Instance": {"Type": "AWS::RDS::DBInstance", "DeletionPolicy": "Delete", "Properties": properties},
    }
    try:
        client.describe_stacks(StackName=name)
        change = client.update_stack
    except ClientError:
        change = client.create_stack
    change(StackName=name, TemplateBody=json.dumps({"Resources": resources}))

    def ended() -> bool:
        (stack,) = client.describe_stacks(StackName=name)["Stacks"]
        return not stack["StackStatus"].endswith("_IN_PROGRESS")

    assert wait_until(ended, 600)
    (stack,) = client.describe_stacks(StackName=name)["Stacks"]
    if "ROLLBACK" not in stack["StackStatus"]:
        return ""
    events = client.describe_stack_events(StackName=name)["StackEvents"]
    reasons = [each["ResourceStatusReason"] for each in events if each["ResourceStatus"].endswith("_FAILED")]
    return str(reasons[-1])


def instance(cloud: LocalCloud, identifier: str) -> dict[str, Any]:
    (found,) = cloud.client("rds").describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"]
    return dict(found)


def master(cloud: LocalCloud, identifier: str) -> dict[str, Any]:
    arn = instance(cloud, identifier)["MasterUserSecret"]["SecretArn"]
    return dict(json.loads(cloud.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]))


def log_in(cloud: LocalCloud, identifier: str, user: str, password: str) -> "pymysql.Connection[Any]":
    """Log in to an instance as a user."""
    endpoint = instance(cloud, identifier)["Endpoint"]
    return pymysql.connect(
        host=endpoint["Address"],
        port=endpoint["Port"],
        user=user,
        password=password,
        ssl=create_default_context(cafile=cloud.variables["AWS_CA_BUNDLE"]),
        autocommit=True,
    )


def execute(cloud: LocalCloud, identifier: str, *statements: str) -> list[Any]:
    """Run statements as the master, with the password that RDS keeps; the rows of the last."""
    user = master(cloud, identifier)
    connection = log_in(cloud, identifier, user["username"], user["password"])
    with connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())
