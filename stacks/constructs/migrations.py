"""The SQL files of migrations/, checked before anything is deployed."""

import re
from pathlib import Path
from typing import Final

from stacks.constructs.bundling import MIGRATIONS

NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
NOT_CODE: Final = re.compile(
    r"""--[^\n]*|\#[^\n]*|/\*.*?\*/|'(?:''|\\.|[^'])*'|"(?:""|\\.|[^"])*"|`[^`]*`""", re.DOTALL
)
"""Comments and quoted text, in which a semicolon ends no statement."""


class MigrationsError(ValueError):
    """One or more files are wrong; the message has a line for each fault."""


def check_migrations(folder: Path = MIGRATIONS) -> None:
    """Check names, numbers, and that each file holds one statement.

    Raises:
        MigrationsError: naming every fault, with what would be right.
    """
    faults = []
    expected = 1
    for file in sorted(folder.iterdir()):
        name = NAME.fullmatch(file.name)
        if not name:
            faults.append(f"{file.name}: not a name like 0001_create_note.sql")
            continue
        number = int(name[1])
        if number != expected:
            what = f"the number {number:04} is given twice" if number < expected else f"{expected:04} is missing"
            faults.append(f"{file.name}: {what}; make migration NAME=... makes the next file")
        expected = number + 1
        statements = [part for part in NOT_CODE.sub("", file.read_text()).split(";") if part.strip()]
        if len(statements) != 1:
            faults.append(
                f"{file.name}: {len(statements)} statements, where one is right: MySQL commits each by itself"
            )
    if faults:
        raise MigrationsError("\n".join(faults))
