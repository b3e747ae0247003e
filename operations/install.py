"""Installs what synthesis, deploy and verification need, all of it under the clone and none of it as root.

Uses the standard library only, because it runs before anything is installed. Each part is installed
once, and again only when its lock file or Python has changed. Independent parts are installed at
the same time.
"""

import hashlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from operations import debian
from operations.commands import LOCAL, ROOT, TEMPORARY, VENV, environment

BASE_PYTHON: Final = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
"""Not `sys.executable`, which may be in the environment that is being replaced."""
LOCKS: Final = ROOT / "requirements"
TOOLS: Final = LOCKS / "tools.txt"
DEVELOPMENT: Final = LOCKS / "development.txt"
"""The packages of tests, checks and documents, and those of TOOLS."""
NODE: Final = 22
"""The oldest Node.js that CDK supports without a warning."""
_wheel = threading.Lock()
"""Held while the wheel of pip is unpacked, which several environments need."""


Part = Callable[[], None]


def main() -> None:
    """Install the tools, and what tests and checks need where `development` is asked for."""
    install([command_line_part(sys.argv[1:])])


def command_line_part(asked: Sequence[str]) -> Part:
    """Return the part that every command needs; with `development`, tests' and checks' packages too."""
    return _development if "development" in asked else _command_line


def install(parts: Sequence[Part]) -> None:
    """Install the parts at the same time; exit with what failed, if one does."""
    if sys.version_info < (3, 11):
        sys.exit(f"Python 3.11 or later is needed; this is {sys.version.split()[0]}: apt-get install python3.11")
    TEMPORARY.mkdir(parents=True, exist_ok=True)
    try:
        with ThreadPoolExecutor() as pool:
            for part in [pool.submit(part) for part in parts]:
                part.result()
    except debian.DebianError as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed: {' '.join(map(str, error.cmd))}")


def _command_line() -> None:
    """CDK's command line runs on Node.js, which comes from a Python package where there is none."""
    # Made anew when either lock has changed, so that nothing of an older one stays.
    locks = (TOOLS, DEVELOPMENT)
    made(VENV, lambda target: _virtual_environment(target, BASE_PYTHON, locks[0]), *locks)
    if not _node_on_path():
        made(VENV / "node", _node, LOCKS / "node.txt")
    made(ROOT / "node_modules", _node_modules, ROOT / "package-lock.json")


def _development() -> None:
    """Add to the same environment what tests, checks and documents need: half of all that is installed."""
    _command_line()
    made(VENV / "development", _packages_added, DEVELOPMENT)


def _packages_added(target: Path) -> str:
    _pip_install(VENV, DEVELOPMENT)
    return "tests, checks and documents"


def made(target: Path, make: Callable[[Path], str], *sources: Path) -> None:
    """Make the target unless it was made here from these sources by this Python.

    In this folder, because the programs of a virtual environment contain its path: a moved clone is installed again.
    """
    digest = hashlib.sha256(f"{sys.version}{target}".encode())
    for source in sources:
        digest.update(source.read_bytes())
    stamp = target / ".made"
    if stamp.is_file() and stamp.read_text() == digest.hexdigest():
        return
    name = target.relative_to(ROOT)
    print(f"installing {name} ...\n", end="", flush=True)
    started = time.monotonic()
    shutil.rmtree(target, ignore_errors=True)
    what = make(target)
    target.mkdir(parents=True, exist_ok=True)
    stamp.write_text(digest.hexdigest())
    print(f"installed {name}: {what}, {time.monotonic() - started:.1f} s\n", end="", flush=True)


def _run(*command: str | Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
    finished = subprocess.run(command, env=env or environment(), cwd=cwd, text=True, capture_output=True)
    if finished.returncode:
        print(f"\n{finished.stdout}{finished.stderr}", file=sys.stderr)
        finished.check_returncode()
    return finished.stdout


def virtual_environment(target: Path, lock: Path, python: Path = BASE_PYTHON) -> None:
    """Make a virtual environment of a lock's packages, unless there is one."""
    made(target, lambda target: _virtual_environment(target, python, lock), lock)


def _virtual_environment(target: Path, python: Path, requirements: Path) -> str:
    has_pip = not subprocess.run([python, "-c", "import ensurepip"], stderr=subprocess.DEVNULL).returncode
    _run(python, "-m", "venv", *([] if has_pip else ["--without-pip"]), target)
    if not has_pip:
        env = environment() | {"PYTHONPATH": str(_wheel_of_pip())}
        _run(target / "bin" / "python", "-m", "pip", "install", "--quiet", "pip", env=env)
    _pip_install(target, requirements)
    return (
        f"Python {_run(target / 'bin' / 'python', '-c', 'import platform; print(platform.python_version())').strip()}"
    )


def start_scripts_by_sh(folder: Path) -> None:
    """Make the scripts of packages start in a folder whose path has a space, which a `#!` line cannot have.

    pip does the same for the programs that it generates, and not for scripts that a package brings, as `aws`.
    """
    head = f"#!{folder}/python\n".encode()
    start = f"#!/bin/sh\n'''exec' \"{folder}/python\" \"$0\" \"$@\"\n' '''\n".encode()
    for script in folder.iterdir():
        if not script.is_symlink() and (text := script.read_bytes()).startswith(head):
            script.write_bytes(start + text.removeprefix(head))


def _wheel_of_pip() -> Path:
    """Return Debian's wheel of pip, which runs without being installed."""
    wheels = LOCAL / "pip"
    with _wheel:
        if not wheels.exists():
            debian.unpack(["python3-pip-whl"], wheels)
    return next(wheels.glob("usr/share/python-wheels/pip-*.whl"))


def _pip_install(target: Path, requirements: Path) -> None:
    # Not compiled: the first synth compiles the part of CDK's 300 MB that it uses.
    options = "-m pip install --quiet --require-hashes --no-deps --no-compile --requirement"
    _run(target / "bin" / "python", *options.split(), requirements)
    if " " in str(target):
        start_scripts_by_sh(target / "bin")


def _node_on_path() -> bool:
    node = shutil.which("node")
    if not node or not shutil.which("npm"):
        return False
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    return version.startswith("v") and int(version[1:].split(".")[0]) >= NODE


def _node(target: Path) -> str:
    _pip_install(VENV, LOCKS / "node.txt")
    return f"Node {_run('node', '--version').strip()}"


def _node_modules(target: Path) -> str:
    _run("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error")
    return f"CDK {_run('cdk', '--version').split()[0]}"


if __name__ == "__main__":
    main()
