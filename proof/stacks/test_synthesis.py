"""`cdk synth` as a user runs it: quiet when all is well, one clear error when not."""

import json
import subprocess
from pathlib import Path

import pytest

from operations.commands import LOCAL, ROOT, environment
from stacks.packaging.runtime_python import runtime_python


def test_a_synthesis_names_a_wrong_file(tree: Path) -> None:
    (tree / "migrations" / "0004_gap.sql").write_text("CREATE TABLE gap (id INT)")
    refused = subprocess.run(["python3", "app.py"], cwd=tree, env=environment(), capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Migrations refused:\n0004_gap.sql: 0003 is missing")


def test_all_faults_are_named_at_once_without_a_traceback_or_a_template(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    out = tmp_path_factory.mktemp("out") / "cdk.out"
    context = ("-c", "vpc_cdir=10.0.0.0/16", "-c", "database_name=1st")
    refused = subprocess.run(
        ["cdk", "synth", *context, "--output", out], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert "vpc_cdir=10.0.0.0/16: unknown setting; did you mean vpc_cidr?" in refused.stderr
    assert "database_name=1st: a letter" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(out.glob("*.template.json"))


def test_another_synthesis_leaves_no_file_in_the_caches_and_none_behind(tmp_path: Path) -> None:
    env = environment()
    env |= {name: value.replace(str(LOCAL), str(tmp_path)) for name, value in env.items() if name != "PATH"}
    (tmp_path / "tmp").mkdir()

    def files_after_a_synthesis() -> set[Path]:
        subprocess.run(["cdk", "synth", "--quiet", "--output", tmp_path / "cdk.out"], cwd=ROOT, env=env, check=True)
        return {each for each in tmp_path.rglob("*") if not each.is_relative_to(tmp_path / "cdk.out")}

    first = files_after_a_synthesis()
    assert tmp_path / "cache/jsii/aws-cdk-lib" in first
    assert files_after_a_synthesis() == first
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("context", [(), ("-c", "env=prod", "-c", "egress=nat")], ids=["dev", "prod-nat"])
def test_a_synthesis_prints_no_warning(context: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("out")
    env = {key: value for key, value in environment().items() if not key.startswith("AWS_")}
    done = subprocess.run(
        ["cdk", "synth", "--quiet", *context, "--output", out], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0
    said = [line for line in (done.stdout + done.stderr).splitlines() if line and not line.startswith("Bundling")]
    if not runtime_python():
        assert said.pop(0).startswith("This machine has no Python 3.13: the functions' packages hold no bytecode")
    assert said[0].startswith("Successfully synthesized to")
    assert said[1].startswith("Supply a stack id")
    assert len(said) == 2
    (report,) = json.loads((out / "validation-report.json").read_text())["pluginReports"]
    assert (report["conclusion"], report["violations"]) == ("success", [])
    # What CDK's list of MySQL's versions does not have; stacks/database.py says why.
    assert {each["ruleName"] for each in report["suppressedViolations"]} == {"E9006"}
