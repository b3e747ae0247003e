"""What is left when folders are deleted works: without proof/, and without proof/ and local/."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from operations.commands import ROOT
from proof.copies import copied, filled, run_in

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="needs git")


def _targets(folder: Path) -> set[str]:
    makefiles = [folder / "Makefile", *folder.glob("*/targets.mk")]
    return {target for file in makefiles for target in re.findall(r"^([a-z]+):", file.read_text(), re.MULTILINE)}


def _dead(folder: Path) -> list[str]:
    """What README, docs/ and the workflows name and the copy does not have.

    README may name a command of a deleted folder when its table says which folder brings it.
    """
    dead = []
    for document in [*folder.glob("*.md"), *folder.glob("docs/**/*.md")]:
        links = re.findall(r"\]\(([^)#]+)\)", document.read_text())
        dead += [each for each in links if "://" not in each and not (document.parent / each).exists()]
    readme = (folder / "README.md").read_text()
    gone = re.findall(r"^\| `(?:local|proof)/` \|.*$", readme, re.MULTILINE)
    brought = {name for row in gone for name in re.findall(r"`(?:make )?([a-z]+)`", row)}
    dead += sorted(set(re.findall(r"\bmake ([a-z]+)[ `\n]", readme)) - _targets(folder) - brought - {"sure", "a"})
    for workflow in (folder / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(workflow.read_text())["jobs"].values():
            for step in job["steps"]:
                needs = re.search(r"hashFiles\('(\w+)/\*\*'\) != ''", step.get("if", ""))
                if not needs or (folder / needs[1]).exists():
                    named = re.findall(r"^make(?: --\w+)*((?: [a-z]+)+)", step.get("run", ""), re.MULTILINE)
                    dead += [each for names in named for each in names.split() if each not in _targets(folder)]
    return dead


def test_without_proof_the_demo_runs_and_the_tests_pass(tmp_path: Path) -> None:
    copy = filled(copied(tmp_path / "a copy", "proof"))
    assert _dead(copy) == []
    assert "✓ destroyed; nothing left" in run_in(copy, "make", "demo")
    assert re.search(r"\d\d\d passed", run_in(copy, "make", "test"))


def test_without_proof_and_local_it_synthesises_is_tested_and_deploys(tmp_path: Path) -> None:
    copy = filled(copied(tmp_path / "a copy", "proof", "local"))
    assert _dead(copy) == []
    run_in(copy, "make", "synth")
    assert list(copy.glob("cdk.out/demoApp-dev-Service.template.json"))
    assert "no region: set AWS_REGION" in run_in(copy, "make", "deploy", status=2)
    assert "Unable to locate credentials" in run_in(copy, "make", "verify", status=2, AWS_REGION="us-east-1")
    # Plain pip in a plain environment is enough to synthesise.
    shutil.rmtree(copy / "cdk.out")
    run_in(copy, "python3", "-m", "venv", "plain")
    run_in(copy, "plain/bin/pip", "install", "--quiet", "--requirement", "requirements.txt")
    tools = os.pathsep.join(map(str, [copy / "plain/bin", copy / "node_modules/.bin", copy / ".venv/bin"]))
    run_in(copy, "cdk", "synth", "--quiet", PATH=os.pathsep.join([tools, os.environ["PATH"]]))
    assert list(copy.glob("cdk.out/demoApp-dev-Service.template.json"))
    # Format, lint, types and tests need no `cdk`, no installer and, where it can be taken away, no network.
    run_in(copy, "make", "development")
    for tool in [copy / "node_modules/.bin/cdk", copy / ".local/installer/bin/uv", *copy.glob(".venv/bin/pip*")]:
        tool.unlink()
    said = run_in(copy, *_without_network(), "make", "check")
    assert re.search(r"\d\d\d passed", said)
    assert "Success: no issues found" in said


LOOPBACK_ALONE = """
import fcntl, os, socket, struct, sys
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP: netdevice(7)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def _without_network() -> list[str]:
    """Return what runs a command in a namespace that reaches itself alone; nothing where there is none (Linux)."""
    command = ["unshare", "--map-root-user", "--net", sys.executable, "-c", LOOPBACK_ALONE]
    usable = shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    return command if usable else []


def test_a_command_that_a_copy_does_not_have_says_so(tmp_path: Path) -> None:
    copy = copied(tmp_path / "copy", "proof", "local")
    for name in ("demo", "docs"):
        assert f"make {name}: no such command here" in run_in(copy, "make", name, status=2)


@pytest.mark.parametrize("folder", ["local", "proof"])
def test_a_dead_link_or_target_would_be_found(tmp_path: Path, folder: str) -> None:
    copy = copied(tmp_path / "copy", "proof", "local")
    with (copy / "README.md").open("a") as readme:
        readme.write(f"\n[more]({folder}/README.md), `make nowhere`\n")
    assert _dead(copy) == [f"{folder}/README.md", "nowhere"]


EDITED = {
    "application.py": "lambda_src/application.py",
    "tests.py": "tests/lambda_src/test_application.py",
    "server_tests.py": "local/tests/test_application.py",
}


def test_all_tests_pass_with_an_application_of_orders_in_its_files_alone(tmp_path: Path) -> None:
    copy = filled(copied(tmp_path / "orders", "proof"))
    orders = ROOT / "proof" / "orders"
    for ours, theirs in EDITED.items():
        shutil.copy(orders / ours, copy / theirs)
    for migration in orders.glob("*.sql"):
        shutil.copy(migration, copy / "migrations")
    assert re.search(r"\d\d\d passed", run_in(copy, "make", "test"))
