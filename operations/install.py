"""Installs what synthesis, deploy and verification need, all of it under the clone and none of it as root.

Uses the standard library only, because it runs before anything is installed. Each part is installed
once, and again only when its lock file or Python has changed. Independent parts are installed at
the same time.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from operations.commands import LOCAL, ROOT, TEMPORARY, VENV
from operations.debian import DebianError
from operations.packages import BASE_PYTHON, install_packages, run, virtual_environment

LOCKS: Final = ROOT / "requirements"
TOOLS: Final = LOCKS / "tools.txt"
DEVELOPMENT: Final = LOCKS / "development.txt"
"""The packages of tests, checks and documents, and those of TOOLS."""
NODE: Final = 22
"""The oldest Node.js that CDK supports without a warning."""


@dataclass(frozen=True)
class Part:
    """What is made in a folder once, and again when a source, Python or the folder's path has changed.

    The path counts because the programs of a virtual environment contain it.

    Attributes:
        make: fills the folder, which does not exist or is empty, and returns what is in it now.
        megabytes: what it takes on the disk.
        seconds: how long it takes; measured with uv and empty caches on two idle cores and a fast connection.
    """

    target: Path
    make: Callable[[Path], str]
    sources: Sequence[Path]
    megabytes: int
    seconds: int

    @property
    def name(self) -> str:
        """Its folder in the clone."""
        return str(self.target.relative_to(ROOT))

    @property
    def is_made(self) -> bool:
        """Whether it is there and nothing has changed since."""
        stamp = self.target / ".made"
        return stamp.is_file() and stamp.read_text() == self._digest

    @property
    def _digest(self) -> str:
        digest = hashlib.sha256(f"{sys.version}{self.target}".encode())
        for source in self.sources:
            digest.update(source.read_bytes())
        return digest.hexdigest()

    def install(self) -> None:
        """Make it anew."""
        started = time.monotonic()
        shutil.rmtree(self.target, ignore_errors=True)
        what = self.make(self.target)
        self.target.mkdir(parents=True, exist_ok=True)
        (self.target / ".made").write_text(self._digest)
        print(f"installed {self.name}: {what}, {time.monotonic() - started:.1f} s\n", end="", flush=True)


def install(*chains: Sequence[Part], later: Sequence[Part] = ()) -> None:
    """Install what is missing, after saying what: the chains at the same time, the parts of a chain one by one.

    Args:
        chains: the parts.
        later: parts that other commands install when they are called, for the announcement.
    """
    if sys.version_info < (3, 11):
        sys.exit(f"Python 3.11 or later is needed; this is {sys.version.split()[0]}: apt-get install python3.11")
    TEMPORARY.mkdir(parents=True, exist_ok=True)
    try:
        with _alone(), ThreadPoolExecutor() as pool:
            for left in LOCAL.glob("apt-*"):  # Of an installation that was killed.
                shutil.rmtree(left)
            _announce([part for chain in chains for part in _missing(chain)], _missing(later))
            for chain in [pool.submit(_install_chain, chain) for chain in chains]:
                chain.result()
    except DebianError as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed: {' '.join(map(str, error.cmd))}")


def _missing(parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if not part.is_made]


def _install_chain(chain: Sequence[Part]) -> None:
    for part in chain:
        if not part.is_made:  # Looked at now: a part may be within one that was made anew.
            part.install()


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other process installs in this clone. However a process ends, it waits no longer."""
    with (LOCAL / "installing").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another installation in this clone is running; this one goes on after it", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _announce(parts: Sequence[Part], later: Sequence[Part]) -> None:
    if not parts:
        return
    print(f"To install, under this folder only: {', '.join(f'{part.name} {part.megabytes} MB' for part in parts)}")
    print(f"Together {_size_and_time(parts)} on an idle machine with a fast connection.")
    if later:
        print(f"Other commands, as make up and make test, install more when first called: {_size_and_time(later)}.")
    print(busy(), end="", flush=True)


def _size_and_time(parts: Sequence[Part]) -> str:
    return f"{sum(part.megabytes for part in parts)} MB, about {sum(part.seconds for part in parts)} s"


def busy() -> str:
    """Return a line that says that the machine has more to do than it can at once; empty when it has not."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load <= cores:
        return ""
    return f"This machine is busy (load {load:.0f}, {cores} cores): what takes longer than said here is its doing.\n"


def command_line(*asked: str) -> list[Part]:
    """Return what synth and deploy need; with `development`, what tests and checks need too."""
    # Made anew when either lock has changed, so that nothing of an older one stays.
    locks = (TOOLS, DEVELOPMENT)
    parts = [Part(VENV, lambda target: virtual_environment(target, BASE_PYTHON, locks[0]), locks, 300, 7)]
    if not _node_on_path():
        parts.append(Part(VENV / "node", _node, (LOCKS / "node.txt",), 200, 2))
    parts.append(Part(ROOT / "node_modules", _node_modules, (ROOT / "package-lock.json",), 30, 2))
    return [*parts, DEVELOPMENT_PART] if "development" in asked else parts


def environment_part(target: Path, megabytes: int, seconds: int, python: Path = BASE_PYTHON) -> Part:
    """Return a virtual environment with the packages of the lock file of its folder's name."""
    lock = LOCKS / f"{target.name}.txt"
    return Part(target, lambda target: virtual_environment(target, python, lock), (lock,), megabytes, seconds)


def _development(target: Path) -> str:
    """Add to the same environment what tests, checks and documents need: half of all that is installed."""
    install_packages(VENV, DEVELOPMENT)
    return "tests, checks and documents"


def _node_on_path() -> bool:
    """Whether this machine has a Node.js of its own, which is not the one of .venv."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join(folder for folder in folders if folder != str(VENV / "bin"))
    node = shutil.which("node", path=path)
    if not node or not shutil.which("npm", path=path):
        return False
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    return version.startswith("v") and int(version[1:].split(".")[0]) >= NODE


def _node(target: Path) -> str:
    """Node.js comes from a Python package where the machine has none."""
    install_packages(VENV, LOCKS / "node.txt")
    return f"Node {run('node', '--version').strip()}"


def _node_modules(target: Path) -> str:
    run("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error")
    return f"CDK {run('cdk', '--version').split()[0]}"


DEVELOPMENT_PART: Final = Part(VENV / "development", _development, (DEVELOPMENT,), 370, 3)

if __name__ == "__main__":
    install(command_line(*sys.argv[1:]))
