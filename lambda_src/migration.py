"""Applies the migrations that the database lacks, in order, during a deploy.

The deploy invokes it before any caller reaches code that needs the new schema. A migration is one SQL file with
one statement. Nothing is ever undone: the code before must work on the schema after.

Whether an interrupted file took effect is known, not guessed. The server frees the lock of a session only when its
statement has ended, so whoever has the lock is alone. Changes of data commit with their record. A definition is
atomic (https://dev.mysql.com/doc/refman/8.4/en/atomic-ddl.html), and the record of its beginning holds the schema
as it was: unchanged, the file has not taken effect; changed, it has only if the same statement makes the same
schema of the one before, which a rehearsal on empty tables shows. Anything else stops for a person.
"""

import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from shared import direct_read
from shared.attempts import attempts
from shared.credentials import Credentials
from shared.database import STRICT, Database
from shared.deadline import Deadline
from shared.environment import MigrationEnvironment
from shared.errors import DependencyUnavailableError, InvocationError, QueryFailedError
from shared.schema import HISTORY, LOCK, REHEARSAL, VERSION, Migration, read

FILES: Final = Path(__file__).parent / "migrations"
LOCK_WAIT: Final = 3
"""Seconds that a statement waits for a table or row in use: all later queries may wait behind it."""
PAUSE: Final = 2.0
BUSY: Final = frozenset({1205, 1213})
"""A lock's wait and a deadlock: they leave the session whole."""
QUOTE_SQL_ONLY: Final = frozenset(
    {1049, 1050, 1051, 1054, 1060, 1061, 1064, 1067, 1068, 1072, 1075, 1091, 1101, 1146, 1170, 1171, 1826, 3780, 3822}
)
"""Errors whose sentences quote SQL and no data: https://dev.mysql.com/doc/mysql-errors/8.4/en/."""

TABLE: Final = f"{HISTORY}.schema_history"
# What an earlier version of this function left: of a file that it began, nothing says how the schema was before.
TAKE_OVER: Final = f"""
INSERT INTO {TABLE} (version, name, checksum, begun_at, failed_with, finished_at, schema_before)
SELECT version, name, checksum, begun_at, failed_with, finished_at, '{{}}' FROM schema_history
"""
BEGIN: Final = f"""
INSERT INTO {TABLE} (version, name, checksum, schema_before) VALUES (%s, %s, %s, %s)
ON DUPLICATE KEY UPDATE name = VALUES(name), checksum = VALUES(checksum), schema_before = VALUES(schema_before),
begun_at = CURRENT_TIMESTAMP, failed_with = NULL
"""
FAIL: Final = f"UPDATE {TABLE} SET failed_with = %s WHERE version = %s"
FINISH: Final = f"UPDATE {TABLE} SET finished_at = CURRENT_TIMESTAMP, schema_before = NULL WHERE version = %s"

Schema = dict[str, str]
"""What makes each table and view, by name."""
logger = logging.getLogger("migration")


class MigrationError(InvocationError):
    """A migration cannot be applied. The message has its file and the server's error number, and no data."""


class Record(NamedTuple):
    """One row of `schema_history`."""

    name: str
    checksum: str
    failed: bool
    finished: bool
    before: Schema


class Migrator:
    """Brings one database to the newest version of the files, on one connection."""

    def __init__(self, environment: MigrationEnvironment, folder: Path = FILES) -> None:
        self._environment = environment
        self._migrations = read(folder)
        self._deadline = Deadline()
        self._database = Database(self._deadline, environment.region, environment.budget, keeps_session=True)

    def handle(self, remaining: float, *, is_repeat: bool = False) -> dict[str, Any]:
        """Apply what is missing, in the seconds that remain; a repeat waits for an unanswered invocation before it.

        Returns:
            `schemaVersion`, the version of the database afterwards, and `applied`, the names of the files.

        Raises:
            MigrationError: a statement failed, a file or the schema was changed by hand, or the lock is held.
            InvocationError: the database or Secrets Manager failed; the next deploy goes on from there.
        """
        self._deadline.start(min(self._environment.budget, remaining - 1))
        try:
            self._connect(is_repeat=is_repeat)
            records = self._records()
            self._check(records)
            pending = [each for each in self._migrations if not (records.get(each.version) or _NONE).finished]
            for migration in pending:
                self._apply(migration, records.get(migration.version) or _NONE)
            (version,) = self._database.query(VERSION)
        finally:
            self._database.close()
        logger.info("migration.finished", extra={"schema_version": version, "applied": len(pending)})
        return {"schemaVersion": version, "applied": [each.name for each in pending]}

    def _connect(self, *, is_repeat: bool) -> None:
        """Log in and take the lock, which ends with the connection and the statement that it runs."""
        secret = direct_read.secret(self._environment.secret_id, self._deadline)
        self._database.connect(Credentials.parse(secret))
        seconds = max(0, int(self._deadline.remaining()) - 1) if is_repeat else self._environment.lock_seconds
        (is_locked,) = self._database.query("SELECT GET_LOCK(%s, %s)", (LOCK, str(seconds)))
        if not is_locked:
            found = self._database.rows(f"CALL {HISTORY}.lock_holder()")
            holder = "connection {} of user {}".format(*found[0]) if found else "a connection that has just ended"
            raise MigrationError(
                f"another deploy is applying migrations: {holder} holds its lock: deploy again when it has ended"
            )
        waits = f"lock_wait_timeout = {LOCK_WAIT}, innodb_lock_wait_timeout = {LOCK_WAIT}, wait_timeout = 60"
        self._database.rows(f"SET SESSION {STRICT}, {waits}")

    def _records(self) -> dict[int, Record]:
        sql = (
            "SELECT version, name, checksum, failed_with IS NOT NULL, finished_at IS NOT NULL, "
            f"IF(finished_at IS NULL, schema_before, NULL) FROM {TABLE}"
        )
        try:
            rows = self._database.rows(sql)
        except QueryFailedError as error:
            raise DependencyUnavailableError("no history yet: a rotation makes it", **error.facts) from None
        if not rows and self._database.rows("SHOW TABLES LIKE 'schema\\_history'"):
            self._database.rows(TAKE_OVER)
            rows = self._database.rows(sql)
        return {row[0]: Record(row[1], row[2], bool(row[3]), bool(row[4]), json.loads(row[5] or "{}")) for row in rows}

    def _check(self, records: Mapping[int, Record]) -> None:
        """Refuse files that differ from those that were applied; in a rollback, the database may be ahead of them."""
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

    def _apply(self, migration: Migration, record: Record) -> None:
        """Apply one file unless an interrupted try of it took effect, and record it."""
        version = str(migration.version)
        schema = self._schema()
        if record is _NONE or record.failed or record.before == schema:
            self._database.rows(BEGIN, (version, migration.name, migration.checksum, json.dumps(schema)))
            self._run(migration, schema)
        elif record.checksum != migration.checksum or self._rehearse(record.before, migration.sql) != schema:
            changed = sorted({name for name, _ in record.before.items() ^ schema.items()})
            raise MigrationError(
                f"{migration.name}: an earlier try was interrupted, and the schema is neither as it was before nor, "
                f"provably, as this file makes it: look at {', '.join(changed)}; docs/runbook/MigrationFailed.md"
            )
        self._database.rows(FINISH, (version,))
        self._database.rows("COMMIT")
        logger.info("migration.applied", extra={"migration": migration.name})

    def _run(self, migration: Migration, before: Schema) -> None:
        """Run the statement in a transaction that stays open, again while a table is in use; record a failure."""
        for _ in attempts(self._deadline, lambda _: PAUSE, 2 * LOCK_WAIT + PAUSE):
            fault = self._try(migration)
            if not fault:
                return
            self._database.rows("ROLLBACK")
            number, message = fault
            if number not in BUSY:
                break
            logger.warning("migration.waiting", extra={"migration": migration.name})
        if self._schema() == before:
            self._database.rows(FAIL, (str(number), str(migration.version)))
        raise MigrationError(message)

    def _try(self, migration: Migration) -> tuple[int, str] | None:
        """Run the statement; return MySQL's error number and a message, or None when there was no error."""
        self._database.rows("START TRANSACTION")
        try:
            rows = self._database.rows(migration.sql)
        except InvocationError as error:
            number = error.facts.get("errno")
            if not isinstance(number, int) or not (isinstance(error, QueryFailedError) or number in BUSY):
                raise
            said = [row[2] for row in self._database.rows("SHOW WARNINGS") if row[1] == number]
            sentence, *line = re.split(r" at line (?=[0-9]+\Z)", said[0] if number in QUOTE_SQL_ONLY and said else "")
            # The server counts from the first character that is no white space.
            blank = migration.sql[: -len(migration.sql.lstrip())].count("\n")
            place = f":{int(line[0]) + blank}" if line else ""
            return number, f"{migration.name}{place}: MySQL error {number}{sentence and f': {sentence}'}"
        # Some report a fault as a row (https://dev.mysql.com/doc/refman/8.4/en/analyze-table.html).
        faults = [row[3] for row in rows if len(row) == 4 and row[2] == "Error"]
        return (0, f"{migration.name}: MySQL answers: {faults[0]}") if faults else None

    def _schema(self) -> Schema:
        """Return the current database's schema: without AUTO_INCREMENT's counters, and the definers, who alternate."""
        schema = {}
        tables = "SELECT table_name, engine FROM information_schema.tables WHERE table_schema = DATABASE()"
        for name, engine in self._database.rows(tables):
            if engine not in (None, "InnoDB"):
                raise MigrationError(f"table {name}: {engine} cannot take back a change that is cut off: use InnoDB")
            text = self._database.query("SHOW CREATE TABLE `{}`".format(name.replace("`", "``")))[1]
            schema[name] = re.sub(r" AUTO_INCREMENT=\d+| DEFINER=`[^`]*`@`[^`]*`", "", text)
        return schema

    def _rehearse(self, before: Schema, sql: str) -> Schema | None:
        """Return what the statement makes of a schema, tried on empty tables; None where that shows nothing."""
        place = "SELECT DATABASE(), @@character_set_database, @@collation_database"
        database, charset, collation = self._database.query(place)
        if re.search(rf"\b({database}|{HISTORY}|{REHEARSAL})\b", sql, re.IGNORECASE):
            return None  # It names a database, and might change that one.
        self._database.rows(f"DROP DATABASE IF EXISTS {REHEARSAL}")
        self._database.rows(f"CREATE DATABASE {REHEARSAL} CHARACTER SET {charset} COLLATE {collation}")
        self._database.rows(f"USE {REHEARSAL}")
        self._database.rows("SET foreign_key_checks = 0")
        texts = list(before.values())
        # A view can be made only after what it reads.
        while texts and len(left := [text for text in texts if not self._takes(text)]) < len(texts):
            texts = left
        is_shown = self._schema() == before and self._takes(sql)
        schema = self._schema()
        self._database.rows(f"USE `{database}`")
        self._database.rows("SET foreign_key_checks = 1")
        return schema if is_shown else None

    def _takes(self, sql: str) -> bool:
        """Run the statement; return whether the server takes it."""
        try:
            self._database.rows(sql)
        except QueryFailedError:
            return False
        return True


_NONE: Final = Record("", "", failed=False, finished=False, before={})

_migrator = Migrator(MigrationEnvironment.read(os.environ))


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda's entry point; see `Migrator.handle`. The event is the smoke test's; it may have `"repeat": true`."""
    return _migrator.handle(context.get_remaining_time_in_millis() / 1000, is_repeat=event.get("repeat") is True)
