"""Migrations on a real server: in order, each once; after any interruption the next deploy goes on."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

import migration
from local.tests.aws import AWS
from local.tests.functions import CANARY, Context, Server, connection_details
from migration import MigrationError, Migrator
from shared import schema
from shared.database import Database
from shared.environment import MigrationEnvironment
from shared.errors import ConfigurationError, DependencyUnavailableError

SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:schema-MnOpQr"
PRIVILEGES = "SELECT, INSERT, UPDATE, DELETE, ALTER, CREATE, DROP, INDEX, REFERENCES"
ONE = "CREATE TABLE one (id INT PRIMARY KEY)"
TWO = "ALTER TABLE one ADD COLUMN two INT"

Migrate = Callable[..., dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_one.sql").write_text(ONE)
    return tmp_path


@pytest.fixture
def migrate(aws: AWS, server: Server, folder: Path) -> Iterator[Migrate]:
    """Run the migrator on a database of its own, as a user with the privileges that the stack declares."""
    user = "demoapp_schema"
    server.execute(
        "DROP DATABASE IF EXISTS migrated",
        "CREATE DATABASE migrated",
        f"DROP USER IF EXISTS {user}@'%'",
        f"CREATE USER {user}@'%' IDENTIFIED BY '{CANARY}schema' REQUIRE SSL",
        f"GRANT {PRIVILEGES} ON migrated.* TO {user}@'%'",
    )
    details = connection_details(server, dbname="migrated", username=user, password=f"{CANARY}schema")
    aws.add_secret(SECRET, details)

    def migrate(budget: float = 60, lock_seconds: int = 10) -> dict[str, Any]:
        environment = MigrationEnvironment(SECRET, "us-east-1", budget, lock_seconds)
        return Migrator(environment, folder).handle(60)

    yield migrate
    server.execute("DROP DATABASE migrated", f"DROP USER {user}@'%'")


def _history(server: Server) -> list[Any]:
    return server.execute(
        "SELECT version, name, failed_with, finished_at IS NOT NULL FROM migrated.schema_history ORDER BY version"
    )


def _begun(server: Server, version: int, name: str) -> None:
    """What a deploy leaves that was killed while it applied a file."""
    server.execute(
        "USE migrated",
        schema.HISTORY,
        f"INSERT INTO schema_history (version, name, checksum) VALUES ({version}, '{name}', 'x')",
    )


def test_missing_migrations_are_applied_in_order_and_recorded(server: Server, folder: Path, migrate: Migrate) -> None:
    (folder / "0002_two.sql").write_text(TWO)
    assert migrate() == {"schemaVersion": 2, "applied": ["0001_one.sql", "0002_two.sql"]}
    assert _history(server) == [(1, "0001_one.sql", None, 1), (2, "0002_two.sql", None, 1)]
    assert server.execute("SELECT id, two FROM migrated.one") == []
    assert migrate() == {"schemaVersion": 2, "applied": []}


def test_two_deploys_at_once_apply_each_file_once(server: Server, folder: Path, migrate: Migrate) -> None:
    (folder / "0002_slow.sql").write_text("CREATE TABLE slow AS SELECT SLEEP(1) AS slept")
    results: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: results.append(migrate())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result["applied"] for result in results) == [[], ["0001_one.sql", "0002_slow.sql"]]
    assert [result["schemaVersion"] for result in results] == [2, 2]


def test_a_lock_is_waited_for_no_longer_than_its_time(server: Server, migrate: Migrate) -> None:
    holder = pymysql.connect(
        host="localhost",
        port=server.mysql.port,
        user=server.master,
        password=server.master_password,
        ssl_ca=str(server.certificates.ca),
    )
    with holder, holder.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, 0)", (migration.LOCK,))
        with pytest.raises(MigrationError, match="another deploy is applying migrations"):
            migrate(lock_seconds=1)
    assert migrate()["applied"] == ["0001_one.sql"]


@pytest.mark.parametrize("was_applied", [True, False])
def test_the_next_deploy_goes_on_after_a_killed_one(server: Server, migrate: Migrate, was_applied: bool) -> None:  # noqa: FBT001
    _begun(server, 1, "0001_one.sql")
    if was_applied:
        server.execute("USE migrated", ONE)
    assert migrate()["applied"] == ["0001_one.sql"]
    assert _history(server) == [(1, "0001_one.sql", None, 1)]
    assert server.execute("SELECT * FROM migrated.one") == []


def test_a_migration_goes_on_after_a_broken_connection(server: Server, folder: Path, migrate: Migrate) -> None:
    (folder / "0002_slow.sql").write_text("INSERT INTO one SELECT 7 FROM (SELECT SLEEP(30)) AS slept")
    failures: list[Exception] = []

    def run() -> None:
        try:
            migrate()
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    running: list[Any] = []
    while not running:
        running = server.execute("SELECT id FROM information_schema.processlist WHERE info LIKE 'INSERT INTO one%'")
        time.sleep(0.05)
    server.execute(f"KILL {running[0][0]}")
    thread.join()
    assert [type(each) for each in failures] == [DependencyUnavailableError]
    # What is not finished may still be changed; data and record commit together.
    assert server.execute("SELECT COUNT(*) FROM migrated.one") == [(0,)]
    (folder / "0002_slow.sql").write_text("INSERT INTO one VALUES (7)")
    assert migrate()["applied"] == ["0002_slow.sql"]
    assert server.execute("SELECT id FROM migrated.one") == [(7,)]


def test_a_statement_that_fails_is_named_and_the_corrected_file_goes_on(
    server: Server, folder: Path, migrate: Migrate
) -> None:
    (folder / "0002_wrong.sql").write_text("ALTER TABLE nowhere ADD COLUMN two INT")
    with pytest.raises(MigrationError, match=r"^0002_wrong\.sql: statement 1: MySQL error 1146$"):
        migrate()
    assert _history(server) == [(1, "0001_one.sql", None, 1), (2, "0002_wrong.sql", 1146, 0)]
    (folder / "0002_wrong.sql").rename(folder / "0002_two.sql")
    (folder / "0002_two.sql").write_text(TWO)
    assert migrate() == {"schemaVersion": 2, "applied": ["0002_two.sql"]}


def test_an_existing_table_is_not_taken_for_an_interrupted_deploy(server: Server, migrate: Migrate) -> None:
    server.execute("USE migrated", ONE)
    for _ in range(2):  # The second deploy accepts it too.
        with pytest.raises(MigrationError, match="MySQL error 1050"):
            migrate()


def test_the_error_quotes_no_data(folder: Path, migrate: Migrate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    (folder / "0002_text.sql").write_text("CREATE TABLE text_table (text VARCHAR(99) PRIMARY KEY)")
    (folder / "0003_twice.sql").write_text(f"INSERT INTO text_table VALUES ('{CANARY}data'), ('{CANARY}data')")
    with pytest.raises(MigrationError, match="MySQL error 1062") as failed:
        migrate()
    seen = [str(failed.value), repr(failed.value.__cause__), repr(failed.value.__context__), caplog.text]
    assert CANARY not in "".join(seen)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda folder: (folder / "0001_one.sql").write_text("SELECT 1"),
            "0001_one.sql was changed after it was applied",
        ),
        (lambda folder: (folder / "0001_one.sql").unlink(), "0001_one.sql was applied and is missing"),
        (lambda folder: (folder / "0001_one.sql").rename(folder / "0001_eins.sql"), "was applied as 0001_one.sql"),
        (lambda folder: (folder / "0001_one.sql").rename(folder / "0003_one.sql"), "0001_one.sql was applied and is"),
    ],
)
def test_a_file_that_was_applied_is_not_changed(
    server: Server, folder: Path, migrate: Migrate, change: Callable[[Path], None], said: str
) -> None:
    migrate()
    (folder / "0002_two.sql").write_text(TWO)
    change(folder)
    with pytest.raises(MigrationError, match=said):
        migrate()
    assert _history(server) == [(1, "0001_one.sql", None, 1)]


def test_a_database_that_is_ahead_of_the_files_is_left_as_it_is(folder: Path, migrate: Migrate) -> None:
    (folder / "0002_two.sql").write_text(TWO)
    migrate()
    (folder / "0002_two.sql").unlink()
    assert migrate() == {"schemaVersion": 2, "applied": []}


def test_a_table_in_use_delays_queries_briefly_and_is_changed_when_it_is_free(
    server: Server, folder: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "METADATA_WAIT", 1)
    monkeypatch.setattr(migration, "PAUSE", 0.1)
    migrate()
    (folder / "0002_two.sql").write_text(TWO)
    reader = pymysql.connect(
        host="localhost",
        port=server.mysql.port,
        user=server.master,
        password=server.master_password,
        database="migrated",
        ssl_ca=str(server.certificates.ca),
    )
    results: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: results.append(migrate()))
    with reader, reader.cursor() as cursor:
        cursor.execute("SELECT * FROM one")  # Its transaction stays open.
        before = server.general_log().count(TWO)
        thread.start()
        while server.general_log().count(TWO) < before + 2:  # The statement was given up and tried again.
            assert thread.is_alive()
            # Every query waits behind the waiting statement, but no longer than it does.
            server.execute("SET SESSION lock_wait_timeout = 10", "SELECT * FROM migrated.one")
        reader.rollback()
    thread.join()
    assert results == [{"schemaVersion": 2, "applied": ["0002_two.sql"]}]


def test_a_statement_longer_than_the_deploy_completes_and_the_next_deploy_records_it(
    server: Server, folder: Path, migrate: Migrate
) -> None:
    migrate()
    (folder / "0002_long.sql").write_text("CREATE TABLE long_one AS SELECT SLEEP(6) AS slept")
    with pytest.raises(DependencyUnavailableError):
        migrate(budget=4.5)
    # The server goes on, and holds the lock until it has ended.
    assert migrate()["applied"] == ["0002_long.sql"]
    assert server.execute("SELECT COUNT(*) FROM migrated.long_one") == [(1,)]


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(ConfigurationError, match="CREDS_PATH"):
        MigrationEnvironment.read({"AWS_REGION": "us-east-1"})


def test_the_entry_point_gives_the_seconds_that_lambda_leaves(
    migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration._migrator, "handle", lambda remaining: {"remaining": remaining})
    assert migration.lambda_handler({}, Context(600_000)) == {"remaining": 600.0}


def test_data_and_its_record_are_committed_together(
    server: Server, folder: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "0002_row.sql").write_text("INSERT INTO one VALUES ((SELECT COUNT(*) FROM schema_history))")
    rows = Database.rows

    def break_before_the_record(self: Database, sql: str, args: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
        if sql.startswith("UPDATE schema_history SET finished_at") and args == ("2",):
            self.close()
        return rows(self, sql, args)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "rows", break_before_the_record)
        with pytest.raises(DependencyUnavailableError):
            migrate()
    assert server.execute("SELECT COUNT(*) FROM migrated.one") == [(0,)]
    assert migrate()["applied"] == ["0002_row.sql"]
    assert server.execute("SELECT COUNT(*) FROM migrated.one") == [(1,)]
