"""A kept connection over verified TLS, opened anew when it is gone: for the handlers that have one."""

import os
from typing import Any

import pymysql

_connection: "pymysql.Connection[Any] | None" = None


def connection(secret: dict[str, Any]) -> "pymysql.Connection[Any]":
    """Return the kept connection, or one with the secret's details."""
    global _connection  # noqa: PLW0603 - as such handlers keep it
    if _connection is None:
        _connection = pymysql.connect(
            host=secret["host"],
            port=secret["port"],
            user=secret["username"],
            password=secret["password"],
            database=secret["dbname"],
            ssl_ca=os.environ["ROOT_CERTIFICATES"],
            ssl_verify_cert=True,
            ssl_verify_identity=True,
        )
    return _connection


def query(secret: dict[str, Any]) -> Any:
    """Ask the database with the secret's details."""
    with connection(secret).cursor() as cursor:
        cursor.execute("SELECT DATABASE(), (SELECT COUNT(*) FROM note), VERSION()")
        return cursor.fetchone()
