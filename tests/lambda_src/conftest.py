"""A real MySQL-protocol server with TLS, AWS at the edge, and the code between them."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pymysql
import pytest

from handler import Service
from local.certificates import Certificates, create
from local.extension import Configuration, Extension, Upstream
from local.install import LOCAL
from local.mysql import MySQLServer
from tests.aws import AWS, serve

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

    def general_log(self) -> str:
        """Every statement that reached the server."""
        return (self.mysql.folder / "general").read_text(errors="replace")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    folder = LOCAL / f"test-mysql-{os.getpid()}"
    certificates = create(folder / "certificates")
    data = folder / "data"
    mysql = MySQLServer(
        data,
        certificates,
        "--require-secure-transport=ON",
        "--general-log=1",
        f"--general-log-file={data}/general",
    )
    server = Server(mysql, certificates)
    mysql.create(
        server.database,
        server.master,
        server.master_password,
        f"CREATE USER {ADMINISTRATOR}@'%' IDENTIFIED BY '{ADMINISTRATOR}'",
        f"GRANT ALL ON *.* TO {ADMINISTRATOR}@'%' WITH GRANT OPTION",
    )
    try:
        yield server
    finally:
        mysql.stop()
        shutil.rmtree(folder)


@pytest.fixture
def trusted(server: Server) -> Iterator[None]:
    """The package's root certificates are those of the throw-away authority."""
    with mock.patch("database.ROOT_CERTIFICATES", server.certificates.ca):
        yield


@pytest.fixture
def aws(server: Server, trusted: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[AWS]:
    """Both services, reachable by the SDK, with the parameter, the secret and the master's secret.

    The application's users do not exist: the first rotation makes them.
    """
    for user in ("demoapp", "demoapp_clone"):
        server.execute(f"DROP USER IF EXISTS {user}@'%'")
    aws = AWS()
    aws.parameters[PARAMETER] = json.dumps(CONFIG)
    aws.add_secret(MASTER_ID, {"username": server.master, "password": server.master_password})
    aws.add_secret(SECRET_ID, connection_details(server))
    with serve(aws) as endpoint:
        variables = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_SESSION_TOKEN": CANARY + "token",
            "ENV": "dev",
            "APP_CONFIG_PATH": "demoApp/app_config",
            "CREDS_PATH": SECRET_ID,
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield aws


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


@pytest.fixture
def rotate(aws: AWS) -> Callable[[], str]:
    """Take all four steps of a rotation and return the new version's id."""
    from rotation import Rotation

    rotation = Rotation()

    def rotate() -> str:
        token = aws.stage_rotation(SECRET_ID)
        for step in ("createSecret", "setSecret", "testSecret", "finishSecret"):
            rotation.handle({"Step": step, "SecretId": SECRET_ID, "ClientRequestToken": token}, 60)
        return token

    return rotate


@pytest.fixture
def environment(aws: AWS, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Service]]:
    """Make an execution environment: an extension of its own, and what the function keeps."""
    extensions = []

    def make(**environ: str) -> Service:
        configuration = Configuration.read({**os.environ, **environ, "PARAMETERS_SECRETS_EXTENSION_LOG_LEVEL": "NONE"})
        extension = Extension(Configuration(**{**vars(configuration), "port": 0}), Upstream(configuration))
        extension.ready.set()
        threading.Thread(target=extension.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        extensions.append(extension)
        monkeypatch.setenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", str(extension.server_address[1]))
        return Service()

    yield make
    for extension in extensions:
        extension.shutdown()
        extension.server_close()
