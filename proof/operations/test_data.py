"""A snapshot that would lose data, or stop a deploy, is named before; a restore brings a table back; adoption."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from app import lasting_settings, templates
from local.cloud import LocalCloud
from local.tests.fixtures import local_cloud
from operations import adoption, snapshots
from operations import restore as restoring
from operations.commands import ROOT
from operations.databases import DatabaseError, connect, credentials, rows_of
from operations.restore import Restore
from proof.testbed.instances import FRESH, deploy, execute, instance, log_in, master
from stacks.settings import from_context

DEV = lasting_settings()
TABLE = """CREATE TABLE devDB.orders (
    id INT PRIMARY KEY AUTO_INCREMENT, buyer INT NULL, price DECIMAL(9,2), twice DECIMAL(9,2) AS (2 * price) STORED,
    packed BLOB, at TIMESTAMP(6) NULL, flags BIT(9), told JSON, `50%` FLOAT, rate FLOAT,
    CONSTRAINT of_a_buyer FOREIGN KEY (buyer) REFERENCES buyers (id), CONSTRAINT dear CHECK (price > 0)
)"""
ROWS = """INSERT INTO devDB.orders (id, buyer, price, packed, at, flags, told, `50%`, rate) VALUES
    (0, 1, 9.99, X'00FF27', '2026-11-22 10:00:00.123456', b'101', '{"a": "\u00e4%s"}', 16777216, 0.1),
    (7, NULL, 1, '', NULL, NULL, NULL, NULL, -0e0)"""


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    """A cloud with dev's database, two tables, and a snapshot of it, `kept`."""
    with local_cloud("data") as cloud:
        dev = FRESH | {"DBInstanceIdentifier": "dev-demoapp", "DBName": "devDB", "MasterUsername": "myadmin"}
        assert deploy(cloud, f"{DEV.stack_prefix}Database", dev) == ""
        no_zero = "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'"
        buyers = ("CREATE TABLE devDB.buyers (id INT PRIMARY KEY)", "INSERT INTO devDB.buyers VALUES (1)")
        execute(cloud, "dev-demoapp", "SET time_zone = '+00:00'", no_zero, *buyers, TABLE, ROWS)
        cloud.client("rds").create_db_snapshot(DBInstanceIdentifier="dev-demoapp", DBSnapshotIdentifier="kept")
        yield cloud


def _faults(cloud: LocalCloud, env: str = "prod", described: dict[str, Any] | None = None, **context: str) -> list[str]:
    """What is said of a snapshot; `described` changes what RDS says of it."""

    def client(service: str) -> Any:
        real = cloud.client(service)
        if not described or service != "rds":
            return real
        (found,) = real.describe_db_snapshots(DBSnapshotIdentifier=context["snapshot"])["DBSnapshots"]
        changed = {"DBSnapshots": [found | described]}
        return SimpleNamespace(
            describe_db_instances=real.describe_db_instances, describe_db_snapshots=lambda **_: changed
        )

    settings = from_context({"env": env} | context)
    return [*snapshots.faults(settings, _database(env), client)]


@cache
def _database(env: str) -> dict[str, Any]:
    return dict(templates(env=env)["Database"])


@pytest.fixture(scope="module")
def lasting(cloud: LocalCloud) -> str:
    """A copy of the snapshot under AWS's own key."""
    cloud.client("rds").copy_db_snapshot(
        SourceDBSnapshotIdentifier="kept", TargetDBSnapshotIdentifier="kept-lasting", KmsKeyId="alias/aws/rds"
    )
    return "kept-lasting"


def test_a_new_environment_takes_a_snapshot_under_a_key_that_stays(cloud: LocalCloud, lasting: str) -> None:
    assert _faults(cloud, snapshot=lasting) == []
    assert _faults(cloud) == []


def test_a_snapshot_under_another_environments_key_is_refused_with_the_command_that_copies_it(
    cloud: LocalCloud,
) -> None:
    (fault,) = _faults(cloud, snapshot="kept")
    assert f"its key belongs to {DEV.stack_prefix}Database, and may be deleted with it" in fault
    assert fault.endswith(
        "aws rds copy-db-snapshot --source-db-snapshot-identifier kept "
        "--target-db-snapshot-identifier kept-lasting --kms-key-id alias/aws/rds"
    )


@pytest.mark.parametrize(
    ("described", "context", "said"),
    [
        ({"Status": "creating"}, {}, "it is creating: wait until it is available"),
        ({"Engine": "mariadb"}, {}, "of mariadb, which RDS does not restore as mysql"),
        ({"MasterUsername": "owner"}, {}, "its master user is owner, and stays so: set database_username=owner"),
        ({"EngineVersion": "8.4.6"}, {"engine_version": "9.7"}, "set engine_version=8.4, and upgrade afterwards"),
        (
            {"EngineVersion": "8.4.9"},
            {"engine_version": "8.4.7"},
            "of MySQL 8.4.9, which a restore makes neither older",
        ),
        ({"AllocatedStorage": 95}, {}, "it needs 95 GiB, and the instance may grow to 100: raise max_allocated"),
        ({}, {"database_name": "shop"}, "its instance was made with devDB: set database_name=devDB"),
        ({"Encrypted": False}, {}, "not encrypted, and its instance would not be either: copy it under a key that"),
    ],
)
def test_a_snapshot_that_rds_would_not_restore_so_is_named(
    cloud: LocalCloud, lasting: str, described: dict[str, Any], context: dict[str, str], said: str
) -> None:
    (fault,) = _faults(cloud, described=described, snapshot=lasting, **context)
    assert said in fault
    assert _faults(cloud, described={"EngineVersion": "8.4.6"}, snapshot=lasting, engine_version="8.4.6") == []


@pytest.mark.parametrize("gone", [{"DBInstanceIdentifier": "gone"}, {"DbiResourceId": "db-ANOTHER"}])
def test_a_snapshot_whose_instance_has_gone_does_not_say_its_database(
    cloud: LocalCloud, lasting: str, gone: dict[str, str]
) -> None:
    assert _faults(cloud, described=gone, snapshot=lasting, database_name="shop") == []


def test_a_snapshot_whose_key_is_not_to_be_had_is_named(cloud: LocalCloud, lasting: str) -> None:
    kms = cloud.client("kms")
    kms.disable_key(KeyId="alias/aws/rds")
    try:
        (fault,) = _faults(cloud, snapshot=lasting)
    finally:
        kms.enable_key(KeyId="alias/aws/rds")
    assert "is Disabled: enable it, or nobody reads the data" in fault


def test_a_snapshot_that_is_not_there_is_named(cloud: LocalCloud) -> None:
    assert _faults(cloud, snapshot="lost") == ["snapshot lost: there is none in this region of this account"]


def test_a_snapshot_is_not_added_to_an_environment_that_has_data(cloud: LocalCloud, lasting: str) -> None:
    assert _faults(cloud, env="dev") == []
    (fault,) = _faults(cloud, env="dev", snapshot=lasting)
    assert "this environment has a database, which CloudFormation would replace" in fault


@pytest.mark.parametrize("now", ["", "another"])
def test_a_snapshot_is_neither_taken_away_nor_changed(
    cloud: LocalCloud, lasting: str, monkeypatch: pytest.MonkeyPatch, now: str
) -> None:
    monkeypatch.setattr(snapshots, "_deployed", lambda *_: {"DBSnapshotIdentifier": lasting})
    (fault,) = _faults(cloud, env="dev", snapshot=now)
    assert f"this environment's data came from {lasting}, and CloudFormation may replace the database" in fault
    assert _faults(cloud, env="dev", snapshot=lasting) == []


@pytest.fixture
def restore(cloud: LocalCloud) -> Iterator[Restore]:
    """The restore of dev; no copy is left."""
    restore = Restore(DEV, cloud.session(), pause=0.1)
    yield restore
    there = [each["DBInstanceIdentifier"] for each in cloud.client("rds").describe_db_instances()["DBInstances"]]
    if restore.copy_name in there:
        restore.delete()


def _authorities(cloud: LocalCloud) -> Path:
    return Path(cloud.variables["AWS_CA_BUNDLE"])


COMPARED = """SELECT *, HEX(packed), flags + 0, CONCAT(`50%` * 1e0), CONCAT(rate * 1e0)
    FROM devDB.{} ORDER BY id"""


@pytest.mark.parametrize("source", ["latest", "kept"])
def test_a_lost_table_comes_back_as_it_was(cloud: LocalCloud, restore: Restore, source: str) -> None:
    before = execute(
        cloud,
        "dev-demoapp",
        COMPARED.format("orders"),
    )
    shown = execute(cloud, "dev-demoapp", "SHOW CREATE TABLE devDB.orders")
    restore.make(source)
    copy = instance(cloud, restore.copy_name)
    assert copy["DBSubnetGroup"]["DBSubnetGroupName"] == restore.instance["DBSubnetGroup"]["DBSubnetGroupName"]
    execute(cloud, "dev-demoapp", "DROP TABLE devDB.orders")
    assert restore.copy_table("orders", _authorities(cloud)) == ("orders", 2)
    assert execute(cloud, "dev-demoapp", COMPARED.format("orders")) == before
    assert execute(cloud, "dev-demoapp", "SHOW CREATE TABLE devDB.orders") == shown


def test_a_table_that_is_there_is_left_and_the_other_stands_beside_it(cloud: LocalCloud, restore: Restore) -> None:
    restore.make("kept")
    execute(cloud, "dev-demoapp", "DELETE FROM devDB.orders WHERE id = 7")
    assert restore.copy_table("orders", _authorities(cloud)) == ("orders_restored", 2)
    assert execute(cloud, "dev-demoapp", "SELECT id FROM devDB.orders") == [(0,)]
    with pytest.raises(DatabaseError, match="has orders and orders_restored: drop the one that is not wanted"):
        restore.copy_table("orders", _authorities(cloud))
    with pytest.raises(DatabaseError, match=r"dev-demoapp-restored has no table devDB\.lost"):
        restore.copy_table("lost", _authorities(cloud))
    back = "INSERT INTO devDB.orders (id, price) SELECT id, price FROM devDB.orders_restored WHERE id = 7"
    execute(cloud, "dev-demoapp", back, "DROP TABLE devDB.orders_restored")


def test_a_view_is_not_copied_as_a_table(cloud: LocalCloud, restore: Restore) -> None:
    execute(cloud, "dev-demoapp", "CREATE VIEW devDB.dear AS SELECT id FROM devDB.orders")
    try:
        restore.make("latest")
    finally:
        execute(cloud, "dev-demoapp", "DROP VIEW devDB.dear")
    with pytest.raises(DatabaseError, match=r"^devDB\.dear of dev-demoapp-restored is a view: copy the tables that it"):
        restore.copy_table("dear", _authorities(cloud))


def test_a_server_with_another_certificate_gets_no_password(cloud: LocalCloud, restore: Restore) -> None:
    restore.make("kept")
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
        restore.copy_table("orders")  # With RDS's own authorities.


def test_an_instance_that_is_still_made_is_named() -> None:
    creating = {"DBInstanceIdentifier": "dev-demoapp-restored", "DBInstanceStatus": "creating"}
    with pytest.raises(DatabaseError, match="dev-demoapp-restored is creating, without an address yet"):
        connect(creating, ("a", "b"), None)


def test_a_tunnel_leads_to_what_is_not_reached_directly(
    cloud: LocalCloud, restore: Restore, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore.make("kept")
    copy = instance(cloud, restore.copy_name)
    elsewhere = copy | {"Endpoint": copy["Endpoint"] | {"Port": 1}}
    monkeypatch.setattr(restore, "_described", lambda _: elsewhere)
    with pytest.raises(DatabaseError, match=r'127\.0\.0\.1:1: .* or through a tunnel: docs/extending.md, "The data'):
        restore.copy_table("orders", _authorities(cloud))
    assert restore.copy_table("orders", _authorities(cloud), (0, copy["Endpoint"]["Port"]))[1] == 2
    execute(cloud, "dev-demoapp", "DROP TABLE devDB.orders_restored")


def test_the_copy_stays_until_its_deletion_is_asked_for(cloud: LocalCloud, restore: Restore) -> None:
    restore.make("kept")
    assert instance(cloud, restore.copy_name)["DBInstanceStatus"] == "available"
    restore.delete()
    names = [each["DBInstanceIdentifier"] for each in cloud.client("rds").describe_db_instances()["DBInstances"]]
    assert names == ["dev-demoapp"]


def test_a_time_is_asked_of_rds_as_it_is_given(cloud: LocalCloud, restore: Restore) -> None:
    """The local cloud keeps no log to go back by, and says so."""
    with pytest.raises(Exception, match="restores the latest time only"):
        restore.make("2026-11-22T10:00:00Z")


OWN = {
    "Engine": "mysql", "EngineVersion": "8.4.6", "MasterUsername": "owner", "DBName": "shop",
}  # fmt: skip


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({"Engine": "mariadb"}, "engine: mariadb: RDS for MySQL alone can be adopted"),
        ({"EngineVersion": "8.0.43"}, "the instance is of 8.0: set engine_version=8.0"),
        ({"MasterUsername": "root"}, "the master is root: set database_username=root"),
        ({"DBName": "store"}, "the instance was made with store: set database_name=store"),
    ],
)
def test_what_rds_says_of_an_instance_must_be_what_the_settings_say(described: dict[str, str], said: str) -> None:
    settings = from_context({"database_name": "shop", "database_username": "owner"})
    assert [*adoption.described_faults(settings, OWN)] == []
    (fault,) = adoption.described_faults(settings, OWN | described)
    assert said in fault


@pytest.mark.parametrize(
    ("there", "context", "said"),
    [
        ("SELECT 1", {"database_name": "lost"}, "database_name=lost: there is none; there are devDB"),
        ("CREATE TABLE devDB.visit (at INT) ENGINE = MyISAM", {}, "table visit: of MyISAM"),
        ("CREATE TABLE migrations_history.other (id INT)", {}, "database migrations_history: not the migrations' hist"),
        ("CREATE USER demoapp_clone", {}, "user demoapp_clone: the rotation would take it over"),
        ("CREATE DATABASE migrations_rehearsal", {}, "database migrations_rehearsal: the migration function drops it"),
        ("CREATE TABLE devDB.note (id INT)", {}, "0001_create_note.sql: makes note, which is there"),
    ],
)
def test_what_the_functions_would_stop_at_in_a_database_is_named(
    cloud: LocalCloud, there: str, context: dict[str, str], said: str
) -> None:
    user, settings = master(cloud, "dev-demoapp"), from_context(context)
    made = ("DATABASE migrations_history", "DATABASE migrations_rehearsal", "TABLE devDB.visit", "TABLE devDB.note")
    with closing(log_in(cloud, "dev-demoapp", user["username"], user["password"])) as connection:
        assert [*adoption.catalogue_faults(connection, DEV, ROOT / "migrations")] == []
        try:
            if "history" in there:
                rows_of(connection, "CREATE DATABASE migrations_history")
            rows_of(connection, there)
            (fault,) = adoption.catalogue_faults(connection, settings, ROOT / "migrations")
        finally:
            for kind, name in (each.split() for each in (*made, "USER demoapp_clone")):
                rows_of(connection, f"DROP {kind} IF EXISTS {name}")
    assert said in fault


def test_a_password_that_rds_does_not_keep_is_named_with_the_command_that_has_it_kept() -> None:
    with pytest.raises(DatabaseError, match=r"^shop: RDS does not keep its master's password: aws rds modify-db-inst"):
        credentials(None, {"DBInstanceIdentifier": "shop"})


@pytest.mark.parametrize("status", ["available", "storage-initialization"])
def test_a_copy_that_loads_its_blocks_still_is_ready(
    cloud: LocalCloud, restore: Restore, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """RDS takes no change in some of these states: it is asked again."""
    described, modify = restore._described, restore._rds.modify_db_instance
    invalid = ClientError({"Error": {"Code": "InvalidDBInstanceState"}}, "ModifyDBInstance")
    refusals = [invalid]

    def refused_once(**given: Any) -> None:
        if refusals:
            raise refusals.pop()
        modify(**given)

    monkeypatch.setattr(restore, "_described", lambda name: {**described(name), "DBInstanceStatus": status})
    monkeypatch.setattr(restore._rds, "modify_db_instance", refused_once)
    restore.make("kept")
    assert instance(cloud, restore.copy_name)["MasterUserSecret"]["SecretStatus"] == "active"


def test_a_copy_that_is_not_ready_after_an_hour_is_named(
    cloud: LocalCloud, restore: Restore, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = restore._described
    monkeypatch.setattr(restoring, "HOUR", 0)
    monkeypatch.setattr(restore, "_described", lambda name: {**described(name), "DBInstanceStatus": "failed"})
    with pytest.raises(DatabaseError, match="dev-demoapp-restored: failed after an hour: look at its events in RDS"):
        restore.make("kept")


def test_a_restore_says_what_to_ask_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        restoring.main(["dev"])
    assert "say what: FROM=latest, TABLE=note or DELETE=yes" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["13306;13307", "13306", "13306,", "a,b", "1,2,3"])
def test_tunnels_that_are_no_two_ports_are_refused(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        restoring.main(["dev", "--table", "orders", "--tunnels", text])
    assert f"TUNNELS={text}: expected two ports, as 13306,13307\n" in capsys.readouterr().err


Command = Callable[..., None]
COMMANDS: dict[str, Command] = {
    "restore": lambda *options: restoring.main(["dev", "--table", "orders", *options]),
    "adoption": lambda *options: adoption.main(["dev", "dev-demoapp", *options]),
}


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest, cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`make restore` of a table, as if the database were its own copy, or `make adoption`."""
    for name, value in cloud.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Restore, "_described", lambda *_: instance(cloud, "dev-demoapp"))
    return COMMANDS[request.param]


def _said(command: Command, *options: str) -> str:
    with pytest.raises(SystemExit) as ended:
        command(*options)
    sentence = ended.value.code
    assert isinstance(sentence, str)  # Printed, with status 1.
    assert "\n" not in sentence
    return sentence


def test_a_profile_that_is_not_there_is_one_sentence(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    assert _said(command) == "The config profile (nobodys) could not be found"


def test_no_answer_of_aws_is_one_sentence(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert "Could not connect to the endpoint URL" in _said(command)


def test_a_refused_login_is_one_sentence_without_the_password(
    cloud: LocalCloud, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in (restoring, adoption):
        monkeypatch.setattr(each, "credentials", lambda *_: ("myadmin", "Not-the-password-1"))
    sentence = _said(command, "--authorities", str(_authorities(cloud)))
    assert "Access denied for user 'myadmin'" in sentence
    assert "Not-the-password-1" not in sentence


def test_a_certificate_that_does_not_verify_is_one_sentence(command: Command) -> None:
    assert "CERTIFICATE_VERIFY_FAILED" in _said(command)


def test_authorities_that_are_none_are_one_sentence(command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name, said in (("empty.pem", "no certificate"), ("missing.pem", "No such file"), ("", "Is a directory")):
        sentence = _said(command, "--authorities", str(tmp_path / name))
        assert sentence.startswith(f"AUTHORITIES={tmp_path / name}: ")
        assert said in sentence
        assert sentence.endswith(": expected a file of root certificates")


@pytest.mark.parametrize("command", ["restore"], indirect=True)
def test_the_end_of_a_wait_is_one_sentence(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Restore) -> None:
        raise WaiterError("DBInstanceDeleted", "Max attempts exceeded", {})

    monkeypatch.setattr(Restore, "delete", fail)
    monkeypatch.setattr(Restore, "copy_table", lambda *_: ("orders", 2))
    assert _said(command, "--delete") == "Waiter DBInstanceDeleted failed: Max attempts exceeded"
