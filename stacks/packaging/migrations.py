"""The SQL files of migrations/, checked before anything is deployed.

What is refused would fail in the deploy, minutes later and with less to say; or its effect could not be told from
its absence after an interruption (docs/migrations.md).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from stacks.packaging.bundling import MIGRATIONS
from stacks.packaging.mysql_text import TextError, Token, decode, tokens
from stacks.settings.rds_mysql import HISTORY, REHEARSAL

NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
DATA: Final = frozenset({"INSERT", "REPLACE", "UPDATE", "DELETE", "WITH"})
OBJECTS: Final = {
    "CREATE": ("TABLE", "INDEX", "VIEW"),
    "ALTER": ("TABLE",),
    "DROP": ("TABLE", "TABLES", "INDEX", "VIEW"),
    "RENAME": ("TABLE", "TABLES"),
    "ANALYZE": ("TABLE", "TABLES"),
}
"""The definitions that are taken, by their first word."""
ENGINES: Final = frozenset(
    {"MYISAM", "MEMORY", "HEAP", "CSV", "ARCHIVE", "BLACKHOLE", "MERGE", "MRG_MYISAM", "FEDERATED", "NDB", "NDBCLUSTER"}
)
"""The other engines, in a clause without `=`, where ENGINE may be a column's name too.

https://dev.mysql.com/doc/refman/8.4/en/storage-engines.html
"""
WITHOUT_A_TRACE: Final = frozenset({"TRUNCATE", "EXCHANGE", "ANALYZE", "CHECK", "OPTIMIZE", "REBUILD", "REPAIR"})
NO_COLUMNS: Final = frozenset(
    {"INDEX", "KEY", "UNIQUE", "FULLTEXT", "SPATIAL", "PRIMARY", "FOREIGN", "CONSTRAINT", "CHECK", "PARTITION"}
)
"""What else ALTER TABLE adds and drops; reserved words."""
RDS: Final = (
    "RDS logs in binary form and has no SUPER, so that it asks for log_bin_trust_function_creators "
    "(https://repost.aws/knowledge-center/rds-mysql-functions); keep the logic in the application"
)
REASONS: Final = {
    "TRIGGER": f"triggers are not migrated: {RDS}",
    "PROCEDURE": f"routines are not migrated: {RDS}",
    "FUNCTION": f"routines are not migrated: {RDS}",
    "EVENT": f"events are not migrated: {RDS}",
    "BEGIN": f"a body of a routine or a transaction: {RDS}; each file is a transaction by itself",
    "TEMPORARY": "a temporary table ends with the file's session: make a table",
    "VIEW": "only a view's definer may ALTER it, one of two users: CREATE OR REPLACE SQL SECURITY INVOKER VIEW",
    "USE": "a migration stays in the application's database: name no other",
    "SET": "a setting ends with the session, and would reach the next file of the same deploy only",
    "DELIMITER": "DELIMITER is of the mysql client: one statement needs none",
    "TRUNCATE": "TRUNCATE leaves no trace of whether it took effect: DELETE FROM commits with its record",
    "SELECT": "a query changes nothing",
    "LOAD": "the server reads no file of yours: INSERT the rows",
}
"""What is right instead, by the word at fault."""


class MigrationsError(ValueError):
    """One or more files are wrong; the message has a line for each fault."""


def check_migrations(folder: Path = MIGRATIONS) -> None:
    """Check names, numbers, and that each file holds one statement that a deploy can apply.

    Hidden files, and those whose names do not end with .sql, are passed over.

    Raises:
        MigrationsError: naming every fault with file and line, and what would be right.
    """
    if not folder.is_dir():
        raise MigrationsError(f"{folder.name}/ is missing: make the folder, be it empty")
    faults = []
    expected = 1
    for file in sorted(folder.iterdir()):
        if file.name.startswith(".") or file.suffix.lower() != ".sql":
            continue
        name = NAME.fullmatch(file.name)
        if not name:
            faults.append(f"{file.name}: not a name like 0001_create_note.sql")
            continue
        number = int(name[1])
        if number != expected:
            what = f"the number {number:04} is given twice" if number < expected else f"{expected:04} is missing"
            faults.append(f"{file.name}: {what}; make migration NAME=... makes the next file")
        expected = number + 1
        if not file.is_file():
            faults.append(f"{file.name}: not a file")
            continue
        try:
            _check_statement(tokens(decode(file.read_bytes())))
        except TextError as fault:
            faults.append(f"{file.name}:{fault.line}: {fault}")
    if faults:
        raise MigrationsError("\n".join(faults))


def _check_statement(found: Sequence[Token]) -> None:
    """Refuse anything but one statement that a deploy can apply, and go on after an interruption.

    Raises:
        TextError: with the line and what would be right.
    """
    ends = [index for index, each in enumerate(found) if each.text == ";"] or [len(found)]
    statement = found[: ends[0]]
    if not statement:
        raise TextError(found[0].line if found else 1, "no statement, where one is right")
    _check_kind(statement)
    if more := [each for each in found[ends[0] :] if each.text != ";"]:
        raise TextError(
            more[0].line,
            "a second statement, where one is right: MySQL commits each definition by itself, and each needs a record "
            "of its own; put it into the next file (make migration NAME=...)",
        )
    for each, following in zip(statement, [*statement[1:], None], strict=True):
        if following is None and each.word == "GO" and each.line > statement[-2].line:
            raise TextError(each.line, "GO is of another database's client: end the statement with ;")
        if each.name in (HISTORY, REHEARSAL):
            raise TextError(each.line, f"{each.name} is the migrations' own database")
        if each.word in ("RELEASE_LOCK", "RELEASE_ALL_LOCKS"):
            raise TextError(each.line, f"{each.word} would let another deploy in")
    if "".join(each.text for each in statement[-2:]).endswith(("//", "$$")):
        raise TextError(statement[-1].line, "a delimiter of the mysql client: one statement needs none")


def _check_kind(statement: Sequence[Token]) -> None:
    """Refuse what is neither a change of data nor a definition of a table, an index or a view."""
    first, *rest = statement
    if first.word == "WITH":
        _check_with(statement)
    if first.word in DATA:
        return
    if first.word not in OBJECTS:
        reason = REASONS.get(first.word, f"{first.text} is no change of data, and defines no table, index or view")
        raise TextError(first.line, reason)
    known = {*OBJECTS[first.word], *REASONS} - {"SET", "SELECT"}
    kind = next((each for each in rest[:16] if each.word in known), rest[0] if rest else first)
    if kind.word not in OBJECTS[first.word]:
        raise TextError(kind.line, REASONS.get(kind.word, f"{first.word} {kind.text}: only tables, indexes and views"))
    if first.word == "CREATE" and kind.word == "VIEW":
        _check_view(statement[: statement.index(kind)], kind)
    elif first.word == "CREATE" and kind.word == "TABLE":
        _check_table(rest)
    elif first.word == "ALTER":
        _check_alteration(rest)
        _check_columns(rest)
    elif first.word == "RENAME":
        _check_names(rest)


def _check_with(statement: Sequence[Token]) -> None:
    """Refuse a query: the statement begins with the first of these words that is outside of all parentheses."""
    depth = 0
    for each in statement:
        depth += (each.text == "(") - (each.text == ")")
        if not depth and each.word in ("UPDATE", "DELETE"):
            return
        if not depth and each.word in ("SELECT", "TABLE", "VALUES"):
            break
    raise TextError(each.line, REASONS["SELECT"])


def _check_view(before: Sequence[Token], kind: Token) -> None:
    words = " ".join(each.word for each in before)
    if "SQL SECURITY INVOKER" not in words or "DEFINER" in words:
        raise TextError(
            kind.line,
            "a view's definer is one of two users, whom a rotation may make anew: "
            "CREATE OR REPLACE SQL SECURITY INVOKER VIEW, without DEFINER",
        )


def _check_table(rest: Sequence[Token]) -> None:
    """Refuse rows with the definition, and engines without transactions."""
    depth = 0
    for each, following, after in zip(rest, [*rest[1:], rest[0]], [*rest[2:], rest[0], rest[0]], strict=True):
        depth += (each.text == "(") - (each.text == ")")
        # Reserved words. Without ROW, VALUES is of a partition.
        is_query = each.word == "SELECT" or (each.word == "TABLE" and each is not rest[0])
        if is_query or (each.word == "VALUES" and following.word == "ROW"):
            raise TextError(
                each.line,
                "rows in a definition, which not every server makes together with it: CREATE TABLE here, and "
                "INSERT ... SELECT in the next file",
            )
        if each.word == "ENGINE" and not depth:
            _check_engine(after if following.text == "=" else following)


def _check_engine(name: Token) -> None:
    if name.name != "innodb":
        raise TextError(name.line, f"ENGINE={name.text} cannot take back a change that is cut off: InnoDB, the default")


def _check_alteration(rest: Sequence[Token]) -> None:
    """Refuse what changes a table's rows and not its definition."""
    for index, each in enumerate(rest[:-1]):
        following = rest[index + 1]
        is_hidden = each.word in WITHOUT_A_TRACE and following.word == "PARTITION"
        if is_hidden or (each.word in ("DISCARD", "IMPORT") and following.word in ("PARTITION", "TABLESPACE")):
            raise TextError(
                each.line,
                f"{each.word} {following.word} leaves no trace in the schema, so that nobody could tell whether an "
                "interrupted try took effect: change rows with INSERT and DELETE, or do it by hand",
            )
        if each.word == "ENGINE" and following.text == "=" and len(rest) > index + 2:
            _check_engine(rest[index + 2])
        elif each.word == "ENGINE" and following.text.strip("'\"`").upper() in ENGINES:
            _check_engine(following)


def _check_columns(rest: Sequence[Token]) -> None:
    """Refuse a column's name that is given up and taken: afterwards the table may look as before."""
    given_up, taken = set(), set()
    words = [each for each in rest if each.word not in ("COLUMN", "TO")]
    depth, is_list = 0, False
    for verb, name, after in zip(words, words[1:], [*words[2:], None], strict=False):
        depth += (verb.text == "(") - (verb.text == ")")
        is_list = (is_list and depth > 0) or (verb.word == "ADD" and name.text == "(")
        if name.word in NO_COLUMNS:
            continue
        if verb.word == "ADD" or (is_list and depth == 1 and verb.text in ("(", ",")):
            taken.add(name.name)
        elif verb.word == "DROP":
            given_up.add(name.name)
        elif verb.word in ("CHANGE", "RENAME") and after and after.text != "," and after.name != name.name:
            given_up.add(name.name)
            taken.add(after.name)
    if both := ", ".join(sorted(given_up & taken)):
        raise TextError(
            rest[0].line,
            f"{both}: given up and taken, so that the table may look as before, and nobody could tell whether an "
            "interrupted try took effect: use two files",
        )


def _check_names(rest: Sequence[Token]) -> None:
    """Refuse an exchange of names: afterwards the schema may look as before."""
    pairs = re.findall(r"(\S+) to (\S+)", " ".join(each.name for each in rest))
    old, new = ({pair[index] for pair in pairs} for index in (0, 1))
    if old and old == new:
        raise TextError(
            rest[0].line,
            "an exchange leaves the same names, so that nobody could tell whether an interrupted try took effect: "
            "leave one table under a new name",
        )
