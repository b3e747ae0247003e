"""Makes each function's package and lists what is in it and from where (`make package`)."""

import csv
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from stacks.constructs.bundling import FILES, SOURCE, LocalBundling, bytecode_of, source_files
from stacks.constructs.runtime_python import MINOR
from tools.commands import environment


@dataclass(frozen=True)
class Part:
    """The files of a package that have the same origin."""

    name: str
    version: str
    files: frozenset[str]
    origin: str


def main() -> None:
    """Print the parts of each package, made now; exit with 1 when a file in one has no known origin."""
    for entry_point in FILES:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            LocalBundling(entry_point).try_bundle(str(folder))
            files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
            parts = contents(entry_point, folder)
            for part in parts:
                size = sum(files[name].stat().st_size for name in part.files)
                print(f"{part.name} {part.version}: {len(part.files)} files, {size:,} bytes, {part.origin}")
            print(f"{entry_point}: {len(files)} files, {_zipped(files):,} bytes as the zip archive that is uploaded")
            unknown = sorted(set(files).difference(*(part.files for part in parts)))
        if unknown:
            sys.exit(f"of unknown origin: {', '.join(unknown)}")


def contents(entry_point: str, folder: Path) -> list[Part]:
    """Return the parts of the package in the folder: this repository's own, and each locked wheel.

    A wheel's RECORD lists its files. pip says where it comes from, and checks it against the lock's hash.
    """
    own = frozenset(source_files(entry_point))
    parts = [
        Part("lambda_src and migrations" if entry_point == "migration" else "lambda_src", "", own, "this repository")
    ]
    options = "-m pip install --dry-run --ignore-installed --no-deps --only-binary=:all: --require-hashes --quiet"
    command = [sys.executable, *options.split(), "--report", "-", "--requirement", str(SOURCE / "requirements.txt")]
    report = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout
    for wheel in json.loads(report)["install"]:
        name, version = wheel["metadata"]["name"], wheel["metadata"]["version"]
        (record,) = folder.glob(f"{name.lower()}-{version}.dist-info/RECORD")
        recorded = {row[0] for row in csv.reader(record.read_text().splitlines())}
        recorded |= {str(path.relative_to(folder)) for path in record.parent.iterdir()}  # Files that pip adds.
        present = frozenset(file for file in recorded if (folder / file).is_file())
        (sha256,) = wheel["download_info"]["archive_info"]["hashes"].values()
        origin = f"{wheel['download_info']['url'].rpartition('/')[2]}, sha256 {sha256}"
        parts.append(Part(name, version, present, origin))
    made = frozenset(
        bytecode for part in parts for file in part.files if (folder / (bytecode := bytecode_of(file))).is_file()
    )
    return [*parts, Part("bytecode", MINOR, made, "compiled from the files above")] if made else parts


def _zipped(files: dict[str, Path]) -> int:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for name, path in files.items():
            target.write(path, name)
    return len(archive.getvalue())


if __name__ == "__main__":
    main()
