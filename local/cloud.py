"""Starts and stops a local cloud, deploys to it, and makes clients for it."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from ssl import create_default_context
from typing import Any, Final

import boto3
import pymysql
import urllib3
from botocore.config import Config

from app import lasting_settings
from local.certificates import create
from local.database_server import wanted
from local.install import CLOUD
from local.mysql import free_port, own_address
from local.peer import TELLS_PROCESSES
from local.processes import end_group, is_group, is_running, run
from operations.commands import LOCAL, ROOT, environment
from operations.logs import last_errors, shown
from operations.waiting import comes_up, wait_until

ACCOUNT: Final = "000000000000"
REGION: Final = "us-east-1"
PROGRAM: Final = "local.ministack_patches"
HERE: Final = ("owner=local", "account=", "region=")
"""Settings of what is deployed to a local cloud: those of cdk.json are for AWS."""
NO_SUCH_THREAD: Final = 1094
"""MySQL's error number when the connection to kill has already ended."""


_FULL_NAME: Final = re.compile(r".+-([A-Za-z0-9]+?)[0-9A-F]{8}-[0-9A-Za-z]+")
"""Of a function that CloudFormation named: the stack's name, the logical id, and a part of its own."""


class CloudError(Exception):
    """The local cloud, or a command against it, failed; the message has what it printed."""


class LocalCloud:
    """One local cloud, which keeps all its files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state = folder / "cloud.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._connections: set[int] = set()
        self.assembly = folder / "cdk.out"
        """The folder of the synthesis that was deployed last."""
        # The file is empty if the machine stopped while it was written.
        written = self._state.read_text() if self._state.exists() else ""
        self._given: dict[str, Any] = json.loads(written or "{}")

    @property
    def is_running(self) -> bool:
        """Whether the cloud's process is running."""
        return "pid" in self._given and is_running(self._given["pid"], PROGRAM)

    @property
    def has_processes(self) -> bool:
        """Whether the cloud, or a process that it started, is running."""
        return "pid" in self._given and is_group(self._given["pid"], str(LOCAL))

    @property
    def is_bootstrapped(self) -> bool:
        """Whether it is running and `bootstrap` has succeeded."""
        return self.is_running and bool(self._given.get("bootstrapped"))

    @property
    def debug_port(self) -> int:
        """Where a debugger attaches to the serving function, or 0."""
        return int(self._given.get("debug_port", 0))

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables with which an AWS client talks to this cloud."""
        authority = str(self.folder / "certificates" / "ca.pem")
        return {
            "AWS_ENDPOINT_URL": f"https://127.0.0.1:{self._given['port']}",
            "AWS_ACCESS_KEY_ID": self._given["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": self._given["secret_access_key"],
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CA_BUNDLE": authority,
            "NODE_EXTRA_CA_CERTS": authority,
            "AWS_EC2_METADATA_DISABLED": "true",
            # The CDK command line caches the account of an access key; another cloud must not see that.
            "CDK_HOME": str(self.folder / "cdk"),
        }

    def start(
        self, concurrency_limit: int = 1000, permission_delay: int = 0, debug_port: int = 0, alarm_minute: int = 60
    ) -> None:
        """Start the cloud, empty.

        Args:
            concurrency_limit: of the account.
            permission_delay: seconds until a changed policy holds, as on AWS.
            debug_port: where a debugger attaches to the serving function; 0 for none.
            alarm_minute: seconds that a minute of an alarm's period takes; 0 leaves all alarms as they are.

        Raises:
            CloudError: it does not answer within ten minutes.
        """
        if not TELLS_PROCESSES:
            print("Not enforced on this system: security groups, routes and endpoints (local/README.md).", flush=True)
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        database_address = own_address()
        certificates = create(self.folder / "certificates", database_address)
        self._given = {
            "port": free_port(),
            "access_key_id": f"AKIA{secrets.token_hex(8).upper()}",  # No request without it is read.
            "secret_access_key": secrets.token_hex(20),
            "debug_port": debug_port,
        }
        (self.folder / "idle").mkdir()
        private = self.folder / "private"
        private.mkdir(mode=0o700)
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "DATABASE": wanted(),
            "LOCAL_DATABASE_ADDRESS": database_address,
            "HOME": str(private),
            "LANG": "C.UTF-8",
            "TMPDIR": str(private),
            "STATE_DIR": str(private / "state"),
            "S3_DATA_DIR": str(private / "s3"),
            "LOCAL_RUN": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self._given["port"]),
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "MINISTACK_REGION": REGION,
            "IOT_MTLS_ENABLED": "0",
            "CLOUDTRAIL_RECORDING": "1",
            "LOCAL_CONCURRENCY_LIMIT": str(concurrency_limit),
            "LOCAL_PERMISSION_DELAY": str(permission_delay),
            "LOCAL_DEBUG_PORT": str(debug_port),
            "LOCAL_ALARM_MINUTE": str(alarm_minute),
            # Requests' signatures are verified and IAM's policies evaluated.
            "AUTH": "true",
            "USE_SSL": "1",
            "MINISTACK_SSL_CERT": str(certificates.certificate),
            "MINISTACK_SSL_KEY": str(certificates.key),
            "SSL_CERT_FILE": str(certificates.ca),  # For requests that functions make without the SDK.
            **{key: self.variables[key] for key in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID")},
            **{key: self.variables[key] for key in ("AWS_SECRET_ACCESS_KEY", "AWS_CA_BUNDLE")},
        }
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [CLOUD / "bin" / "python", "-m", PROGRAM],
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._keep(pid=self._process.pid)
        if not comes_up(self._process, self._answers):
            self.stop()
            raise CloudError(f"the cloud did not start:\n{self.log()[-3000:]}")

    def _answers(self) -> bool:
        variables = self.variables
        with urllib3.PoolManager(ca_certs=variables["AWS_CA_BUNDLE"], timeout=5, retries=False) as pool:
            try:
                return pool.request("GET", f"{variables['AWS_ENDPOINT_URL']}/_ministack/health").status == 200
            except urllib3.exceptions.HTTPError:
                return False

    def stop(self) -> None:
        """End the cloud and the processes that it started, and wait until they have ended.

        What a killed cloud left running is ended too.
        """
        if "pid" not in self._given:
            return
        # The CDK command line of a killed `make up` or `make demo`.
        end_group(self._given.get("command", 0), str(ROOT / "node_modules"))
        if self.is_running:
            os.kill(self._given["pid"], signal.SIGTERM)
            wait_until(lambda: not self.is_running, 30)
        # Every process of the cloud has this clone's path in its command line: its Python, or its data.
        end_group(self._given["pid"], str(LOCAL))
        if self._process:
            self._process.wait()

    def _keep(self, **given: Any) -> None:
        """Write to the state file what later commands need."""
        self._given |= given
        written = self._state.with_suffix(".new")
        written.touch(mode=0o600)
        written.write_text(json.dumps(self._given))
        written.replace(self._state)

    def log(self) -> str:
        """What the emulator printed so far."""
        return (self.folder / "log").read_text(errors="replace")

    def function_log(self, start: int = 0) -> tuple[list[tuple[int, str, str]], int]:
        """What the functions printed, also those that a rollback has deleted since.

        Args:
            start: where an earlier call ended.

        Returns:
            Milliseconds since 1970, the function's name and the line; and where this call ended.
        """
        path = self.folder / "functions"
        if not path.exists():
            return [], start
        with path.open("rb") as file:
            file.seek(start)
            whole, newline, _ = file.read().rpartition(b"\n")
        rows = [json.loads(line) for line in whole.splitlines()]
        return [(at, short_name(function), line) for at, function, line in rows], start + len(whole + newline)

    def let_idle(self, function: str) -> None:
        """Act as if nobody had called this function, by its name, for weeks: Lambda makes it Inactive."""
        (self.folder / "idle" / function).touch()

    def client(self, service: str, **credentials: str) -> Any:
        """A boto3 client, as this cloud's administrator or with other credentials."""
        return self.session(**credentials).client(service)

    def session(self, **credentials: str) -> Any:
        """A boto3 session whose clients talk to this cloud, as its administrator or with other credentials."""
        variables = self.variables
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        credentials = credentials or {key.lower(): variables[key] for key in keys}
        session = boto3.Session(**credentials, region_name=REGION)
        session.client = partial(
            session.client,
            endpoint_url=variables["AWS_ENDPOINT_URL"],
            verify=variables["AWS_CA_BUNDLE"],
            config=Config(read_timeout=600),  # One that waits for a database's start is not to be sent again.
        )
        return session

    def cdk(self, *arguments: str, cwd: Path = ROOT) -> str:
        """Run the real CDK command line against this cloud and return what it printed.

        Raises:
            CloudError: it failed.
        """
        finished = run(
            ["cdk", "--no-notices", *arguments],  # Notices are read from a host of AWS.
            lambda group: self._keep(command=group),
            cwd=cwd,
            env=environment() | self.variables | {"CI": "true", "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if finished.returncode:
            raise CloudError(f"cdk {' '.join(arguments)} failed:\n{finished.stdout[-4000:]}")
        return finished.stdout

    def bootstrap(self) -> None:
        """Create CDK's bootstrap stack, from a folder without cdk.json, so that CDK does not synthesise the app."""
        self.cdk("bootstrap", f"aws://{ACCOUNT}/{REGION}", cwd=self.folder)
        self._keep(bootstrapped=True)

    def deploy(self, *context: str, assembly: Path | None = None, root: Path = ROOT) -> str:
        """Deploy all stacks of a tree, with `context` as `egress=nat`, or from a folder that a synthesis wrote.

        Return what CDK printed.

        Raises:
            CloudError: it failed; the message ends with the last error of each function, of this deploy alone.
        """
        # Each cloud has its own output folder.
        self.assembly = assembly or self.folder / "cdk.out"
        source = f"--app={assembly}" if assembly else f"--output={self.assembly}"
        options = [source, *(f"--context={each}" for each in (*HERE, *context))]
        _, start = self.function_log()
        try:
            return self.cdk("deploy", "--all", "--require-approval=never", *options, cwd=root)
        except CloudError as error:
            lines, _ = self.function_log(start)
            errors = shown(last_errors(lines))
            raise CloudError("\n".join([str(error), *errors])) from None

    def destroy(self) -> str:
        """Destroy all stacks, as they were synthesised for the last deploy, and return what CDK printed."""
        return self.cdk("destroy", "--all", "--force", f"--app={self.assembly}")

    def outputs(self, stack: str, env: str = "dev") -> Mapping[str, str]:
        """The outputs of a deployed stack, which is named without its application and environment."""
        name = f"{lasting_settings(env).stack_prefix}{stack}"
        (described,) = self.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}

    def cut_connections(self, secret_id: str) -> int:
        """End those of the application's connections that the last call found too; return their number.

        A newer connection may be an invocation's second try, which a failover would not cut either.
        """
        connection = self.database_connection(secret_id)
        with connection, connection.cursor() as cursor:
            user = f"{lasting_settings().application_username}%"
            cursor.execute("SELECT id FROM information_schema.processlist WHERE user LIKE %s", (user,))
            threads = {row[0] for row in cursor.fetchall()}
            old = threads & self._connections
            self._connections = threads
            for thread in old:
                try:
                    cursor.execute("CALL mysql.rds_kill(%s)", (thread,))
                except pymysql.OperationalError as error:
                    if error.args[0] != NO_SUCH_THREAD:
                        raise
        return len(old)

    def database_connection(self, secret_id: str) -> "pymysql.Connection[Any]":
        """Log in to the secret's database as the master user."""
        secrets = self.client("secretsmanager")
        value = json.loads(secrets.get_secret_value(SecretId=secret_id)["SecretString"])
        master = json.loads(secrets.get_secret_value(SecretId=value["masterarn"])["SecretString"])
        return pymysql.connect(
            host=value["host"],
            port=value["port"],
            user=master["username"],
            password=master["password"],
            database=value["dbname"],
            ssl=create_default_context(cafile=self.variables["AWS_CA_BUNDLE"]),
            autocommit=True,
        )


def short_name(function: str) -> str:
    """The name that a function has in its stack, or its own if CDK did not name it."""
    found = _FULL_NAME.fullmatch(function)
    return found[1] if found else function
