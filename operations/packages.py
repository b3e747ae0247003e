"""Installs the packages of a lock file: by uv, or by pip where uv cannot do the same.

Uses the standard library only, because it runs before anything is installed. Every package is pinned by version and
hash, uv too. What the user has set for pip, in the environment or in a pip.conf, holds for both.
"""

import ast
import math
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from operations import debian
from operations.commands import CACHE, LOCAL, ROOT, environment

BASE_PYTHON: Final = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
"""Not `sys.executable`, which may be in the environment that is being replaced."""
INSTALLER: Final = LOCAL / "installer"
"""The virtual environment of uv, and of the pip that brings it."""
UV: Final = INSTALLER / "bin" / "uv"
LOCK: Final = ROOT / "requirements" / "uv.txt"
HANDED_ON: Final = {
    "index-url": "UV_INDEX_URL",
    "extra-index-url": "UV_EXTRA_INDEX_URL",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "trusted-host": "UV_INSECURE_HOST",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "retries": "UV_HTTP_RETRIES",
}
"""uv's variable for each of pip's settings. Not its options: an address with a password is no argument of a process."""
PLACES: Final = {"prefix", "root", "target", "user"}
"""pip's settings of where to install, which is decided here."""
WITHOUT_EFFECT: Final = PLACES | {
    *("break-system-packages", "cache-dir", "config-file", "disable-pip-version-check", "no-cache-dir", "no-color"),
    *("no-input", "progress-bar", "quiet", "require-hashes", "require-virtualenv", "root-user-action", "verbose"),
}
"""pip's settings that change nothing in what is installed here. With any other that is not handed on, pip installs."""
_PIP: Final = (INSTALLER / "bin" / "python", "-m", "pip")
_choosing = threading.Lock()
"""Held while one of several installations brings uv."""


def virtual_environment(target: Path, python: Path, lock: Path) -> str:
    """Make a virtual environment with the packages of a lock file, and return the version of its Python."""
    run(python, "-m", "venv", "--without-pip", target)
    install_packages(target, lock)
    return run(target / "bin" / "python", "--version").strip()


def install_packages(target: Path, lock: Path) -> None:
    """Install the packages of a lock file into a virtual environment.

    Raises:
        CalledProcessError: they could not be had, or one has another hash; the output was printed.
        DebianError: Python came without pip, and Debian's could not be had.
    """
    python = target / "bin" / "python"
    again = []
    with _choosing:
        variables = _variables_of_uv()
    if variables is not None:
        # In this mode uv refuses a constraint without a hash. It compares the lock file's hashes without it, too.
        mode = [] if "UV_CONSTRAINT" in variables else ["--require-hashes"]
        options = ["--quiet", "--no-deps", *mode]
        finished = _tried(UV, "pip", "install", *options, "--python", python, "--requirement", lock, env=variables)
        if not finished.returncode:
            return
        # pip passes over another file of the same version in an extra index, and takes passwords from keyring.
        reason = next((line for line in finished.stderr.splitlines() if line.startswith("error: ")), "")
        print(f"uv could not install {target.name} ({reason}); pip tries\n", end="", flush=True)
        again = ["--ignore-installed"]
    # Not compiled: the first synth compiles the part of CDK's 300 MB that it uses.
    options = ["--quiet", "--no-deps", "--require-hashes", "--no-compile", *again]
    run(*_PIP, "--python", python, "install", *options, "--requirement", lock, env=_variables_of_pip())
    if " " in str(target):
        start_scripts_by_sh(target / "bin")


def start_scripts_by_sh(folder: Path) -> None:
    """Make the scripts of packages start in a folder whose path has a space, which a `#!` line cannot have.

    uv does so itself; pip does it for the programs that it generates, not for scripts that a package brings, as `aws`.
    """
    head = f"#!{folder}/python\n".encode()
    start = f"#!/bin/sh\n'''exec' \"{folder}/python\" \"$0\" \"$@\"\n' '''\n".encode()
    for script in folder.iterdir():
        if not script.is_symlink() and (text := script.read_bytes()).startswith(head):
            script.write_bytes(start + text.removeprefix(head))


@cache
def _variables_of_uv() -> dict[str, str] | None:
    """Return the variables to run uv with, after bringing it; None where pip installs, after saying why."""
    stamp, pip = INSTALLER / ".made", f"{sys.version}{INSTALLER}{LOCK.read_text()}"
    made = stamp.read_text() if stamp.is_file() else ""
    if not made.startswith(pip):
        _bring_pip()
        stamp.write_text(pip)
    reason = ""
    if unknown := _settings().keys() - HANDED_ON.keys() - WITHOUT_EFFECT:
        reason = f"only pip has the setting {', '.join(sorted(unknown))}"
    elif made != pip + "uv":
        # Without its source, which needs Rust.
        options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", "--ignore-installed"]
        finished = _tried(*_PIP, "install", *options, "--requirement", LOCK, env=_variables_of_pip())
        if finished.returncode:
            reason = f"uv could not be had: {finished.stderr.strip().splitlines()[-1]}"
        else:
            stamp.write_text(pip + "uv")
    if reason:
        print(f"pip installs, which takes several times as long, because {reason}\n", end="", flush=True)
        return None
    # As pip: every index is searched, and the system's authorities are trusted.
    own = {"UV_NO_CONFIG": "1", "UV_INDEX_STRATEGY": "unsafe-best-match", "UV_SYSTEM_CERTS": "1"}
    inherited = {name: value for name, value in environment().items() if not name.startswith("UV_")}
    return inherited | own | {"UV_CACHE_DIR": str(CACHE / "uv")} | _handed_on(_settings())


def _bring_pip() -> None:
    """Make the environment with the pip that Python brings, or with Debian's where Python brings none."""
    shutil.rmtree(INSTALLER, ignore_errors=True)
    if not _tried(BASE_PYTHON, "-c", "import ensurepip", env=environment()).returncode:
        run(BASE_PYTHON, "-m", "venv", INSTALLER)
        return
    run(BASE_PYTHON, "-m", "venv", "--without-pip", INSTALLER)
    debian.unpack(["python3-pip-whl"], INSTALLER / "debian")
    (wheel,) = INSTALLER.glob("debian/usr/share/python-wheels/pip-*.whl")
    (packages,) = INSTALLER.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)


@cache
def _settings() -> dict[str, str]:
    """Return what the user has set for `pip install`, by the option's name."""
    # These are settings of this command too: it would list nothing, more than the settings, or the user's file alone.
    env = environment() | {"PIP_QUIET": "0", "PIP_VERBOSE": "0", "PIP_USER": "0"}
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}  # The last one counts.
    for line in run(*_PIP, "config", "list", env=env).splitlines():
        key, _, quoted = line.partition("=")
        section, _, name = key.partition(".")
        value = ast.literal_eval(quoted)
        if name in sections.get(section, {}):
            # In several files, which newer pips list in the order of their names: not the order in which they count.
            value = run(*_PIP, "config", "get", key, env=env).strip()
        if value:  # pip passes over empty ones.
            sections.setdefault(section, {})[name] = value
    return sections["global"] | sections["install"] | sections[":env:"]


def _variables_of_pip() -> dict[str, str]:
    """Return the variables to run pip with: the user's settings without those of where to install."""
    variables = {name: value for name, value in environment().items() if not name.startswith("PIP_")}
    for name, value in _settings().items():
        if name not in PLACES:
            variables[f"PIP_{name.upper().replace('-', '_')}"] = value
    return variables | {"PIP_CONFIG_FILE": os.devnull}  # No file is read again.


def _handed_on(settings: Mapping[str, str]) -> dict[str, str]:
    """Return uv's variables for pip's settings."""
    variables = {HANDED_ON[name]: " ".join(value.split()) for name, value in settings.items() if name in HANDED_ON}
    if links := variables.get("UV_FIND_LINKS"):
        variables["UV_FIND_LINKS"] = ",".join(map(os.path.expanduser, links.split()))
    if timeout := variables.get("UV_HTTP_TIMEOUT"):
        variables["UV_HTTP_TIMEOUT"] = str(math.ceil(float(timeout)))
    if proxy := variables.pop("ALL_PROXY", ""):
        names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
        variables |= dict.fromkeys(names, proxy) | {"NO_PROXY": "", "no_proxy": ""}  # For every host, as pip does.
    bundles = [variables.get("SSL_CERT_FILE"), *map(os.environ.get, ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))]
    if bundle := next(filter(None, bundles), None):
        variables |= {"SSL_CERT_FILE": str(Path(bundle).expanduser()), "SSL_CERT_DIR": ""}
    return variables


def run(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command in the clone and return its output, or print that and raise CalledProcessError."""
    finished = _tried(*command, env=env or environment())
    if finished.returncode:
        print(f"\n{finished.stdout}{finished.stderr}", file=sys.stderr)
        finished.check_returncode()
    return finished.stdout


def _tried(*command: str | Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    # Without input, because nobody would see the question.
    return subprocess.run(command, env=env, cwd=ROOT, text=True, capture_output=True, stdin=subprocess.DEVNULL)
