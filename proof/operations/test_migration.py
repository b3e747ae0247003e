"""`make migration`."""

import subprocess
from pathlib import Path

import pytest

from operations import migration
from operations.commands import ROOT, environment


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


def test_a_name_with_a_space_is_refused_whole() -> None:
    refused = subprocess.run(
        ["make", "migration", "NAME=add priority"], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("NAME=add priority: lower-case letters")
