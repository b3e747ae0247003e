"""Fixtures: a real MySQL server, a fake of AWS's two services with the functions between them, and a deployed cloud."""

import fcntl
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import operations.aws
from local.certificates import create
from local.cloud import HERE, LocalCloud
from local.extension import Configuration, ExtensionEmulator, Upstream
from local.mysql import MySQLServer
from local.tests.aws import AWS, serve
from local.tests.functions import (
    ADMINISTRATOR,
    CANARY,
    CONFIG,
    MASTER_ID,
    PARAMETER,
    SECRET_ID,
    Server,
    connection_details,
    make_schema,
    rotation_variables,
    start_frame,
    start_rotation,
)
from operations import commands
from operations.commands import LOCAL, ROOT
from operations.waiting import wait_until
from shared.frame import Frame

ASSEMBLIES = LOCAL / f"test-assemblies-{os.getppid() if 'PYTEST_XDIST_WORKER' in os.environ else os.getpid()}"
"""By the id of the process that started the workers, which removes it at the end."""


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with started_server("mysql") as server:
        yield server


@contextmanager
def started_server(name: str, *options: str) -> Iterator[Server]:
    """Start a database server of the tests' own with the schema; end and remove it."""
    folder = LOCAL / f"test-{name}-{os.getpid()}"
    certificates = create(folder / "certificates")
    data = folder / "data"
    mysql = MySQLServer(
        data,
        certificates,
        "--require-secure-transport=ON",
        "--general-log=1",
        f"--general-log-file={data}/general",
        *options,
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
        make_schema(server)
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
    server.execute(f"DELETE FROM {server.database}.transaction_key")
    for user in ("notesapp", "notesapp_clone"):
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
            "APP_CONFIG_PATH": "notesApp/app_config",
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
def environment(aws: AWS, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Frame]]:
    """Make an execution environment: an extension of its own, and what a function with this application keeps."""
    extensions = []

    def make(application: Any = None, **environ: str) -> Frame:
        configuration = Configuration.read({**os.environ, **environ, "PARAMETERS_SECRETS_EXTENSION_LOG_LEVEL": "NONE"})
        extension = ExtensionEmulator(Configuration(**{**vars(configuration), "port": 0}), Upstream(configuration))
        extension.ready.set()
        threading.Thread(target=extension.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        extensions.append(extension)
        monkeypatch.setenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", str(extension.server_address[1]))
        return start_frame(application)

    yield make
    for extension in extensions:
        extension.shutdown()
        extension.server_close()


def assembly(*context: str) -> Path:
    """The folder that `cdk synth` writes with these settings, as `egress=nat`; made once for all workers."""
    folder = ASSEMBLIES / ("-".join(context).replace("/", "_") or "dev")
    ASSEMBLIES.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            options = [f"--output={folder}", *(f"--context={each}" for each in (*HERE, *context))]
            subprocess.run(["cdk", "synth", "--quiet", *options], cwd=ROOT, env=commands.environment(), check=True)
    return folder


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove what the workers shared, when all of them have ended."""
    if not hasattr(session.config, "workerinput"):
        shutil.rmtree(ASSEMBLIES, ignore_errors=True)


@contextmanager
def local_cloud(name: str, **start: int) -> Iterator[LocalCloud]:
    """Start an emulated cloud of the tests' own, with `LocalCloud.start`'s arguments; end and remove it.

    Its alarms stay as they are, unless a test is about them: many tests make functions fail.
    """
    cloud = LocalCloud(LOCAL / f"test-{os.getpid()}-{name}")  # Each of pytest's workers has its own.
    try:
        cloud.start(**({"alarm_minute": 0} | start))
        yield cloud
    finally:
        cloud.stop()
        shutil.rmtree(cloud.folder)


@pytest.fixture(scope="session")
def cloud() -> Iterator[LocalCloud]:
    """The application, deployed by the real CDK to an emulated cloud of the tests' own."""
    with local_cloud("shared") as cloud:
        cloud.bootstrap()
        cloud.deploy(assembly=assembly())
        yield cloud


@pytest.fixture(scope="session")
def outputs(cloud: LocalCloud) -> dict[str, str]:
    """What the service's stack says of itself."""
    return dict(cloud.outputs("Service"))


@pytest.fixture(scope="session")
def invoke(cloud: LocalCloud, outputs: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """Invoke the deployed function; its payload, with the error, the log's end and the version beside it."""
    client = cloud.client("lambda")

    def invoke(event: object = None) -> dict[str, Any]:
        result = operations.aws.invoke(client, outputs["FunctionName"], event)
        answer: dict[str, Any] = result.pop("answer")
        return result | answer

    return invoke


def wait_for_rotation(cloud: LocalCloud, secret_id: str) -> None:
    """Until the pending version is the current one."""
    secrets = cloud.client("secretsmanager")
    pending = ["AWSPENDING"]
    assert wait_until(
        lambda: pending not in secrets.describe_secret(SecretId=secret_id)["VersionIdsToStages"].values(), 300
    )


def counted(cloud: LocalCloud, metric: str, **dimensions: str) -> float:
    """The sum of one of Lambda's metrics in the last two hours, of exactly these dimensions."""
    now = datetime.now(UTC)
    found = cloud.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName=metric,
        Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
        StartTime=now - timedelta(hours=2),
        EndTime=now + timedelta(hours=1),
        Period=60,
        Statistics=["Sum"],
    )
    return float(sum(each["Sum"] for each in found["Datapoints"]))
