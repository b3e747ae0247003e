"""What would lose data, or stop a deploy, about the snapshot that an environment's data comes from."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from botocore.exceptions import ClientError

from operations.aws import is_a
from stacks.settings import Settings

INSTANCE: Final = "AWS::RDS::DBInstance"
HEADROOM: Final = 1.1
"""How much more than it has an instance must be allowed to grow to, for RDS to take the limit.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_PIOPS.Autoscaling.html
"""


def faults(settings: Settings, template: Mapping[str, Any], client: Callable[[str], Any]) -> Iterator[str]:
    """Return a sentence for each, with what to do about it.

    Args:
        settings: what the environment is deployed with.
        template: of its database.
        client: makes boto3's client of a service.

    Raises:
        ClientError: AWS refused a question.
    """
    (instance,) = (each["Properties"] for each in template["Resources"].values() if each["Type"] == INSTANCE)
    deployed = _deployed(f"{settings.stack_prefix}Database", client("cloudformation"))
    if deployed is not None and _instance(instance["DBInstanceIdentifier"], client("rds")):
        yield from _changed(deployed.get("DBSnapshotIdentifier", ""), settings.snapshot)
    elif settings.snapshot:
        try:
            (snapshot,) = client("rds").describe_db_snapshots(DBSnapshotIdentifier=settings.snapshot)["DBSnapshots"]
        except ClientError as error:
            if not is_a(error, "DBSnapshotNotFound"):
                raise
            yield f"snapshot {settings.snapshot}: there is none in this region of this account"
        else:
            yield from _unusable(settings, snapshot, int(instance["MaxAllocatedStorage"]))
            yield from _name_faults(settings, snapshot, client("rds"))
            yield from _key_faults(snapshot, client)


def copy_command(snapshot: str) -> str:
    """Return the command that copies a snapshot under AWS's own key for RDS, which nobody can delete."""
    name = snapshot.rpartition(":")[2]
    return (
        f"aws rds copy-db-snapshot --source-db-snapshot-identifier {snapshot} "
        f"--target-db-snapshot-identifier {name}-lasting --kms-key-id alias/aws/rds"
    )


def _deployed(stack: str, cloudformation: Any) -> Mapping[str, Any] | None:
    """Return the properties of the instance in a stack's template; None where there is no such stack."""
    try:
        template = cloudformation.get_template(StackName=stack)["TemplateBody"]
    except ClientError as error:
        if not is_a(error, "ValidationError"):
            raise
        return None
    found = [each["Properties"] for each in template["Resources"].values() if each["Type"] == INSTANCE]
    return found[0] if found else None


def _instance(identifier: str, rds: Any) -> Mapping[str, Any]:
    """Return an instance as RDS describes it; empty when it is not there."""
    try:
        (found,) = rds.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"]
    except ClientError as error:
        if not is_a(error, "DBInstanceNotFound"):
            raise
        return {}
    return dict(found)


def _changed(before: str, now: str) -> Iterator[str]:
    if before == now:
        return
    if before:
        yield (
            f"snapshot={now}: this environment's data came from {before}, and CloudFormation may replace the database "
            f"when that is no longer said: set snapshot={before} for good, and make another environment of another one"
        )
    else:
        yield (
            f"snapshot={now}: this environment has a database, which CloudFormation would replace: make another "
            "environment of the snapshot, or copy a table back (make restore)"
        )


def _unusable(settings: Settings, snapshot: Mapping[str, Any], limit: int) -> Iterator[str]:
    name = f"snapshot {settings.snapshot}"
    if snapshot["Status"] != "available":
        yield f"{name}: it is {snapshot['Status']}: wait until it is available"
    if snapshot["Engine"] != "mysql":
        yield f"{name}: of {snapshot['Engine']}, which RDS does not restore as mysql"
    if snapshot["MasterUsername"] != settings.database_username:
        master = snapshot["MasterUsername"]
        yield f"{name}: its master user is {master}, and stays so: set database_username={master}"
    version = snapshot["EngineVersion"]
    wanted, has = (each.partition("-")[0].split(".") for each in (settings.engine_version, version))
    if wanted[:2] != has[:2] or [*map(int, wanted[2:])] < [*map(int, has[2 : len(wanted)])]:
        series = ".".join(has[:2])
        yield (
            f"{name}: of MySQL {version}, which a restore makes neither older nor another series: "
            f"set engine_version={series}, and upgrade afterwards (docs/operations.md)"
        )
    storage = snapshot["AllocatedStorage"]
    if storage * HEADROOM > limit:
        yield (
            f"{name}: it needs {storage} GiB, and the instance may grow to {limit}: raise max_allocated_storage "
            f"in stacks/database.py to {int(storage * 1.26) + 1} or more"
        )


def _name_faults(settings: Settings, snapshot: Mapping[str, Any], rds: Any) -> Iterator[str]:
    """A snapshot does not say which database its instance was made with: the instance does, while it is there."""
    found = _instance(snapshot["DBInstanceIdentifier"], rds)
    made = found.get("DBName") or settings.database_name
    # Another instance may have the name by now.
    if made != settings.database_name and found["DbiResourceId"] == snapshot["DbiResourceId"]:
        yield f"snapshot {settings.snapshot}: its instance was made with {made}: set database_name={made}"


def _key_faults(snapshot: Mapping[str, Any], client: Callable[[str], Any]) -> Iterator[str]:
    """The restored data stays under the snapshot's key: it must outlive the environment that the data is from."""
    name = snapshot["DBSnapshotIdentifier"]
    remedy = f"copy it under a key that stays: {copy_command(name)}"
    if not snapshot["Encrypted"]:
        yield f"snapshot {name}: not encrypted, and its instance would not be either: {remedy}"
        return
    key = client("kms").describe_key(KeyId=snapshot["KmsKeyId"])["KeyMetadata"]
    if key["KeyState"] != "Enabled":
        yield f"snapshot {name}: its key {key['KeyId']} is {key['KeyState']}: enable it, or nobody reads the data"
    try:
        # All resources of the stack that has this one.
        found = client("cloudformation").describe_stack_resources(PhysicalResourceId=key["KeyId"])["StackResources"]
    except ClientError as error:
        if not is_a(error, "ValidationError"):
            raise
        return
    for stack in sorted({each["StackName"] for each in found if each["ResourceType"] == INSTANCE}):
        yield f"snapshot {name}: its key belongs to {stack}, and may be deleted with it: {remedy}"
