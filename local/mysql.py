"""A real MySQL or MariaDB server on 127.0.0.1, with TLS, as an unprivileged user."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from local.certificates import Certificates
from local.install import MYSQL, mysql_server

UNPRIVILEGED: Final = "nobody"
"""Who runs the server when root starts it."""

RDS_MASTER_PRIVILEGES: Final = (
    "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD, PROCESS, REFERENCES, INDEX, ALTER, SHOW DATABASES, "
    "CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, REPLICATION SLAVE, REPLICATION CLIENT, CREATE VIEW, "
    "SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, CREATE USER, EVENT, TRIGGER"
)
"""What RDS gives the master user (RDS user guide, "Master user account privileges")."""


RDS_ADMINISTRATION: Final = (
    "CREATE USER rdsadmin@localhost ACCOUNT LOCK",
    "GRANT ALL ON *.* TO rdsadmin@localhost",
    "CREATE DEFINER=rdsadmin@localhost PROCEDURE mysql.rds_kill(IN thread BIGINT) KILL thread",
)
"""RDS's own account, and how a master user there ends a connection (RDS user guide, "mysql.rds_kill")."""


class MySQLError(Exception):
    """The server did not start; the message has the end of its log."""


class MySQLServer:
    """One server with a data folder of its own."""

    def __init__(self, folder: Path, certificates: Certificates, *options: str) -> None:
        """Describe the server; nothing happens yet.

        Args:
            folder: for its data, made anew and the server's user's alone.
            certificates: its own; copied, because the server's user may not read the originals.
            options: further command-line options.
        """
        self.folder = folder
        self.port = 0
        self._certificates = certificates
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._binary = mysql_server() or MYSQL / "usr/sbin/mariadbd"
        self._base = MYSQL / "usr" if self._binary.is_relative_to(MYSQL) else None

    def create(self, database: str, username: str, password: str, *statements: str) -> None:
        """Initialise and start the server with one database and its master user, as RDS would.

        The accounts that come with a new data folder go, so that nobody logs in without a
        password. `statements` run as the server's own administrator.

        Raises:
            MySQLError: it could not.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700, parents=True)
        for name, source in (("ca", self._certificates.ca), ("cert", self._certificates.certificate)):
            shutil.copyfile(source, self.folder / f"{name}.pem")
        (self.folder / "key.pem").touch(mode=0o600)
        shutil.copyfile(self._certificates.key, self.folder / "key.pem")
        (self.folder / "temporary").mkdir()
        self._give_away(self.folder, *self.folder.iterdir())
        self._run(self._initialise_command())
        account = f"'{username}'@'%'"
        sql = [
            f"CREATE DATABASE `{database}`",
            f"CREATE USER {account} IDENTIFIED BY '{password}'",
            f"GRANT {RDS_MASTER_PRIVILEGES} ON *.* TO {account} WITH GRANT OPTION",
            *RDS_ADMINISTRATION,
            *statements,
            "DROP USER IF EXISTS root@localhost, root@'127.0.0.1', root@'::1', ''@localhost",
            f"DROP USER IF EXISTS root@'{socket.gethostname().lower()}', ''@'{socket.gethostname().lower()}'",
        ]
        init_file = self.folder / "init.sql"
        init_file.touch(mode=0o600)
        init_file.write_text("".join(f"{statement};\n" for statement in sql))
        self._give_away(init_file)
        try:
            self.start(f"--init-file={init_file}")
        finally:
            init_file.unlink()

    def start(self, *options: str) -> None:
        """Start the server on its data, on the port it had or on a free one.

        Raises:
            MySQLError: it does not answer within 30 seconds.
        """
        self.port = self.port or free_port()
        files = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
        command = [
            *self._command(self._binary),
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--socket=s",  # Within the data folder: a path of its own may be too long for a socket.
            f"--pid-file={self.folder}/pid",
            *(f"--ssl-{name}={self.folder}/{file}" for name, file in files.items()),
            "--innodb-buffer-pool-size=32M",
            "--skip-name-resolve",
            "--secure-file-priv=NULL" if not self._is_mariadb() else f"--secure-file-priv={self.folder}",
            *([] if self._is_mariadb() else ["--mysqlx=OFF"]),
            *self._options,
            *options,
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment(), stdout=log, stderr=log)
        give_up = time.monotonic() + 30
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.stop()
                raise MySQLError(f"{self._binary} did not start:\n{self.log()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Shut the server down and wait for its end."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def log(self) -> str:
        """What the server wrote so far."""
        return (self.folder / "log").read_text(errors="replace")

    def _answers(self) -> bool:
        """Whether it greets; a listening port alone may not be served yet."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 0.5) as connection:
                return len(connection.recv(5)) == 5
        except OSError:
            return False

    def _is_mariadb(self) -> bool:
        return "mariadb" in self._binary.resolve().name

    def _initialise_command(self) -> list[str]:
        if not self._is_mariadb():
            return [*self._command(self._binary), "--initialize-insecure"]
        script = self._base / "bin/mariadb-install-db" if self._base else shutil.which("mariadb-install-db")
        return [
            *self._command(Path(script or "mariadb-install-db")),
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ]

    def _command(self, program: Path) -> list[str]:
        """The program as the unprivileged user, with the options that all of them take."""
        command = [str(program), "--no-defaults", f"--datadir={self.folder}/data"]
        if self._base:
            command.append(f"--basedir={self._base}")
        if os.geteuid() != 0:
            return command
        # The clone may lie where that user cannot go (/root); then it is let through, to read only.
        # access(2) forgets capabilities unless told not to, and the server, asking it, would
        # take its own files for missing and make some of them anew.
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
        # A folder of its own for what is temporary: a server that starts removes what it finds there.
        env = {"PATH": os.defpath, "HOME": str(self.folder), "TMPDIR": f"{self.folder}/temporary"}
        if self._base:
            libraries = [str(path) for path in (self._base / "lib").glob("*-linux-gnu*")]
            env["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
        return env

    def _run(self, command: Sequence[str]) -> None:
        finished = subprocess.run(
            command, env=self._environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.folder
        )
        if finished.returncode:
            raise MySQLError(f"{command[0]} failed:\n{finished.stdout.decode(errors='replace')[-2000:]}")

    def _give_away(self, *paths: Path) -> None:
        if os.geteuid() == 0:
            owner = pwd.getpwnam(UNPRIVILEGED)
            for path in paths:
                os.chown(path, owner.pw_uid, owner.pw_gid)


def _may_enter(folder: Path) -> bool:
    """Whether everybody may pass through the folder and those above it."""
    return all(above.stat().st_mode & 0o001 for above in (folder, *folder.parents))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
