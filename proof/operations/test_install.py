"""What the installation makes works wherever the clone lies, and each command installs what it imports."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from operations.commands import ROOT
from operations.install import DEVELOPMENT, LOCKS, start_scripts_by_sh


def _pinned(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", lock.read_text(), re.MULTILINE))


TOOLS = _pinned(LOCKS / "tools.txt")
COMMANDS = [
    "app",
    *(
        module
        for makefile in ROOT.glob("*/targets.mk")
        for module in re.findall(r"^\w+: install .*\n\t@python .*?-m ([\w.]+)", makefile.read_text(), re.MULTILINE)
    ),
]
"""The modules of the targets that install requirements/tools.txt alone, and what `cdk synth` runs."""
WITHOUT_THE_REST = f"""
import importlib, importlib.metadata, sys

installed = set({[*TOOLS]})
for module, packages in importlib.metadata.packages_distributions().items():
    if not installed & {{package.lower().replace("_", "-") for package in packages}} and module not in sys.modules:
        sys.modules[module] = None
name = sys.argv[1]
importlib.import_module(name + ".__main__" if hasattr(importlib.import_module(name), "__path__") else name)
"""
"""Imports a module where only requirements/tools.txt is installed: the import of anything else fails."""


def test_the_tools_have_the_versions_of_the_tests() -> None:
    assert TOOLS.items() <= _pinned(DEVELOPMENT).items()


def _imported(module: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_THE_REST, module]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True)


@pytest.mark.parametrize("module", [*COMMANDS, "local"])
def test_a_command_without_tests_imports_nothing_that_only_tests_need(module: str) -> None:
    assert _imported(module).stderr == ""


def test_the_import_of_what_only_tests_need_would_fail() -> None:
    assert "import of yaml halted" in _imported("yaml").stderr


def test_a_script_of_a_package_starts_in_a_folder_with_a_space(tmp_path: Path) -> None:
    folder = tmp_path / "mit Leerzeichen ü"
    folder.mkdir()
    (folder / "python").symlink_to(sys.executable)
    script = folder / "aws"
    script.write_text(f"#!{folder}/python\nimport sys\nprint(sys.argv[1:])\n")
    script.chmod(0o755)
    start_scripts_by_sh(folder)
    assert subprocess.run([script, "a b"], capture_output=True, text=True, check=True).stdout == "['a b']\n"
