"""`make sql`: asks the local database, as the application's user or, with MASTER=1, as the master.

Over TLS that is verified, as the functions do.
"""

import json
import os
import sys
from collections.abc import Iterator
from ssl import create_default_context
from typing import Any

import pymysql

from local.cloud import CloudError, LocalCloud
from operations.logs import printable


def connect(cloud: LocalCloud, *, as_master: bool) -> "pymysql.Connection[Any]":
    """Log in to the application's database.

    Args:
        cloud: where it is deployed.
        as_master: as the master, and not as the application's user.

    Raises:
        CloudError: the database refuses.
    """
    secrets = cloud.client("secretsmanager")

    def read(secret_id: str) -> dict[str, Any]:
        return dict(json.loads(secrets.get_secret_value(SecretId=secret_id)["SecretString"]))

    application = read(cloud.outputs("Service")["DatabaseSecretArn"])
    login = read(application["masterarn"]) if as_master else application
    try:
        return pymysql.connect(
            host=application["host"],
            port=application["port"],
            user=login["username"],
            password=login["password"],
            database=application["dbname"],
            ssl=create_default_context(cafile=cloud.variables["AWS_CA_BUNDLE"]),
            autocommit=True,
        )
    except pymysql.Error as error:
        raise CloudError(f"the database refuses {login['username']}: {error.args}") from error


def rows(connection: "pymysql.Connection[Any]", statement: str) -> Iterator[str]:
    """Run a statement; its rows in columns below their names, or how many it changed."""
    with connection.cursor() as cursor:
        changed = cursor.execute(statement.rstrip().rstrip(";"))
        if not cursor.description:
            yield f"{changed} rows changed"
            return
        table = [[column[0] for column in cursor.description]]
        table += [[printable("NULL" if each is None else str(each)) for each in row] for row in cursor.fetchall()]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(each.ljust(width) for each, width in zip(row, widths, strict=True)).rstrip()
    yield f"{len(table) - 1} rows"


def main(cloud: LocalCloud) -> None:
    """Print what STATEMENT gives; without one, ask for statements until the end of the input."""
    connection = connect(cloud, as_master=bool(os.environ.get("MASTER")))
    with connection:
        statement = os.environ.get("STATEMENT")
        if statement:
            try:
                print("\n".join(rows(connection, statement)))
            except pymysql.Error as error:
                raise CloudError(told(error)) from error
            return
        import readline as readline  # noqa: PLC0414 - gives input() a history and keys to edit with

        print(f"{connection.host}, TLS verified. A statement ends with ; and Ctrl-D ends.")
        for each in _asked():
            try:
                print("\n".join(rows(connection, each)))
            except pymysql.Error as error:
                print(told(error), file=sys.stderr)


def told(error: pymysql.Error) -> str:
    """MySQL's number and sentence."""
    return f"ERROR {error.args[0]}: {printable(str(error.args[-1]))}"


def _asked() -> Iterator[str]:
    lines: list[str] = []
    while True:
        try:
            lines.append(input("    -> " if lines else "mysql> "))
        except EOFError:
            print()
            return
        if lines[-1].rstrip().endswith(";"):
            yield "\n".join(lines)
            lines = []
        elif not "".join(lines).strip():
            lines = []
