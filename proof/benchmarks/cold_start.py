"""What a cold start takes: from the process's start to the first answer, its memory, and the package's size.

As in Lambda: nothing may write bytecode, so that each start compiles what has none. Not as in
Lambda: the process has a whole core, where a function has a share by its memory.
"""

import io
import re
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from proof.benchmarks import markdown
from proof.benchmarks.results import Result
from proof.benchmarks.services import Services, services
from proof.install import BENCH

ROUNDS = 9
BOTO3 = ("pymysql", "boto3", "botocore", "s3transfer", "urllib3")


@dataclass(frozen=True)
class Approach:
    """A handler, and the folder that it and its libraries are in as they are deployed."""

    handler: str
    folder: Callable[[Services], Path]
    shipped: tuple[str, ...] = ("",)
    """What of the folder is in the zip archive."""


APPROACHES = {
    "ours": Approach("handler", lambda running: running.package),
    "ours without its bytecode": Approach("handler", lambda running: running.package_without_bytecode),
    "Powertools with boto3": Approach(
        "powertools", lambda running: running.libraries, ("aws_lambda_powertools", *BOTO3)
    ),
    "aws-secretsmanager-caching and Powertools": Approach(
        "secrets_cache",
        lambda running: running.libraries,
        ("aws_lambda_powertools", "aws_secretsmanager_caching", *BOTO3),
    ),
    "AWS's Advanced Python Wrapper": Approach(
        "advanced_wrapper",
        lambda running: running.libraries,
        (
            "aws_advanced_python_wrapper",
            "aws_lambda_powertools",
            "mysql",
            "aws_xray_sdk",
            "opentelemetry",
            "requests",
            "resourcebundle",
            "toml",
            *BOTO3,
        ),
    ),
    "boto3 alone": Approach("plain_boto3", lambda running: running.libraries, BOTO3),
    "the floor: urllib3 and PyMySQL, imported": Approach(
        "floor", lambda running: running.libraries, ("pymysql", "urllib3")
    ),
}


def measure(running: Services) -> Result:
    """Start each in turn, round after round; medians, as ratios to the last."""
    ready: dict[str, list[float]] = {name: [] for name in APPROACHES}
    answered: dict[str, list[float]] = {name: [] for name in APPROACHES}
    memory: dict[str, int] = {}
    with running.extension() as environ:
        for _ in range(ROUNDS):
            for name, approach in APPROACHES.items():
                path = {"PYTHONPATH": str(approach.folder(running))}
                result = running.invoke(approach.handler, 0, environ | path)
                ready[name].append(result["imported"] - result["started"])
                answered[name].append(result["answered"] - result["started"])
                memory[name] = result["memory_kib"]
        slowest = _slowest_imports(environ)
    columns = [
        *("approach", "before the first invocation, ms", "from-to", "/ floor"),
        *("first answer, ms", "/ floor", "peak memory, MiB", "zipped, kB"),
    ]
    floor = list(APPROACHES)[-1]
    rows = [
        [
            name,
            f"{median(ready[name]) * 1e3:.0f}",
            markdown.span([1e3 * each for each in ready[name]], 0),
            f"{median(ready[name]) / median(ready[floor]):.2f}",
            f"{median(answered[name]) * 1e3:.0f}",
            f"{median(answered[name]) / median(answered[floor]):.2f}",
            f"{memory[name] / 1024:.0f}",
            f"{_zipped(approach.folder(running), approach.shipped) / 1000:.0f}",
        ]
        for name, approach in APPROACHES.items()
    ]
    return Result(
        f"{markdown.table(columns, rows)}\n\nOurs spends most of it importing: {slowest}.",
        {name: [1e3 * each for each in times] for name, times in answered.items()},
    )


def _zipped(folder: Path, names: tuple[str, ...]) -> int:
    """Bytes of what is in these folders as a zip archive."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for name in names:
            for path in (folder / name).rglob("*"):
                if path.is_file():
                    target.write(path, path.relative_to(folder))
    return len(archive.getvalue())


def _slowest_imports(environ: dict[str, str]) -> str:
    """The five modules that take the most by themselves."""
    command = [str(BENCH / "bin" / "python"), "-X", "importtime", "-c", "import handler"]
    run = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    times = re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", run.stderr)
    largest = sorted(((int(own), name) for own, name in times), reverse=True)[:5]
    return ", ".join(f"`{name}` {own / 1000:.1f} ms" for own, name in largest)


if __name__ == "__main__":
    with services() as started:
        print(measure(started).table)
