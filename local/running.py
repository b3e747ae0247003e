"""A running local cloud: how it is started, asked, deployed to, and ended."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from ssl import create_default_context
from typing import Any, Final

import boto3
import pymysql

from local.certificates import create
from local.install import CLOUD, ROOT, environment
from local.mysql import free_port

ACCOUNT: Final = "000000000000"
REGION: Final = "us-east-1"
ACCESS_KEY_ID: Final = "AKIALOCALCLOUD000000"


NO_SUCH_THREAD: Final = 1094
"""MySQL's errno when a connection to be killed is gone already (MySQL error message reference)."""


class CloudError(Exception):
    """The local cloud, or a command against it, failed; the message has what it printed."""


class LocalCloud:
    """One emulated cloud, with all it writes in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state = folder / "cloud.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._connections: set[int] = set()
        self._given: dict[str, Any] = json.loads(self._state.read_text()) if self._state.exists() else {}

    @property
    def _synthesised(self) -> Path:
        return self.folder / "cdk.out"

    @property
    def is_running(self) -> bool:
        """Whether the process that was started is still there, and is it: ids are used again."""
        pid = self._given.get("pid")
        try:
            return b"local.cloud" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    @property
    def variables(self) -> dict[str, str]:
        """What any AWS client needs in its environment to talk to this cloud."""
        authority = str(self.folder / "certificates" / "ca.pem")
        return {
            "AWS_ENDPOINT_URL": f"https://127.0.0.1:{self._given['port']}",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": self._given["secret_access_key"],
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CA_BUNDLE": authority,
            "NODE_EXTRA_CA_CERTS": authority,
            "AWS_EC2_METADATA_DISABLED": "true",
            # The command line remembers an access key's account; this key is no other cloud's.
            "CDK_HOME": str(self.folder / "cdk"),
        }

    def start(self) -> None:
        """Start the cloud, empty.

        Raises:
            CloudError: it does not answer within 30 seconds.
        """
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        certificates = create(self.folder / "certificates")
        self._given = {"port": free_port(), "secret_access_key": secrets.token_hex(20)}
        private = self.folder / "private"
        private.mkdir(mode=0o700)
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
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
            # Requests' signatures are verified and IAM's policies evaluated.
            "AUTH": "true",
            "USE_SSL": "1",
            "MINISTACK_SSL_CERT": str(certificates.certificate),
            "MINISTACK_SSL_KEY": str(certificates.key),
            "SSL_CERT_FILE": str(certificates.ca),  # What functions trust that do not go through the SDK.
            **{key: self.variables[key] for key in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID")},
            **{key: self.variables[key] for key in ("AWS_SECRET_ACCESS_KEY", "AWS_CA_BUNDLE")},
        }
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [CLOUD / "bin" / "python", "-m", "local.cloud"],
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._given["pid"] = self._process.pid
        self._state.touch(mode=0o600)
        self._state.write_text(json.dumps(self._given))
        context = create_default_context(cafile=str(certificates.ca))
        give_up = time.monotonic() + 30
        while True:
            try:
                url = f"{self.variables['AWS_ENDPOINT_URL']}/_ministack/health"
                urllib.request.urlopen(url, context=context, timeout=5).close()  # noqa: S310 - https
                return
            except (urllib.error.URLError, OSError):
                if self._process.poll() is not None or time.monotonic() > give_up:
                    self.stop()
                    raise CloudError(f"the cloud did not start:\n{self.log()[-3000:]}") from None
                time.sleep(0.05)

    def stop(self) -> None:
        """End the cloud and what it started, and wait for it; nothing else."""
        if not self.is_running:
            return
        pid = self._given["pid"]
        os.kill(pid, signal.SIGTERM)
        give_up = time.monotonic() + 30
        while self.is_running:
            if time.monotonic() > give_up:
                os.killpg(pid, signal.SIGKILL)
            time.sleep(0.05)
        if self._process:
            self._process.wait()

    def log(self) -> str:
        """What the emulator printed so far."""
        return (self.folder / "log").read_text(errors="replace")

    def client(self, service: str, **credentials: str) -> Any:
        """A boto3 client, as this cloud's administrator or with other credentials."""
        variables = self.variables
        return boto3.client(
            service,
            endpoint_url=variables["AWS_ENDPOINT_URL"],
            region_name=REGION,
            verify=variables["AWS_CA_BUNDLE"],
            **(
                credentials
                or {
                    "aws_access_key_id": variables["AWS_ACCESS_KEY_ID"],
                    "aws_secret_access_key": variables["AWS_SECRET_ACCESS_KEY"],
                }
            ),
        )

    def cdk(self, *arguments: str, cwd: Path = ROOT) -> str:
        """Run the real CDK command line against this cloud and return what it printed.

        Raises:
            CloudError: it failed.
        """
        ours = {key: value for key, value in environment().items() if not key.startswith("AWS_")}
        finished = subprocess.run(
            ["cdk", *arguments],
            cwd=cwd,
            env=ours | self.variables | {"CI": "true", "NO_COLOR": "1"},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if finished.returncode:
            raise CloudError(f"cdk {' '.join(arguments)} failed:\n{finished.stdout[-4000:]}")
        return finished.stdout

    def bootstrap(self) -> None:
        """Make CDK's bootstrap stack; from a folder without cdk.json, where it need not synthesise."""
        self.cdk("bootstrap", f"aws://{ACCOUNT}/{REGION}", cwd=self.folder)

    def deploy(self, *context: str) -> str:
        """Deploy all stacks; `context` as `egress=nat`. Return what CDK printed."""
        # An output folder of its own, so that two clouds do not share one.
        options = [f"--output={self._synthesised}", *(f"--context={each}" for each in context)]
        return self.cdk("deploy", "--all", "--require-approval=never", *options)

    def destroy(self) -> str:
        """Destroy all stacks, as they were synthesised for the last deploy, and return what CDK printed."""
        return self.cdk("destroy", "--all", "--force", f"--app={self._synthesised}")

    def outputs(self, stack: str) -> Mapping[str, str]:
        """A deployed stack's outputs."""
        (described,) = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}

    def cut_connections(self, secret_id: str) -> int:
        """End those of the application's connections that the last call found too; how many there were.

        A newer one may be an invocation's second try, and no failover is followed by another at once.
        Done as the database's master, whose secret an operator may read.
        """
        secrets = self.client("secretsmanager")
        value = json.loads(secrets.get_secret_value(SecretId=secret_id)["SecretString"])
        master = json.loads(secrets.get_secret_value(SecretId=value["masterarn"])["SecretString"])
        connection = pymysql.connect(
            host=value["host"],
            port=value["port"],
            user=master["username"],
            password=master["password"],
            ssl=create_default_context(cafile=self.variables["AWS_CA_BUNDLE"]),
        )
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE user LIKE 'demoapp%'")
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
