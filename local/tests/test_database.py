"""The connection verifies the server, and a failed verification is an error of its own class."""

import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trustme
from cryptography import x509

from local.certificates import Certificates
from local.mysql import MySQLServer
from local.tests.functions import CANARY, Server
from shared.credentials import Credentials
from shared.database import ROOT_CERTIFICATES, Database
from shared.deadline import Deadline
from shared.errors import ConfigurationError, DependencyUnavailableError, QueryFailedError, TLSVerificationError


def _database(region: str = "us-east-1") -> Database:
    deadline = Deadline()
    deadline.start(20)
    return Database(deadline, region)


def _credentials(server: Server, **changed: Any) -> Credentials:
    details: dict[str, Any] = {
        "host": "localhost",
        "port": server.mysql.port,
        "dbname": server.database,
        "username": server.master,
        "password": server.master_password,
        "version_id": "v",
    }
    return Credentials(**(details | changed))


@pytest.mark.usefixtures("trusted")
def test_the_right_server_is_accepted_over_tls(server: Server) -> None:
    database = _database()
    database.connect(_credentials(server))
    assert database.tls_version == "TLSv1.3"
    assert database.query("SELECT DATABASE()") == (server.database,)
    database.close()


def test_tls_before_1_2_is_not_offered() -> None:
    assert _database()._context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.usefixtures("trusted")
def test_a_server_of_another_name_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *rest, **more: real("127.0.0.1", *rest, **more))
    with pytest.raises(TLSVerificationError, match="Hostname mismatch"):
        _database().connect(_credentials(server, host="database.example"))


def test_a_server_of_another_authority_is_refused(server: Server) -> None:
    # With the root certificates of RDS, as packaged.
    with pytest.raises(TLSVerificationError, match=r"attempts=1.*(self-signed|unable to get local issuer)") as refused:
        _database().connect(_credentials(server))
    assert CANARY not in str(refused.value)


@pytest.fixture
def expired(tmp_path: Path, server: Server) -> Iterator[int]:
    """The port of a server whose certificate has expired; its authority is the trusted one from now on."""
    authority = trustme.CA()
    yesterday = datetime.now(UTC) - timedelta(days=1)
    issued = authority.issue_cert("localhost", not_before=yesterday - timedelta(days=1), not_after=yesterday)
    files = Certificates.within(server.mysql.folder.parent)
    files.ca.write_text(f"# us-east-1\n{authority.cert_pem.bytes().decode()}")
    issued.cert_chain_pems[0].write_to_path(files.certificate)
    issued.private_key_pem.write_to_path(files.key)
    mysql = MySQLServer(server.mysql.folder.parent / "expired", files)
    mysql.create(server.database, server.master, server.master_password)
    yield mysql.port
    mysql.stop()


def test_an_expired_certificate_is_refused(server: Server, expired: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.database.ROOT_CERTIFICATES", server.mysql.folder.parent / "ca.pem")
    with pytest.raises(TLSVerificationError, match="certificate has expired"):
        _database().connect(_credentials(server, port=expired))


def test_the_packaged_root_certificates_match_their_header_and_have_not_expired() -> None:
    lines = ROOT_CERTIFICATES.read_text().splitlines(keepends=True)
    head, pem = "".join(lines[:4]), "".join(lines[4:])
    certificates = x509.load_pem_x509_certificates(pem.encode())
    assert f"Certificates: {len(certificates)}," in head
    assert hashlib.sha256(pem.encode()).hexdigest() in head
    assert all(each.not_valid_after_utc > datetime.now(UTC) for each in certificates)
    assert [each for each in certificates if "RDS eu-central-1 Root CA RSA2048 G1" in each.subject.rfc4514_string()]


@pytest.mark.parametrize("region", ["eu-central-1", "us-east-1"])
def test_a_region_trusts_its_own_authorities_alone(region: str) -> None:
    authorities = _database(region)._context.get_ca_certs()
    assert len(authorities) == 3
    assert all(f"Amazon RDS {region} Root CA" in str(each["subject"]) for each in authorities)


@pytest.mark.parametrize("region", ["xx-north-9", "", "us-east-1.*"])
def test_a_region_without_root_certificates_is_named(region: str) -> None:
    with pytest.raises(ConfigurationError, match="no root certificate of RDS for the region"):
        _database(region)


def test_a_package_without_root_certificates_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.database.ROOT_CERTIFICATES", Path("/nowhere.pem"))
    with pytest.raises(FileNotFoundError):
        _database()


@pytest.mark.usefixtures("trusted")
def test_a_query_without_a_connection_is_an_error() -> None:
    with pytest.raises(DependencyUnavailableError, match="not connected"):
        _database().query("SELECT 1")


@pytest.mark.usefixtures("trusted")
def test_a_query_for_one_row_that_finds_none_is_an_error(server: Server) -> None:
    database = _database()
    database.connect(_credentials(server))
    with pytest.raises(QueryFailedError, match="returned no row"):
        database.query("SELECT 1 FROM transaction_key WHERE FALSE")
    database.close()


@pytest.mark.usefixtures("trusted")
def test_a_connection_past_its_age_is_not_trusted(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    database = _database()
    database.connect(_credentials(server))
    assert database.is_connected
    monkeypatch.setattr("shared.database.AGE", -1.0)
    assert not database.is_connected


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    "password", ["p\u00e4ssw\u00f6rd", "\u043f\u0430\u0440\u043e\u043b\u044c", "\u5bc6\u7801\U0001f511", "a b\t'\"\\%s"]
)
def test_a_password_may_have_any_letters(server: Server, password: str) -> None:
    quoted = password.replace("\\", "\\\\").replace("'", "''")
    server.execute("DROP USER IF EXISTS letters@'%'", f"CREATE USER letters@'%' IDENTIFIED BY '{quoted}'")
    server.execute(f"GRANT SELECT ON `{server.database}`.* TO letters@'%'")
    database = _database()
    database.connect(_credentials(server, username="letters", password=password))
    assert database.query("SELECT CURRENT_USER()") == ("letters@%",)
    database.close()
    server.execute("DROP USER letters@'%'")


@pytest.mark.usefixtures("trusted")
def test_a_connection_that_was_reset_is_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    database = _database()
    database.connect(_credentials(server))
    monkeypatch.setattr(database._connection, "_rfile", mock.Mock(peek=mock.Mock(side_effect=ConnectionResetError)))
    assert not database.is_connected


@pytest.mark.usefixtures("trusted")
def test_a_query_that_the_server_interrupts_can_be_asked_again(server: Server) -> None:
    database = _database()
    database.connect(_credentials(server))
    (number,) = database.query("SELECT CONNECTION_ID()")

    def kill() -> None:
        running = f"SELECT id FROM information_schema.processlist WHERE id = {number} AND info LIKE '%columns c'"
        while not server.execute(running):
            time.sleep(0.01)
        server.execute(f"KILL QUERY {number}")

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(DependencyUnavailableError) as lost:
        database.query(f"SELECT COUNT(*) FROM {', '.join(f'information_schema.columns {name}' for name in 'abc')}")
    killer.join()
    assert lost.value.connection_lost
