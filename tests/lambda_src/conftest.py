"""Fixtures: a real MySQL server with TLS, a fake of AWS's two services, and the functions between them."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from handler import Application
from local.certificates import create
from local.extension import Configuration, ExtensionEmulator, Upstream
from local.mysql import MySQLServer
from testbed.application import (
    ADMINISTRATOR,
    CANARY,
    CONFIG,
    MASTER_ID,
    PARAMETER,
    PASSWORD,
    SECRET_ID,
    USER,
    Harness,
    Server,
    connection_details,
    make_schema,
    rotation_variables,
    server_context,
    set_variables,
    start_application,
    start_rotation,
)
from testbed.aws import AWS, serve
from testbed.fault_servers import FaultyDatabase, FaultyExtension, running
from tools.commands import LOCAL


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
    make_schema(server)
    try:
        yield server
    finally:
        mysql.kill()
        shutil.rmtree(folder)


@pytest.fixture
def trusted(server: Server, tmp_path: Path) -> Iterator[None]:
    """Replace the package's root certificates by those of the throw-away authority."""
    certificates = tmp_path / "root-certificates.pem"
    certificates.write_text(f"# us-east-1\n{server.certificates.ca.read_text()}")
    with mock.patch("shared.database.ROOT_CERTIFICATES", certificates):
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
            **rotation_variables(server),
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield aws


@pytest.fixture
def rotate(aws: AWS) -> Callable[[], str]:
    """Take all four steps of a rotation and return the new version's id."""
    rotation = start_rotation()

    def rotate() -> str:
        token = aws.stage_rotation(SECRET_ID)
        for step in ("createSecret", "setSecret", "testSecret", "finishSecret"):
            rotation.handle({"Step": step, "SecretId": SECRET_ID, "ClientRequestToken": token}, 60)
        return token

    return rotate


@pytest.fixture
def environment(aws: AWS, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Application]]:
    """Make an execution environment: an extension of its own, and what the function keeps."""
    extensions = []

    def make(**environ: str) -> Application:
        configuration = Configuration.read({**os.environ, **environ, "PARAMETERS_SECRETS_EXTENSION_LOG_LEVEL": "NONE"})
        extension = ExtensionEmulator(Configuration(**{**vars(configuration), "port": 0}), Upstream(configuration))
        extension.ready.set()
        threading.Thread(target=extension.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        extensions.append(extension)
        monkeypatch.setenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", str(extension.server_address[1]))
        return start_application()

    yield make
    for extension in extensions:
        extension.shutdown()
        extension.server_close()


@pytest.fixture
def harness(aws: AWS, server: Server) -> Iterator[Harness]:
    extension = FaultyExtension(None, None)
    proxy = FaultyDatabase(server.mysql.port, server_context(server))
    with running(extension, proxy), pytest.MonkeyPatch.context() as monkeypatch:
        set_variables(monkeypatch, extension.port)
        harness = Harness(extension, proxy, server, aws, monkeypatch, start_application())
        harness.details = connection_details(server, port=proxy.port, username=USER, password=PASSWORD)
        harness.heal()
        yield harness
