"""The files of migrations/, and the table that records which of them were applied."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HISTORY: Final = """
CREATE TABLE IF NOT EXISTS schema_history (
    version INT UNSIGNED NOT NULL PRIMARY KEY,
    name VARCHAR(200) NOT NULL,
    checksum CHAR(64) NOT NULL,
    begun_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    failed_with INT UNSIGNED NULL,
    finished_at TIMESTAMP NULL
)
"""
VERSION: Final = "SELECT MAX(version) FROM schema_history WHERE finished_at IS NOT NULL"
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
    """Return the migrations of a folder, in order; the deploy has checked their names and numbers."""
    return [
        Migration(int(re.match("[0-9]+", file.name)[0]), file.name, file.read_text())  # type: ignore[index]
        for file in sorted(folder.glob("*.sql"))
    ]
