"""What each deployed role may do, decided by an independent evaluator and by calls."""

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import botocore.exceptions
import psutil
import pytest
from botocore import xform_name

from local.cloud import ACCOUNT, LocalCloud
from local.install import CLOUD
from operations.commands import environment
from operations.verify.decisions import DECISIONS, SERVING, Row
from proof.cloud.roles import session_of_role

REGION = "us-east-1"


@pytest.fixture(scope="module")
def functions(cloud: LocalCloud) -> dict[str, dict[str, Any]]:
    """The configurations of the deployed functions, by the names of the table."""
    found = cloud.client("lambda").list_functions()["Functions"]
    return {
        name: next(each for each in found if each["Handler"] == handler)
        for name, handler in (
            (SERVING, "handler.lambda_handler"),
            ("Rotation", "rotation.lambda_handler"),
            ("Migration", "migration.lambda_handler"),
        )
    }


@pytest.fixture(scope="module")
def named(cloud: LocalCloud, outputs: dict[str, str], functions: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The ARNs in the deployed application for the names of the table."""
    own = outputs["DatabaseSecretArn"]
    secrets = cloud.client("secretsmanager")
    (master,) = {json.loads(secrets.get_secret_value(SecretId=own)["SecretString"])["masterarn"]}
    cloud.client("ssm").put_parameter(Name="/dev/other", Value="x", Type="String", Overwrite=True)
    parameters = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter"
    logs = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group"
    return {
        "own secret": own,
        "schema's secret": functions["Migration"]["Environment"]["Variables"]["CREDS_PATH"],
        "master's secret": master,
        "other secret": secrets.create_secret(Name="other", SecretString="x")["ARN"],
        "own parameter": parameters + outputs["ParameterName"],
        "own parameter name": outputs["ParameterName"],
        "other parameter": f"{parameters}/dev/other",
        "other parameter name": "/dev/other",
        "key": secrets.describe_secret(SecretId=own)["KmsKeyId"],
        "interface": f"arn:aws:ec2:{REGION}:{ACCOUNT}:network-interface/eni-1",
        "own log": f"{logs}:{functions[SERVING]['LoggingConfig']['LogGroup']}:*",
        "other log": f"{logs}:other:*",
        "Secrets Manager": f"secretsmanager.{REGION}.amazonaws.com",
        "RDS": f"rds.{REGION}.amazonaws.com",
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


@pytest.mark.parametrize("role", [SERVING, "Rotation", "Migration"])
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
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # Ended meanwhile, or another user's.
            variables = process.environ()
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
    return session_of_role(cloud, configuration["Role"]).client(service)
