"""The application under test: its database server, and an execution environment between servers with faults."""

import json
import os
import ssl
from dataclasses import dataclass, field
from typing import Any

import pymysql
import pytest

from handler import Application
from local.certificates import Certificates
from local.mysql import MySQLServer
from rotation import Rotation
from shared.environment import RotationEnvironment, ServingEnvironment
from testbed import schema
from testbed.aws import AWS
from testbed.fault_servers import FaultyDatabase, FaultyExtension

SECRET_ID = "arn:aws:secretsmanager:us-east-1:123456789012:secret:app-AbCdEf"
MASTER_ID = "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds!db-GhIjKl"
PARAMETER = "/dev/demoApp/app_config"
CONFIG = {"enableVersion": True, "version": 1, "app": "DemoApp"}
ADMINISTRATOR = "administrator"
CANARY = "canary0password"


@dataclass(frozen=True)
class Server:
    """The running server and how its master and its administrator log in."""

    mysql: MySQLServer
    certificates: Certificates
    database: str = "dev_DB"
    master: str = "myadmin"
    master_password: str = CANARY + "master"

    def execute(self, *statements: str, user: str = ADMINISTRATOR, password: str = ADMINISTRATOR) -> list[Any]:
        """Run statements in a connection of their own; the rows of the last."""
        connection = pymysql.connect(
            host="localhost",
            port=self.mysql.port,
            user=user,
            password=password,
            ssl_ca=str(self.certificates.ca),
            ssl_verify_cert=True,
            ssl_verify_identity=True,
            autocommit=True,
        )
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    @property
    def is_mariadb(self) -> bool:
        """Whether the server is MariaDB rather than MySQL."""
        return "MariaDB" in self.execute("SELECT VERSION()")[0][0]

    def general_log(self) -> str:
        """Every statement that reached the server."""
        return (self.mysql.folder / "general").read_text(errors="replace")


def connection_details(server: Server, **changed: object) -> dict[str, object]:
    """What the secret holds after the deploy and before the first rotation."""
    return {
        "engine": "mysql",
        "host": "localhost",
        "port": server.mysql.port,
        "dbname": server.database,
        "username": "demoapp",
        "password": CANARY + "first",
        "masterarn": MASTER_ID,
    } | changed


@dataclass(frozen=True)
class Context:
    """Lambda's context object, as far as it is used."""

    remaining_ms: int = 29_500

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


PASSWORD = CANARY + "faulty"
TOKEN = CANARY + "token"
USER = "faulty"


@dataclass
class Harness:
    """One execution environment between a scriptable extension and a scriptable database."""

    extension: FaultyExtension
    database: FaultyDatabase
    server: Server
    aws: AWS
    monkeypatch: pytest.MonkeyPatch
    application: Application
    remaining_ms: int = 29_500
    details: dict[str, Any] = field(default_factory=dict)
    keep: list[list[Any]] = field(default_factory=list)
    """Sockets and servers that a fault opened; `heal` closes them."""

    def invoke(self) -> dict[str, Any]:
        return self.application.handle({}, Context(self.remaining_ms))

    def heal(self) -> None:
        """Restore everything."""
        self.monkeypatch.undo()
        for each in [each for group in self.keep for each in group]:
            each.stop() if isinstance(each, FaultyExtension) else each.close()
        self.keep.clear()
        set_variables(self.monkeypatch, self.extension.port)
        for server in (self.extension, self.database):
            server.stop()
            server.start()
        self.extension.script.clear()
        self.database.at_greeting.clear()
        self.database.at_query.clear()
        self.database._context = server_context(self.server)
        self.extension.parameter = parameter_answer(json.dumps(CONFIG))
        self.set_secret(self.details)
        self.remaining_ms = 29_500
        make_user(self.server)

    def set_secret(self, value: object) -> None:
        """The secret that the extension serves, and Secrets Manager too."""
        self.extension.secret = secret_answer(json.dumps(value))
        self.aws.secrets[SECRET_ID] = {"v1": {"SecretString": json.dumps(value), "Stages": {"AWSCURRENT"}}}


def parameter_answer(value: object, kind: str = "String") -> dict[str, Any]:
    return {"Parameter": {"Name": PARAMETER, "Type": kind, "Value": value, "Version": 0}, "ResultMetadata": {}}


def secret_answer(text: object, **more: object) -> dict[str, Any]:
    """The extension's answer for the secret."""
    return {"ARN": SECRET_ID, "SecretString": text, "VersionId": "v1", **more}


def server_context(server: Server) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.certificates.certificate, server.certificates.key)
    return context


def make_user(server: Server) -> None:
    server.execute(
        f"DROP USER IF EXISTS {USER}@'%'",
        f"CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL",
        f"GRANT SELECT ON `dev\\_DB`.* TO {USER}@'%'",
    )


def make_schema(server: Server) -> None:
    """Create the schema as the migrations do."""
    server.execute(f"USE {server.database}", *schema.statements())


def set_variables(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", str(port))


def start_application() -> Application:
    """Start the function as a cold start does, with the variables of this process."""
    return Application(ServingEnvironment.read(os.environ))


def rotation_variables(server: Server) -> dict[str, str]:
    """The variables that the stack gives the rotation function."""
    users = {"username": "demoapp", "privileges": ["SELECT", "INSERT", "UPDATE", "DELETE"]}
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
