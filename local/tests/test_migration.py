"""Migrations on a real server: in order, each once; after any interruption the next deploy goes on."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest

import migration
from local.tests.aws import AWS
from local.tests.functions import CANARY, Context, Server, connection_details, make_history
from migration import MigrationError, Migrator
from shared import schema
from shared.credentials import Credentials
from shared.database import Database
from shared.environment import MigrationEnvironment
from shared.errors import ConfigurationError, DependencyUnavailableError

SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:schema-MnOpQr"
PRIVILEGES = "SELECT, INSERT, UPDATE, DELETE, ALTER, CREATE, CREATE VIEW, DROP, INDEX, REFERENCES, SHOW VIEW"
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
    user = "notesapp_schema"
    server.execute(
        "DROP DATABASE IF EXISTS migrated",
        "CREATE DATABASE migrated",
        f"DROP DATABASE IF EXISTS {schema.HISTORY}",
        f"DROP USER IF EXISTS {user}@'%'",
    )
    server.execute(*schema.MAKE_HISTORY, user=server.master, password=server.master_password)
    server.execute(
        f"CREATE USER {user}@'%' IDENTIFIED BY '{CANARY}schema' REQUIRE SSL",
        f"GRANT {PRIVILEGES} ON migrated.* TO {user}@'%'",
        f"GRANT {PRIVILEGES} ON `migrations\\_rehearsal`.* TO {user}@'%'",
        f"GRANT SELECT, INSERT, UPDATE, EXECUTE ON `migrations\\_history`.* TO {user}@'%'",
    )
    details = connection_details(server, dbname="migrated", username=user, password=f"{CANARY}schema")
    aws.add_secret(SECRET, details)

    def migrate(budget: float = 60, lock_seconds: int = 10, *, is_repeat: bool = False) -> dict[str, Any]:
        environment = MigrationEnvironment(SECRET, "us-east-1", budget, lock_seconds)
        return Migrator(environment, folder).handle(60, is_repeat=is_repeat)

    yield migrate
    server.execute("DROP DATABASE migrated", f"DROP DATABASE {schema.HISTORY}", f"DROP USER {user}@'%'")
    make_history(server)


def _history(server: Server) -> list[Any]:
    return server.execute(
        "SELECT version, name, failed_with, finished_at IS NOT NULL FROM migrations_history.schema_history "
        "ORDER BY version"
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


def test_a_lock_is_waited_for_no_longer_than_its_time_and_its_holder_is_named(server: Server, migrate: Migrate) -> None:
    """By any user: MySQL asks for no right to take a lock."""
    server.execute("DROP USER IF EXISTS notesapp@'%'", "CREATE USER notesapp@'%' IDENTIFIED BY 'x'")
    with server.session("notesapp", "x") as execute:
        ((_, connection),) = execute("SELECT GET_LOCK('migrations', 0), CONNECTION_ID()")
        with pytest.raises(MigrationError, match=rf"connection {connection} of user notesapp holds its lock"):
            migrate(lock_seconds=1)
    server.execute("DROP USER notesapp@'%'")
    assert migrate()["applied"] == ["0001_one.sql"]


def test_the_server_ends_the_session_and_the_lock_of_a_deploy_that_is_gone(
    migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its statement goes on; after that nobody uses the session."""
    asked = []
    close = Database.close

    def ask_and_close(database: Database) -> None:
        if not database.is_broken:
            asked.append(database.query("SELECT @@wait_timeout, IS_USED_LOCK(%s) = CONNECTION_ID()", (schema.LOCK,)))
        close(database)

    monkeypatch.setattr(Database, "close", ask_and_close)
    migrate()
    assert asked == [(60, 1)]


def test_a_lock_whose_holder_has_just_ended_is_not_explained(
    server: Server, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = Database.query
    monkeypatch.setattr(
        Database, "query", lambda self, sql, args=(): (0,) if "GET_LOCK" in sql else query(self, sql, args)
    )
    with pytest.raises(MigrationError, match="a connection that has just ended holds its lock"):
        migrate()


def test_a_repeated_invocation_waits_for_the_one_that_was_not_answered(
    server: Server, folder: Path, migrate: Migrate
) -> None:
    (folder / "0002_slow.sql").write_text("CREATE TABLE slow AS SELECT SLEEP(3) AS slept")
    results: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: results.append(migrate()))
    thread.start()
    while not server.execute("SELECT 1 FROM information_schema.processlist WHERE info LIKE 'CREATE TABLE slow%'"):
        time.sleep(0.05)
    assert migrate(lock_seconds=1, is_repeat=True) == {"schemaVersion": 2, "applied": []}
    thread.join()
    assert results == [{"schemaVersion": 2, "applied": ["0001_one.sql", "0002_slow.sql"]}]


def test_a_repeat_with_less_than_a_second_left_does_not_wait_for_ever(
    server: Server, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MySQL takes negative seconds for no limit."""
    connect = Database.connect

    def connect_late(self: Database, credentials: Credentials) -> None:
        connect(self, credentials)
        monkeypatch.setattr(self._deadline, "remaining", lambda: 0.9)

    monkeypatch.setattr(Database, "connect", connect_late)
    with server.session() as execute:
        execute(f"SELECT GET_LOCK('{schema.LOCK}', 0)")
        with pytest.raises(MigrationError, match="holds its lock"):
            migrate(is_repeat=True)


KINDS = {
    "in place": ("CREATE TABLE one (id INT PRIMARY KEY, text INT)", "ALTER TABLE one ADD INDEX (text)"),
    "by copy": ("CREATE TABLE one (id INT PRIMARY KEY, text INT)", "ALTER TABLE one MODIFY text VARCHAR(9)"),
    "instantly": ("CREATE TABLE one (id INT PRIMARY KEY, text INT)", "ALTER TABLE one ADD COLUMN two INT"),
    "created": (ONE, "CREATE TABLE two (id INT PRIMARY KEY, one INT, FOREIGN KEY (one) REFERENCES one (id))"),
    "created if missing": (ONE, "CREATE TABLE IF NOT EXISTS two (id INT AUTO_INCREMENT PRIMARY KEY)"),
    "created alike": (ONE, "CREATE TABLE two LIKE one"),
    "dropped": (ONE, "DROP TABLE one"),
    "renamed": (ONE, "RENAME TABLE one TO two"),
    "renamed by an alteration": (ONE, "ALTER TABLE one RENAME TO two"),
    "a column renamed": (ONE, "ALTER TABLE one RENAME COLUMN id TO number"),
    "a column dropped": ("CREATE TABLE one (id INT PRIMARY KEY, text INT)", "ALTER TABLE one DROP COLUMN text"),
    "a column changed": (ONE, "ALTER TABLE one CHANGE id number BIGINT"),
    "a default": ("CREATE TABLE one (id INT, text INT)", "ALTER TABLE one ALTER text SET DEFAULT 1"),
    "a check": (ONE, "ALTER TABLE one ADD CHECK (id > 0)"),
    "a primary key": ("CREATE TABLE one (id INT NOT NULL)", "ALTER TABLE one ADD PRIMARY KEY (id)"),
    "a primary key dropped": (ONE, "ALTER TABLE one DROP PRIMARY KEY"),
    "an index": ("CREATE TABLE one (id INT, text INT)", "CREATE UNIQUE INDEX texts ON one (text)"),
    "an index dropped": ("CREATE TABLE one (id INT, INDEX ids (id))", "DROP INDEX ids ON one"),
    "an index renamed": ("CREATE TABLE one (id INT, INDEX ids (id))", "ALTER TABLE one RENAME INDEX ids TO numbers"),
    "a foreign key": (
        "CREATE TABLE one (id INT PRIMARY KEY, parent INT)",
        "ALTER TABLE one ADD FOREIGN KEY (parent) REFERENCES one (id)",
    ),
    "character set": (
        "CREATE TABLE one (id INT, text TEXT) CHARACTER SET latin1",
        "ALTER TABLE one CONVERT TO CHARACTER SET utf8mb4",
    ),
    "partitions": (
        "CREATE TABLE one (id INT PRIMARY KEY)",
        "ALTER TABLE one PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10))",
    ),
    "a generated column": (ONE, "ALTER TABLE one ADD COLUMN two INT GENERATED ALWAYS AS (id * 2) STORED"),
    "a comment": (ONE, "ALTER TABLE one COMMENT = 'AUTO_INCREMENT=7 DEFINER=`x`@`y`'"),
    "a view": (ONE, "CREATE SQL SECURITY INVOKER VIEW seen AS SELECT id FROM one"),
    "a view replaced": (
        "CREATE SQL SECURITY INVOKER VIEW seen AS SELECT 1 AS id",
        "CREATE OR REPLACE SQL SECURITY INVOKER VIEW seen AS SELECT 2 AS number",
    ),
    "a view dropped": ("CREATE SQL SECURITY INVOKER VIEW seen AS SELECT 1 AS id", "DROP VIEW seen"),
    "data": ("CREATE TABLE one AS SELECT 1 AS n", "UPDATE one SET n = n + 1"),
    "statistics": (ONE, "ANALYZE TABLE one"),
}
"""Each kind of statement, after the one that makes what it changes."""


@pytest.mark.parametrize("is_done", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_statement_goes_on_after_an_interruption(  # noqa: PLR0917
    server: Server,
    folder: Path,
    migrate: Migrate,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    is_done: bool,  # noqa: FBT001
) -> None:
    first, second = KINDS[kind]
    (folder / "0001_one.sql").write_text(first)
    migrate()
    (folder / "0002_two.sql").write_text(second)
    # What the file makes where nothing interrupts it.
    _interrupted(migrate, monkeypatch, **{"after" if is_done else "before": second})
    was_done = _definitions(server)
    assert migrate() == {"schemaVersion": 2, "applied": ["0002_two.sql"]}
    if is_done:
        assert _definitions(server) == was_done
    if kind == "data":
        assert server.execute("SELECT n FROM migrated.one") == [(2,)]
    assert _history(server) == [(1, "0001_one.sql", None, 1), (2, "0002_two.sql", None, 1)]


def _definitions(server: Server) -> list[Any]:
    names = server.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'migrated'")
    return sorted(server.execute(f"SHOW CREATE TABLE migrated.{name}")[0][:2] for (name,) in names)


def test_views_that_read_views_are_no_obstacle_to_a_proof(
    folder: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("seen", "again", "above"), 2):
        read = {"seen": "one", "again": "seen", "above": "again"}[name]
        (folder / f"000{number}_{name}.sql").write_text(
            f"CREATE SQL SECURITY INVOKER VIEW {name} AS SELECT id FROM {read}"
        )
    migrate()
    (folder / "0005_two.sql").write_text(TWO)
    _interrupted(migrate, monkeypatch, after=TWO)
    assert migrate()["applied"] == ["0005_two.sql"]


def test_after_a_proof_the_next_files_are_applied_with_foreign_keys_checked(
    server: Server, folder: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = "CREATE TABLE two (one INT, FOREIGN KEY (one) REFERENCES one (id))"
    (folder / "0002_two.sql").write_text(two)
    _interrupted(migrate, monkeypatch, after=two)
    (folder / "0003_row.sql").write_text("INSERT INTO two VALUES (7)")
    with pytest.raises(MigrationError, match=r"^0003_row\.sql: MySQL error 1452"):
        migrate()
    assert _history(server)[1:] == [(2, "0002_two.sql", None, 1), (3, "0003_row.sql", 1452, 0)]


@pytest.mark.parametrize(
    ("by_hand", "named"),
    [
        ("CREATE TABLE migrated.other (id INT)", "other"),
        ("ALTER TABLE migrated.one ADD COLUMN other INT", "one"),
        ("ALTER TABLE migrated.one ADD COLUMN two BIGINT", "one"),
        ("RENAME TABLE migrated.one TO migrated.other", "one, other"),
        ("ALTER TABLE migrated.one ADD COLUMN two INT, ADD COLUMN three INT", "one"),
    ],
)
@pytest.mark.parametrize("is_done", [False, True], ids=["not done", "done"])
def test_a_change_by_hand_between_two_tries_ends_in_a_stop(  # noqa: PLR0917
    server: Server,
    folder: Path,
    migrate: Migrate,
    monkeypatch: pytest.MonkeyPatch,
    by_hand: str,
    named: str,
    is_done: bool,  # noqa: FBT001
) -> None:
    (folder / "0002_two.sql").write_text(TWO)
    _interrupted(migrate, monkeypatch, **{"after" if is_done else "before": TWO})
    with suppress(pymysql.OperationalError):  # The file has added the column already.
        server.execute(by_hand)
    if is_done and "COLUMN two" in by_hand:
        server.execute("ALTER TABLE migrated.one MODIFY two TINYINT")
    for _ in range(2):
        with pytest.raises(MigrationError, match=r"^0002_two\.sql: an earlier try was interrupted.* look at ") as stop:
            migrate()
    assert f"look at {named}" in str(stop.value) or "look at one" in str(stop.value)
    assert _history(server) == [(1, "0001_one.sql", None, 1), (2, "0002_two.sql", None, 0)]


def test_what_the_file_does_done_by_hand_is_a_proof(
    server: Server, folder: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "0002_two.sql").write_text(TWO)
    _interrupted(migrate, monkeypatch, before=TWO)
    server.execute("USE migrated", TWO)
    assert migrate()["applied"] == ["0002_two.sql"]


def test_a_statement_that_names_its_database_is_not_rehearsed(
    server: Server, folder: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would change that one."""
    named = "ALTER TABLE `Migrated`.one ADD COLUMN two INT".replace("M", "m")
    (folder / "0002_two.sql").write_text(named)
    _interrupted(migrate, monkeypatch, before=named)
    server.execute("CREATE TABLE migrated.other (id INT)")
    with pytest.raises(MigrationError, match="look at other; docs/runbook"):
        migrate()
    assert len(server.execute("SHOW COLUMNS FROM migrated.one")) == 1


def test_a_schema_that_cannot_be_made_anew_is_no_proof(
    server: Server, folder: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate()
    server.execute("USE migrated", "CREATE TABLE gone (id INT)", "CREATE VIEW broken AS SELECT id FROM gone")
    server.execute("DROP TABLE migrated.gone")
    (folder / "0002_two.sql").write_text(TWO)
    _interrupted(migrate, monkeypatch, after=TWO)
    with pytest.raises(MigrationError, match="look at one"):
        migrate()


def test_a_file_that_was_edited_before_its_interrupted_try_took_effect_is_applied_as_it_is(
    server: Server, folder: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "0002_two.sql").write_text(TWO)
    _interrupted(migrate, monkeypatch, before=TWO)
    (folder / "0002_two.sql").write_text("ALTER TABLE one ADD COLUMN three INT")
    assert migrate()["applied"] == ["0002_two.sql"]
    assert server.execute("SELECT three FROM migrated.one") == []


def test_a_database_of_an_earlier_version_of_this_function_goes_on(
    server: Server, folder: Path, migrate: Migrate
) -> None:
    migrate()
    (folder / "0002_two.sql").write_text(TWO)
    (folder / "0003_three.sql").write_text("ALTER TABLE one ADD COLUMN three INT")
    checksum = schema.Migration(1, "", ONE).checksum
    old = f"version INT UNSIGNED NOT NULL PRIMARY KEY, name VARCHAR(200) NOT NULL, checksum CHAR(64) NOT NULL, {OLD}"
    server.execute(
        "DELETE FROM migrations_history.schema_history",
        "USE migrated",
        f"CREATE TABLE schema_history ({old})",
        f"INSERT INTO schema_history VALUES (1, '0001_one.sql', '{checksum}', NOW(), NULL, NOW()), "
        "(2, '0002_two.sql', 'x', NOW(), 1064, NULL), (3, '0003_three.sql', 'x', NOW(), NULL, NULL)",
    )
    # Of the third nothing is known.
    with pytest.raises(MigrationError, match=r"^0003_three\.sql: an earlier try was interrupted"):
        migrate()
    assert _history(server)[:2] == [(1, "0001_one.sql", None, 1), (2, "0002_two.sql", None, 1)]
    server.execute("DELETE FROM migrations_history.schema_history WHERE version = 3")
    assert migrate() == {"schemaVersion": 3, "applied": ["0003_three.sql"]}
    # For the version of the functions that is live until the deploy ends.
    assert server.execute("SELECT COUNT(*) FROM migrated.schema_history") == [(3,)]


OLD = "begun_at TIMESTAMP NOT NULL DEFAULT NOW(), failed_with INT UNSIGNED NULL, finished_at TIMESTAMP NULL"


def test_a_history_that_is_not_there_yet_is_a_failure_that_passes(server: Server, migrate: Migrate) -> None:
    server.execute("DROP TABLE migrations_history.schema_history")
    with pytest.raises(DependencyUnavailableError, match="no history yet: a rotation makes it"):
        migrate()
    server.execute(*schema.MAKE_HISTORY[:-1])


def test_a_table_without_transactions_stops_before_anything_runs(
    server: Server, folder: Path, migrate: Migrate
) -> None:
    server.execute("CREATE TABLE migrated.old (id INT) ENGINE = MyISAM")
    with pytest.raises(MigrationError, match="table old: MyISAM cannot take back a change that is cut off"):
        migrate()
    server.execute("ALTER TABLE migrated.old ENGINE = InnoDB")
    assert migrate()["applied"] == ["0001_one.sql"]


@pytest.mark.parametrize("sql", ["LOAD DATA INFILE '/etc/passwd' INTO TABLE one", "GRANT SELECT ON one TO notesapp"])
def test_a_statement_that_is_denied_is_named_too(server: Server, folder: Path, migrate: Migrate, sql: str) -> None:
    """MySQL answers some of them with 1045, the number of a refused login."""
    (folder / "0002_denied.sql").write_text(sql)
    with pytest.raises(MigrationError, match=r"^0002_denied\.sql: MySQL error \d+$"):
        migrate()
    assert _history(server)[1][3] == 0


def test_a_fault_that_comes_as_a_row_is_one(server: Server, folder: Path, migrate: Migrate) -> None:
    (folder / "0002_analyze.sql").write_text("ANALYZE TABLE nowhere")
    with pytest.raises(
        MigrationError, match=r"0002_analyze\.sql: MySQL answers: Table 'migrated.nowhere' doesn't exist"
    ):
        migrate()
    (folder / "0002_analyze.sql").write_text("ANALYZE TABLE one")
    assert migrate()["applied"] == ["0002_analyze.sql"]


def test_a_syntax_error_has_its_line(folder: Path, migrate: Migrate) -> None:
    (folder / "0002_two.sql").write_text("\n\n-- Why.\nALTER TABLE one\nAD COLUMN two INT\n")
    with pytest.raises(
        MigrationError, match=r"^0002_two\.sql:5: MySQL error 1064: You have an error .* near '(AD )?COLUMN two INT'$"
    ):
        migrate()


def test_a_sentence_that_names_a_line_is_told_whole(folder: Path, migrate: Migrate) -> None:
    (folder / "0002_two.sql").write_text("ALTER TABLE one\nADD two INTT COMMENT 'see at line level'")
    said = r"^0002_two\.sql:2: MySQL error 1064: .* near 'INTT COMMENT 'see at line level''$"
    with pytest.raises(MigrationError, match=said):
        migrate()


def test_a_change_that_would_cut_data_is_refused(server: Server, folder: Path, migrate: Migrate) -> None:
    """The server's own mode, RDS's, would cut it."""
    migrate()
    server.execute("INSERT INTO migrated.one VALUES (300)")
    (folder / "0002_two.sql").write_text("ALTER TABLE one MODIFY id TINYINT")
    with pytest.raises(MigrationError, match="MySQL error 1264"):
        migrate()
    assert server.execute("SELECT id FROM migrated.one") == [(300,)]


def test_a_table_in_use_for_longer_than_the_deploy_fails_it(server: Server, folder: Path, migrate: Migrate) -> None:
    migrate()
    (folder / "0002_two.sql").write_text(TWO)
    with server.session() as execute:
        execute("LOCK TABLES migrated.one READ")
        with pytest.raises(MigrationError, match="1205"):
            migrate(budget=8)
    assert migrate()["applied"] == ["0002_two.sql"]


def test_a_row_in_use_is_named_too_and_waited_for_no_longer_than_a_table(
    server: Server, folder: Path, migrate: Migrate
) -> None:
    """By whoever may read it: a shared lock asks for no other right."""
    migrate()
    server.execute("INSERT INTO migrated.one VALUES (1)")
    (folder / "0002_two.sql").write_text("UPDATE one SET id = id + 1")
    with server.session() as execute:
        execute("START TRANSACTION", "SELECT * FROM migrated.one LOCK IN SHARE MODE")
        with pytest.raises(MigrationError, match=r"0002_two\.sql: MySQL error 1205"):
            migrate(budget=8)
    assert migrate()["applied"] == ["0002_two.sql"]
    assert server.execute("SELECT id FROM migrated.one") == [(2,)]


def test_a_failure_that_left_a_trace_is_not_recorded_as_without(
    server: Server, folder: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose definitions are not atomic, or a hand at the same moment."""
    (folder / "0002_two.sql").write_text("DROP TABLE one, nowhere")
    rows = Database.rows

    def by_half(self: Database, sql: str, args: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
        if sql == "ROLLBACK":
            server.execute("DROP TABLE IF EXISTS migrated.one")
        return rows(self, sql, args)

    monkeypatch.setattr(Database, "rows", by_half)
    with pytest.raises(MigrationError, match="MySQL error 1051: Unknown table"):
        migrate()
    with pytest.raises(MigrationError, match=r"an earlier try was interrupted.* look at one"):
        migrate()


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
    with pytest.raises(
        MigrationError, match=r"^0002_wrong\.sql: MySQL error 1146: Table 'migrated.nowhere' doesn't exist$"
    ):
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
    monkeypatch.setattr(migration, "LOCK_WAIT", 1)
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


def test_a_change_of_data_longer_than_the_deploy_is_undone_and_a_shorter_one_goes_on(
    server: Server, folder: Path, migrate: Migrate
) -> None:
    migrate()
    server.execute("INSERT INTO migrated.one VALUES (1)")
    (folder / "0002_long.sql").write_text("UPDATE one SET id = id + 1 + SLEEP(8)")
    with pytest.raises(DependencyUnavailableError, match="operation=query"):
        migrate(budget=4.5)
    with server.session() as execute:
        assert execute(f"SELECT GET_LOCK('{schema.LOCK}', 60)") == [(1,)]  # Its statement has ended.
    assert server.execute("SELECT id FROM migrated.one") == [(1,)]
    (folder / "0002_long.sql").write_text("UPDATE one SET id = id + 1")
    assert migrate()["applied"] == ["0002_long.sql"]
    assert server.execute("SELECT id FROM migrated.one") == [(2,)]


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(ConfigurationError, match="CREDS_PATH"):
        MigrationEnvironment.read({"AWS_REGION": "us-east-1"})


def test_the_entry_point_gives_the_seconds_that_lambda_leaves(
    migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        migration._migrator, "handle", lambda remaining, is_repeat: {"remaining": remaining, "repeat": is_repeat}
    )
    assert migration.lambda_handler({}, Context(600_000)) == {"remaining": 600.0, "repeat": False}
    assert migration.lambda_handler({"repeat": True}, Context(600_000))["repeat"]


def test_data_and_its_record_are_committed_together(
    server: Server, folder: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "0002_row.sql").write_text(
        "INSERT INTO one VALUES ((SELECT COUNT(*) FROM migrations_history.schema_history))"
    )
    rows = Database.rows

    def break_before_the_record(self: Database, sql: str, args: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
        if sql == migration.FINISH and args == ("2",):
            self.close()
        return rows(self, sql, args)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "rows", break_before_the_record)
        with pytest.raises(DependencyUnavailableError):
            migrate()
    assert server.execute("SELECT COUNT(*) FROM migrated.one") == [(0,)]
    assert migrate()["applied"] == ["0002_row.sql"]
    assert server.execute("SELECT COUNT(*) FROM migrated.one") == [(1,)]


def _both(migrate: Migrate) -> list[dict[str, Any] | Exception]:
    """What two deploys at once end with."""
    ends: list[dict[str, Any] | Exception] = []

    def deploy() -> None:
        try:
            ends.append(migrate())
        except Exception as error:  # noqa: BLE001
            ends.append(error)

    threads = [threading.Thread(target=deploy) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


def test_a_table_of_another_shape_fails_both_of_two_deploys(server: Server, migrate: Migrate) -> None:
    server.execute("CREATE TABLE migrated.one (other INT)")
    assert [type(each) for each in _both(migrate)] == [MigrationError, MigrationError]


def test_two_deploys_and_a_table_in_use_change_data_once(server: Server, folder: Path, migrate: Migrate) -> None:
    server.execute("CREATE TABLE migrated.counter (n INT)", "INSERT INTO migrated.counter VALUES (100)")
    migrate()
    (folder / "0002_count.sql").write_text("UPDATE counter SET n = n + 10")
    with _in_use(server, "LOCK TABLES migrated.counter READ", seconds=4):
        ends = _both(migrate)
    assert server.execute("SELECT n FROM migrated.counter") == [(110,)]
    assert sorted(each["applied"] for each in ends if isinstance(each, dict)) == [[], ["0002_count.sql"]]


@contextmanager
def _in_use(server: Server, *statements: str, seconds: float) -> Iterator[None]:
    """Another session has run the statements; it ends after the seconds."""
    with server.session() as execute:
        execute(*statements)
        timer = threading.Timer(seconds, execute, ["ROLLBACK", "UNLOCK TABLES"])
        timer.start()
        yield
        timer.join()


@pytest.mark.parametrize("edited", ["ALTER TABLE one ADD COLUMN two INT, ADD COLUMN three INT", f"{TWO} -- edited"])
def test_a_file_that_was_edited_after_its_interrupted_try_took_effect_is_not_recorded(
    server: Server, folder: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch, edited: str
) -> None:
    (folder / "0002_two.sql").write_text(TWO)
    _interrupted(migrate, monkeypatch, after=TWO)
    (folder / "0002_two.sql").write_text(edited)
    with pytest.raises(MigrationError, match="look at one"):
        migrate()
    with pytest.raises(pymysql.OperationalError, match="1054"):
        server.execute("SELECT three FROM migrated.one")


def test_half_of_an_alteration_made_by_hand_is_not_taken_for_the_whole(
    server: Server, folder: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "0002_two.sql").write_text("ALTER TABLE one ADD COLUMN two INT, ADD COLUMN three INT")
    _interrupted(migrate, monkeypatch, before="ALTER TABLE one ADD COLUMN two INT, ADD COLUMN three INT")
    server.execute("USE migrated", TWO)
    with pytest.raises(MigrationError):
        migrate()


def _interrupted(migrate: Migrate, monkeypatch: pytest.MonkeyPatch, *, before: str = "", after: str = "") -> None:
    """A deploy whose connection breaks before the statement is sent, or after it took effect."""
    rows = Database.rows

    def breaking(self: Database, sql: str, args: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
        if sql == before:
            self.close()
        found = rows(self, sql, args)
        if sql == after:
            self.close()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Database, "rows", breaking)
        with pytest.raises(DependencyUnavailableError):
            migrate()
