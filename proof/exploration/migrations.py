"""What runs of the migrations are explored, and what must hold after every schedule."""

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest import mock

import pymysql

import local.tests  # noqa: F401 - sets the variables that the functions read when they are imported
from local.tests.fixtures import started_server
from local.tests.functions import Server
from migration import MigrationError, Migrator
from operations.waiting import wait_until
from proof.exploration.scheduler import Explored, Point, Run, Schedule, Scheduler, by_hand, explore
from shared import schema
from shared.environment import MigrationEnvironment
from shared.errors import DependencyUnavailableError
from shared.schema import HISTORY

ONE: Final = "CREATE TABLE one (id INT PRIMARY KEY, n INT)"


@dataclass(frozen=True)
class Scenario:
    """A file, on what it is applied, and what else happens."""

    name: str
    sql: str
    before: tuple[str, ...] = (ONE, "INSERT INTO one VALUES (1, 100)")
    second: str = ""
    """What stands in the file in the second run and in those after it."""
    by_hand: str = ""
    """A statement that somebody runs beside."""
    is_in_use: bool = False
    """Whether a table is in use until a run pauses for it."""
    fails: bool = False
    """Whether the file fails whenever it is tried."""


SCENARIOS: Final = (
    Scenario("made in place", "ALTER TABLE one ADD INDEX numbers (n)"),
    Scenario("by copy", "ALTER TABLE one MODIFY n BIGINT"),
    Scenario("dropped", "DROP TABLE one"),
    Scenario("renamed", "RENAME TABLE one TO two"),
    Scenario("a view", "CREATE OR REPLACE SQL SECURITY INVOKER VIEW seen AS SELECT n FROM one"),
    Scenario("data", "UPDATE one SET n = n + 10"),
    Scenario("data in use", "UPDATE one SET n = n + 10", is_in_use=True),
    Scenario("another shape", "CREATE TABLE one (id INT PRIMARY KEY)", fails=True),
    Scenario(
        "edited",
        "ALTER TABLE one ADD COLUMN two INT",
        second="ALTER TABLE one ADD COLUMN two INT, ADD COLUMN three INT",
    ),
    Scenario(
        "half by hand",
        "ALTER TABLE one ADD COLUMN two INT, ADD COLUMN three INT",
        by_hand="ALTER TABLE one ADD COLUMN two INT",
    ),
    Scenario("by hand elsewhere", "ALTER TABLE one ADD COLUMN two INT", by_hand="CREATE TABLE other (id INT)"),
)
KINDS: Final = (
    "ALTER TABLE one ADD COLUMN two INT",
    "ALTER TABLE one DROP COLUMN n",
    "ALTER TABLE one RENAME COLUMN n TO number",
    "ALTER TABLE one ADD CHECK (n > 0)",
    "ALTER TABLE one DROP PRIMARY KEY",
    "ALTER TABLE one DROP PRIMARY KEY, ADD PRIMARY KEY (n)",
    "ALTER TABLE one RENAME INDEX ns TO numbers",
    "ALTER TABLE one CONVERT TO CHARACTER SET latin1",
    "ALTER TABLE one ADD COLUMN two INT GENERATED ALWAYS AS (n * 2) STORED",
    "ALTER TABLE one CHANGE n number BIGINT",
    "ALTER TABLE one ALTER n SET DEFAULT 1",
    "ALTER TABLE one COMMENT = 'x'",
    "ALTER TABLE one RENAME TO two",
    "ALTER TABLE one ADD FOREIGN KEY (n) REFERENCES parent (id)",
    "ALTER TABLE one PARTITION BY HASH (id) PARTITIONS 2",
    "CREATE TABLE two (id INT PRIMARY KEY, one INT, FOREIGN KEY (one) REFERENCES one (id))",
    "CREATE TABLE two LIKE one",
    "CREATE TABLE IF NOT EXISTS one (id INT)",
    "CREATE UNIQUE INDEX numbers ON one (n)",
    "DROP INDEX texts ON parent",
    "DROP VIEW below",
    "CREATE OR REPLACE SQL SECURITY INVOKER VIEW below AS SELECT id FROM one",
    "INSERT INTO one VALUES (2, 200)",
    "DELETE FROM one",
    "REPLACE INTO one VALUES (1, 7)",
    "ANALYZE TABLE one",
)
"""The other kinds of statement; with every cut, and no switch."""
BEFORE_KINDS: Final = (
    "CREATE TABLE one (id INT PRIMARY KEY, n INT, INDEX ns (n))",
    "INSERT INTO one VALUES (1, 100)",
    "CREATE TABLE parent (id INT PRIMARY KEY, text INT, INDEX texts (text))",
    "INSERT INTO parent VALUES (100, 1)",
    "CREATE DEFINER=notesapp_schema@'%' SQL SECURITY INVOKER VIEW below AS SELECT n FROM one",
)


class Migrations:
    """A server on which schedules of migrations are tried."""

    def __init__(self, server: Server, execute: Callable[..., list[Any]], folder: Path) -> None:
        self._server = server
        self._execute = execute
        self._folder = folder

    def explore(self, scenario: Scenario, runs: int, **bounds: Any) -> Explored:
        """Explore a scenario with some runs at once; the bounds are `explore`'s."""
        expected = self._expected(scenario)

        def try_schedule(schedule: Schedule) -> tuple[list[Point], list[str]]:
            return self._try(scenario, schedule, runs, expected)

        return explore(try_schedule, lambda sql: sql in (scenario.sql, scenario.second), **bounds)

    def _expected(self, scenario: Scenario) -> dict[str, Any]:
        """What each version of the file makes, by its checksum; and what there is without it."""
        expected = {}
        for sql in filter(None, ("", scenario.sql, scenario.second)):
            self._reset(scenario)
            if not scenario.fails:
                self._execute("USE migrated", *filter(None, [sql]))
            expected[schema.Migration(1, "", sql).checksum] = self._state()
        return expected

    def _try(
        self, scenario: Scenario, schedule: Schedule, count: int, expected: dict[str, Any]
    ) -> tuple[list[Point], list[str]]:
        self._reset(scenario)
        calls: list[Callable[[], Any]] = [
            self._migrator(scenario.second if number and scenario.second else scenario.sql) for number in range(count)
        ]
        if scenario.by_hand:
            calls.append(by_hand(lambda: self._server.execute("USE migrated", scenario.by_hand)))
        with ExitStack() as stack:
            release = stack.enter_context(self._in_use()) if scenario.is_in_use else lambda: None
            runs, points = Scheduler(self._hold, release).execute(schedule, calls)
        faults = [f"run {run.number}: {run.error!r}" for run in runs if _is_unexpected(run)]
        self._settle()
        faults += self._wrong(expected, "when the runs had ended")
        last = Run(count, self._migrator(scenario.second or scenario.sql))
        last.run()
        if not scenario.second and not scenario.by_hand and not scenario.fails and last.error:
            faults.append(f"the next deploy does not go on: {last.error!r}")
        if scenario.fails and not isinstance(last.error, MigrationError):
            faults.append(f"a file that fails is applied: {last.error or last.result!r}")
        faults += self._wrong(expected, "after the next deploy")
        return points, faults

    def _wrong(self, expected: dict[str, Any], when: str) -> list[str]:
        """Return what is recorded as done and is not there, or there twice."""
        rows = self._execute(f"SELECT checksum FROM {HISTORY}.schema_history WHERE finished_at IS NOT NULL")
        state = self._state()
        return [
            f"{when}: recorded as done is {json.dumps(expected[checksum], default=str)}, and there is "
            f"{json.dumps(state, default=str)}"
            for (checksum,) in rows
            if not _covers(state, expected[checksum])
        ]

    def _settle(self) -> None:
        """Wait for the statements that go on in the server without their clients."""
        left = "SELECT 1 FROM information_schema.processlist WHERE user = 'notesapp_schema'"
        assert wait_until(lambda: not self._execute(left), 30, 0.002)

    def _reset(self, scenario: Scenario) -> None:
        self._execute(
            "DROP DATABASE IF EXISTS migrated",
            "CREATE DATABASE migrated",
            f"DELETE FROM {HISTORY}.schema_history",
            "USE migrated",
            *scenario.before,
        )

    def _state(self) -> dict[str, Any]:
        """The definitions and rows of all tables and views."""
        names = self._execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'migrated'")
        return {
            name: (
                re.sub(r" DEFINER=`\w+`@`%`", "", self._execute("USE migrated", f"SHOW CREATE TABLE {name}")[0][1]),
                self._rows(name),
            )
            for (name,) in sorted(names)
        }

    def _rows(self, name: str) -> list[Any]:
        try:
            return [list(row) for row in self._execute(f"SELECT * FROM migrated.{name}")]
        except pymysql.OperationalError:  # A view of what is no longer there.
            return []

    def _migrator(self, sql: str) -> Callable[[], Any]:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        (folder / "0001_one.sql").write_text(sql)
        return lambda: Migrator(MigrationEnvironment("arn", "us-east-1", 3600, 60), folder).handle(3600)

    @contextmanager
    def _hold(self) -> Iterator[Callable[[int], bool]]:
        """Hold statements that use the table; yields whether the connection's statement is held."""
        with self._server.session() as execute:
            execute("LOCK TABLES migrated.one WRITE")
            waits = "SELECT 1 FROM information_schema.processlist WHERE id = {} AND state LIKE 'Waiting for table%'"
            yield lambda connection: bool(self._execute(waits.format(connection)))

    @contextmanager
    def _in_use(self) -> Iterator[Callable[[], object]]:
        """Another session uses the table until it is told to end; yields what tells it."""
        with self._server.session() as execute:
            execute("LOCK TABLES migrated.one READ")
            yield lambda: execute("UNLOCK TABLES")


def _is_unexpected(run: Run) -> bool:
    """Whether a run ended otherwise than well, cut off, or with a sentence."""
    return run.error is not None and not isinstance(run.error, (MigrationError, DependencyUnavailableError))


def _covers(state: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether all that is expected is there as it should be; what somebody added beside does not matter."""
    return all(state.get(name) == each for name, each in expected.items()) and all(
        name in expected or name == "other" for name in state
    )


@contextmanager
def migrations() -> Iterator[Migrations]:
    """Start a server with the migration function's user, and give the function its connection details."""
    with started_server("exploration") as server, ExitStack() as stack:
        user, word = "notesapp_schema", "schema0word"
        rights = "SELECT, INSERT, UPDATE, DELETE, ALTER, CREATE, CREATE VIEW, DROP, INDEX, REFERENCES, SHOW VIEW"
        server.execute(
            f"CREATE USER {user}@'%' IDENTIFIED BY '{word}' REQUIRE SSL",
            f"GRANT {rights} ON migrated.* TO {user}@'%'",
            f"GRANT {rights} ON `migrations\\_rehearsal`.* TO {user}@'%'",
            f"GRANT SELECT, INSERT, UPDATE, EXECUTE ON `migrations\\_history`.* TO {user}@'%'",
        )
        bundle = server.mysql.folder.parent / "bundle.pem"
        bundle.write_text(f"# us-east-1\n{server.certificates.ca.read_text()}")
        details = {"host": "localhost", "port": server.mysql.port, "dbname": "migrated"}
        secret = {"SecretString": json.dumps(details | {"username": user, "password": word}), "VersionId": "1"}
        stack.enter_context(mock.patch("shared.database.ROOT_CERTIFICATES", bundle))
        stack.enter_context(mock.patch("shared.direct_read.secret", return_value=secret))
        stack.enter_context(mock.patch("migration.LOCK_WAIT", 1))
        folder = Path(tempfile.mkdtemp())
        stack.callback(shutil.rmtree, folder)
        yield Migrations(server, stack.enter_context(server.session()), folder)


def explorations(*, whole: bool) -> Iterator[tuple[str, Scenario, int, dict[str, int]]]:
    """Yield what is explored: a name, the scenario, the runs at once, and the bounds."""
    for scenario in SCENARIOS:
        # Each wait for a table in use takes a second.
        cuts = int(whole or not scenario.is_in_use)
        drawn = {} if whole else {"most": 30}
        name = f"{scenario.name}, 2 runs, 2 switches, {cuts} cut{', drawn' * bool(drawn)}"
        yield name, scenario, 2, {"switches": 2, "cuts": cuts, **drawn}
    for sql in KINDS if whole else KINDS[::4]:
        yield f"{sql[:40]}, 1 run, every cut", Scenario(sql, sql, BEFORE_KINDS), 1, {"switches": 0, "cuts": 1}
    for scenario in SCENARIOS if whole else ():
        yield f"{scenario.name}, 3 runs, 2 switches", scenario, 3, {"switches": 2, "cuts": 0}
    for scenario in SCENARIOS if whole else ():
        yield f"{scenario.name}, 3 runs, 2 switches, 1 cut, drawn", scenario, 3, {"switches": 2, "cuts": 1, "most": 200}
