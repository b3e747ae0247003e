"""The files of migrations/ are checked before anything is deployed."""

from pathlib import Path

import pytest

from stacks.constructs.migrations import MigrationsError, check_migrations


def _faults(folder: Path, **files: str) -> list[str]:
    for name, text in files.items():
        (folder / f"{name.removeprefix('_')}.sql").write_text(text)
    with pytest.raises(MigrationsError) as refused:
        check_migrations(folder)
    return str(refused.value).splitlines()


def test_the_repositorys_own_are_right() -> None:
    check_migrations()


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    faults = _faults(
        tmp_path, _0001_a="SELECT 1", _0001_b="SELECT 1", _0004_c="SELECT 1; SELECT 2", _0005_d="-- nothing"
    )
    assert [fault.partition(": ")[0::2] for fault in faults] == [
        ("0001_b.sql", "the number 0001 is given twice; make migration NAME=... makes the next file"),
        ("0004_c.sql", "0002 is missing; make migration NAME=... makes the next file"),
        ("0004_c.sql", "2 statements, where one is right: MySQL commits each by itself"),
        ("0005_d.sql", "0 statements, where one is right: MySQL commits each by itself"),
        ("notes.txt", "not a name like 0001_create_note.sql"),
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO a VALUES ('one; two')",
        'SELECT ";" -- ;',
        "SELECT `;` /* ; */ ;",
        "SELECT 1 # ;",
        "SELECT 'it''s; \\'; '",
    ],
)
def test_a_semicolon_in_a_text_or_a_comment_ends_no_statement(tmp_path: Path, sql: str) -> None:
    (tmp_path / "0001_a.sql").write_text(sql)
    check_migrations(tmp_path)
