"""Chooses the database server of the local runs, and installs it where the machine has none.

Uses the standard library only, because it runs before anything is installed.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from operations.commands import LOCAL
from operations.debian import DebianError, distribution, unpack, unpack_unstable

CHOICES: Final = ("mysql", "mariadb")
"""The values of the variable DATABASE; the first is its default."""


@dataclass(frozen=True)
class DatabaseServer:
    """A program that serves the MySQL protocol, and where its own files are."""

    program: Path
    tree: Path | None = None
    """The folder that its packages were unpacked in; None where the machine installed them."""

    @property
    def is_mariadb(self) -> bool:
        """Whether it is MariaDB, which some systems start under the name mysqld."""
        return "mariadb" in self.program.resolve().name

    @property
    def share(self) -> Path:
        """The folder of its messages, character sets and, for MariaDB, its system tables."""
        share = self.program.parent.parent / "share"
        mariadb = share / "mariadb"  # From Debian 13 on; before, MariaDB kept them in MySQL's folder.
        return mariadb if self.is_mariadb and mariadb.exists() else share / "mysql"

    @property
    def loader(self) -> Path | None:
        """The loader of its own C library, where it was unpacked with one."""
        return next(iter(self.tree.glob("usr/lib*/ld-linux-*.so.*")), None) if self.tree else None

    @property
    def libraries(self) -> str:
        """The folders of its shared libraries, separated by colons; empty where the machine has them."""
        return os.pathsep.join(map(str, self.tree.glob("usr/lib/*-linux-gnu*"))) if self.tree else ""

    def command(self) -> list[str]:
        """Return the command line that starts it with no option file."""
        program = [str(self.program), "--no-defaults"]
        if self.tree:
            program.append(f"--basedir={self.tree / 'usr'}")
        if not self.tree or not self.loader:
            return program
        files = {
            "lc-messages-dir": self.share,
            "character-sets-dir": self.share / "charsets",
            "plugin-dir": self.tree / "usr/lib/mysql/plugin",
        }
        return [
            str(self.loader),
            "--library-path",
            self.libraries,
            *program,
            *(f"--{option}={path}" for option, path in files.items()),
        ]


def wanted() -> str:
    """Return which server DATABASE asks for.

    Raises:
        ValueError: it has a value that is not in CHOICES.
    """
    choice = os.environ.get("DATABASE") or CHOICES[0]
    if choice not in CHOICES:
        raise ValueError(f"DATABASE={choice}: expected one of {', '.join(CHOICES)}")
    return choice


def folder() -> Path:
    """Return where the wanted server is unpacked if the machine has none."""
    return LOCAL / wanted()


def on_the_machine() -> DatabaseServer | None:
    """Return the machine's own server of the wanted kind, from the path or the system's folder for servers."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    names = ["mysqld"] if wanted() == "mysql" else ["mariadbd", "mysqld"]
    found = [DatabaseServer(Path(path)) for name in names if (path := shutil.which(name, path=places))]
    return next((server for server in found if server.is_mariadb == (wanted() == "mariadb")), None)


def database_server() -> DatabaseServer:
    """Return the server that local runs start: the machine's own, or the one that was installed under the clone.

    Raises:
        FileNotFoundError: there is none; `make install` brings one.
    """
    if server := on_the_machine():
        return server
    for name in ("mysqld", "mariadbd"):
        if (program := folder() / "usr" / "sbin" / name).exists():
            return DatabaseServer(program, folder())
    raise FileNotFoundError(f"no {wanted()} server on this machine or in {folder()}: run make install")


def install(target: Path) -> str:
    """Unpack the wanted server into the target, and return which one it is.

    MySQL comes from Ubuntu's own archive, or from Debian's unstable archive, because Debian's releases
    have MariaDB only. MariaDB is unpacked where that fails.

    Raises:
        DebianError: neither could be unpacked; the message says what to install.
    """
    reason = ""
    if wanted() == "mysql":
        try:
            return _install_mysql(target)
        except DebianError as error:
            reason = (
                f", because MySQL could not be had ({error}); `make clean` and then the command again tries once more"
            )
    if sys.platform == "darwin":
        raise DebianError(f"a database server is needed: brew install {wanted()}")
    try:
        unpack(["mariadb-server-core", "mariadb-client-core"], target)
    except DebianError as error:
        raise DebianError(
            f"a MySQL or MariaDB server is needed, and could not be unpacked here{reason} ({error}). "
            "Install one, for example: dnf install mysql-server"
        ) from error
    return f"MariaDB server{reason}"


def _install_mysql(target: Path) -> str:
    if distribution() == "debian":
        unpack_unstable(["mysql-server-core"], target)
        return "MySQL server from Debian's unstable archive"
    if distribution() == "ubuntu":
        try:
            unpack(["mysql-server-core-8.4"], target)
        except DebianError:  # Ubuntu 24.04 and earlier have 8.0.
            unpack(["mysql-server-core-8.0"], target)
        return "MySQL server from Ubuntu's archive"
    raise DebianError("this is no Debian or Ubuntu")
