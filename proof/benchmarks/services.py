"""What every execution environment here talks to: a real MySQL server with TLS, AWS's two services, extensions."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pymysql

from local.certificates import create
from local.mysql import MySQLServer, free_port
from local.tests import schema
from operations.commands import LOCAL, ROOT
from proof.install import BENCH
from shared.schema import HISTORY
from stacks.packaging.bundling import LocalBundling

SECRET_ID: Final = "arn:aws:secretsmanager:us-east-1:123456789012:secret:app-AbCdEf"
PARAMETER: Final = "/dev/notesApp/app_config"
HANDLERS: Final = Path(__file__).parent / "handlers"


def site_packages() -> Path:
    """Where the benchmarks' libraries are installed."""
    return next((BENCH / "lib").glob("python3*/site-packages"))


class Services:
    """The running services, and the execution environments started among them."""

    def __init__(self, folder: Path) -> None:
        self.package = folder / "package"
        self.package.mkdir(parents=True)
        LocalBundling("handler").try_bundle(str(self.package))
        self._certificates = create(folder / "certificates")
        # All of RDS's root certificates, as deployed, and the throw-away authority's among them.
        with (self.package / "shared" / "rds-root-certificates.pem").open("a") as bundle:
            bundle.write(f"# us-east-1\n{self._certificates.ca.read_text()}")
        sources_only = shutil.ignore_patterns("__pycache__")
        self.package_without_bytecode = Path(
            shutil.copytree(self.package, folder / "package-without-bytecode", ignore=sources_only)
        )
        # The package of the other approaches: the libraries and the handler.
        self.libraries = Path(shutil.copytree(site_packages(), folder / "libraries", ignore=sources_only))
        shutil.copytree(HANDLERS, self.libraries, ignore=sources_only, dirs_exist_ok=True)
        self._user, self._password = "notesapp", secrets.token_hex(16)
        self._administrator = secrets.token_hex(16)
        self.mysql = MySQLServer(
            folder / "mysql", self._certificates, "--require-secure-transport=ON", "--max-connections=1000"
        )
        self.mysql.create(
            "devDB",
            "myadmin",
            secrets.token_hex(16),
            f"CREATE USER {self._user}@'%' IDENTIFIED BY '{self._password}'",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON devDB.* TO {self._user}@'%'",
            f"CREATE USER administrator@'%' IDENTIFIED BY '{self._administrator}'",
            f"GRANT SELECT ON {HISTORY}.* TO {self._user}@'%'",
            "GRANT ALL ON *.* TO administrator@'%'",
            "USE devDB",
            *schema.statements(),
        )
        details = {"host": "localhost", "port": self.mysql.port, "dbname": "devDB"}
        self._aws = self._start("-m", "proof.benchmarks.aws", environ=dict(os.environ))
        config = {"enableVersion": True, "version": 1, "app": "NotesApp"}
        given = {
            "parameters": {PARAMETER: json.dumps(config)},
            "secrets": {SECRET_ID: details | {"username": self._user, "password": self._password}},
        }
        self._endpoint = self._told(self._aws, json.dumps(given)).strip()

    def stop(self) -> None:
        """End what was started."""
        self._end(self._aws)
        self.mysql.kill()

    def calls(self) -> Mapping[str, int]:
        """What AWS was asked so far, by action."""
        counted: dict[str, int] = json.loads(self._told(self._aws, "calls"))
        return counted

    def version(self) -> str:
        """The database server's."""
        return str(self._administer("SELECT VERSION()")[0])

    def connections(self) -> int:
        """How many connections the database has had since it started, this one among them."""
        return int(self._administer("SHOW GLOBAL STATUS LIKE 'Connections'")[1])

    def _administer(self, statement: str) -> tuple[Any, ...]:
        """Run one statement as the administrator, in a connection of its own; its first row."""
        connection = pymysql.connect(
            host="localhost",
            port=self.mysql.port,
            user="administrator",
            password=self._administrator,
            ssl_ca=str(self._certificates.ca),
            ssl_verify_cert=True,
            ssl_verify_identity=True,
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            row: tuple[Any, ...] = cursor.fetchall()[0]
            return row

    @contextmanager
    def extension(self, **variables: str) -> Iterator[dict[str, str]]:
        """Start an extension; yields the environment variables of an execution environment that uses it."""
        environ = {
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL": self._endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "AKIABENCH",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_SESSION_TOKEN": "bench",
            "ENV": "dev",
            "APP_CONFIG_PATH": "notesApp/app_config",
            "CREDS_PATH": SECRET_ID,
            "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": str(free_port()),
            "PARAMETERS_SECRETS_EXTENSION_LOG_LEVEL": "info",
            "ROOT_CERTIFICATES": str(self.package / "shared" / "rds-root-certificates.pem"),
            "DATABASE_PORT": str(self.mysql.port),
            "DATABASE_USER": self._user,
            "DATABASE_PASSWORD": self._password,
            "PYTHONPATH": f"{self.package}:{HANDLERS}",
            "PYTHONDONTWRITEBYTECODE": "1",  # Lambda's /var/task is read-only.
            **variables,
        }
        process = self._start("-m", "local.extension", "--lambda", environ=environ | {"PYTHONPATH": str(ROOT)})
        assert process.stdin
        assert process.stderr
        process.stdin.write("INVOKE\n")
        process.stdin.flush()
        while "ready to serve" not in process.stderr.readline():
            pass
        try:
            yield environ
        finally:
            self._end(process)

    def invoke(
        self, handler: str, invocations: int, environ: Mapping[str, str], *options: str, event: str = "{}"
    ) -> dict[str, Any]:
        """Run one execution environment to its end; what `proof/benchmarks/client.py` prints, and when it was started.

        `options` are Python's own, before the program; `event` is JSON.
        """
        started = time.monotonic()
        run = subprocess.run(
            [BENCH / "bin" / "python", *options, Path(__file__).parent / "client.py", handler, str(invocations), event],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        result: dict[str, Any] = json.loads(run.stdout)
        return result | {"started": started}

    def _start(self, *arguments: str, environ: Mapping[str, str]) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        command = [sys.executable, *arguments]
        return subprocess.Popen(command, env=environ, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def _told(self, process: "subprocess.Popen[str]", line: str) -> str:
        assert process.stdin
        assert process.stdout
        process.stdin.write(line + "\n")
        process.stdin.flush()
        return process.stdout.readline()

    def _end(self, process: "subprocess.Popen[str]") -> None:
        process.communicate()


@contextmanager
def services() -> Iterator[Services]:
    """Start the services, and end them."""
    folder = LOCAL / f"bench-{os.getpid()}"
    started = Services(folder)
    try:
        yield started
    finally:
        started.stop()
        shutil.rmtree(folder)
