"""The local cloud's snapshots hold data, and it refuses what RDS, KMS and CloudFormation refuse."""

from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from local.tests.fixtures import local_cloud
from proof.testbed.instances import FRESH, RESTORED, deploy, execute, instance, master


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    """A cloud with one instance, `first`, in a stack with its key, and a snapshot of it, `kept`."""
    with local_cloud("snapshots") as cloud:
        assert deploy(cloud, "First", FRESH | {"DBInstanceIdentifier": "first"}) == ""
        execute(cloud, "first", "CREATE TABLE shop.goods (name VARCHAR(20))", "INSERT INTO shop.goods VALUES ('tea')")
        cloud.client("rds").create_db_snapshot(DBInstanceIdentifier="first", DBSnapshotIdentifier="kept")
        yield cloud


@pytest.fixture
def stack(cloud: LocalCloud) -> Iterator[Callable[..., str]]:
    """Deploy an instance in a stack of its own, and return why it failed; the stack is deleted after the test."""
    yield lambda properties: deploy(cloud, "Second", properties)
    client = cloud.client("cloudformation")
    client.delete_stack(StackName="Second")
    client.get_waiter("stack_delete_complete").wait(StackName="Second", WaiterConfig={"Delay": 1})


def _refused(action: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ClientError) as refused:
        action(**arguments)
    return str(refused.value)


def test_a_stack_from_a_snapshot_has_its_data_master_and_key_and_a_new_password(
    cloud: LocalCloud, stack: Callable[..., str]
) -> None:
    execute(cloud, "first", "INSERT INTO shop.goods VALUES ('after the snapshot')")
    assert stack(RESTORED | {"DBSnapshotIdentifier": "kept", "DBInstanceIdentifier": "second"}) == ""
    assert execute(cloud, "second", "SELECT name FROM shop.goods") == [("tea",)]
    first, second = instance(cloud, "first"), instance(cloud, "second")
    assert (second["MasterUsername"], second["KmsKeyId"]) == (first["MasterUsername"], first["KmsKeyId"])
    assert master(cloud, "second")["password"] != master(cloud, "first")["password"]
    execute(cloud, "first", "DELETE FROM shop.goods WHERE name <> 'tea'")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"DBSnapshotIdentifier": "other"}, "DBSnapshot other not found."),
        ({"Engine": "postgres"}, "Cannot restore mysql as postgres."),
        ({"EngineVersion": "9.7"}, "The AllowMajorVersionUpgrade flag must be present"),
        ({"EngineVersion": "8.0"}, "Cannot upgrade mysql from 8.4 to 8.0"),
        ({"AllocatedStorage": "10"}, "Invalid storage size for engine name mysql"),
        ({"MaxAllocatedStorage": "20"}, "Max storage size must be greater than storage size"),
    ],
)
def test_what_rds_does_not_restore_is_refused(stack: Callable[..., str], changed: dict[str, str], said: str) -> None:
    assert said in stack(RESTORED | {"DBSnapshotIdentifier": "kept"} | changed)


def test_a_copy_has_the_data_under_another_key_and_outlives_the_first(
    cloud: LocalCloud, stack: Callable[..., str]
) -> None:
    rds, kms = cloud.client("rds"), cloud.client("kms")
    key = kms.create_key()["KeyMetadata"]
    under = {"SourceDBSnapshotIdentifier": "kept", "KmsKeyId": key["KeyId"]}
    assert rds.copy_db_snapshot(**under, TargetDBSnapshotIdentifier="moved")["DBSnapshot"]["KmsKeyId"] == key["Arn"]
    assert "DBSnapshotAlreadyExists" in _refused(rds.copy_db_snapshot, **under, TargetDBSnapshotIdentifier="moved")
    rds.copy_db_snapshot(
        SourceDBSnapshotIdentifier="kept", TargetDBSnapshotIdentifier="lasting", KmsKeyId="alias/aws/rds"
    )
    assert stack(RESTORED | {"DBSnapshotIdentifier": "moved", "DBInstanceIdentifier": "second"}) == ""
    # The key's deletion stops the instance, and nothing reads the snapshot any more; the other copy is readable.
    kms.schedule_key_deletion(KeyId=key["KeyId"])
    assert instance(cloud, "second")["DBInstanceStatus"] == "inaccessible-encryption-credentials-recoverable"
    with pytest.raises(pymysql.OperationalError):
        execute(cloud, "second", "SELECT 1")
    for action, arguments in (
        (rds.restore_db_instance_from_db_snapshot, {"DBInstanceIdentifier": "third"}),
        (rds.copy_db_snapshot, {"SourceDBSnapshotIdentifier": "moved", "TargetDBSnapshotIdentifier": "again"}),
        (rds.create_db_snapshot, {"DBInstanceIdentifier": "second", "DBSnapshotIdentifier": "again"}),
    ):
        given = {"DBSnapshotIdentifier": "moved"} | arguments if "Source" not in str(arguments) else arguments
        assert "KMSKeyNotAccessibleFault" in _refused(action, **given)
    assert "KMSKeyNotAccessibleFault" in _refused(
        rds.copy_db_snapshot,
        SourceDBSnapshotIdentifier="kept",
        TargetDBSnapshotIdentifier="again",
        KmsKeyId=key["KeyId"],
    )
    rds.restore_db_instance_from_db_snapshot(DBInstanceIdentifier="third", DBSnapshotIdentifier="lasting")
    rds.modify_db_instance(DBInstanceIdentifier="third", ManageMasterUserPassword=True, ApplyImmediately=True)
    assert execute(cloud, "third", "SELECT name FROM shop.goods") == [("tea",)]
    rds.delete_db_instance(DBInstanceIdentifier="third", SkipFinalSnapshot=True)


def test_a_restored_copy_has_no_password_that_anybody_knows_until_rds_keeps_a_new_one(cloud: LocalCloud) -> None:
    rds = cloud.client("rds")
    given = {"DBInstanceIdentifier": "copy", "DBSnapshotIdentifier": "kept"}
    refused = _refused(rds.restore_db_instance_from_db_snapshot, **given, ManageMasterUserPassword=True)
    assert "Oracle only" in refused
    rds.restore_db_instance_from_db_snapshot(**given)
    assert "MasterUserSecret" not in instance(cloud, "copy")
    rds.modify_db_instance(DBInstanceIdentifier="copy", ManageMasterUserPassword=True, ApplyImmediately=True)
    secret = instance(cloud, "copy")["MasterUserSecret"]["SecretArn"]
    assert execute(cloud, "copy", "SELECT name FROM shop.goods") == [("tea",)]
    rds.delete_db_instance(DBInstanceIdentifier="copy", SkipFinalSnapshot=True)
    assert "ResourceNotFoundException" in _refused(cloud.client("secretsmanager").get_secret_value, SecretId=secret)


def test_the_latest_time_can_be_restored(cloud: LocalCloud) -> None:
    rds = cloud.client("rds")
    names = {"SourceDBInstanceIdentifier": "first", "TargetDBInstanceIdentifier": "copy"}
    assert "keeps no log" in _refused(rds.restore_db_instance_to_point_in_time, **names, RestoreTime="2026-11-22")
    rds.restore_db_instance_to_point_in_time(**names, UseLatestRestorableTime=True)
    rds.modify_db_instance(DBInstanceIdentifier="copy", ManageMasterUserPassword=True, ApplyImmediately=True)
    assert execute(cloud, "copy", "SELECT name FROM shop.goods") == [("tea",)]
    rds.delete_db_instance(DBInstanceIdentifier="copy", SkipFinalSnapshot=True)
    assert not [each for each in rds.describe_db_snapshots()["DBSnapshots"] if "latest" in each["DBSnapshotIdentifier"]]


def test_without_its_snapshot_an_instance_is_replaced_by_an_empty_one_unless_it_has_a_name(
    cloud: LocalCloud, stack: Callable[..., str]
) -> None:
    """CloudFormation's page of the resource says so.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-rds-dbinstance.html
    """
    assert stack(RESTORED | {"DBSnapshotIdentifier": "kept"}) == ""
    restored = {each["DBInstanceIdentifier"] for each in cloud.client("rds").describe_db_instances()["DBInstances"]}
    (before,) = restored - {"first"}
    assert execute(cloud, before, "SELECT name FROM shop.goods") == [("tea",)]
    assert stack(FRESH) == ""
    now = {each["DBInstanceIdentifier"] for each in cloud.client("rds").describe_db_instances()["DBInstances"]}
    (after,) = now - {"first"}
    assert after != before
    assert execute(cloud, after, "SHOW TABLES FROM shop") == []


@pytest.mark.parametrize("changed", [FRESH, RESTORED | {"DBSnapshotIdentifier": "again"}])
def test_a_named_instance_is_never_replaced(
    cloud: LocalCloud, stack: Callable[..., str], changed: dict[str, Any]
) -> None:
    name = {"DBInstanceIdentifier": "second"}
    assert stack(RESTORED | name | {"DBSnapshotIdentifier": "kept"}) == ""
    assert "cannot update a stack when a custom-named resource requires replacing" in stack(changed | name)
    assert execute(cloud, "second", "SELECT name FROM shop.goods") == [("tea",)]
