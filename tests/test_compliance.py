"""Rule packs over the stacks: nothing is found that is not acknowledged, and nothing acknowledged that is not found."""

import json
import subprocess
from pathlib import Path
from typing import Any
from unittest import mock

import aws_cdk as cdk
import pytest
from cdk_nag import (
    AwsSolutionsChecks,
    HIPAASecurityChecks,
    NIST80053R5Checks,
    PCIDSS321Checks,
    ServerlessChecks,
)

from app import build
from local.install import ROOT, environment
from stacks.settings import from_context
from tests.conftest import EGRESSES, ENVIRONMENTS, Templates

PACKS = (AwsSolutionsChecks, NIST80053R5Checks, HIPAASecurityChecks, PCIDSS321Checks, ServerlessChecks)

Finding = tuple[str, str]
"""A rule's id and a construct's path."""


def _findings(out: Path, env: str, egress: str) -> set[Finding]:
    """What the packs find and nobody has acknowledged."""
    flags = json.loads((ROOT / "cdk.json").read_text())["context"]
    app = cdk.App(context=flags | {"aws:cdk:bundling-stacks": []}, outdir=str(out))
    cdk.Validations.of(app).add_plugins(*[pack(app) for pack in PACKS])
    build(app, from_context({"env": env, "egress": egress}))
    try:
        app.synth()
    except RuntimeError as error:
        assert "ValidationFailed" in str(error)  # noqa: PT017 - that is how CDK says it
    report = json.loads((out / "validation-report.json").read_text())
    return {
        (violation["ruleName"], construct["constructPath"])
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
        for construct in violation["violatingConstructs"]
    }


@pytest.fixture(params=[(env, egress) for env in ENVIRONMENTS for egress in EGRESSES], ids="-".join)
def variant(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Both environments with both egress modes."""
    env, egress = request.param
    return env, egress


def test_no_finding_is_unexplained(variant: tuple[str, str], tmp_path: Path) -> None:
    assert _findings(tmp_path / "out", *variant) == set()


def test_what_is_acknowledged_is_what_is_found(variant: tuple[str, str], tmp_path: Path) -> None:
    acknowledged: set[Finding] = set()

    def record(construct: Any, reason: str, *ids: str) -> None:
        assert len(reason.split()) > 5
        acknowledged.update((each, construct.node.path) for each in ids)

    with (
        mock.patch("stacks.network.acknowledge", record),
        mock.patch("stacks.database.acknowledge", record),
        mock.patch("stacks.function.acknowledge", record),
    ):
        found = _findings(tmp_path / "out", *variant)
    uncovered = {finding for finding in found if not any(_covers(each, finding) for each in acknowledged)}
    stale = {each for each in acknowledged if not any(_covers(each, finding) for finding in found)}
    assert found
    assert uncovered == set()
    assert stale == set()


def _covers(acknowledged: Finding, found: Finding) -> bool:
    return acknowledged[0] == found[0] and f"{found[1]}/".startswith(f"{acknowledged[1]}/")


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
    # W6001: the secret's ARN is an output where a person looks for it, though another stack has it.
    command = ["cfn-lint", "--ignore-checks", "W3005", "W6001", "--", *map(str, written)]
    lint = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert lint.stdout == ""
    assert lint.returncode == 0
