"""RDS: snapshots hold an instance's data, and a restored instance is a server on it.

ministack's snapshot is a record alone, it copies none, and knows neither a point in time nor RDS's secret of a master.
This patch can go when it does.
"""

import json
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ministack.core.responses import new_uuid
from ministack.services import kms, rds, secretsmanager

from local.certificates import Certificates
from local.ministack_patches import Properties, network
from local.mysql import LOOPBACK, PORT, MySQLServer

RUN: Final = Path(os.environ["LOCAL_RUN"])
OWN_ADDRESS: Final = os.environ["LOCAL_DATABASE_ADDRESS"]
"""Of this cloud's database; a second one at the same time has a port of its own at 127.0.0.1."""
DATA: Final = RUN / "private" / "snapshots"
DEFAULT_KEY: Final = "alias/aws/rds"
"""AWS's own key of the account for RDS, which nobody can delete."""

Response = tuple[int, dict[str, str], bytes]

_create_record = rds._create_snapshot_internal
_delete_snapshot = rds._delete_db_snapshot
_restore_record = rds._restore_from_snapshot
_modify_record = rds._modify_db_instance
_delete_record = rds._delete_db_instance
_schedule_key_deletion = kms._schedule_key_deletion

servers: Final[dict[str, MySQLServer]] = {}
"""The server of each instance."""
listeners: Final[dict[str, network.Listener]] = {}
"""Where each server is reached from, when the network's rules are enforced."""


class RefusedError(ValueError):
    """RDS refuses a request; CloudFormation shows the message."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.response: Response = rds._error(code, message, status)


def install() -> None:
    """Give snapshots their data."""
    rds._create_snapshot_internal = _create
    for name, action in {
        "DeleteDBSnapshot": _delete,
        "CopyDBSnapshot": _copy,
        "RestoreDBInstanceFromDBSnapshot": _restore,
        "RestoreDBInstanceToPointInTime": _restore_latest,
        "ModifyDBInstance": _modify,
        "DeleteDBInstance": _delete_instance,
    }.items():
        rds._ACTION_MAP[name] = _answering(action)
    rds._ACTION_MAP["CreateDBSnapshot"] = _answering(rds._create_db_snapshot)
    kms._schedule_key_deletion = _take_key_away


def start_server(
    record: dict[str, Any], options: list[str], start: Callable[[MySQLServer], None], port: int = PORT
) -> None:
    """Start an instance's server, for whom the rules of a port admit, and have the record say where it is."""
    identifier = record["DBInstanceIdentifier"]
    taken = {each.address for each in servers.values()}
    address = LOOPBACK if OWN_ADDRESS in taken else OWN_ADDRESS
    certificates = Certificates.within(RUN / "certificates")
    server = MySQLServer(RUN / identifier, certificates, *options, address=address, is_hidden=network.ENFORCED)
    start(server)
    servers[identifier] = server
    if network.ENFORCED:
        listeners[identifier] = network.database_listener(identifier, server, port)
        listeners[identifier].tls_only = "--require-secure-transport=ON" in options
    record["Endpoint"] |= {"Address": address, "Port": server.port}


def keep_master_password(record: dict[str, Any], password: str, key: str | None) -> str:
    """Keep the master's password in a secret of RDS's own, under a key; return its ARN."""
    value = {"username": record["MasterUsername"], "password": password}
    arn: str = secretsmanager.create_secret_in_process(f"rds!db-{new_uuid()}", json.dumps(value))
    _, secret = secretsmanager._resolve(arn)
    secret["KmsKeyId"] = key
    record["MasterUserSecret"] = {"SecretArn": arn, "SecretStatus": "active"}
    return arn


def data(snapshot: str) -> Path:
    """Return the folder of a snapshot's data."""
    return DATA / snapshot


def new_password(record: dict[str, Any], password: str) -> str:
    """Return the statement that gives a restored instance's master another password."""
    return f"ALTER USER '{record['MasterUsername']}'@'%' IDENTIFIED BY '{password}'"


def readable(identifier: str) -> dict[str, Any]:
    """Return a snapshot's record.

    Raises:
        RefusedError: there is none, or its key is not to be had.
    """
    record: dict[str, Any] | None = rds._snapshots.get(identifier.rpartition(":")[2])
    if record is None:
        raise RefusedError("DBSnapshotNotFound", f"DBSnapshot {identifier} not found.", 404)
    _check_key(record.get("KmsKeyId"))
    return record


def inherited(props: Properties) -> Properties:
    """Return what an instance of a template has from its snapshot, whatever the template says; nothing without one.

    Raises:
        RefusedError: RDS would not restore it so.
    """
    if not props.get("DBSnapshotIdentifier"):
        return {}
    record = readable(props["DBSnapshotIdentifier"])
    storage, engine = int(record["AllocatedStorage"]), props.get("Engine", record["Engine"])
    if engine != record["Engine"]:
        raise RefusedError("InvalidParameterCombination", f"Cannot restore {record['Engine']} as {engine}.")
    # https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RestoreDBInstanceFromDBSnapshot.html
    given = int(props.get("AllocatedStorage") or storage)
    if given < storage:
        message = f"Invalid storage size for engine name {engine} and storage type {props.get('StorageType')}: {given}"
        raise RefusedError("InvalidParameterCombination", message)
    if int(props.get("MaxAllocatedStorage") or storage + 1) <= given:
        raise RefusedError("InvalidParameterCombination", "Max storage size must be greater than storage size")
    _check_version(record["EngineVersion"], str(props.get("EngineVersion") or record["EngineVersion"]))
    names = ("MasterUsername", "DBName", "KmsKeyId")
    return {name: record[name] for name in names} | {
        "StorageEncrypted": record["Encrypted"],
        "AllocatedStorage": str(given),
    }


def _check_version(has: str, wanted: str) -> None:
    """Refuse what ModifyDBInstance refuses, which CloudFormation calls after a restore.

    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_ModifyDBInstance.html
    """
    numbers = [[int(each) for each in version.partition("-")[0].split(".")] for version in (has, wanted)]
    (old, new), parts = numbers, min(map(len, numbers))
    if new[:parts] < old[:parts]:
        raise RefusedError("InvalidParameterCombination", f"Cannot upgrade mysql from {has} to {wanted}")
    if new[:2] != old[:2]:
        message = "The AllowMajorVersionUpgrade flag must be present when upgrading to a new major version."
        raise RefusedError("InvalidParameterCombination", message)


def _check_key(key: str | None) -> None:
    """Refuse the work with a key that is disabled, or about to be deleted.

    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Overview.Encryption.Keys.html
    """
    record = kms._resolve_key(key) if key else None
    if key and (record is None or record["KeyState"] != "Enabled"):
        message = (
            f"The specified KMS key {key} does not exist, is not enabled or you do not have permissions to access it."
        )
        raise RefusedError("KMSKeyNotAccessibleFault", message)


def _answering(action: Callable[[Any], Response]) -> Callable[[Any], Response]:
    """Have an action answer with what it refuses."""

    def answer(params: Any) -> Response:
        try:
            return action(params)
        except RefusedError as refused:
            return refused.response

    return answer


def _create(identifier: str, instance: dict[str, Any]) -> dict[str, Any]:
    """Copy the data of one moment; the snapshot has the instance's key."""
    _check_key(instance.get("KmsKeyId"))
    DATA.mkdir(mode=0o700, parents=True, exist_ok=True)
    servers[instance["DBInstanceIdentifier"]].copy_data(data(identifier))
    record: dict[str, Any] = _create_record(identifier, instance)
    record["_MasterUserPassword"] = instance.get("_MasterUserPassword", "")
    return record


def _delete(params: Any) -> Response:
    answer: Response = _delete_snapshot(params)
    shutil.rmtree(data(rds._p(params, "DBSnapshotIdentifier")), ignore_errors=True)
    return answer


def _copy(params: Any) -> Response:
    """Copy a snapshot, under another key when one is given.

    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CopyDBSnapshot.html
    """
    source = readable(rds._p(params, "SourceDBSnapshotIdentifier"))
    target, key = rds._p(params, "TargetDBSnapshotIdentifier"), rds._p(params, "KmsKeyId")
    if target in rds._snapshots:
        raise RefusedError("DBSnapshotAlreadyExists", f"Snapshot {target} already exists.")
    if key == DEFAULT_KEY and not kms._resolve_key(key):
        _, _, made = kms._create_key({"Description": "Default key that protects RDS's volumes"})
        kms._create_alias({"AliasName": key, "TargetKeyId": json.loads(made)["KeyMetadata"]["KeyId"]})
    _check_key(key)
    record = source | {
        "DBSnapshotIdentifier": target,
        "DBSnapshotArn": f"{source['DBSnapshotArn'].rpartition(':')[0]}:{target}",
        "KmsKeyId": kms._resolve_key(key)["Arn"] if key else source["KmsKeyId"],
        "Encrypted": bool(key) or source["Encrypted"],
        "SourceDBSnapshotIdentifier": source["DBSnapshotArn"],
    }
    shutil.copytree(data(source["DBSnapshotIdentifier"]), data(target))
    rds._snapshots[target] = record
    result = f"<CopyDBSnapshotResult><DBSnapshot>{rds._snapshot_xml(record)}</DBSnapshot></CopyDBSnapshotResult>"
    return rds._xml(200, "CopyDBSnapshotResponse", result)


def _restore(params: Any) -> Response:
    """Restore a snapshot into a new instance, whose master has the password of then.

    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RestoreDBInstanceFromDBSnapshot.html
    """
    if rds._p(params, "ManageMasterUserPassword"):
        message = "ManageMasterUserPassword is supported when restoring RDS for Oracle only."
        raise RefusedError("InvalidParameterCombination", message)
    snapshot = readable(rds._p(params, "DBSnapshotIdentifier"))
    params = dict(params) | {"DBSnapshotIdentifier": snapshot["DBSnapshotIdentifier"]}
    answer: Response = _restore_record(params)
    if answer[0] != 200:
        return answer
    record = rds._instances[rds._p(params, "DBInstanceIdentifier")]
    record |= {"KmsKeyId": snapshot["KmsKeyId"], "_MasterUserPassword": snapshot["_MasterUserPassword"]}
    group = rds._p(params, "DBSubnetGroupName")
    record["DBSubnetGroup"] = rds._subnet_groups.get(group, record["DBSubnetGroup"])
    groups = rds._parse_member_list(params, "VpcSecurityGroupIds")
    record["VpcSecurityGroups"] = [{"VpcSecurityGroupId": each, "Status": "active"} for each in groups]
    if group := rds._p(params, "DBParameterGroupName"):
        record["DBParameterGroups"] = [{"DBParameterGroupName": group, "ParameterApplyStatus": "in-sync"}]
    source = data(snapshot["DBSnapshotIdentifier"])
    start_server(record, parameters(group), lambda server: server.restore(source))
    result = "RestoreDBInstanceFromDBSnapshotResult"
    return rds._single_instance_response("RestoreDBInstanceFromDBSnapshotResponse", result, record)


def _restore_latest(params: Any) -> Response:
    """Restore the latest moment into a new instance; this cloud keeps no log to go back by.

    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RestoreDBInstanceToPointInTime.html
    """
    if rds._p(params, "UseLatestRestorableTime") != "true":
        message = "The local cloud restores the latest time only: it keeps no log of the time before."
        raise RefusedError("InvalidParameterValue", message)
    source = rds._resolve_instance(rds._p(params, "SourceDBInstanceIdentifier"))
    if not source:
        message = f"DBInstance {rds._p(params, 'SourceDBInstanceIdentifier')} not found."
        raise RefusedError("DBInstanceNotFound", message, 404)
    snapshot = f"latest-{new_uuid()}"
    _create(snapshot, source)
    try:
        identifier = rds._p(params, "TargetDBInstanceIdentifier")
        answer = _restore(dict(params) | {"DBSnapshotIdentifier": snapshot, "DBInstanceIdentifier": identifier})
    finally:
        _delete({"DBSnapshotIdentifier": snapshot})
    if answer[0] != 200:
        return answer
    record = rds._instances[identifier]
    result = "RestoreDBInstanceToPointInTimeResult"
    return rds._single_instance_response("RestoreDBInstanceToPointInTimeResponse", result, record)


def _modify(params: Any) -> Response:
    """Have RDS keep the master's password from now on, when that is asked: it makes a new one.

    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_ModifyDBInstance.html
    """
    answer: Response = _modify_record(params)
    if answer[0] != 200 or rds._p(params, "ManageMasterUserPassword") != "true":
        return answer
    record = rds._resolve_instance(rds._p(params, "DBInstanceIdentifier"))
    if "MasterUserSecret" not in record:
        password = secrets.token_hex(14)
        server = servers[record["DBInstanceIdentifier"]]
        server.stop()
        server.start_with(new_password(record, password))
        record["_MasterUserPassword"] = password
        keep_master_password(record, password, rds._p(params, "MasterUserSecretKmsKeyId") or None)
    return rds._single_instance_response("ModifyDBInstanceResponse", "ModifyDBInstanceResult", record)


def _delete_instance(params: Any) -> Response:
    identifier = rds._p(params, "DBInstanceIdentifier")
    managed = (rds._resolve_instance(identifier) or {}).get("MasterUserSecret")
    answer: Response = _delete_record(params)
    if answer[0] == 200:
        end_server(identifier, managed)
    return answer


def end_server(identifier: str, managed: dict[str, Any] | None) -> None:
    """End an instance's server and delete its data, and the secret of its master."""
    server = servers.pop(identifier, None)
    if listener := listeners.pop(identifier, None):
        listener.close()
    if server:
        server.kill()
        shutil.rmtree(server.folder)
    if managed:
        secretsmanager.delete_secret_in_process(managed["SecretArn"])


def parameters(group_name: str | None) -> list[str]:
    """The group's parameters without which the server would accept less than on AWS."""
    group = rds._param_groups.get(group_name, {"Parameters": {}})
    given = {name: each["ParameterValue"] for name, each in group["Parameters"].items()}
    transport = {"0": "OFF", "1": "ON"}[given.get("require_secure_transport", "0")]
    versions = [f"--tls-version={given['tls_version']}"] if "tls_version" in given else []
    return [f"--require-secure-transport={transport}", *versions]


def _take_key_away(params: dict[str, Any]) -> Any:
    """An instance whose key is about to be deleted stops.

    https://repost.aws/knowledge-center/rds-aurora-inaccessible-state
    """
    answer = _schedule_key_deletion(params)
    for record in rds._instances.values():
        try:
            _check_key(record.get("KmsKeyId"))
        except RefusedError:
            record["DBInstanceStatus"] = "inaccessible-encryption-credentials-recoverable"
            if listener := listeners.get(record["DBInstanceIdentifier"]):
                listener.close()
            servers[record["DBInstanceIdentifier"]].stop()
    return answer
