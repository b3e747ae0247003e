"""Logs in to an instance as its master: the password is read from RDS's secret, and the certificate is verified."""

import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pymysql
from botocore.exceptions import BotoCoreError, ClientError
from pymysql import converters

from operations.aws import AccountError
from operations.commands import ROOT
from stacks.settings import SettingsError

ROOT_CERTIFICATES: Final = ROOT / "lambda_src/shared/rds-root-certificates.pem"

AS_WRITTEN: Final[dict[int | type[Any], Any]] = dict(converters.encoders.items())
"""PyMySQL's conversions of values to SQL, and none of what the server writes."""


class DatabaseError(Exception):
    """What was asked cannot be done; the message says what to do instead."""


REFUSALS: Final = (
    *(DatabaseError, AccountError, SettingsError),
    *(BotoCoreError, ClientError, pymysql.Error, ssl.SSLError),
)
"""What ends a command with its sentence."""


def credentials(session: Any, instance: Mapping[str, Any]) -> tuple[str, str]:
    """Return the master's name and password, which RDS keeps.

    Raises:
        DatabaseError: RDS does not keep it.
    """
    if "MasterUserSecret" not in instance:
        name = instance["DBInstanceIdentifier"]
        raise DatabaseError(
            f"{name}: RDS does not keep its master's password: "
            f"aws rds modify-db-instance --db-instance-identifier {name} --manage-master-user-password "
            "--apply-immediately"
        )
    secret = session.client("secretsmanager").get_secret_value(SecretId=instance["MasterUserSecret"]["SecretArn"])
    value = json.loads(secret["SecretString"])
    return value["username"], value["password"]


def connect(
    instance: Mapping[str, Any],
    user: tuple[str, str],
    database: str | None,
    authorities: Path = ROOT_CERTIFICATES,
    tunnel: int = 0,
) -> "pymysql.Connection[Any]":
    """Log in, over TLS with a certificate of that instance.

    Values come as the server writes them, and go back to another server as they were.

    Args:
        instance: as RDS describes it.
        user: name and password.
        database: the current one of the session.
        authorities: a file of root certificates.
        tunnel: a port of this machine that leads to the instance; 0 where it is reached directly.

    Raises:
        DatabaseError: the instance cannot be reached from here or has no address yet, or the file has no certificate.
        pymysql.Error, ssl.SSLError: the server refused, or showed another certificate.
    """
    if "Endpoint" not in instance:
        status = f"{instance['DBInstanceIdentifier']} is {instance['DBInstanceStatus']}"
        raise DatabaseError(f"{status}, without an address yet: try again when it is available")
    host, port = instance["Endpoint"]["Address"], instance["Endpoint"]["Port"]
    name, password = user
    try:
        context = ssl.create_default_context(cafile=str(authorities))
    except OSError as error:
        raise DatabaseError(f"AUTHORITIES={authorities}: {error}: expected a file of root certificates") from None
    connection = pymysql.Connection(
        host=host,
        port=port,
        user=name,
        password=password,
        database=database,
        ssl=context,
        charset="utf8mb4",
        conv=AS_WRITTEN,
        defer_connect=True,
        init_command="SET time_zone = '+00:00', sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'",
    )
    address = ("127.0.0.1", tunnel) if tunnel else (host, port)
    try:
        reached = socket.create_connection(address, 10)
    except OSError as error:
        raise DatabaseError(
            f"{address[0]}:{address[1]}: {error}: run this in the VPC, or through a tunnel: docs/extending.md, "
            '"The database from a laptop"'
        ) from None
    reached.settimeout(None)
    connection.connect(reached)
    return connection


def rows_of(connection: Any, sql: str, args: Sequence[Any] | None = None) -> list[Any]:
    """Run a statement, with its values, and return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(sql, args)
        return list(cursor.fetchall())


def quoted(name: str) -> str:
    """Return a name as SQL has it."""
    return "`{}`".format(name.replace("`", "``"))
