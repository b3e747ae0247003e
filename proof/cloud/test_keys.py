"""Whose key opens what: of secrets, variables and logs. No key, policy or role here is one of the application's.

https://docs.aws.amazon.com/kms/latest/developerguide/policy-evaluation.html
"""

import io
import json
import uuid
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import botocore.exceptions
import pytest

from local.cloud import LocalCloud

ACCOUNT = "arn:aws:iam::000000000000:root"
ROLE = "arn:aws:iam::000000000000:role/reader"
VIA = {"StringEquals": {"kms:ViaService": "secretsmanager.us-east-1.amazonaws.com"}}
LOGS = {"Service": "logs.us-east-1.amazonaws.com"}


def _statement(principal: Any, **given: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": principal, "Action": "kms:*", "Resource": "*"} | given


def _deny(principal: Any, **given: Any) -> dict[str, Any]:
    return _statement(principal, **given) | {"Effect": "Deny"}


OWNER = _statement({"AWS": ACCOUNT}, Action=["kms:PutKeyPolicy", "kms:CreateGrant", "kms:RevokeGrant", "kms:Encrypt"])
"""Leaves the key's administration, and no decryption, to the account's policies."""
DELEGATED = _statement({"AWS": ACCOUNT})
DECRYPT = {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}


@pytest.fixture(scope="module")
def key(cloud: LocalCloud) -> Iterator[str]:
    """A key's ARN."""
    kms = cloud.client("kms")
    metadata = kms.create_key(Policy=json.dumps({"Statement": [DELEGATED]}))["KeyMetadata"]
    yield metadata["Arn"]
    kms.schedule_key_deletion(KeyId=metadata["KeyId"])


@pytest.fixture
def set_policy(cloud: LocalCloud, key: str) -> Iterator[Callable[..., None]]:
    """Give the key a policy of these statements."""

    def set_policy(*statements: dict[str, Any]) -> None:
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        cloud.client("kms").put_key_policy(KeyId=key, PolicyName="default", Policy=document)

    yield set_policy
    set_policy(DELEGATED)


@pytest.fixture(scope="module")
def secret(cloud: LocalCloud, key: str) -> Iterator[str]:
    """A secret's ARN."""
    secrets = cloud.client("secretsmanager")
    arn = secrets.create_secret(Name="foreign", SecretString="value", KmsKeyId=key)["ARN"]
    yield arn
    secrets.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)


@pytest.fixture(scope="module")
def reader(cloud: LocalCloud) -> Iterator[Any]:
    """A session of a role that may do everything with secrets, logs and nothing with keys."""
    iam = cloud.client("iam")
    trust = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
    trust_lambda = trust | {"Principal": {"Service": "lambda.amazonaws.com"}}
    iam.create_role(RoleName="reader", AssumeRolePolicyDocument=json.dumps({"Statement": [trust, trust_lambda]}))
    _give(cloud, {"Effect": "Allow", "Action": ["secretsmanager:*", "logs:*"], "Resource": "*"}, name="services")
    given = cloud.client("sts").assume_role(RoleArn=ROLE, RoleSessionName="session")["Credentials"]
    yield cloud.session(
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )
    for name in iam.list_role_policies(RoleName="reader")["PolicyNames"]:
        iam.delete_role_policy(RoleName="reader", PolicyName=name)
    iam.delete_role(RoleName="reader")


def _give(cloud: LocalCloud, *statements: dict[str, Any], name: str = "keys") -> None:
    iam = cloud.client("iam")
    if statements:
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam.put_role_policy(RoleName="reader", PolicyName=name, PolicyDocument=document)
    elif name in iam.list_role_policies(RoleName="reader")["PolicyNames"]:
        iam.delete_role_policy(RoleName="reader", PolicyName=name)


def _outcome(call: Callable[..., Any], **request: Any) -> str:
    try:
        call(**request)
    except botocore.exceptions.ClientError as error:
        return str(error.response["Error"]["Message"])
    return "done"


CASES: list[tuple[str, list[dict[str, Any]], list[dict[str, Any]], bool]] = [
    ("left to the account, and the role's policy allows", [DELEGATED], [DECRYPT], True),
    ("left to the account, and the role has no policy for keys", [DELEGATED], [], False),
    ("not left to the account, though the role's policy allows", [OWNER], [DECRYPT], False),
    ("the role named, without a policy of its own", [OWNER, _statement({"AWS": ROLE})], [], True),
    ("the role named for something else", [OWNER, _statement({"AWS": ROLE}, Action="kms:Encrypt")], [], False),
    ("a foreign role named", [OWNER, _statement({"AWS": ROLE.replace("000000000000", "111122223333")})], [], False),
    ("through Secrets Manager", [OWNER, _statement({"AWS": ROLE}, Condition=VIA)], [], True),
    (
        "through another service",
        [
            OWNER,
            _statement({"AWS": ROLE}, Condition={"StringEquals": {"kms:ViaService": "ssm.us-east-1.amazonaws.com"}}),
        ],
        [],
        False,
    ),
    ("the role's policy through Secrets Manager", [DELEGATED], [DECRYPT | {"Condition": VIA}], True),
    (
        "the role's policy not through Secrets Manager",
        [DELEGATED],
        [DECRYPT | {"Condition": {"StringNotEquals": VIA["StringEquals"]}}],
        False,
    ),
    (
        "left to the account through Secrets Manager",
        [OWNER, _statement({"AWS": ACCOUNT}, Condition=VIA)],
        [DECRYPT],
        True,
    ),
    (
        "this secret's encryption context",
        [
            OWNER,
            _statement({"AWS": ROLE}, Condition={"ArnLike": {"kms:EncryptionContext:SecretARN": "*:secret:foreign-*"}}),
        ],
        [],
        True,
    ),
    (
        "another secret's encryption context",
        [
            OWNER,
            _statement({"AWS": ROLE}, Condition={"ArnLike": {"kms:EncryptionContext:SecretARN": "*:secret:other-*"}}),
        ],
        [],
        False,
    ),
    ("a Deny in the key's policy", [DELEGATED, _deny({"AWS": ROLE}, Action="kms:Decrypt")], [DECRYPT], False),
    ("a Deny in the role's policy", [DELEGATED, _statement({"AWS": ROLE})], [DECRYPT | {"Effect": "Deny"}], False),
    ("a Deny of a foreign role", [DELEGATED, _deny({"AWS": "arn:aws:iam::111122223333:role/reader"})], [DECRYPT], True),
    (
        "NotAction that leaves decryption out",
        [OWNER, {k: v for k, v in _statement({"AWS": ROLE}, NotAction="kms:Decrypt").items() if k != "Action"}],
        [],
        False,
    ),
    ("the service named, where the caller decrypts", [OWNER, _statement(LOGS)], [], False),
]


@pytest.mark.parametrize(("policy", "role", "opens"), [each[1:] for each in CASES], ids=[each[0] for each in CASES])
def test_a_secret_is_read_only_with_its_key(
    cloud: LocalCloud,
    reader: Any,
    secret: str,
    set_policy: Callable[..., None],
    *,
    policy: list[dict[str, Any]],
    role: list[dict[str, Any]],
    opens: bool,
) -> None:
    _give(cloud, *role)
    set_policy(*policy)
    expected = "done" if opens else "Access to KMS is not allowed"
    assert _outcome(reader.client("secretsmanager").get_secret_value, SecretId=secret) == expected


def test_a_secret_is_written_only_with_a_new_data_key(
    cloud: LocalCloud, reader: Any, secret: str, set_policy: Callable[..., None]
) -> None:
    put = reader.client("secretsmanager").put_secret_value
    _give(cloud)
    for action, outcome in (("kms:Decrypt", "Access to KMS is not allowed"), ("kms:GenerateDataKey", "done")):
        set_policy(OWNER, _statement({"AWS": ROLE}, Action=action))
        assert _outcome(put, SecretId=secret, SecretString=str(uuid.uuid4())) == outcome


GRANTS: list[tuple[str, dict[str, Any], bool]] = [
    ("without constraints", {}, True),
    ("of this secret", {"Constraints": {"EncryptionContextSubset": {"SecretARN": "secret"}}}, True),
    ("of this secret alone", {"Constraints": {"EncryptionContextEquals": {"SecretARN": "secret"}}}, True),
    ("of another context", {"Constraints": {"EncryptionContextSubset": {"a": "b"}}}, False),
    ("of another context alone", {"Constraints": {"EncryptionContextEquals": {"a": "b"}}}, False),
    (
        "of this secret with more",
        {"Constraints": {"EncryptionContextEquals": {"SecretARN": "secret", "a": "b"}}},
        False,
    ),
    ("to another role", {"GranteePrincipal": ROLE.replace("reader", "writer")}, False),
    ("to a foreign role", {"GranteePrincipal": ROLE.replace("000000000000", "111122223333")}, False),
]
"""https://docs.aws.amazon.com/kms/latest/APIReference/API_GrantConstraints.html."""


@pytest.mark.parametrize(("given", "opens"), [each[1:] for each in GRANTS], ids=[each[0] for each in GRANTS])
def test_a_grant_opens_and_a_deny_closes(
    cloud: LocalCloud,
    reader: Any,
    secret: str,
    key: str,
    set_policy: Callable[..., None],
    *,
    given: dict[str, Any],
    opens: bool,
) -> None:
    kms, read = cloud.client("kms"), reader.client("secretsmanager").get_secret_value
    refused = "Access to KMS is not allowed"
    _give(cloud)
    set_policy(OWNER)
    given = {"GranteePrincipal": ROLE} | json.loads(json.dumps(given).replace('"secret"', json.dumps(secret)))
    kms.create_grant(**given, KeyId=key, Operations=["Encrypt"])
    other = kms.create_key(Policy=json.dumps({"Statement": [DELEGATED]}))["KeyMetadata"]["Arn"]
    kms.create_grant(**given, KeyId=other, Operations=["Decrypt"])
    assert _outcome(read, SecretId=secret) == refused
    grant = kms.create_grant(**given, KeyId=key, Operations=["Decrypt"])["GrantId"]
    assert _outcome(read, SecretId=secret) == ("done" if opens else refused)
    set_policy(OWNER, _deny({"AWS": ROLE}, Action="kms:Decrypt"))
    assert _outcome(read, SecretId=secret) == refused
    set_policy(OWNER)
    kms.revoke_grant(KeyId=key, GrantId=grant)
    assert _outcome(read, SecretId=secret) == refused


def test_a_disabled_key_opens_nothing(cloud: LocalCloud, secret: str, key: str) -> None:
    kms, read = cloud.client("kms"), cloud.client("secretsmanager").get_secret_value
    kms.disable_key(KeyId=key)
    assert _outcome(read, SecretId=secret) == "Access to KMS is not allowed"
    kms.enable_key(KeyId=key)
    assert _outcome(read, SecretId=secret) == "done"


def test_nobody_locks_everybody_out_unless_they_say_so(cloud: LocalCloud, key: str) -> None:
    kms = cloud.client("kms")
    given = {"KeyId": key, "PolicyName": "default", "Policy": json.dumps({"Statement": [_statement(LOGS)]})}
    assert "will not allow you to update" in _outcome(kms.put_key_policy, **given)
    own = {**given, "Policy": json.dumps({"Statement": [DELEGATED]})}
    assert _outcome(kms.put_key_policy, **own, BypassPolicyLockoutSafetyCheck=True) == "done"


def test_a_log_is_read_while_cloudwatch_logs_may_use_its_key(
    cloud: LocalCloud, key: str, set_policy: Callable[..., None]
) -> None:
    logs = cloud.client("logs")

    def condition(name: str) -> dict[str, Any]:
        return {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": f"arn:aws:logs:*:000000000000:log-group:{name}"}}

    set_policy(OWNER, _statement(LOGS, Condition=condition("kept*")))
    logs.create_log_group(logGroupName="kept", kmsKeyId=key)
    logs.create_log_stream(logGroupName="kept", logStreamName="one")
    ways: list[tuple[Callable[..., Any], dict[str, Any]]] = [
        (logs.filter_log_events, {}),
        (logs.get_log_events, {"logStreamName": "one"}),
        (logs.start_query, {"startTime": 0, "endTime": 1, "queryString": "fields @message"}),
    ]
    try:
        assert [_outcome(read, logGroupName="kept", **given) for read, given in ways] == ["done"] * 3
        for refusing in ([OWNER], [OWNER, _statement(LOGS, Condition=condition("other*"))], [DELEGATED]):
            set_policy(*refusing)
            for read, given in ways:
                assert "may not use the KMS key" in _outcome(read, logGroupName="kept", **given)
    finally:
        logs.delete_log_group(logGroupName="kept")


@pytest.mark.parametrize("of_flows", [True, False], ids=["of flows", "of functions"])
def test_a_deployed_log_is_read_while_its_key_says_so(cloud: LocalCloud, *, of_flows: bool) -> None:
    """Each key of the application has a statement for CloudWatch Logs, and the account's to be changed by."""
    logs, kms = cloud.client("logs"), cloud.client("kms")
    groups = {each["logGroupName"]: each.get("kmsKeyId") for each in logs.describe_log_groups()["logGroups"]}
    name, own = next((name, own) for name, own in groups.items() if own and ("FlowLog" in name) == of_flows)
    given = {"KeyId": own, "PolicyName": "default"}
    before = kms.get_key_policy(**given)["Policy"]
    statements = json.loads(before)["Statement"]
    left = [each for each in statements if "logs." not in json.dumps(each["Principal"])]
    assert len(left) == len(statements) - 1
    assert _outcome(logs.filter_log_events, logGroupName=name) == "done"
    kms.put_key_policy(**given, Policy=json.dumps({"Version": "2012-10-17", "Statement": left}))
    try:
        assert "may not use the KMS key" in _outcome(logs.filter_log_events, logGroupName=name)
        for other in groups.keys() - {each for each, of in groups.items() if of == own}:
            assert _outcome(logs.filter_log_events, logGroupName=other) == "done"
    finally:
        kms.put_key_policy(**given, Policy=before)


def test_a_template_makes_no_log_group_with_a_key_that_cloudwatch_logs_may_not_use(
    cloud: LocalCloud, key: str, set_policy: Callable[..., None]
) -> None:
    set_policy(DELEGATED)
    properties = {"LogGroupName": "refused", "KmsKeyId": key}
    assert "is not allowed to be used with Arn" in _stack_failure(cloud, "AWS::Logs::LogGroup", properties)
    assert cloud.client("logs").describe_log_groups(logGroupNamePrefix="refused")["logGroups"] == []


def _function(cloud: LocalCloud, key: str) -> dict[str, Any]:
    """The properties of a function with variables under the key; its code is in CDK's bucket."""
    archive = io.BytesIO()
    module = zipfile.ZipInfo("index.py")
    module.external_attr = 0o644 << 16
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr(module, "import os\n\ndef handler(event, context):\n    return os.environ['NAME']\n")
    bucket = "cdk-hnb659fds-assets-000000000000-us-east-1"
    cloud.client("s3").put_object(Bucket=bucket, Key="foreign.zip", Body=archive.getvalue())
    return {
        "FunctionName": "foreign",
        "Runtime": "python3.13",
        "Handler": "index.handler",
        "Role": ROLE,
        "Code": {"S3Bucket": bucket, "S3Key": "foreign.zip"},
        "Environment": {"Variables": {"NAME": "value"}},
        "KmsKeyArn": key,
    }


def _stack_failure(cloud: LocalCloud, kind: str, properties: dict[str, Any]) -> str:
    """Make a stack of one resource; why it failed, and nothing if it did not. The stack is left if it was made."""
    cloudformation = cloud.client("cloudformation")
    template = {"Resources": {"One": {"Type": kind, "Properties": properties}}}
    cloudformation.create_stack(StackName="One", TemplateBody=json.dumps(template))
    waiter = cloudformation.get_waiter("stack_create_complete")
    try:
        waiter.wait(StackName="One", WaiterConfig={"Delay": 1})
    except botocore.exceptions.WaiterError:
        events = cloudformation.describe_stack_events(StackName="One")["StackEvents"]
        _delete_stack(cloud)
        return " ".join(each.get("ResourceStatusReason", "") for each in events)
    return ""


def _delete_stack(cloud: LocalCloud) -> None:
    cloudformation = cloud.client("cloudformation")
    cloudformation.delete_stack(StackName="One")
    cloudformation.get_waiter("stack_delete_complete").wait(StackName="One", WaiterConfig={"Delay": 1})


def test_variables_are_decrypted_by_the_grant_that_lambda_gives(
    cloud: LocalCloud, reader: Any, key: str, set_policy: Callable[..., None]
) -> None:
    """The role's own policies say nothing of keys."""
    _give(cloud)
    properties = _function(cloud, key)
    set_policy(OWNER, _deny("*", Action="kms:CreateGrant", Condition={"StringLike": {"kms:ViaService": "lambda.*"}}))
    assert "invalid for CreateGrant" in _stack_failure(cloud, "AWS::Lambda::Function", properties)
    set_policy(OWNER)
    assert _stack_failure(cloud, "AWS::Lambda::Function", properties) == ""
    client = cloud.client("lambda")
    try:
        set_policy(OWNER, _deny({"AWS": ROLE}, Action="kms:Decrypt"))
        refused = json.load(client.invoke(FunctionName="foreign")["Payload"])
        assert refused["errorType"] == "KMSAccessDeniedException"
        set_policy(OWNER)
        assert json.load(client.invoke(FunctionName="foreign")["Payload"]) == "value"
    finally:
        _delete_stack(cloud)
