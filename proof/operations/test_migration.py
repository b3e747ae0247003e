"""`make migration`."""

from pathlib import Path

import pytest

from operations import migration


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
