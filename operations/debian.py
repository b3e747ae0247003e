"""Unpacks Debian packages under the clone, without root and without touching the machine's own packages.

Uses the standard library only, because it runs before anything is installed.
"""

import platform
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from operations.commands import LOCAL, environment

UNSTABLE: Final = "unstable"
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""The keys of Debian's archive, which every Debian has; apt refuses an archive that they did not sign."""


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
        DebianError: apt or dpkg is missing, or fails; nothing is left.
    """
    # The C library must match the machine's loader.
    _unpack(packages, target, status="/var/lib/dpkg/status", without={"libc6", "libc-bin"})


def unpack_unstable(packages: Sequence[str], target: Path) -> None:
    """Unpack packages of Debian's unstable archive, and all that they need, with their own C library and loader.

    Raises:
        DebianError: apt or dpkg is missing, or fails; nothing is left.
    """
    _unpack(packages, target, sources=f"deb [signed-by={KEYRING}] {_mirror()} {UNSTABLE} main\n")


def _mirror() -> str:
    """Return the address of the archive that this machine's own release comes from."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    for line in _run("apt-get", "--print-uris", "update").splitlines():
        address, found, _ = line.partition(f"/dists/{codename}/InRelease'")
        if found:
            return address.removeprefix("'")
    raise DebianError(f"no source of this machine's apt has the release {codename!r}")


def _unpack(
    packages: Sequence[str], target: Path, sources: str = "", status: str = "", without: Collection[str] = ()
) -> None:
    """Unpack packages.

    Args:
        packages: their names.
        target: a folder that does not exist yet.
        sources: a list of archives instead of the machine's own.
        status: the file of installed packages; empty for none.
        without: packages that are left out.
    """
    with tempfile.TemporaryDirectory(prefix="apt-", dir=LOCAL) as folder:
        # apt's lists are kept in a folder of its own, so that a machine without lists can do it.
        work = Path(folder)
        for name in ("state/lists/partial", "cache/archives/partial", "unpacked"):
            (work / name).mkdir(parents=True)
        # Without translations of the packages' descriptions, which nothing here reads.
        options = [f"Dir::State={work / 'state'}", f"Dir::Cache={work / 'cache'}", "Acquire::Languages=none"]
        options += ["APT::Sandbox::User=root", "Debug::NoLocking=1"]
        update = ["update"]
        if sources:
            (work / "sources.list").write_text(sources)
            options += [f"Dir::Etc::sourcelist={work / 'sources.list'}", "Dir::Etc::sourceparts=-"]
            update.append("--error-on=any")
        if not status:
            (work / "status").touch()
        options.append(f"Dir::State::status={status or work / 'status'}")
        apt = ["apt-get", "-qq", *(word for option in options for word in ("-o", option))]
        _run(*apt, *update)
        # A package that is installed already is downloaded too.
        _run(*apt, "install", "--download-only", "--reinstall", "--yes", "--no-install-recommends", *packages)
        for package in sorted((work / "cache" / "archives").glob("*.deb")):
            if package.name.partition("_")[0] in without:
                continue
            _run("dpkg", "-x", str(package), str(work / "unpacked"))
        (work / "unpacked").rename(target)


def _run(*command: str) -> str:
    if not shutil.which(command[0]):
        raise DebianError(f"this machine has no {command[0]}")
    finished = subprocess.run(command, env=environment() | {"LC_ALL": "C"}, cwd=LOCAL, text=True, capture_output=True)
    if finished.returncode:
        lines = [line for line in finished.stderr.splitlines() if line.startswith("E: ")] or [finished.stderr.strip()]
        raise DebianError(f"{command[0]}: {' '.join(lines)}")
    return finished.stdout
