"""A real MySQL or MariaDB server on this machine alone, with TLS, as an unprivileged user."""

import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from local.certificates import Certificates
from local.database_server import database_server
from local.relay import HiddenSocket
from operations.commands import CACHE
from operations.waiting import comes_up

SYSTEM_TABLES: Final = CACHE / "system-tables"
"""Data folders with nothing but system tables, to be copied."""
MYSQL_OPTIONS: Final = ("--secure-file-priv=NULL", "--mysqlx=OFF", "--innodb-redo-log-capacity=8M")
"""Options that MariaDB does not know."""
UNPRIVILEGED: Final = "nobody"
"""The user that runs the server when root starts it."""

LOOPBACK: Final = "127.0.0.1"
PORT: Final = 3306
"""Where clients that name no port look for a server."""
PORTS: Final = range(15_000, 30_000)
"""Where servers of this machine listen: below what Linux and macOS give to outgoing connections."""

RDS_MASTER_PRIVILEGES: Final = (
    "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD, PROCESS, REFERENCES, INDEX, ALTER, SHOW DATABASES, "
    "CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, REPLICATION SLAVE, REPLICATION CLIENT, CREATE VIEW, "
    "SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, CREATE USER, EVENT, TRIGGER"
)
"""Of the master user (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.MasterAccounts.html)."""


RDS_ADMINISTRATION: Final = (
    "CREATE USER rdsadmin@localhost ACCOUNT LOCK",
    "GRANT ALL ON *.* TO rdsadmin@localhost",
    "CREATE DEFINER=rdsadmin@localhost PROCEDURE mysql.rds_kill(IN thread BIGINT) KILL thread",
)
"""RDS's own account and procedure (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/mysql-stored-proc-ending.html)."""


class MySQLError(Exception):
    """The server did not start; the message has the end of its log."""


class MySQLServer:
    """One server with a data folder of its own; `create` and `start` act.

    Args:
        folder: for its data; created again, and readable by the server's user only.
        certificates: of the server; copied, because the server's user cannot read the originals.
        is_hidden: whether only `connect` reaches it (Linux), and no port does.
        options: further command-line options; --lower-case-table-names counts when the data is made.
        address: where it listens; another than 127.0.0.1 is its own, and has MySQL's port.
    """

    def __init__(
        self,
        folder: Path,
        certificates: Certificates,
        *options: str,
        address: str = LOOPBACK,
        is_hidden: bool = False,
    ) -> None:
        self.folder = folder
        self.address = address
        self.port = 0 if address == LOOPBACK else PORT
        self._is_hidden = is_hidden
        self._socket: HiddenSocket | None = None
        self._certificates = certificates
        self._options = options
        self._lasting = [each for each in options if each.startswith("--lower-case-table-names")]
        self._process: subprocess.Popen[bytes] | None = None
        self._server = database_server()

    def create(self, database: str, username: str, password: str, *statements: str) -> None:
        """Initialise and start the server with one database and its master user, as RDS would.

        The accounts of a new data folder are removed, so that nobody logs in without a password.
        `statements` run as the server's administrator.

        Raises:
            MySQLError: it could not.
        """
        self._prepare()
        self._initialise()
        account = f"'{username}'@'%'"
        self.start_with(
            f"CREATE DATABASE `{database}`",
            f"CREATE USER {account} IDENTIFIED BY '{password}'",
            f"GRANT {RDS_MASTER_PRIVILEGES} ON *.* TO {account} WITH GRANT OPTION",
            *RDS_ADMINISTRATION,
            *statements,
            "DROP USER IF EXISTS root@localhost, root@'127.0.0.1', root@'::1', ''@localhost",
            f"DROP USER IF EXISTS root@'{socket.gethostname().lower()}', ''@'{socket.gethostname().lower()}'",
        )

    def restore(self, data: Path, *statements: str) -> None:
        """Start the server on a copy of what `copy_data` wrote; `statements` run as its administrator.

        Raises:
            MySQLError: it could not.
        """
        self._prepare()
        self._copy(data, self.folder / "data")
        self.start_with(*statements)

    def copy_data(self, target: Path) -> None:
        """Copy the data of one moment, as a snapshot of the storage does: the server repairs it when it starts."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)
            os.waitpid(self._process.pid, os.WUNTRACED)  # Until it has stopped.
        try:
            shutil.copytree(self.folder / "data", target, ignore=_of_one_process)
        finally:
            if self._process:
                self._process.send_signal(signal.SIGCONT)

    def start_with(self, *statements: str) -> None:
        """Start the server; the statements run as its administrator before it answers.

        Raises:
            MySQLError: it does not answer within ten minutes.
        """
        init_file = self.folder / "init.sql"
        init_file.touch(mode=0o600)
        init_file.write_text("".join(f"{statement};\n" for statement in statements))
        self._give_away(init_file)
        try:
            self.start(f"--init-file={init_file}")
        finally:
            init_file.unlink()

    def start(self, *options: str) -> None:
        """Start the server on its data, on the port it had or on a free one.

        Raises:
            MySQLError: it does not answer within ten minutes.
        """
        self.port = self.port or free_port()
        self._socket = None
        command = [
            *self._command(),
            *(["--skip-networking"] if self._is_hidden else [f"--port={self.port}", f"--bind-address={self.address}"]),
            "--socket=s",  # A relative path, within the data folder: an absolute one may be too long for a socket.
            f"--pid-file={self.folder}/pid",
            *(f"--ssl-{name}={self.folder}/{name}.pem" for name in ("ca", "cert", "key")),
            "--innodb-buffer-pool-size=32M",
            "--skip-name-resolve",
            # As RDS, which is not strict (https://github.com/awsdocs/amazon-rds-user-guide/issues/160).
            "--sql-mode=NO_ENGINE_SUBSTITUTION",
            "--default-time-zone=+00:00",
            *([f"--secure-file-priv={self.folder}"] if self._server.is_mariadb else MYSQL_OPTIONS),
            *self._options,
            *options,
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment(), stdout=log, stderr=log)
        if not comes_up(self._process, self._answers):
            self.stop()
            raise MySQLError(f"{self._server.program} did not start:\n{self.log()[-2000:]}")

    def stop(self) -> None:
        """Shut the server down and wait for its end."""
        if self._process:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
            self.kill()

    def kill(self) -> None:
        """End the server at once, where its data is not used again: `stop` takes a second more."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        """Return the server's log so far."""
        return (self.folder / "log").read_text(errors="replace")

    def connect(self) -> socket.socket:
        """Return a connection to the server.

        Raises:
            OSError: it does not listen.
        """
        if not self._is_hidden:
            return socket.create_connection((self.address, self.port), 0.5)
        self._socket = self._socket or HiddenSocket(str(self.folder / "data" / "s"))
        return self._socket.connect()

    def _answers(self) -> bool:
        """Return whether the server sends its greeting; a listening port may not be served yet."""
        try:
            with self.connect() as connection:
                connection.settimeout(0.5)
                return len(connection.recv(5)) == 5
        except OSError:
            return False

    def _prepare(self) -> None:
        """Make the folder anew, with the certificates and without data."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700, parents=True)
        given = self._certificates
        for name, source in (("ca", given.ca), ("cert", given.certificate), ("key", given.key)):
            (self.folder / f"{name}.pem").touch(mode=0o600)
            shutil.copyfile(source, self.folder / f"{name}.pem")
        (self.folder / "temporary").mkdir()
        self._give_away(self.folder, *self.folder.iterdir())

    def _copy(self, source: Path, data: Path) -> None:
        shutil.copytree(source, data)
        self._give_away(data, *data.rglob("*"))

    def _initialise(self) -> None:
        """Give the data folder its system tables: made once for each program, and copied afterwards."""
        data = self.folder / "data"
        program = self._server.program.resolve()
        made = SYSTEM_TABLES / f"{program.name}-{program.stat().st_mtime_ns}-{os.geteuid()}{''.join(self._lasting)}"
        if made.exists():
            self._copy(made, data)
            return
        self._make_system_tables(data)
        own = made.with_name(f"{made.name}-{os.getpid()}")
        own.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(data, own)
        try:
            own.rename(made)
        except OSError:  # Another process was quicker.
            shutil.rmtree(own)

    def _make_system_tables(self, data: Path) -> None:
        if not self._server.is_mariadb:
            self._run([*self._command(), "--initialize-insecure", "--innodb-redo-log-capacity=8M", *self._lasting])
            return
        # MariaDB's own script fails for paths with spaces. It runs these files, in this order.
        files = ("mysql_system_tables", "mysql_performance_tables", "mysql_system_tables_data", "mysql_sys_schema")
        statements = ["create database if not exists mysql;", "use mysql;", "SET @auth_root_socket=NULL;"]
        statements += [(self._server.share / f"{name}.sql").read_text() for name in files]
        data.mkdir(mode=0o700)
        self._give_away(data)
        options = ("--bootstrap", "--enforce-storage-engine=", "--max-allowed-packet=8M", "--net-buffer-length=16K")
        self._run([*self._command(), *options], "\n".join(statements))

    def _command(self) -> list[str]:
        """Return the server's command line, run as the unprivileged user when this user is root."""
        command = [*self._server.command(), f"--datadir={self.folder}/data"]
        if os.geteuid() != 0:
            return command
        # The clone may be in a folder that this user cannot enter (/root). Then the server gets the
        # capability to read it. access(2) ignores capabilities unless a securebit is set; without it the
        # server would find its own files missing and create some of them again.
        is_open = _may_enter(self.folder.parent)
        passes = "-all" if is_open else "-all,+dac_read_search"
        group = str(pwd.getpwnam(UNPRIVILEGED).pw_gid)
        return [
            *("setpriv", f"--reuid={UNPRIVILEGED}", f"--regid={group}", "--clear-groups"),
            *(f"--inh-caps={passes}", f"--ambient-caps={passes}"),
            *([] if is_open else ["--securebits=+no_setuid_fixup"]),
            *command,
        ]

    def _environment(self) -> dict[str, str]:
        # A separate temporary folder: a starting server deletes what it finds in it.
        env = {"PATH": os.defpath, "HOME": str(self.folder), "TMPDIR": f"{self.folder}/temporary"}
        if self._server.libraries and not self._server.loader:
            env["LD_LIBRARY_PATH"] = self._server.libraries
        return env

    def _run(self, command: Sequence[str], text: str = "") -> None:
        finished = subprocess.run(
            command,
            env=self._environment(),
            input=text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
        )
        if finished.returncode:
            raise MySQLError(f"{command[0]} failed:\n{finished.stdout.decode(errors='replace')[-2000:]}")

    def _give_away(self, *paths: Path) -> None:
        if os.geteuid() == 0:
            owner = pwd.getpwnam(UNPRIVILEGED)
            for path in paths:
                os.chown(path, owner.pw_uid, owner.pw_gid)


def _of_one_process(folder: str, names: list[str]) -> list[str]:
    """Return which of a data folder's files belong to the running server and not to the data."""
    return [name for name in names if name in ("auto.cnf", "s.lock") or (Path(folder) / name).is_socket()]


def _may_enter(folder: Path) -> bool:
    """Return whether everybody may enter the folder and those above it."""
    return all(above.stat().st_mode & 0o001 for above in (folder, *folder.parents))


def own_address() -> str:
    """Return an address of this machine at which port 3306 is free, and nobody else looks for one.

    Linux has 127.0.0.0/8 for itself. Where another address than 127.0.0.1 is not there, it is that one.
    """
    for _ in range(10):
        address = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}"  # noqa: S311
        try:
            with socket.socket() as probe:
                probe.bind((address, PORT))
        except OSError:
            continue
        return address
    return LOOPBACK


def free_port() -> int:
    """Return a free port on 127.0.0.1, which no outgoing connection takes before a server listens on it."""
    while True:
        port = secrets.choice(PORTS)  # Tests with a seed would all draw the same.
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
