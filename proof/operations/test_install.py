"""What the installation makes works wherever the clone lies, and each command installs what it imports."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local.__main__ import up
from operations import install
from operations.commands import ROOT
from operations.install import DEVELOPMENT, LOCKS, Part
from operations.packages import start_scripts_by_sh


def _pinned(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([\w.]+)", lock.read_text(), re.MULTILINE))


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


class Clone:
    """A clone in which nothing is installed; `made` has the names of the parts that were made, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[str] = []
        self.lock = folder / "lock"
        self.lock.touch()

    def part(self, name: str, *, fails: bool = False) -> Part:
        def make(target: Path) -> str:
            assert not target.exists()
            target.mkdir()
            self.made.append(name)
            if fails:
                raise subprocess.CalledProcessError(1, ["make", name])
            return "it"

        return Part(self.folder / name, make, [self.lock], megabytes=100, seconds=20)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    for name in ("ROOT", "LOCAL", "TEMPORARY"):
        monkeypatch.setattr(install, name, tmp_path)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("os.getloadavg", lambda: (2, 9, 9))
    return Clone(tmp_path)


def test_what_will_be_installed_is_said_with_size_and_time_and_what_is_still_to_come(
    clone: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    chains = [clone.part("a"), clone.part("b")], [clone.part("c")]
    install.install(*chains, later=[clone.part("d")])
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == [
        "To install, under this folder only: a 100 MB, b 100 MB, c 100 MB",
        "Together 300 MB, about 60 s on an idle machine with a fast connection.",
        "Other commands, as make up and make test, install more when first called: 100 MB, about 20 s.",
    ]
    assert sorted(line.partition(":")[0] for line in said[3:]) == ["installed a", "installed b", "installed c"]
    install.install(*chains, later=[clone.part("d")])
    assert capsys.readouterr().out == ""


def test_a_busy_machine_is_said_to_be_busy(
    clone: Clone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (7.6, 0, 0))
    install.install([clone.part("a")])
    assert "This machine is busy (load 8, 2 cores)" in capsys.readouterr().out


def test_make_up_says_what_is_to_come_and_that_the_machine_is_busy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (7.6, 0, 0))
    monkeypatch.setattr("local.__main__.LocalCloud", lambda _: sys.exit("none is started"))
    with pytest.raises(SystemExit, match="none is started"):
        up()
    said = capsys.readouterr().out
    assert re.match(r"To come: a cloud, and a deploy to it; .*\nThis machine is busy \(load 8, ", said)


def test_what_was_interrupted_is_made_again(clone: Clone) -> None:
    with pytest.raises(SystemExit, match="failed: make a"):
        install.install([clone.part("a", fails=True)])
    install.install([clone.part("a")])
    assert clone.made == ["a", "a"]


def test_what_lies_in_a_folder_that_is_made_again_is_made_again(clone: Clone) -> None:
    chain = [clone.part("a"), clone.part("a/within")]
    install.install(chain)
    (clone.folder / "a" / ".made").unlink()  # As when a first installation was killed while it was removed.
    install.install(chain)
    assert clone.made == ["a", "a/within"] * 2


@pytest.mark.parametrize("change", ["lock", "place", "Python"])
def test_a_changed_lock_file_place_or_python_is_a_reason_to_install_again(
    clone: Clone, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    install.install([clone.part("a")])
    if change == "lock":
        clone.lock.write_text("newer")
    elif change == "Python":
        monkeypatch.setattr("sys.version", "4")
    else:
        (clone.folder / "a").rename(clone.folder / "b")
    install.install([clone.part("b" if change == "place" else "a")])
    assert len(clone.made) == 2


INSTALLS_ONE_PART = """
import pathlib, sys
from operations import install

def make(target):
    target.mkdir()
    print("making", flush=True)
    sys.stdin.readline()
    return "it"

folder = install.ROOT = install.LOCAL = install.TEMPORARY = pathlib.Path(sys.argv[1])
install.install([install.Part(folder / "a", make, [], 1, 1)])
"""


def test_of_two_at_once_the_second_waits_and_finds_all_installed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INSTALLS_ONE_PART, str(tmp_path)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with subprocess.Popen(command, **pipes) as first, subprocess.Popen(command, **pipes) as second:
        # Either may be the one that comes first.
        lines: dict[Any, Any] = {each: iter(each.stdout or []) for each in (first, second)}
        said = {each: next(line for line in lines[each] if "making" in line or "another" in line) for each in lines}
        maker, waiter = sorted(said, key=lambda each: "making" not in said[each])
        assert "another installation in this clone is running" in said[waiter]
        waiter.stdin.close()
        maker.communicate("\n")
        assert list(lines[waiter]) == []
        assert waiter.wait() == 0
