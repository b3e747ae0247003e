"""What a cold start takes: from the process's start to the first answer, its memory, and the package's size."""

import io
import re
import subprocess
import zipfile
from pathlib import Path
from statistics import median

from benchmarks import markdown
from benchmarks.services import Services
from local.install import BENCH

ROUNDS = 9
APPROACHES = {
    "handler": ("ours", ("",)),
    "powertools": (
        "Powertools with boto3",
        ("aws_lambda_powertools", "pymysql", "boto3", "botocore", "s3transfer", "urllib3"),
    ),
    "plain_boto3": ("boto3 alone", ("pymysql", "boto3", "botocore", "s3transfer", "urllib3")),
    "floor": ("the floor: urllib3 and PyMySQL, imported", ("pymysql", "urllib3")),
}


def table(services: Services) -> str:
    """Start each in turn, round after round; medians, as ratios to the floor."""
    ready: dict[str, list[float]] = {name: [] for name in APPROACHES}
    answered: dict[str, list[float]] = {name: [] for name in APPROACHES}
    memory: dict[str, int] = {}
    with services.extension() as environ:
        for _ in range(ROUNDS):
            for name in APPROACHES:
                result = services.invoke(name, 0, environ)
                ready[name].append(result["imported"] - result["started"])
                answered[name].append(result["answered"] - result["started"])
                memory[name] = result["memory_kib"]
        slowest = _slowest_imports(environ)
    columns = [
        *("approach", "before the first invocation, ms", "from-to", "/ floor"),
        *("first answer, ms", "/ floor", "peak memory, MiB", "zipped, kB"),
    ]
    rows = []
    for name, (what, packages) in APPROACHES.items():
        folder = services.package if name == "handler" else _site_packages()
        rows.append(
            [
                what,
                f"{median(ready[name]) * 1e3:.0f}",
                markdown.span([1e3 * each for each in ready[name]], 0),
                f"{median(ready[name]) / median(ready['floor']):.2f}",
                f"{median(answered[name]) * 1e3:.0f}",
                f"{median(answered[name]) / median(answered['floor']):.2f}",
                f"{memory[name] / 1024:.0f}",
                f"{_zipped(folder, packages) / 1000:.0f}",
            ]
        )
    return f"{markdown.table(columns, rows)}\n\nOurs spends most of it importing: {slowest}."


def _site_packages() -> Path:
    return next((BENCH / "lib").glob("python3*/site-packages"))


def _zipped(folder: Path, names: tuple[str, ...]) -> int:
    """Bytes of these folders as a zip archive, without compiled modules."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for name in names:
            for path in (folder / name).rglob("*"):
                if path.is_file() and path.suffix != ".pyc":
                    target.write(path, path.relative_to(folder))
    return len(archive.getvalue())


def _slowest_imports(environ: dict[str, str]) -> str:
    """The five modules that take the most by themselves."""
    command = [str(BENCH / "bin" / "python"), "-X", "importtime", "-c", "import handler"]
    run = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    times = re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", run.stderr)
    largest = sorted(((int(own), name) for own, name in times), reverse=True)[:5]
    return ", ".join(f"`{name}` {own / 1000:.1f} ms" for own, name in largest)
