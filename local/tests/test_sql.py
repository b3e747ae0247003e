"""`make sql`: who asks, over what, and what it prints."""

import io
import json
import ssl
from pathlib import Path

import pymysql
import pytest

from app import lasting_settings
from local import sql
from local.certificates import create
from local.cloud import CloudError, LocalCloud
from local.peer import TABLE
from local.tests.fixtures import wait_for_rotation


@pytest.fixture(autouse=True)
def _rotated(cloud: LocalCloud, outputs: dict[str, str]) -> None:
    """The first rotation makes the application's user."""
    wait_for_rotation(cloud, outputs["DatabaseSecretArn"])


@pytest.mark.parametrize(("is_master", "user"), [("", lasting_settings().application_username), ("1", "myadmin")])
def test_a_statement_is_run_as_the_applications_user_or_the_master_over_tls(
    cloud: LocalCloud,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_master: str,
    user: str,
) -> None:
    monkeypatch.setenv("MASTER", is_master)
    monkeypatch.setenv("STATEMENT", "SELECT user() AS asker, DATABASE(), NULL;")
    sql.main(cloud)
    head, row, count = capsys.readouterr().out.splitlines()
    assert head.split() == ["asker", "DATABASE()", "NULL"]
    assert row.startswith(user)
    assert row.split()[1:] == ["devDB", "NULL"]
    assert count == "1 rows"
    monkeypatch.setenv("STATEMENT", "SHOW STATUS LIKE 'Ssl_cipher'")
    sql.main(cloud)
    assert "TLS_" in capsys.readouterr().out


def test_a_server_whose_certificate_is_not_this_clouds_is_refused(
    cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    another = create(tmp_path)
    monkeypatch.setattr(sql, "create_default_context", lambda **_: ssl.create_default_context(cafile=another.ca))
    with pytest.raises(CloudError, match="CERTIFICATE_VERIFY_FAILED"):
        sql.connect(cloud, as_master=False)


def test_the_prompt_goes_on_after_a_mistake(
    cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("STATEMENT", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO("SELCT 1;\n\nSELECT 'a\n', 2;\nSELECT '\x1b[2J';\n"))
    sql.main(cloud)
    printed = capsys.readouterr()
    assert printed.err.startswith("ERROR 1064: You have an error in your SQL syntax")
    assert "a\\n  2\n1 rows" in printed.out
    assert "\\x1b[2J" in printed.out
    assert "\x1b" not in printed.out


def test_a_mistake_in_a_statement_is_said_in_a_sentence(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATEMENT", "SELECT * FROM nothing")
    with pytest.raises(CloudError, match=r"ERROR 1146: Table .devDB\.nothing. doesn.t exist"):
        sql.main(cloud)


@pytest.mark.skipif(not TABLE.exists(), reason="the server is on a free port of 127.0.0.1")
def test_a_client_that_names_no_port_reaches_the_server(cloud: LocalCloud, outputs: dict[str, str]) -> None:
    secrets = cloud.client("secretsmanager")
    value = json.loads(secrets.get_secret_value(SecretId=outputs["DatabaseSecretArn"])["SecretString"])
    context = ssl.create_default_context(cafile=cloud.variables["AWS_CA_BUNDLE"])
    with (
        pymysql.connect(
            host=value["host"], user=value["username"], password=value["password"], ssl=context
        ) as connected,
        connected.cursor() as cursor,
    ):
        cursor.execute("SELECT user()")
        ((user,),) = cursor.fetchall()
    assert user.startswith(value["username"])
