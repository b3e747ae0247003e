"""Unpacks Debian packages under the clone, without root and without touching the machine's own packages.

Uses the standard library only, because it runs before anything is installed.
"""

import platform
import shutil
import subprocess
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from tools.commands import LOCAL, environment

UNSTABLE: Final = "unstable"
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""The keys of Debian's archive, which every Debian has; apt refuses an archive that they did not sign."""
_apt = threading.Lock()
"""Held while packages are downloaded, because all callers use the same folder."""


class DebianError(Exception):
    """The packages cannot be had here; the message says why."""


def distribution() -> str:
    """Return the distribution's name as /etc/os-release has it, "debian" for one; empty where there is none."""
    try:
        return platform.freedesktop_os_release()["ID"]
    except OSError:
        return ""


def unpack(packages: Sequence[str], target: Path) -> None:
    """Unpack packages of the machine's own release, and what they need that is not installed.

    Raises:
        DebianError: apt or dpkg is missing, or fails.
    """
    # The C library must match the machine's loader.
    _unpack(packages, target, ["Dir::State::status=/var/lib/dpkg/status"], ["update"], {"libc6", "libc-bin"})


def unpack_unstable(packages: Sequence[str], target: Path) -> None:
    """Unpack packages of Debian's unstable archive, and all that they need, with their own C library and loader.

    Raises:
        DebianError: apt or dpkg is missing, or fails.
    """
    sources = LOCAL / "unstable.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {_mirror()} {UNSTABLE} main\n")
    status = LOCAL / "unstable.status"
    status.touch()
    try:
        options = [f"Dir::Etc::sourcelist={sources}", "Dir::Etc::sourceparts=-", f"Dir::State::status={status}"]
        _unpack(packages, target, options, ["update", "--error-on=any"])
    finally:
        sources.unlink()
        status.unlink()


def _mirror() -> str:
    """Return the address of the archive that this machine's own release comes from."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    for line in _run("apt-get", "--print-uris", "update").splitlines():
        address, found, _ = line.partition(f"/dists/{codename}/InRelease'")
        if found:
            return address.removeprefix("'")
    raise DebianError(f"no source of this machine's apt has the release {codename!r}")


def _unpack(
    packages: Sequence[str],
    target: Path,
    options: Sequence[str],
    update: Sequence[str],
    without: Collection[str] = (),
) -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise DebianError("this machine has no apt-get and dpkg")
    with _apt:
        work = LOCAL / "apt"
        shutil.rmtree(work, ignore_errors=True)
        for folder in ("state/lists/partial", "cache/archives/partial", "packages", "unpacked"):
            (work / folder).mkdir(parents=True)
        # apt's lists are kept under the clone, so that a machine without lists can do it.
        own = [f"Dir::State={work / 'state'}", f"Dir::Cache={work / 'cache'}"]
        own += ["APT::Sandbox::User=root", "Debug::NoLocking=1"]
        apt = ["apt-get", "-qq", *(word for option in (*own, *options) for word in ("-o", option))]
        _run(*apt, *update)
        planned = _run(*apt, "install", "--simulate", "--no-install-recommends", *packages)
        missing = {line.split()[1] for line in planned.splitlines() if line.startswith("Inst ")}
        _run(*apt, "download", *sorted((missing | set(packages)).difference(without)), cwd=work / "packages")
        for package in sorted((work / "packages").glob("*.deb")):
            _run("dpkg", "-x", str(package), str(work / "unpacked"))
        target.parent.mkdir(parents=True, exist_ok=True)
        (work / "unpacked").rename(target)
        shutil.rmtree(work)


def _run(*command: str, cwd: Path = LOCAL) -> str:
    finished = subprocess.run(command, env=environment() | {"LC_ALL": "C"}, cwd=cwd, text=True, capture_output=True)
    if finished.returncode:
        lines = [line for line in finished.stderr.splitlines() if line.startswith("E: ")] or [finished.stderr.strip()]
        raise DebianError(f"{command[0]}: {' '.join(lines)}")
    return finished.stdout
