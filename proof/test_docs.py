"""README and docs agree with the tree."""

import ast
import re
import subprocess
import textwrap
import tomllib
from pathlib import Path

import botocore.session
import pytest

from operations.commands import ROOT, environment
from operations.verify.checks import CHECKS, LOUD_CHECKS
from proof.documents import FINDINGS, LINK, PARTS, part
from proof.reading import PAGES, minutes
from proof.weakenings import CODE, MUTANTS, edits

FOLDERS = "stacks|lambda_src|migrations|tests|docs|operations|local|proof|requirements"
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("local/**/*.md"), *ROOT.glob("proof/*.md")]
)
READ = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
"""What a user reads, in one count of lines."""
RUN = {
    ("README.md", ""): "proof/cloud/test_commands.py",
    ("docs/operations.md", "sh"): "proof/test_operations.py",
    ("docs/make-it-yours.md", "sh"): "proof/cloud/test_make_it_yours.py",
}
"""The test that runs the blocks of a kind on a page. Blocks of commands elsewhere are marked."""
PROMISES = (ROOT / "proof/README.md").read_text()
TESTS = "".join(path.read_text() for path in [*ROOT.glob("**/test_*.py")] if ".venv" not in path.parts)


@pytest.mark.parametrize(("file", "name"), [each for each in PARTS if each != FINDINGS])
def test_no_generated_part_is_stale(file: str, name: str) -> None:
    assert part(file, name)[2] == PARTS[file, name](), f"{file}, {name}: make docs"


def test_every_check_shows_a_promise_and_the_documents_name_no_other() -> None:
    all_checks = {*CHECKS, *(f"--{name}" for name in LOUD_CHECKS)}
    cells = [
        row.split(" | ")[-1]
        for row in re.findall(r"^\| .* \|$", PROMISES.partition("| file or folder")[0], re.MULTILINE)
    ]
    assert {name for cell in cells[1:] for name in re.findall(r"`([a-z-]+)`", cell)} == all_checks
    security = (ROOT / "docs/security.md").read_text()
    in_security = {
        name
        for names in re.findall(r"`make verify`: ([^|\n;]+)", security)
        for name in re.findall("`([a-z-]+)`", names)
    }
    assert in_security
    assert in_security <= all_checks


def test_no_page_claims_more_regions_than_have_certificates() -> None:
    pem = (ROOT / "lambda_src/shared/rds-root-certificates.pem").read_text()
    regions = set(re.findall(r"^# ([a-z]{2}(?:-[a-z]+)+-\d)$", pem, re.MULTILINE))
    (claimed,) = re.findall(r"root certificates of (\d+) regions", (ROOT / "docs/extending.md").read_text())
    assert int(claimed) == len(regions)
    assert set(botocore.session.get_session().get_available_regions("rds")) <= regions
    assert not [page for page in DOCUMENTS if "every region's root" in page.read_text()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_and_make_target_in_the_documents_exists(document: Path) -> None:
    text = document.read_text()
    targets = [
        target
        for makefile in [ROOT / "Makefile", *ROOT.glob("*/targets.mk")]
        for target in re.findall(r"^([a-z]+):", makefile.read_text(), re.MULTILINE)
    ]
    for target in re.findall(r"\bmake ([a-z]+)[ `]", text):
        assert target in targets, target
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (document.parent / link).exists(), link
    for path in re.findall(rf"`((?:{FOLDERS})/[\w/.-]*)`", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"TESTS=([\w/.]+)", text):
        assert (ROOT / path).exists(), path


def test_the_readme_is_short_and_the_first_pages_are_read_in_ten_minutes() -> None:
    assert len(README.splitlines()) <= 150
    assert sum(minutes(*PAGES[name]) for name in ("README, first screen", "README", "make it yours")) <= 10


def test_readme_and_docs_have_at_most_1500_lines() -> None:
    assert sum(len(page.read_text().splitlines()) for page in READ) <= 1500


@pytest.mark.parametrize("page", READ, ids=lambda path: path.name)
def test_a_page_says_for_whom_it_is_in_its_first_line_and_has_no_long_ones(page: Path) -> None:
    title, between, first, *_ = page.read_text().splitlines()
    assert title.startswith("# ")
    assert between == ""
    assert first.startswith("For whoever ")
    text = re.sub(
        r"^```.*?^```$|<!-- (\w+) -->.*?<!-- /\1 -->|^\|.*?$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE
    )
    assert [line for line in re.sub(r"\]\([^)]*\)", "]", text).splitlines() if len(line) > 140] == []


@pytest.mark.parametrize("page", READ, ids=lambda path: path.name)
def test_every_block_of_commands_is_run_by_a_test_or_marked(page: Path) -> None:
    name = str(page.relative_to(ROOT))
    for kind, block in re.findall(r"^```([^\n]*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        if kind == "python":
            ast.parse(textwrap.dedent(block))
        elif kind not in ("sh account", "sh by hand", "json", "text", "mermaid"):
            assert page.name in (ROOT / RUN[name, kind]).read_text()


def test_the_changelogs_newest_version_is_the_projects() -> None:
    newest, *_ = re.findall(r"^## ([\d.]+) - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_walk_has_each_file_of_the_functions_and_the_stacks() -> None:
    linked = {file for _, _, file in LINK.findall((ROOT / "docs/walk.md").read_text())}
    there = {
        f"{file.relative_to(ROOT)}"
        for folder in ("lambda_src", "stacks")
        for file in (ROOT / folder).rglob("*.py")
        if folder == "lambda_src" or file.name != "__init__.py"  # Of imports only.
    }
    assert there == linked - {"app.py"}


def test_the_table_of_weakenings_has_each_of_them_noticed_by_a_test_that_exists() -> None:
    rows = re.findall(r"^\| (.+) \| `(\w+)` \|$", (ROOT / "proof/hardening.md").read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == [*MUTANTS, *CODE]
    assert [test for _, test in rows if f"def {test}(" not in TESTS] == []
    moved = [
        name
        for name in CODE
        for file, old, _ in edits(name)
        if (ROOT / "lambda_src" / file).read_text().count(old) != 1
    ]
    assert moved == []


@pytest.mark.parametrize("decision", sorted(ROOT.glob("*/decisions/*.md")), ids=lambda path: path.stem)
def test_a_decision_is_short_and_names_what_was_refused(decision: Path) -> None:
    text = decision.read_text()
    assert len(text.splitlines()) <= 25
    assert "\n\nRefused:\n- " in text
    assert "This holds until " in " ".join(text.split())


def test_a_bare_make_lists_every_target_a_person_calls() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "synth", "check", "up", "down", "clean"):
        assert f"make {target} " in listed


def test_make_starts_each_command_by_a_shell_that_looks_it_up_on_the_exported_path(tmp_path: Path) -> None:
    # make 3.81 starts a command without shell syntax itself and looks it up on its own path, if SHELL is /bin/sh. A
    # later make cannot show that, but bash shows that it was asked: it reads BASH_ENV first.
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text() + "\nonly-here:\n\t@only-in-this-clone\n")
    program = tmp_path / ".venv/bin/only-in-this-clone"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    (tmp_path / "bash-env").write_text("echo asked\n")
    variables = environment() | {"BASH_ENV": str(tmp_path / "bash-env")}
    run = subprocess.run(
        ["make", "--no-print-directory", "only-here"], cwd=tmp_path, env=variables, capture_output=True, text=True
    )
    assert run.stdout == "asked\nfound\n", run.stderr


def test_each_attack_in_the_documentation_has_a_test_that_exists() -> None:
    text = (ROOT / "docs/security.md").read_text()
    (table,) = re.findall(r"## What was attacked\n.*?(\| boundary .*?)\n\n", text, re.DOTALL)
    rows = table.splitlines()[2:]
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    assert len(rows) >= 15
    assert all(named)
    assert [test for names in named for test in names if f"def {test}(" not in TESTS] == []


def test_make_docs_starts() -> None:
    """Its imports only; `test_no_generated_part_is_stale` covers what it writes."""
    recipe = subprocess.run(["make", "-n", "docs"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in recipe.splitlines() if line.endswith("-m proof.documents")]
    imports = line.replace("-m proof.documents", "-c 'import proof.documents'")
    subprocess.run(["sh", "-c", imports], cwd=ROOT, env=environment(), check=True)
