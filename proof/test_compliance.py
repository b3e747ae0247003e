"""Rule packs over the stacks: every finding is acknowledged, and every acknowledgement has its finding."""

import json
import subprocess
from pathlib import Path

import pytest

from operations.commands import environment
from proof import findings
from proof.cost import VARIANTS
from proof.documents import FINDINGS, PARTS, part
from tests.conftest import Templates

variants = pytest.mark.parametrize(("env", "egress"), VARIANTS)


@variants
def test_no_finding_is_unexplained(env: str, egress: str) -> None:
    assert findings.as_is(env, egress) == set()
    assert findings.raw(env, egress).unexplained == set()


@variants
def test_what_is_acknowledged_is_what_is_found(env: str, egress: str) -> None:
    scan = findings.raw(env, egress)
    assert {findings.pack_of(rule) for rule, _ in scan.found} == {*findings.PACKS, "checkov"}
    assert scan.native & scan.finished
    assert scan.checkov_passed > 100
    stale = {each for each in scan.acknowledged if not any(findings.covers(each, finding) for finding in scan.found)}
    assert stale == set()
    assert [reason for reason in scan.acknowledged.values() if len(reason.split()) < 6] == []


def test_the_table_of_findings_is_not_stale() -> None:
    """Here, where the scans are made, and not among the tests of the documents."""
    assert part(*FINDINGS)[2] == PARTS[FINDINGS](), "make docs"


@pytest.fixture
def written(templates: Templates, tmp_path: Path) -> list[Path]:
    """The finished templates as files."""
    files = []
    for name, template in templates.items():
        files.append(tmp_path / f"{name}.template.json")
        files[-1].write_text(json.dumps(template))
    return files


def test_cloudformations_linter_finds_nothing(written: list[Path]) -> None:
    # W3005: CDK writes each role into DependsOn, where the reference says so already.
    # E3691: cfn-lint's list of versions has no series, which RDS takes.
    # W6001: the secret's ARN is an output of the service stack too, where users look for it.
    command = ["cfn-lint", "--ignore-checks", "E3691", "W3005", "W6001", "--", *map(str, written)]
    lint = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert lint.stdout == ""
    assert lint.returncode == 0
