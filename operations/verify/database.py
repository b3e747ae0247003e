"""Checks of the database instance and of the application's secret."""

import json
from datetime import UTC, datetime, timedelta
from typing import Final

from operations.aws import listed
from operations.verify.deployed import Deployed
from operations.verify.report import CheckFailedError, check, expect
from stacks.constructs.serving_monitoring import ROTATION_GRACE_DAYS

HEALTHY: Final = (
    *("available", "backing-up", "configuring-enhanced-monitoring"),
    *("storage-initialization", "storage-optimization"),
)
"""States in which the instance serves, for hours or a day; after a restore it loads its storage.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html
"""


@check("The database is private, Multi-AZ, encrypted with the environment's key or its snapshot's, and backed up")
def instance(deployed: Deployed) -> str:
    """As RDS describes it; a change that waits for the maintenance window is a failure here."""
    found, settings = deployed.instance, deployed.settings
    expected = {
        "PubliclyAccessible": False,
        "MultiAZ": True,
        "StorageEncrypted": True,
        # Data from a snapshot stays under the snapshot's key.
        "KmsKeyId": found.get("KmsKeyId") if settings.snapshot else deployed.key_arn,
        "DeletionProtection": settings.protect_data,
        "BackupRetentionPeriod": 14 if settings.protect_data else 1,
        "DBInstanceClass": f"db.{settings.instance_class}",
    }
    if found["DBInstanceStatus"] not in HEALTHY:
        raise CheckFailedError(found["DBInstanceStatus"], " or ".join(HEALTHY))
    wrong = {key: found.get(key) for key, value in expected.items() if found.get(key) != value}
    if wrong:
        raise CheckFailedError(wrong, {key: expected[key] for key in wrong})
    expect(found.get("PendingModifiedValues") or {}, {}, "pending changes")
    return f"{found['DBInstanceClass']}, Multi-AZ, {found['BackupRetentionPeriod']} days of backups"


@check("The database takes no connection without TLS, and no version before 1.2")
def parameters(deployed: Deployed) -> str:
    """The values in the parameter group, and that the server has taken them."""
    (group,) = deployed.instance["DBParameterGroups"]
    name = group["DBParameterGroupName"]
    expect(group["ParameterApplyStatus"], "in-sync", f"parameter group {name}")
    found = listed(deployed.client("rds"), "describe_db_parameters", "Parameters", DBParameterGroupName=name)
    values = {each["ParameterName"]: each.get("ParameterValue") for each in found}
    expect(values.get("require_secure_transport"), "1", "require_secure_transport")
    versions = set((values.get("tls_version") or "").split(","))
    if versions - {"TLSv1.2", "TLSv1.3"}:
        raise CheckFailedError(f"tls_version {values.get('tls_version')}", "TLSv1.2, TLSv1.3 or both")
    return f"require_secure_transport, {values['tls_version']}"


@check("The passwords rotate, and have rotated within their schedule")
def rotation(deployed: Deployed) -> str:
    """By the secrets' descriptions; their values are not read."""
    days = deployed.settings.rotation_days
    rules = {"AutomaticallyAfterDays": days}, {"ScheduleExpression": f"rate({days} day{'s' if days > 1 else ''})"}
    dates = []
    for arn in deployed.secret_arns:
        secret = deployed.client("secretsmanager").describe_secret(SecretId=arn)
        expect(secret.get("RotationEnabled"), expected=True, what=f"{arn}: rotation enabled:")
        if not any(rule.items() <= secret["RotationRules"].items() for rule in rules):
            raise CheckFailedError(f"{arn}: {secret['RotationRules']}", f"every {days} days")
        expect(secret.get("RotationLambdaARN", "").rpartition(":")[2], deployed.functions["Rotation"], "rotated by")
        if ["AWSPENDING"] in secret["VersionIdsToStages"].values():
            raise CheckFailedError(f"{arn}: a rotation that has begun and not ended", "none under way or stuck")
        last = secret.get("LastRotatedDate")
        allowed = timedelta(days=days + ROTATION_GRACE_DAYS)
        if last is None or datetime.now(UTC) - last > allowed:
            raise CheckFailedError(f"{arn}: last rotated {last}", f"within {allowed.days} days")
        dates.append(f"{last:%Y-%m-%d}")
    return f"every {days} days, last {' and '.join(dates)}"


@check("The secrets' own policies deny their deletion, and they are encrypted with the environment's key")
def secret_policy(deployed: Deployed) -> str:
    """IAM's simulator takes no resource policy for a role, so that this reads them."""
    client = deployed.client("secretsmanager")
    for arn in deployed.secret_arns:
        expect(client.describe_secret(SecretId=arn).get("KmsKeyId"), deployed.key_arn, f"{arn}: key")
        document = client.get_resource_policy(SecretId=arn).get("ResourcePolicy")
        statements = json.loads(document or "{}").get("Statement", [])
        denied = [each for each in statements if each["Effect"] == "Deny" and "DeleteSecret" in str(each["Action"])]
        expect(len(denied), 1, f"{arn}: statements that deny DeleteSecret:")
        expect([each for each in statements if each["Effect"] == "Allow"], [], f"{arn}: statements that allow:")
    return "deletion denied"
