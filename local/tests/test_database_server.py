"""Which database server the local runs use, and what is said where MySQL cannot be installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from local import database_server
from operations import debian
from operations.commands import LOCAL, ROOT, environment
from operations.debian import DebianError


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is first on the path, and has MariaDB under the name mysqld, as some systems do."""
    (tmp_path / "mariadbd").touch(mode=0o755)
    (tmp_path / "mysqld").symlink_to("mariadbd")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "mysqld"


def test_mariadb_under_the_name_of_mysql_is_not_taken_for_mysql(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE", "mysql")
    found = database_server.on_the_machine()
    assert found is None or found.program != program
    monkeypatch.setenv("DATABASE", "mariadb")
    found = database_server.on_the_machine()
    assert found
    assert found.is_mariadb
    assert found.program.parent == program.parent


@pytest.mark.parametrize(
    ("name", "folders", "expected"),
    [
        pytest.param("mariadbd", ["mysql"], "mysql", id="MariaDB of Debian 12"),
        pytest.param("mariadbd", ["mysql", "mariadb"], "mariadb", id="MariaDB of Debian 13"),
        pytest.param("mysqld", ["mysql", "mariadb"], "mysql", id="MySQL beside MariaDB"),
    ],
)
def test_its_files_are_found_where_each_release_of_debian_has_them(
    tmp_path: Path, name: str, folders: list[str], expected: str
) -> None:
    for folder in folders:
        (tmp_path / "usr/share" / folder).mkdir(parents=True)
    server = database_server.DatabaseServer(tmp_path / "usr/sbin" / name, tmp_path)
    assert server.share == tmp_path / "usr/share" / expected


def test_an_unknown_database_is_refused() -> None:
    command = [sys.executable, "-m", "local.install"]
    env = environment() | {"DATABASE": "postgresql"}
    finished = subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True)
    assert finished.returncode == 1
    assert finished.stderr == "DATABASE=postgresql: expected one of mysql, mariadb\n"


def test_mariadb_is_unpacked_with_the_reason_when_mysql_cannot_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE", "mysql")
    monkeypatch.setattr(database_server, "distribution", lambda: "debian")
    monkeypatch.setattr(debian, "_mirror", lambda: "http://127.0.0.1:9/debian")  # apt itself finds nobody there,
    (tmp_path / "apt.conf").write_text('Acquire::Retries "0";')  # and does not ask again.
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    unpacked = []
    monkeypatch.setattr(database_server, "unpack", lambda packages, target: unpacked.append((packages, target)))
    before = set(LOCAL.iterdir())
    said = database_server.install(tmp_path)
    assert not {each for each in set(LOCAL.iterdir()) - before if each.name.startswith("apt")}
    assert said.startswith("MariaDB server, because MySQL could not be had (apt-get: E: ")
    assert "http://127.0.0.1:9/debian" in said
    assert unpacked == [(["mariadb-server-core", "mariadb-client-core"], tmp_path)]


def test_the_error_says_what_to_install_when_neither_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE", "mysql")
    monkeypatch.setattr(database_server, "distribution", lambda: "fedora")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DebianError, match=r"MySQL could not be had.*no apt-get.*dnf install mysql-server"):
        database_server.install(tmp_path / "target")


def test_on_a_mac_the_error_names_the_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE", "mysql")
    monkeypatch.setattr(database_server, "distribution", lambda: "")
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(DebianError, match="brew install mysql"):
        database_server.install(tmp_path)
