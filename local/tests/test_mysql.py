"""The database server runs in any folder, also in one that its user may not enter, such as /root."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from local.certificates import create
from local.mysql import MySQLServer, free_port
from operations.commands import LOCAL


@pytest.fixture(params=["closed", "with a space, \u00e4 and 'quotes'"])
def closed_folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    folder = LOCAL / f"test-{request.param}-{os.getpid()}"
    folder.mkdir(mode=0o700, parents=True)
    yield folder
    shutil.rmtree(folder)


def test_a_server_starts_in_a_folder_that_other_users_cannot_enter(closed_folder: Path) -> None:
    certificates = create(closed_folder / "certificates")
    server = MySQLServer(closed_folder / "mysql", certificates)
    server.create("devDB", "myadmin", "password", "GRANT ALL ON *.* TO myadmin@'%'")
    try:
        connection = pymysql.connect(
            host="localhost",
            port=server.port,
            user="myadmin",
            password="password",
            ssl_ca=str(certificates.ca),
            ssl_verify_cert=True,
            ssl_verify_identity=True,
        )
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@global.time_zone")
            assert cursor.fetchall() == (("+00:00",),)
            cursor.execute("SHOW PROCEDURE STATUS WHERE db = 'mysql' AND name = 'rds_kill'")
            assert cursor.fetchall()
            with pytest.raises(pymysql.OperationalError, match=r"1317|1927|2013"):
                cursor.execute("CALL mysql.rds_kill(CONNECTION_ID())")
        assert "[ERROR]" not in server.log()
    finally:
        server.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's range")
def test_no_outgoing_connection_gets_the_port_of_a_server_that_is_about_to_start() -> None:
    """https://docs.kernel.org/networking/ip-sysctl.html, ip_local_port_range."""
    first, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = {free_port() for _ in range(50)}
    assert max(ports) < first
    assert len(ports) > 25
