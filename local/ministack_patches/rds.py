"""RDS: an instance is a real MySQL server, and RDS keeps the master's password.

ministack records an instance, starts no server, makes no master secret and counts nothing. This patch can go when
it does.
"""

import re
import secrets
import threading
import time
from typing import Any, Final

from ministack.core.responses import new_uuid
from ministack.services import cloudwatch, rds
from ministack.services.cloudformation import provisioners

from local.ministack_patches import Created, Properties, rds_snapshots
from local.ministack_patches.cloudwatch import MINUTE
from local.ministack_patches.rds_snapshots import listeners, servers
from local.ministack_patches.refusals import check_instance_delete, check_instance_update
from local.mysql import PORT, MySQLServer
from local.peer import connections

_create_record = provisioners._rds_db_instance_create
_delete_record = provisioners._rds_db_instance_delete
_update_record = provisioners._rds_db_instance_update
FAILOVER: Final = 4.0
"""Seconds; longer than an invocation tries to connect, and much shorter than on AWS."""
_OFFERED: Final = ("5.7.44-rds.20250818", "8.0.43", "8.4.6", "9.7.4")
"""A version of each series of RDS for MySQL."""
_SUPPORT_ENDS: Final = {"5.7": "2024-02-29", "8.0": "2026-07-31", "8.4": "2029-07-31", "9.7": "2034-04-30"}
"""The end of each series' standard support; of 9.7 the end of MySQL's own."""
_OFFERED_CLASSES: Final = re.compile(r"db\.(t3|t4g|m[67]g|r[67]g)\.(micro|small|medium|[24]?x?large)")

_instance_fields = rds._instance_xml


def install() -> None:
    """Have CloudFormation make servers."""
    handler = provisioners._RESOURCE_HANDLERS["AWS::RDS::DBInstance"]
    # Both the table and the name, because ministack's replacement of an instance uses the name.
    handler["create"] = provisioners._rds_db_instance_create = _create
    handler["delete"] = provisioners._rds_db_instance_delete = _delete
    handler["update"] = _update
    handler["snapshot"] = _final_snapshot
    named = provisioners._CUSTOM_NAME_REPLACEMENT["AWS::RDS::DBInstance"]
    replaces = named["requires_replacement"]
    # As its page says; the provider's source leaves the instance where it is when the property is taken away.
    # https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-rds-dbinstance.html
    # https://github.com/aws-cloudformation/aws-cloudformation-resource-providers-rds/pull/351
    named["requires_replacement"] = lambda old, new: (
        replaces(old, new) or old.get("DBSnapshotIdentifier") != new.get("DBSnapshotIdentifier")
    )
    rds._instance_xml = _instance_with_secret
    rds._finish_instance_reboot = _fail_over
    rds._ACTION_MAP["DescribeOrderableDBInstanceOptions"] = _orderable_options
    rds._ACTION_MAP["DescribeDBMajorEngineVersions"] = _major_versions
    rds_snapshots.install()
    if MINUTE:
        threading.Thread(target=_count_connections, name="rds-metrics", daemon=True).start()


def _count_connections() -> None:
    """Once a minute, the one metric that is true of a server on a laptop.

    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-metrics.html
    """
    while True:
        time.sleep(MINUTE)
        for identifier, server in list(servers.items()):
            if (number := connections(server.address, server.port)) is not None:
                dimensions = {"DBInstanceIdentifier": identifier}
                cloudwatch.record_metric("AWS/RDS", "DatabaseConnections", number, "Count", dimensions)


def stop_servers() -> None:
    """End every server that was made."""
    for server in servers.values():
        server.kill()


def _create(logical_id: str, props: Properties, stack: str) -> Created:
    """Make a server; its data is a snapshot's when the template names one, and then the master's password is new.

    https://github.com/aws-cloudformation/aws-cloudformation-resource-providers-rds/pull/393
    """
    snapshot = rds_snapshots.inherited(props)
    password = props.get("MasterUserPassword") or secrets.token_hex(14)
    identifier, attributes = _create_record(logical_id, props | snapshot | {"MasterUserPassword": password}, stack)
    record = rds._instances[identifier]

    def start(server: MySQLServer) -> None:
        if snapshot:
            name = props["DBSnapshotIdentifier"].rpartition(":")[2]
            server.restore(rds_snapshots.data(name), rds_snapshots.new_password(record, password))
        else:
            server.create(record["DBName"], record["MasterUsername"], password)

    options = rds_snapshots.parameters(props.get("DBParameterGroupName"))
    rds_snapshots.start_server(record, options, start, int(props.get("Port", PORT)))
    attributes |= {f"Endpoint.{key}": str(record["Endpoint"][key]) for key in ("Address", "Port")}
    if props.get("ManageMasterUserPassword") in (True, "true"):
        attributes["MasterUserSecret.SecretArn"] = rds_snapshots.keep_master_password(
            record, password, props.get("MasterUserSecret", {}).get("KmsKeyId")
        )
    return identifier, attributes


def _update(physical_id: str, old: Properties, new: Properties, stack: str, logical_id: str) -> Created:
    check_instance_update(physical_id, old, new)
    identifier, attributes = _update_record(physical_id, old, new, stack, logical_id)
    record = rds._instances[identifier]
    endpoint = {f"Endpoint.{key}": str(record["Endpoint"][key]) for key in ("Address", "Port")}
    return identifier, attributes | endpoint | {"MasterUserSecret.SecretArn": record["MasterUserSecret"]["SecretArn"]}


def _delete(physical_id: str, props: Properties) -> None:
    check_instance_delete(physical_id)
    managed: dict[str, Any] = rds._instances.get(physical_id, {}).get("MasterUserSecret", {})
    _delete_record(physical_id, props)
    rds_snapshots.end_server(physical_id, managed)


def _final_snapshot(physical_id: str, props: Properties) -> None:
    """Take the snapshot that a deletion ends with, under a name of its own; a refused deletion takes none.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-attribute-deletionpolicy.html and
    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DeleteDBInstance.html
    """
    check_instance_delete(physical_id)
    rds._create_snapshot_internal(f"{physical_id}-final-{new_uuid()}", rds._instances[physical_id])


def _instance_with_secret(record: dict[str, Any]) -> str:
    """What ministack leaves out of DescribeDBInstances.

    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DBInstance.html
    """
    described = _instance_fields(record)
    if "MasterUserSecret" not in record:
        return described
    secret = record["MasterUserSecret"]
    return described + (
        f"<MasterUserSecret><SecretArn>{secret['SecretArn']}</SecretArn>"
        f"<SecretStatus>{secret['SecretStatus']}</SecretStatus></MasterUserSecret>"
    )


def _fail_over(instance: dict[str, Any], cluster: object) -> None:
    """A reboot ends the server and, after a while, starts it on its data, under the same name and port."""
    server = servers[instance["DBInstanceIdentifier"]]
    listener = listeners.get(instance["DBInstanceIdentifier"])
    if listener:
        listener.close()
    server.stop()
    time.sleep(FAILOVER)
    server.start()
    if listener:
        listener.open()
    instance["DBInstanceStatus"] = "available"


def _orderable_options(params: dict[str, Any]) -> Any:
    """What RDS for MySQL is offered on; ministack knows no Graviton class and no series after 8.0.

    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DescribeOrderableDBInstanceOptions.html
    """
    size = rds._p(params, "DBInstanceClass")
    options = "".join(
        f"<OrderableDBInstanceOption><Engine>mysql</Engine><EngineVersion>{version}</EngineVersion>"
        f"<DBInstanceClass>{size}</DBInstanceClass><MultiAZCapable>true</MultiAZCapable><Vpc>true</Vpc>"
        f"<AvailabilityZones>{_zones_of(size)}</AvailabilityZones></OrderableDBInstanceOption>"
        for version in _OFFERED
        if _OFFERED_CLASSES.fullmatch(size)
    )
    name = "DescribeOrderableDBInstanceOptions"
    result = f"<{name}Result><OrderableDBInstanceOptions>{options}</OrderableDBInstanceOptions></{name}Result>"
    return rds._xml(200, f"{name}Response", result)


def _major_versions(params: dict[str, Any]) -> Any:
    """Until when a series is supported.

    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DescribeDBMajorEngineVersions.html and
    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/MySQL.Concepts.VersionMgmt.html
    """
    series = rds._p(params, "MajorEngineVersion")
    name, ends = "DescribeDBMajorEngineVersions", _SUPPORT_ENDS[series]
    lifecycle = (
        "<SupportedEngineLifecycle><LifecycleSupportName>open-source-rds-standard-support</LifecycleSupportName>"
        f"<LifecycleSupportStartDate>2020-01-01T00:00:00Z</LifecycleSupportStartDate>"
        f"<LifecycleSupportEndDate>{ends}T23:59:59Z</LifecycleSupportEndDate></SupportedEngineLifecycle>"
    )
    version = (
        f"<DBMajorEngineVersion><Engine>mysql</Engine><MajorEngineVersion>{series}</MajorEngineVersion>"
        f"<SupportedEngineLifecycles>{lifecycle}</SupportedEngineLifecycles></DBMajorEngineVersion>"
    )
    result = f"<{name}Result><DBMajorEngineVersions>{version}</DBMajorEngineVersions></{name}Result>"
    return rds._xml(200, f"{name}Response", result)


def _zones_of(size: str) -> str:
    """The region's three zones; RDS does not offer each class in each of them."""
    letters = "ab" if size.startswith("db.r") else "abc"
    return "".join(f"<AvailabilityZone><Name>us-east-1{letter}</Name></AvailabilityZone>" for letter in letters)
