"""What is synthesised for the tools and the tests is kept until a file that a synthesis reads is edited."""

import os
from pathlib import Path

import pytest

from tools import assemblies, templates


def test_the_same_tree_is_synthesised_once_for_each_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, str]] = []
    digest = "before"

    def synthesise(**context: str) -> dict[str, dict[str, object]]:
        made.append(context)
        return {"Network": {"number": len(made)}}

    monkeypatch.setattr(templates, "TEMPLATES", tmp_path / "templates")
    monkeypatch.setattr(templates, "synthesise_anew", synthesise)
    monkeypatch.setattr(assemblies, "digest", lambda _, context: f"{digest}{context}".replace("/", "_"))
    assert templates.synthesise(env="dev") == {"Network": {"number": 1}}
    assert templates.synthesise(env="dev") == {"Network": {"number": 1}}
    assert templates.synthesise(env="prod") == {"Network": {"number": 2}}
    digest = "after"
    assert templates.synthesise(env="dev") == {"Network": {"number": 3}}
    assert made == [{"env": "dev"}, {"env": "prod"}, {"env": "dev"}]


def test_only_the_templates_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "TEMPLATES", tmp_path)
    monkeypatch.setattr(templates, "synthesise_anew", lambda **_: {})
    for number in range(templates.KEPT):
        (tmp_path / f"{number}.json").touch()
        os.utime(tmp_path / f"{number}.json", (number, number))
    templates.synthesise(env="dev")
    assert len(list(tmp_path.iterdir())) == templates.KEPT
    assert not (tmp_path / "0.json").exists()
    assert (tmp_path / "1.json").exists()


def test_a_file_that_a_synthesis_reads_has_a_part_in_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stacks").mkdir()
    before = assemblies.digest(tmp_path, [])
    (tmp_path / "stacks" / "service.py").write_text("a")
    made = assemblies.digest(tmp_path, [])
    (tmp_path / "stacks" / "service.py").write_text("b")
    edited = assemblies.digest(tmp_path, [])
    assert len({before, made, edited, assemblies.digest(tmp_path, ["env=prod"])}) == 4
    # The functions' Python makes the bytecode in an assembly.
    monkeypatch.setattr(assemblies, "runtime_python", lambda: Path("another"))
    assert assemblies.digest(tmp_path, []) != edited
