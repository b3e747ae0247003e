"""Who may do what: one table, for IAM's simulator (`make verify`) and for the tests on the local cloud."""

from collections.abc import Mapping
from typing import Any, NamedTuple

VIA_SECRETS_MANAGER = {"kms:ViaService": "Secrets Manager"}


class Row(NamedTuple):
    """One decision. Names stand for resources, functions and services: whoever uses the table resolves them."""

    role: str
    action: str
    resource: str
    decision: str
    """`allowed`, `implicitDeny` or `explicitDeny`, as IAM's simulator says."""
    call: Mapping[str, Any] | None = None
    """Arguments of the call by which a test tries it on the local cloud; None where no call is made."""
    context: Mapping[str, str] = {}
    """Condition keys of the request."""

    @property
    def by_identity(self) -> str:
        """What the role's own policies decide.

        IAM's simulator takes a resource policy for users only, not for roles
        (https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html).
        """
        return "implicitDeny" if self.action == "secretsmanager:DeleteSecret" else self.decision


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
    Row("Function", "kms:Decrypt", "key", "implicitDeny", None, {"kms:ViaService": "RDS"}),
    Row("Function", "kms:Encrypt", "key", "implicitDeny", {"Plaintext": b"x", "KeyId": "key"}),
    Row("Function", "kms:GenerateDataKey", "key", "implicitDeny", None, VIA_SECRETS_MANAGER),
    # Lambda manages the interfaces in the role's name; the code behind them may not.
    *(
        Row(role, f"ec2:{action}", resource, decision, call if context or not call else None, context)
        for role in ("Function", "Rotation", "Migration")
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
    _secret("Function", "GetSecretValue", "schema's secret", "implicitDeny"),
    # The migration function reads its own secret.
    _secret("Migration", "GetSecretValue", "schema's secret", "allowed"),
    _secret("Migration", "GetSecretValue", "own secret", "implicitDeny"),
    _secret("Migration", "GetSecretValue", "master's secret", "implicitDeny"),
    _secret("Migration", "PutSecretValue", "schema's secret", "implicitDeny", SecretString="{}"),
    _secret("Migration", "RotateSecret", "schema's secret", "implicitDeny"),
    _parameter("Migration", "GetParameter", "own parameter", "implicitDeny"),
    Row("Migration", "kms:Decrypt", "key", "allowed", None, VIA_SECRETS_MANAGER),
    Row("Migration", "kms:Decrypt", "key", "implicitDeny", {"CiphertextBlob": b"x", "KeyId": "key"}),
    Row("Migration", "rds:ModifyDBInstance", "*", "implicitDeny"),
    # The rotation function writes the two secrets, and reads the master's beside them.
    _secret("Rotation", "GetSecretValue", "schema's secret", "allowed"),
    Row("Rotation", "secretsmanager:PutSecretValue", "schema's secret", "allowed"),
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
