"""Makes the function's package and lists what is in it and from where (`make package`)."""

import csv
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from local.install import environment
from stacks.package import SOURCE, LocalBundling


@dataclass(frozen=True)
class Part:
    """What came into the package from one place."""

    name: str
    version: str
    files: frozenset[str]
    origin: str


def main() -> None:
    """Print the parts of a package made now; exit with 1 when a file in it has no known origin."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        LocalBundling().try_bundle(str(folder))
        files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        parts = contents(folder)
        for part in parts:
            size = sum(files[name].stat().st_size for name in part.files)
            print(f"{part.name} {part.version}: {len(part.files)} files, {size:,} bytes, {part.origin}")
        print(f"together {len(files)} files, {_zipped(files):,} bytes as the zip archive that is uploaded")
        unknown = sorted(set(files).difference(*(part.files for part in parts)))
    if unknown:
        sys.exit(f"of unknown origin: {', '.join(unknown)}")


def contents(folder: Path) -> list[Part]:
    """Return the parts of the package in the folder: this repository's own, and each locked wheel.

    What belongs to a wheel its own RECORD says; where it comes from pip says, which
    checks it against the lock's hash.
    """
    source = [path for path in SOURCE.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
    own = frozenset(str(path.relative_to(SOURCE)) for path in source)
    parts = [Part("lambda_src", "", own, "this repository")]
    options = "-m pip install --dry-run --ignore-installed --no-deps --only-binary=:all: --require-hashes --quiet"
    command = [sys.executable, *options.split(), "--report", "-", "--requirement", str(SOURCE / "requirements.txt")]
    report = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout
    for wheel in json.loads(report)["install"]:
        name, version = wheel["metadata"]["name"], wheel["metadata"]["version"]
        (record,) = folder.glob(f"{name.lower()}-{version}.dist-info/RECORD")
        recorded = {row[0] for row in csv.reader(record.read_text().splitlines())}
        recorded |= {str(path.relative_to(folder)) for path in record.parent.iterdir()}  # What pip adds beside it.
        present = frozenset(file for file in recorded if (folder / file).is_file())
        (sha256,) = wheel["download_info"]["archive_info"]["hashes"].values()
        origin = f"{wheel['download_info']['url'].rpartition('/')[2]}, sha256 {sha256}"
        parts.append(Part(name, version, present, origin))
    return parts


def _zipped(files: dict[str, Path]) -> int:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for name, path in files.items():
            target.write(path, name)
    return len(archive.getvalue())


if __name__ == "__main__":
    main()
