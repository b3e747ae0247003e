"""README and docs tell what is true of the tree."""

import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from local import cost
from local.install import ROOT, environment
from stacks.settings import ENVIRONMENTS, Settings
from tests.mutants import MUTANTS

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def _settings_table() -> str:
    rows = ["| setting | dev | prod | meaning |\n|---|---|---|---|\n"]
    for each in fields(Settings):
        if each.name != "env":
            dev, prod = (getattr(ENVIRONMENTS[env], each.name) for env in ("dev", "prod"))
            shown = [f"`{value}`" if value != "" else "" for value in (dev, prod)]
            rows.append(f"| `{each.name}` | {shown[0]} | {shown[1]} | {each.metadata['doc']} |\n")
    return "".join(rows)


def test_the_settings_table_is_the_settings() -> None:
    readme = (ROOT / "README.md").read_text()
    (table,) = re.findall(r"<!-- settings -->\n(.*?)<!-- /settings -->", readme, re.DOTALL)
    assert table == _settings_table()


def test_the_costs_are_those_of_the_templates() -> None:
    readme = (ROOT / "README.md").read_text()
    (table,) = re.findall(r"<!-- cost -->\n(.*?)\n<!-- /cost -->", readme, re.DOTALL)
    assert table == cost.totals()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_and_make_target_in_the_documents_exists(document: Path) -> None:
    text = document.read_text()
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"\bmake ([a-z]+)[ `]", text):
        assert target in targets, target
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (document.parent / link).exists(), link
    for path in re.findall(r"`((?:app\.py|stacks|lambda_src|local|tests|docs|benchmarks)[\w/.-]*)`", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"TESTS=(tests[\w/.]+)", text):
        assert (ROOT / path).exists(), path


def test_the_first_screen_is_one_screen() -> None:
    first, *_ = (ROOT / "README.md").read_text().split("\n## ")
    assert len(first.splitlines()) <= 45


def test_the_table_of_weakenings_has_each_of_them_noticed_by_a_test_that_exists() -> None:
    rows = re.findall(r"^\| (.+) \| `(\w+)` \|$", (ROOT / "docs/hardening.md").read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == list(MUTANTS)
    tests = "".join(path.read_text() for path in (ROOT / "tests/stacks").glob("test_*.py"))
    assert [test for _, test in rows if f"def {test}(" not in tests] == []


@pytest.mark.parametrize("decision", sorted((ROOT / "docs/decisions").glob("*.md")), ids=lambda path: path.stem)
def test_a_decision_is_short_and_names_what_was_refused(decision: Path) -> None:
    text = decision.read_text()
    assert len(text.splitlines()) <= 35
    assert "## Refused" in text
    assert "## What would change our mind" in text


def test_a_bare_make_lists_every_target_a_person_calls() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "synth", "check", "up", "down", "clean"):
        assert f"make {target} " in listed
