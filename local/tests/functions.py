"""The functions under test: their database server, their variables and their start."""

import json
import os
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import pymysql

import application
from local.certificates import Certificates
from local.mysql import MySQLServer
from local.tests import schema
from operations.commands import ROOT
from rotation import Rotation
from shared.application_database import ApplicationDatabase
from shared.environment import RotationEnvironment, ServingEnvironment
from shared.frame import Frame
from shared.schema import HISTORY, MAKE_HISTORY, read

SECRET_ID = "arn:aws:secretsmanager:us-east-1:123456789012:secret:app-AbCdEf"
MASTER_ID = "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds!db-GhIjKl"
PARAMETER = "/dev/notesApp/app_config"
CONFIG = {"enableVersion": True, "version": 1, "app": "NotesApp"}
ADMINISTRATOR = "administrator"
CANARY = "canary0password"
COM_RESET_CONNECTION = 0x1F


@dataclass(frozen=True)
class Server:
    """The running server and how its master and its administrator log in."""

    mysql: MySQLServer
    certificates: Certificates
    database: str = "dev_DB"
    master: str = "myadmin"
    master_password: str = CANARY + "master"

    def execute(self, *statements: str, user: str = ADMINISTRATOR, password: str = ADMINISTRATOR) -> list[Any]:
        """Run statements in a new session, which keeps the last one's default database; the rows of the last.

        The session, and so its locks, lasts until the next call.
        """
        if user != ADMINISTRATOR:
            with self.session(user, password) as execute:
                return execute(*statements)
        try:  # A login takes as long as a hundred statements.
            if kept := getattr(self._kept, "connection", None):
                kept._execute_command(COM_RESET_CONNECTION, b"")
                kept._read_ok_packet()
        except pymysql.MySQLError:  # It has ended.
            kept = None
        self._kept.connection = kept or self._connect(user, password)
        with self._kept.connection.cursor() as cursor:
            return _rows(cursor, statements)

    @cached_property
    def _kept(self) -> threading.local:
        return threading.local()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificates.ca)

    @contextmanager
    def session(self, user: str = ADMINISTRATOR, password: str = ADMINISTRATOR) -> Iterator[Callable[..., list[Any]]]:
        """A connection, as what runs statements in it and returns the rows of the last."""
        connection = self._connect(user, password)
        with connection, connection.cursor() as cursor:
            yield lambda *statements: _rows(cursor, statements)

    def _connect(self, user: str, password: str) -> "pymysql.Connection[Any]":
        return pymysql.connect(
            host="localhost",
            port=self.mysql.port,
            user=user,
            password=password,
            ssl=self._tls,
            autocommit=True,
        )

    @property
    def is_mariadb(self) -> bool:
        """Whether the server is MariaDB rather than MySQL."""
        return "MariaDB" in self.execute("SELECT VERSION()")[0][0]

    def general_log(self) -> str:
        """Every statement that reached the server."""
        return (self.mysql.folder / "general").read_text(errors="replace")


def _rows(cursor: Any, statements: Sequence[str]) -> list[Any]:
    for statement in statements:
        cursor.execute(statement)
    return list(cursor.fetchall())


def connection_details(server: Server, **changed: object) -> dict[str, object]:
    """What the secret holds after the deploy and before the first rotation."""
    return {
        "engine": "mysql",
        "host": "localhost",
        "port": server.mysql.port,
        "dbname": server.database,
        "username": "notesapp",
        "password": CANARY + "first",
        "masterarn": MASTER_ID,
    } | changed


@dataclass(frozen=True)
class Context:
    """Lambda's context object, as far as it is used."""

    remaining_ms: int = 29_500
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


def make_schema(server: Server) -> None:
    """Create the schema as the migrations do."""
    server.execute(f"USE {server.database}", *(each.sql for each in read(ROOT / "migrations")))
    make_history(server)


def make_history(server: Server) -> None:
    """Create the history as the rotation function and the migrations do."""
    server.execute(*schema.history())
    server.execute(MAKE_HISTORY[-1], user=server.master, password=server.master_password)


def an_application(answer: Callable[..., object], **more: object) -> Any:
    """An application of the tests' own, which works whatever a copy's own one answers."""
    return SimpleNamespace(__name__="application", SCHEMA=application.SCHEMA, answer=answer, **more)


def _database_name(_: object, __: object, ___: object, database: ApplicationDatabase) -> object:
    return {"database": (database.row("SELECT DATABASE()") or ())[0]}


def start_frame(answering: Any = None) -> Frame:
    """Start a function with this application, or with one of the tests' own, as a cold start does."""
    return Frame(answering or an_application(_database_name), ServingEnvironment.read(os.environ))


def rotation_variables(server: Server) -> dict[str, str]:
    """The variables that the stack gives the rotation function."""
    users = {
        "username": "notesapp",
        "privileges": {server.database: ["SELECT", "INSERT", "UPDATE", "DELETE"], HISTORY: ["SELECT"]},
    }
    return {
        "DATABASE_HOST": "localhost",
        "DATABASE_PORT": str(server.mysql.port),
        "DATABASE_NAME": server.database,
        "MASTER_SECRET_ARN": MASTER_ID,
        "ROTATED_USERS": json.dumps({SECRET_ID: users, SECRET_ID + "-not-rotated": users}),
    }


def start_rotation() -> Rotation:
    """Start the rotation function as a cold start does, with the variables of this process."""
    return Rotation(RotationEnvironment.read(os.environ))
