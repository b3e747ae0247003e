"""Applies the migrations that the database lacks, in order, during a deploy.

The deploy invokes this function before the smoke test of a new version, so before any caller
reaches code that needs the new schema. A migration is one SQL file with one statement,
because MySQL commits each definition by itself
(https://dev.mysql.com/doc/refman/8.4/en/implicit-commit.html). The table `schema_history`
records what was begun, what failed and what is finished. Nothing is ever undone: the code
before must work on the schema after.
"""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from shared import direct_read
from shared.credentials import Credentials
from shared.database import Database
from shared.deadline import Deadline
from shared.environment import MigrationEnvironment
from shared.errors import InvocationError, QueryFailedError
from shared.schema import HISTORY, VERSION, Migration, read

FILES: Final = Path(__file__).parent / "migrations"
LOCK: Final = "demoapp.migrations"
METADATA_WAIT: Final = 3
"""Seconds that a statement waits for a table in use: while it waits, all later queries wait behind it."""
PAUSE: Final = 2.0
"""Seconds between two tries of a statement whose table is in use."""
LOCK_WAIT_TIMEOUT: Final = 1205
ALREADY_DONE: Final = frozenset({1050, 1060, 1061, 1091, 1826})
"""The errors of a definition that was applied before, by a deploy that ended before it recorded that.

Table exists, duplicate column, duplicate key, nothing to drop, duplicate foreign key.
"""

BEGIN: Final = """
INSERT INTO schema_history (version, name, checksum) VALUES (%s, %s, %s)
ON DUPLICATE KEY UPDATE name = VALUES(name), checksum = VALUES(checksum), failed_with = NULL
"""

logger = logging.getLogger("demoapp.migration")


class Context(Protocol):
    """The part of Lambda's context object that the function uses."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the invocation."""


class MigrationError(InvocationError):
    """A migration cannot be applied. The message has its file and the server's error number, and no data."""


@dataclass(frozen=True)
class Record:
    """One row of `schema_history`."""

    name: str
    checksum: str
    failed: bool
    finished: bool


class Migrator:
    """Brings one database to the newest version of the files, on one connection."""

    def __init__(self, environment: MigrationEnvironment, folder: Path = FILES) -> None:
        self._environment = environment
        self._migrations = read(folder)
        self._deadline = Deadline()
        self._database = Database(self._deadline, environment.region, query_seconds=environment.budget)

    def handle(self, remaining: float) -> dict[str, Any]:
        """Apply what is missing.

        Args:
            remaining: seconds that the function has left.

        Returns:
            `schemaVersion`, the version of the database afterwards, and `applied`, the names of the files.

        Raises:
            MigrationError: a file was changed after it was applied, a statement failed, or another deploy
                holds the lock. What was applied before stays applied and recorded.
            InvocationError: the database or Secrets Manager failed; the next deploy goes on from there.
        """
        self._deadline.start(min(self._environment.budget, remaining - 1))
        try:
            self._connect()
            records = self._records()
            self._check(records)
            pending = [each for each in self._migrations if not (records.get(each.version) or _NONE).finished]
            for migration in pending:
                self._apply(migration, records.get(migration.version))
            (version,) = self._database.query(VERSION)
        finally:
            self._database.close()
        logger.info("migration.finished", extra={"schema_version": version, "applied": len(pending)})
        return {"schemaVersion": version, "applied": [each.name for each in pending]}

    def _connect(self) -> None:
        """Log in and take the lock, which ends with the connection.

        Raises:
            MigrationError: another deploy holds it.
        """
        secret = direct_read.secret(self._environment.secret_id, self._deadline)
        self._database.connect(Credentials.parse(secret))
        (is_locked,) = self._database.query("SELECT GET_LOCK(%s, %s)", (LOCK, str(self._environment.lock_seconds)))
        if not is_locked:
            raise MigrationError("another deploy is applying migrations: deploy again when it has ended")
        self._database.rows(f"SET SESSION lock_wait_timeout = {METADATA_WAIT}")

    def _records(self) -> dict[int, Record]:
        self._database.rows(HISTORY)
        rows = self._database.rows(
            "SELECT version, name, checksum, failed_with IS NOT NULL, finished_at IS NOT NULL FROM schema_history"
        )
        return {row[0]: Record(row[1], row[2], bool(row[3]), bool(row[4])) for row in rows}

    def _check(self, records: Mapping[int, Record]) -> None:
        """Refuse files that differ from those that were applied.

        A database that is ahead of the files is no fault: it is a rollback, or an older checkout.
        """
        files = {each.version: each for each in self._migrations}
        faults = []
        for version, record in sorted(records.items()):
            file = files.get(version)
            if not record.finished or version > max(files, default=0):
                continue
            if file is None:
                faults.append(f"{record.name} was applied and is missing")
            elif file.name != record.name:
                faults.append(f"{file.name} was applied as {record.name}")
            elif file.checksum != record.checksum:
                faults.append(f"{file.name} was changed after it was applied")
        if faults:
            raise MigrationError(f"{'; '.join(faults)}: restore the file, and change the schema with a new one")

    def _apply(self, migration: Migration, record: Record | None) -> None:
        """Apply one file, and record it.

        Changes of data and their record are committed together. A definition commits by itself. If a
        killed deploy did not record it, the server answers the second try with "exists already".
        """
        version = str(migration.version)
        self._database.rows(BEGIN, (version, migration.name, migration.checksum))
        number = self._try(migration.sql)
        while number == LOCK_WAIT_TIMEOUT and self._deadline.remaining() > 2 * (METADATA_WAIT + PAUSE):
            logger.warning("migration.waiting", extra={"migration": migration.name})
            time.sleep(PAUSE)
            self._connect()
            number = self._try(migration.sql)
        if number:
            self._connect()
        was_interrupted = record is not None and not record.failed
        if number and not (was_interrupted and number in ALREADY_DONE):
            self._database.rows("UPDATE schema_history SET failed_with = %s WHERE version = %s", (str(number), version))
            raise MigrationError(f"{migration.name}: statement 1: MySQL error {number}")
        self._database.rows("UPDATE schema_history SET finished_at = CURRENT_TIMESTAMP WHERE version = %s", (version,))
        self._database.rows("COMMIT")
        logger.info("migration.applied", extra={"migration": migration.name})

    def _try(self, sql: str) -> int:
        """Run the statement; return MySQL's error number, 0 when there was no error.

        Raises:
            InvocationError: the connection broke; the statement may have run.
        """
        try:
            self._database.rows("START TRANSACTION")
            self._database.rows(sql)
        except InvocationError as error:
            number = error.facts.get("errno")
            if isinstance(number, int) and (isinstance(error, QueryFailedError) or number == LOCK_WAIT_TIMEOUT):
                return number
            raise
        return 0


_NONE: Final = Record("", "", failed=False, finished=False)

_migrator = Migrator(MigrationEnvironment.read(os.environ))


def lambda_handler(event: object, context: Context) -> dict[str, Any]:
    """Lambda's entry point; see `Migrator.handle`."""
    return _migrator.handle(context.get_remaining_time_in_millis() / 1000)
