"""RDS: an instance is a real server, and the master's password is RDS's own."""

import json
import os
import secrets
import string
from pathlib import Path
from typing import Any, Final

from ministack.core.responses import new_uuid
from ministack.services import rds, secretsmanager
from ministack.services.cloudformation import provisioners

from local.certificates import Certificates
from local.cloud import Created, Properties
from local.mysql import MySQLServer

RUN: Final = Path(os.environ["LOCAL_RUN"])

_PARAMETERS: Final = {"require_secure_transport": {"1": "ON", "0": "OFF"}, "tls_version": {}}
"""Parameters of the group that reach the server's command line, and their words for it."""

_create_record = provisioners._rds_db_instance_create
_delete_record = provisioners._rds_db_instance_delete
_servers: dict[str, MySQLServer] = {}


def install() -> None:
    """Have CloudFormation make servers."""
    handler = provisioners._RESOURCE_HANDLERS["AWS::RDS::DBInstance"]
    # Both the table and the name, because ministack's replacement of an instance uses the name.
    handler["create"] = provisioners._rds_db_instance_create = _create
    handler["delete"] = provisioners._rds_db_instance_delete = _delete


def stop_servers() -> None:
    """End every server that was made."""
    for server in _servers.values():
        server.stop()


def _create(logical_id: str, props: Properties, stack: str) -> Created:
    password = props.get("MasterUserPassword") or _random_password()
    identifier, attributes = _create_record(logical_id, props | {"MasterUserPassword": password}, stack)
    record = rds._instances[identifier]
    server = MySQLServer(RUN / identifier, Certificates.within(RUN / "certificates"), *_options(props))
    server.create(record["DBName"], record["MasterUsername"], password)
    _servers[identifier] = server
    record["Endpoint"] |= {"Address": "localhost", "Port": server.port}
    attributes |= {"Endpoint.Address": "localhost", "Endpoint.Port": str(server.port)}
    if props.get("ManageMasterUserPassword") in (True, "true"):
        value = {"username": record["MasterUsername"], "password": password}
        arn = secretsmanager.create_secret_in_process(f"rds!db-{new_uuid()}", json.dumps(value))
        record["MasterUserSecret"] = {"SecretArn": arn, "SecretStatus": "active"}
        attributes["MasterUserSecret.SecretArn"] = arn
    return identifier, attributes


def _delete(physical_id: str, props: Properties) -> None:
    managed: dict[str, Any] = rds._instances.get(physical_id, {}).get("MasterUserSecret", {})
    _delete_record(physical_id, props)
    server = _servers.pop(physical_id, None)
    if server:
        server.stop()
    if managed:
        secretsmanager.delete_secret_in_process(managed["SecretArn"])


def _options(props: Properties) -> list[str]:
    group = rds._param_groups.get(props.get("DBParameterGroupName", ""), {})
    given: dict[str, Any] = group.get("Parameters", {})
    options = []
    for name, words in _PARAMETERS.items():
        if name in given:
            value = given[name]["ParameterValue"] if isinstance(given[name], dict) else str(given[name])
            options.append(f"--{name.replace('_', '-')}={words.get(value, value)}")
    return options


def _random_password() -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(28))
