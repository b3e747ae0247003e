"""Installs what the other commands need, all of it under the clone and none of it as root.

With the standard library alone, because it runs before anything is installed. Each part
is made once and again only when what it is made from has changed; those that need nothing
of each other are made side by side.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
VENV: Final = ROOT / ".venv"
LOCAL: Final = ROOT / ".local"
CACHE: Final = LOCAL / "cache"
TEMPORARY: Final = LOCAL / "tmp"
CLOUD: Final = LOCAL / "cloud"
"""The emulated cloud's own environment: it pins botocore, and functions see its packages."""
CHECKOV: Final = LOCAL / "checkov"
"""The scanner's own environment: it pins a hundred packages, and the demo needs none of them."""
BENCH: Final = LOCAL / "bench"
"""What the benchmarks compare with, in an environment like a function's: nothing else is in it."""
MYSQL: Final = LOCAL / "mysql"
"""MariaDB's packages, unpacked; only where the machine has no MySQL server."""
BASE_PYTHON: Final = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
"""Not `sys.executable`, which may be that of the environment about to be made anew."""
NODE: Final = 22
"""Oldest Node.js that the CDK library takes without a banner."""
_apt = threading.Lock()
"""Held while Debian's packages are fetched: all parts use one folder for that."""


class InstallError(Exception):
    """Something is missing that only the user can install; the message has the command."""


def main() -> None:
    """Install what is missing or out of date; and `checkov` or `bench` where they are asked for."""
    if sys.version_info < (3, 11):
        sys.exit(f"Python 3.11 or later is needed; this is {sys.version.split()[0]}: apt-get install python3.11")
    TEMPORARY.mkdir(parents=True, exist_ok=True)
    parts: list[Callable[[], None]] = [
        _command_line,
        lambda: _made(CLOUD, _cloud_environment, ROOT / "local" / "requirements.txt"),
    ]
    if not mysql_server():
        parts.append(lambda: _made(MYSQL, _mysql))
    if "checkov" in sys.argv[1:]:
        parts.append(lambda: _made(CHECKOV, _checkov_environment, ROOT / "tests" / "requirements-checkov.txt"))
    if "bench" in sys.argv[1:]:
        parts.append(lambda: _made(BENCH, _bench_environment, ROOT / "benchmarks" / "requirements.txt"))
    try:
        with ThreadPoolExecutor() as pool:
            for made in [pool.submit(part) for part in parts]:
                made.result()
    except InstallError as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed: {' '.join(map(str, error.cmd))}")


def environment() -> dict[str, str]:
    """This process's variables, with every tool's path first and every cache under the clone."""
    caches = {
        "PIP_CACHE_DIR": CACHE / "pip",
        "npm_config_cache": CACHE / "npm",
        "JSII_RUNTIME_PACKAGE_CACHE_ROOT": CACHE / "jsii",
        "CDK_HOME": CACHE / "cdk",
        "TMPDIR": TEMPORARY,
    }
    paths = [VENV / "bin", ROOT / "node_modules" / ".bin", os.environ.get("PATH", os.defpath)]
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {
        **inherited,
        **{name: str(path) for name, path in caches.items()},
        "PATH": os.pathsep.join(map(str, paths)),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def mysql_server() -> Path | None:
    """The MySQL or MariaDB server on the path or in the system's folder for servers."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which("mysqld", path=places) or shutil.which("mariadbd", path=places)
    return Path(found) if found else None


def _command_line() -> None:
    """CDK's command line runs on Node.js, which comes from a Python package where there is none."""
    _made(VENV, _python_environment, ROOT / "requirements-dev.txt")
    if not _node_on_path():
        _made(VENV / "node", _node, ROOT / "local" / "requirements-node.txt")
    _made(ROOT / "node_modules", _node_modules, ROOT / "package-lock.json")


def _made(target: Path, make: Callable[[Path], str], *sources: Path) -> None:
    """Make the target unless it was made from these sources by this Python."""
    digest = hashlib.sha256(sys.version.encode())
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


def _python_environment(target: Path) -> str:
    return _virtual_environment(target, BASE_PYTHON, ROOT / "requirements-dev.txt")


def _cloud_environment(target: Path) -> str:
    """In Python 3.13, the functions' runtime, where the machine has it."""
    python = _python_3_13() or BASE_PYTHON
    return _virtual_environment(target, python, ROOT / "local" / "requirements.txt")


def _checkov_environment(target: Path) -> str:
    return _virtual_environment(target, BASE_PYTHON, ROOT / "tests" / "requirements-checkov.txt")


def _bench_environment(target: Path) -> str:
    python = _python_3_13() or BASE_PYTHON
    return _virtual_environment(target, python, ROOT / "benchmarks" / "requirements.txt")


def _virtual_environment(target: Path, python: Path, requirements: Path) -> str:
    has_pip = not subprocess.run([python, "-c", "import ensurepip"], stderr=subprocess.DEVNULL).returncode
    _run(python, "-m", "venv", *([] if has_pip else ["--without-pip"]), target)
    env = environment()
    if not has_pip:
        env["PYTHONPATH"] = str(_wheel_of_pip())
        _run(target / "bin" / "python", "-m", "pip", "install", "--quiet", "pip", env=env)
        del env["PYTHONPATH"]
    _pip_install(target / "bin" / "python", requirements, env)
    return (
        f"Python {_run(target / 'bin' / 'python', '-c', 'import platform; print(platform.python_version())').strip()}"
    )


def _wheel_of_pip() -> Path:
    """Debian keeps pip in python3-venv; a wheel of it runs without being installed."""
    wheels = LOCAL / "pip"
    with _apt:
        if not wheels.exists():
            _unpack_debian(["python3-pip-whl"], wheels)
    return next(wheels.glob("usr/share/python-wheels/pip-*.whl"))


def _pip_install(python: Path, requirements: Path, env: Mapping[str, str]) -> None:
    # Not compiled: of the CDK library's 300 MB of Python the first synth compiles what it uses.
    options = "-m pip install --quiet --require-hashes --no-deps --no-compile --requirement"
    _run(python, *options.split(), requirements, env=env)


def _python_3_13() -> Path | None:
    """A Python 3.13 that starts: a name on the path may be pyenv's shim for one that is not chosen."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found = shutil.which("python3.13")
    for python in [*([Path(found)] if found else []), *pyenv.glob("versions/3.13.*/bin/python3.13")]:
        if not subprocess.run([python, "--version"], capture_output=True).returncode:
            return python
    return None


def _node_on_path() -> bool:
    node = shutil.which("node")
    if not node or not shutil.which("npm"):
        return False
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    return version.startswith("v") and int(version[1:].split(".")[0]) >= NODE


def _node(target: Path) -> str:
    _pip_install(VENV / "bin" / "python", ROOT / "local" / "requirements-node.txt", environment())
    return f"Node {_run('node', '--version').strip()}"


def _node_modules(target: Path) -> str:
    _run("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error")
    return f"CDK {_run('cdk', '--version').split()[0]}"


def _mysql(target: Path) -> str:
    with _apt:
        _unpack_debian(["mariadb-server-core", "mariadb-client-core"], target)
    return "MariaDB server"


def _unpack_debian(packages: list[str], target: Path) -> None:
    """Unpack Debian packages, and what they need that is not installed, without root.

    apt keeps its lists under the clone too, so that a machine without any can do it.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise InstallError(
            "A MySQL or MariaDB server is needed and this is no Debian or Ubuntu; install one, for example:\n"
            "  dnf install mariadb-server    or    brew install mysql"
        )
    work = LOCAL / "apt"
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("state/lists/partial", "cache/archives/partial", "packages", "unpacked"):
        (work / folder).mkdir(parents=True)
    apt = [
        "apt-get",
        "-qq",
        *("-o", f"Dir::State={work / 'state'}", "-o", f"Dir::Cache={work / 'cache'}"),
        *("-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "APT::Sandbox::User=root"),
        *("-o", "Debug::NoLocking=1"),
    ]
    _run(*apt, "update")
    planned = _run(*apt, "install", "--simulate", "--no-install-recommends", *packages)
    missing = {line.split()[1] for line in planned.splitlines() if line.startswith("Inst ")}
    # The C library belongs to the machine's loader.
    wanted = (missing | set(packages)) - {"libc6", "libc-bin"}
    _run(*apt, "download", *sorted(wanted), cwd=work / "packages")
    for package in sorted((work / "packages").glob("*.deb")):
        _run("dpkg", "-x", package, work / "unpacked")
    target.parent.mkdir(parents=True, exist_ok=True)
    (work / "unpacked").rename(target)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
