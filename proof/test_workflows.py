"""GitHub's workflows: valid, pinned, with no more rights than they need."""

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from app import lasting_settings, templates
from operations.commands import ROOT, environment
from operations.deploy import commands, main
from proof import pins
from stacks.packaging.runtime_python import MINOR

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*command, *map(str, WORKFLOWS)], env=environment(), capture_output=True, text=True)


def test_actionlint_accepts_the_workflows() -> None:
    checked = _run("check-jsonschema", "--builtin-schema", "vendor.github-workflows")
    assert checked.returncode == 0, checked.stdout
    assert len(WORKFLOWS) == 3


def test_updates_wait_a_week_and_reach_every_lock_file() -> None:
    file = ROOT / ".github" / "dependabot.yml"
    checked = subprocess.run(
        ["check-jsonschema", "--builtin-schema", "vendor.dependabot", file], env=environment(), capture_output=True
    )
    assert checked.returncode == 0, checked.stdout
    updates = yaml.safe_load(file.read_text())["updates"]
    assert [each["cooldown"]["default-days"] for each in updates] == [7] * len(updates)
    locks = [path for path in ROOT.glob("*/*.txt") if "--hash=sha256:" in path.read_text()] + [
        ROOT / "requirements.txt"
    ]
    assert set(updates[0]["directories"]) == {f"/{path.parent.relative_to(ROOT)}".rstrip(".") for path in locks}
    assert len(locks) == 9


def test_who_installs_the_published_requirements_has_what_the_tests_run_on() -> None:
    def pins(file: Path) -> set[str]:
        return set(re.findall(r"^([\w.-]+)(?:\[\w+\])?(==\S+)", file.read_text(), re.MULTILINE))

    tested = pins(ROOT / "requirements" / "development.txt")
    for file in (ROOT / "requirements.txt", ROOT / "lambda_src/requirements.txt", ROOT / "requirements/tools.txt"):
        assert pins(file)
        assert pins(file) - tested == set(), file


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_job_has_the_functions_python(workflow: Any) -> None:
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        versions = [step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", "")]
        assert versions == [MINOR] or not any("uses" in step for step in job["steps"])


def test_zizmor_finds_nothing_in_the_workflows() -> None:
    checked = _run("zizmor", "--offline", "--pedantic", "--quiet")
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_and_jobs_ask_for_their_rights(workflow: Any) -> None:
    parsed = yaml.safe_load(workflow.read_text())
    assert parsed["permissions"] == {}
    for job in parsed["jobs"].values():
        assert set(job["permissions"].items()) <= {("actions", "read"), ("contents", "read"), ("id-token", "write")}
        for step in job["steps"]:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step.get("uses", "a/b@" + "0" * 40))


def test_a_pull_request_is_checked_as_at_home_and_holds_no_credentials() -> None:
    text = (ROOT / ".github/workflows/check.yml").read_text()
    assert "- run: .ci/run\n" in text
    assert "make check" in (ROOT / ".ci/run").read_text()
    assert "id-token" not in text
    assert "secrets." not in text


def test_a_private_repository_pays_for_no_mac_with_each_push() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text())["jobs"]
    (condition,) = [job["if"] for job in jobs.values() if str(job["runs-on"]).startswith("macos")]
    assert condition == "github.event.repository.visibility == 'public' || github.event_name == 'schedule'"


def test_each_job_that_asks_for_the_history_has_it() -> None:
    """`make check` reads the commits since the base, and `make data` deploys version 0.1 from its commit."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text())["jobs"]
    whole = [
        name for name, job in jobs.items() if any(step.get("with", {}).get("fetch-depth") == 0 for step in job["steps"])
    ]
    assert whole == ["check", "weekly"]


def test_a_deploy_stores_no_key_and_goes_to_the_environment_of_the_input_from_the_default_branch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (ROOT / ".github/workflows/deploy.yml").read_text()
    assert "secrets." not in text
    deploy = yaml.safe_load(text)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    inputs = deploy[True]["workflow_dispatch"]["inputs"]  # YAML 1.1 takes the key `on` for true.
    assert inputs["environment"]["type"] == "environment"
    assert inputs["approval"]["options"] == ["destructive", "never"]
    for approval in inputs["approval"]["options"]:
        assert commands(lasting_settings("dev"), approval)[0][4] == approval
        # It is taken, and AWS would be asked next.
        with pytest.raises(SystemExit, match="no region"):
            main("dev", approval)
    (job,) = deploy["jobs"].values()
    assert job["environment"] == "${{ inputs.environment }}"
    assert job["if"] == "github.ref_name == github.event.repository.default_branch"
    uses = [step.get("uses", "").partition("@")[0] or step["run"] for step in job["steps"]]
    gate = next(position for position, step in enumerate(uses) if "operations.reviewers" in step)
    assert (
        gate
        < uses.index("aws-actions/configure-aws-credentials")
        < uses.index('make deploy ENV="$ENVIRONMENT" APPROVAL="$APPROVAL"')
    )
    (credentials,) = [step["with"] for step in job["steps"] if "aws-region" in step.get("with", {})]
    assert credentials["allowed-account-ids"] == "${{ steps.gate.outputs.account }}"
    assert int(credentials["role-duration-seconds"]) == job["timeout-minutes"] * 60


def test_the_credentials_outlive_no_session_that_the_role_allows() -> None:
    job = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text())["jobs"]["deploy"]
    template = templates(github_repository="owner/name")["Deployment"]
    longest = {
        each["Properties"]["MaxSessionDuration"]
        for each in template["Resources"].values()
        if each["Type"] == "AWS::IAM::Role"
    }
    assert longest == {job["timeout-minutes"] * 60}


def test_the_weekly_verification_waits_for_no_reviewer_and_says_when_it_is_off() -> None:
    text = (ROOT / ".github/workflows/verify.yml").read_text()
    verify = yaml.safe_load(text)
    assert "schedule" in verify[True]
    assert not any("environment" in job for job in verify["jobs"].values())
    assert "secrets." not in text
    off, on = verify["jobs"]["idle"], verify["jobs"]["verify"]
    assert off["if"] == "vars.VERIFY == ''"
    assert on["if"].startswith("vars.VERIFY != '' && ")
    assert "::notice::" in off["steps"][0]["run"]
    runs = [step["run"] for step in on["steps"] if "run" in step]
    assert runs[-2:] == ['make verify ENV="$ENVIRONMENT"', 'make verify ENV="$ENVIRONMENT" OPTIONS=--ageing']


@pytest.mark.parametrize(("date", "found"), [("2026-09-01T00:00:00Z", 0), ("2026-01-01T00:00:00Z", 4)])
def test_an_actions_pin_that_is_older_than_half_a_year_is_named(
    monkeypatch: pytest.MonkeyPatch, date: str, found: int
) -> None:
    """As GitHub's API answers: https://docs.github.com/en/rest/commits/commits#get-a-commit."""
    asked = []

    def answer(_: str, address: str, **__: object) -> SimpleNamespace:
        asked.append(address)
        return SimpleNamespace(status=200, json=lambda: {"commit": {"committer": {"date": date}}})

    monkeypatch.setattr("proof.pins.urllib3.request", answer)
    lines = list(pins.old("https://api.github.com", datetime(2026, 11, 28, tzinfo=UTC)))
    assert len(asked) == 4
    assert all(
        re.fullmatch("https://api.github.com/repos/[a-z-]+/[a-z-]+/commits/[0-9a-f]{40}", each) for each in asked
    )
    assert len(lines) == found


def test_a_pin_that_github_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proof.pins.urllib3.request", lambda *_, **__: SimpleNamespace(status=422))
    lines = list(pins.old("https://api.github.com", datetime(2026, 11, 28, tzinfo=UTC)))
    assert len(lines) == 4
    assert all("GitHub answered 422" in line for line in lines)


def test_every_action_has_one_version_and_says_which() -> None:
    text = "".join(path.read_text() for path in WORKFLOWS)
    pinned = set(pins.USES.findall(text))
    assert len({action for action, _, _ in pinned}) == len(pinned) == 4
    assert len(pins.USES.findall(text)) == text.count("uses: ")
