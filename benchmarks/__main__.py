"""Measures everything on one machine in one go, prints it and writes docs/performance.md."""

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import capacity, cold_start, commands, growth, invocation, storm, synthesis
from benchmarks.services import services
from tools.install import BENCH

TEXTS = Path(__file__).parent / "performance.md"


def main() -> None:
    """Fill the tables into the text around them."""
    started = time.monotonic()
    tables = {}
    with services() as running:
        server = running.version()
        for name, measure in {
            "invocation": invocation.table,
            "profile": invocation.profile,
            "cold_start": cold_start.table,
            "growth_invocations": growth.invocations,
            "growth_environments": growth.environments,
            "growth_hour": growth.hour,
        }.items():
            tables[name] = _show(name, measure(running))
    for name, compute in {"storm": storm.table, "capacity": capacity.table, "synthesis": synthesis.table}.items():
        tables[name] = _show(name, compute())
    machine = (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores; functions in "
        f"{subprocess.run([BENCH / 'bin' / 'python', '--version'], capture_output=True, text=True).stdout.strip()}; "
        f"{server}; aws-cdk-lib {version('aws-cdk-lib')}; {datetime.now(UTC):%Y-%m-%d}; "
        f"{(time.monotonic() - started) / 60:.1f} minutes for all"
    )
    measured_apart = commands.DOCUMENT.read_text().partition(commands.HEADING)[1:]
    text = TEXTS.read_text().format(machine=machine, **tables)
    commands.DOCUMENT.write_text("\n".join([text, "".join(measured_apart)]) if all(measured_apart) else text)


def _show(name: str, table: str) -> str:
    print(f"\n{name}\n{table}", flush=True)
    return table


if __name__ == "__main__":
    main()
