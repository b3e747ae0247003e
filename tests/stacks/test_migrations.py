"""The files of migrations/ are checked before anything is deployed."""

import shutil
import subprocess
from pathlib import Path

import pytest

from stacks.constructs.migrations import MigrationsError, check_migrations
from tools import migration
from tools.commands import ROOT, environment


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


def test_a_synthesis_names_a_wrong_file(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    shutil.copy(ROOT / "app.py", tree)
    for name in ("stacks", "lambda_src", "migrations"):
        shutil.copytree(ROOT / name, tree / name)
    (tree / "migrations" / "0003_gap.sql").write_text("SELECT 1")
    refused = subprocess.run(["python3", "app.py"], cwd=tree, env=environment(), capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Migrations refused:\n0003_gap.sql: 0002 is missing")


def test_make_migration_makes_the_next_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(migration, "ROOT", tmp_path)
    (tmp_path / "migrations").mkdir()
    for name in ("one", "two"):
        migration.main(name)
    assert capsys.readouterr().out.splitlines() == ["migrations/0001_one.sql", "migrations/0002_two.sql"]
    with pytest.raises(SystemExit, match="NAME=Not a name"):
        migration.main("Not a name")
