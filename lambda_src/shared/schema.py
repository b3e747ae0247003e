"""The files of migrations/, and the history of which of them were applied.

The history has a database of its own, because a grant on a database cannot leave out one table
(https://dev.mysql.com/doc/refman/8.4/en/grant.html). The rotation function makes it, as the master.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HISTORY: Final = "migrations_history"
REHEARSAL: Final = "migrations_rehearsal"
"""The database in which the migration function runs a statement on empty tables, to learn what schema it makes."""
LOCK: Final = "migrations"
MAKE_HISTORY: Final = (
    f"CREATE DATABASE IF NOT EXISTS {HISTORY}",
    f"""
CREATE TABLE IF NOT EXISTS {HISTORY}.schema_history (
    version INT UNSIGNED NOT NULL PRIMARY KEY, name VARCHAR(200) NOT NULL, checksum CHAR(64) NOT NULL,
    begun_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, failed_with INT UNSIGNED NULL, finished_at TIMESTAMP NULL,
    schema_before LONGTEXT CHARACTER SET utf8mb4 NULL
) ENGINE = InnoDB
""",
    # Last, because it may be there already. With the rights of the master, who may see every connection.
    f"""CREATE PROCEDURE {HISTORY}.lock_holder()
    SELECT id, user FROM information_schema.processlist WHERE id = IS_USED_LOCK('{LOCK}')""",
)
VERSION: Final = f"SELECT MAX(version) FROM {HISTORY}.schema_history WHERE finished_at IS NOT NULL"
"""The query for the schema's version."""


@dataclass(frozen=True)
class Migration:
    """One file."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, as hexadecimal digits."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read(folder: Path) -> list[Migration]:
    """Return the migrations of a folder, in order; the deploy has checked their names, numbers and statements."""
    return [
        Migration(int(re.match("[0-9]+", file.name)[0]), file.name, file.read_text("utf-8"))  # type: ignore[index]
        for file in sorted(folder.glob("[0-9]*.sql"))
    ]
