"""Who may do what: the deployed roles' policies, decided by an evaluator that is not ours and by calls."""

import contextlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import botocore.exceptions
import pytest
from botocore import xform_name

from local.install import CLOUD, environment
from local.running import ACCOUNT, LocalCloud

REGION = "us-east-1"
VIA_SECRETS_MANAGER = {"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"}


class Row(NamedTuple):
    """One decision: what is asked for, on what (by name, see `named`), and the arguments of the call, if it is made."""

    role: str
    action: str
    resource: str
    decision: str
    call: Mapping[str, Any] | None = None
    context: Mapping[str, str] = {}


def _secret(role: str, operation: str, resource: str, decision: str, **arguments: Any) -> Row:
    return Row(role, f"secretsmanager:{operation}", resource, decision, {"SecretId": resource, **arguments})


def _parameter(role: str, operation: str, resource: str, decision: str, **arguments: Any) -> Row:
    return Row(role, f"ssm:{operation}", resource, decision, {"Name": f"{resource} name", **arguments})


DECISIONS = [
    # The serving function reads one secret and one parameter.
    _secret("Function", "GetSecretValue", "own secret", "allowed"),
    _secret("Function", "GetSecretValue", "master's secret", "implicitDeny"),
    _secret("Function", "GetSecretValue", "other secret", "implicitDeny"),
    _secret("Function", "DescribeSecret", "own secret", "implicitDeny"),
    _secret("Function", "PutSecretValue", "own secret", "implicitDeny", SecretString="{}"),
    _secret("Function", "UpdateSecret", "own secret", "implicitDeny", SecretString="{}"),
    _secret("Function", "RotateSecret", "own secret", "implicitDeny"),
    _secret("Function", "DeleteSecret", "own secret", "explicitDeny"),  # By the secret's own policy.
    _parameter("Function", "GetParameter", "own parameter", "allowed"),
    _parameter("Function", "GetParameter", "other parameter", "implicitDeny"),
    _parameter("Function", "PutParameter", "own parameter", "implicitDeny", Value="{}", Overwrite=True),
    _parameter("Function", "DeleteParameter", "own parameter", "implicitDeny"),
    # The key opens secrets, and nothing else that it encrypts.
    Row("Function", "kms:Decrypt", "key", "allowed", None, VIA_SECRETS_MANAGER),
    Row("Function", "kms:Decrypt", "key", "implicitDeny", {"CiphertextBlob": b"x", "KeyId": "key"}),
    Row("Function", "kms:Decrypt", "key", "implicitDeny", None, {"kms:ViaService": f"rds.{REGION}.amazonaws.com"}),
    Row("Function", "kms:Encrypt", "key", "implicitDeny", {"Plaintext": b"x", "KeyId": "key"}),
    Row("Function", "kms:GenerateDataKey", "key", "implicitDeny", None, VIA_SECRETS_MANAGER),
    # Lambda manages the interfaces in the role's name; the code behind them may not.
    *(
        Row(role, f"ec2:{action}", resource, decision, call if context or not call else None, context)
        for role in ("Function", "Rotation")
        for action, resource, call in (
            ("CreateNetworkInterface", "interface", {"SubnetId": "subnet-1"}),
            ("DeleteNetworkInterface", "interface", {"NetworkInterfaceId": "eni-1"}),
            ("DescribeNetworkInterfaces", "*", {}),
        )
        for decision, context in (("allowed", {}), ("explicitDeny", {"lambda:SourceFunctionArn": role}))
    ),
    Row("Function", "ec2:ModifyNetworkInterfaceAttribute", "interface", "implicitDeny"),
    # Its own log, and no other.
    Row("Function", "logs:PutLogEvents", "own log", "allowed"),
    Row("Function", "logs:PutLogEvents", "other log", "implicitDeny"),
    Row("Function", "logs:CreateLogGroup", "own log", "implicitDeny"),
    Row("Function", "logs:DeleteLogGroup", "own log", "implicitDeny"),
    # Nothing of the database but the connection, which IAM has no part in.
    Row("Function", "rds:DescribeDBInstances", "*", "implicitDeny", {}),
    Row("Function", "rds:ModifyDBInstance", "*", "implicitDeny"),
    Row("Function", "rds-db:connect", "*", "implicitDeny"),
    Row("Function", "s3:GetObject", "*", "implicitDeny"),
    Row("Function", "iam:PassRole", "*", "implicitDeny"),
    Row("Function", "sts:AssumeRole", "*", "implicitDeny"),
    Row("Function", "lambda:InvokeFunction", "*", "implicitDeny"),
    # The rotation function writes one secret, and reads the master's beside it.
    _secret("Rotation", "DescribeSecret", "own secret", "allowed"),
    _secret("Rotation", "GetSecretValue", "own secret", "allowed"),
    Row("Rotation", "secretsmanager:PutSecretValue", "own secret", "allowed"),
    Row("Rotation", "secretsmanager:UpdateSecretVersionStage", "own secret", "allowed"),
    Row("Rotation", "secretsmanager:GetRandomPassword", "*", "allowed", {}),
    _secret("Rotation", "GetSecretValue", "master's secret", "allowed"),
    _secret("Rotation", "PutSecretValue", "master's secret", "implicitDeny", SecretString="{}"),
    _secret("Rotation", "GetSecretValue", "other secret", "implicitDeny"),
    _secret("Rotation", "PutSecretValue", "other secret", "implicitDeny", SecretString="{}"),
    _secret("Rotation", "DeleteSecret", "own secret", "explicitDeny"),
    _parameter("Rotation", "GetParameter", "own parameter", "implicitDeny"),
    Row("Rotation", "kms:GenerateDataKey", "key", "allowed", None, VIA_SECRETS_MANAGER),
    Row("Rotation", "kms:GenerateDataKey", "key", "implicitDeny", {"KeyId": "key", "KeySpec": "AES_256"}),
    Row("Rotation", "kms:CreateGrant", "key", "implicitDeny", None, VIA_SECRETS_MANAGER),
]


@pytest.fixture(scope="module")
def functions(cloud: LocalCloud) -> dict[str, dict[str, Any]]:
    """The configurations of the two deployed functions, by the names of the table."""
    found = cloud.client("lambda").list_functions()["Functions"]
    return {
        name: next(each for each in found if each["Handler"] == handler)
        for name, handler in (("Function", "handler.lambda_handler"), ("Rotation", "rotation.lambda_handler"))
    }


@pytest.fixture(scope="module")
def named(cloud: LocalCloud, outputs: dict[str, str], functions: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What the names of the table stand for in the deployed application."""
    own = outputs["DatabaseSecretArn"]
    secrets = cloud.client("secretsmanager")
    (master,) = {json.loads(secrets.get_secret_value(SecretId=own)["SecretString"])["masterarn"]}
    cloud.client("ssm").put_parameter(Name="/dev/other", Value="x", Type="String", Overwrite=True)
    parameters = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter"
    logs = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group"
    return {
        "own secret": own,
        "master's secret": master,
        "other secret": secrets.create_secret(Name="other", SecretString="x")["ARN"],
        "own parameter": parameters + outputs["ParameterName"],
        "own parameter name": outputs["ParameterName"],
        "other parameter": f"{parameters}/dev/other",
        "other parameter name": "/dev/other",
        "key": secrets.describe_secret(SecretId=own)["KmsKeyId"],
        "interface": f"arn:aws:ec2:{REGION}:{ACCOUNT}:network-interface/eni-1",
        "own log": f"{logs}:{functions['Function']['LoggingConfig']['LogGroup']}:*",
        "other log": f"{logs}:other:*",
        **{name: function["FunctionArn"] for name, function in functions.items()},
    }


def _documents(cloud: LocalCloud, role: str) -> list[dict[str, Any]]:
    """The documents of all policies attached to the role."""
    iam = cloud.client("iam")
    assert iam.list_role_policies(RoleName=role)["PolicyNames"] == []
    documents = []
    for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        policy = iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]
        version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])
        documents.append(version["PolicyVersion"]["Document"])
    return documents


@pytest.mark.parametrize("role", ["Function", "Rotation"])
def test_an_evaluator_decides_each_request_as_the_table_does(
    cloud: LocalCloud, functions: dict[str, dict[str, Any]], named: dict[str, str], role: str
) -> None:
    rows = [row for row in DECISIONS if row.role == role]
    arn, own = functions[role]["Role"], named["own secret"]
    asked = {
        "role": arn,
        "region": REGION,
        "policies": _documents(cloud, arn.rpartition("/")[2]),
        "resource_policies": {own: cloud.client("secretsmanager").get_resource_policy(SecretId=own)["ResourcePolicy"]},
        "requests": [
            {
                "action": row.action,
                "resource": named.get(row.resource, row.resource),
                "context": {key: named.get(value, value) for key, value in row.context.items()},
            }
            for row in rows
        ],
    }
    evaluator = Path(__file__).parent / "iam_evaluator.py"
    decided = subprocess.run(
        [CLOUD / "bin" / "python", evaluator],
        input=json.dumps(asked),
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(decided.stdout) == [row.decision for row in rows]


@pytest.mark.parametrize(
    "row",
    [row for row in DECISIONS if row.call is not None],
    ids=lambda row: f"{row.role}-{row.action}-{row.resource}-{row.decision}",
)
def test_the_cloud_decides_each_call_as_the_table_does(
    cloud: LocalCloud, functions: dict[str, dict[str, Any]], named: dict[str, str], row: Row
) -> None:
    service, operation = row.action.split(":")
    given_to = as_code_of if "lambda:SourceFunctionArn" in row.context else as_role_of
    client = given_to(cloud, functions[row.role]["FunctionName"], service)
    arguments = {
        key: named.get(value, value) if isinstance(value, str) else value for key, value in (row.call or {}).items()
    }
    call = getattr(client, xform_name(operation))
    if row.decision == "allowed":
        assert call(**arguments)["ResponseMetadata"]["HTTPStatusCode"] == 200
    else:
        said = {"explicitDeny": "explicit deny", "implicitDeny": "no identity-based policy allows"}[row.decision]
        with pytest.raises(botocore.exceptions.ClientError, match=said) as denied:
            call(**arguments)
        code = denied.value.response["Error"]["Code"]
        assert code.startswith(("AccessDenied", "UnauthorizedOperation"))


def as_code_of(cloud: LocalCloud, function_name: str, service: str) -> Any:
    """A client with the credentials that the function's own code has: those in its process's variables."""
    for process in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # Ended meanwhile, or another user's.
            variables = dict(each.split("=", 1) for each in process.read_bytes().decode().split("\0") if "=" in each)
            if (variables.get("AWS_LAMBDA_FUNCTION_NAME"), variables.get("AWS_ENDPOINT_URL")) == (
                function_name,
                cloud.variables["AWS_ENDPOINT_URL"],
            ):
                names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
                return cloud.client(service, **{name.lower(): variables[name] for name in names})
    raise AssertionError(f"{function_name} has no environment")


def as_role_of(cloud: LocalCloud, function_name: str, service: str) -> Any:
    """A client with the credentials of the function's role."""
    configuration = cloud.client("lambda").get_function_configuration(FunctionName=function_name)
    iam = cloud.client("iam")
    role = configuration["Role"].rpartition("/")[2]
    trust = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
    administrator = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    extended = {**trust, "Statement": [*trust["Statement"], _trusting(administrator)]}
    iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(extended))
    try:
        session = cloud.client("sts").assume_role(RoleArn=configuration["Role"], RoleSessionName="test")["Credentials"]
    finally:
        iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(trust))
    return cloud.client(
        service,
        aws_access_key_id=session["AccessKeyId"],
        aws_secret_access_key=session["SecretAccessKey"],
        aws_session_token=session["SessionToken"],
    )


def _trusting(principal: dict[str, str]) -> dict[str, object]:
    return {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
