"""Measures everything on one machine in one go; writes results.json, proof/performance.md and its plots."""

import os
import platform
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from operations.commands import ROOT
from proof.benchmarks import capacity, cold_start, commands, growth, invocation, memory_size, results, storm, synthesis
from proof.benchmarks.results import Result
from proof.benchmarks.services import services
from proof.install import BENCH

TEXTS = Path(__file__).parent / "performance.md"
PYTHON = BENCH / "bin" / "python"


def main() -> None:
    """Fill the tables into the text around them, draw the plots, and say which ratios got worse."""
    started = time.monotonic()
    measured: dict[str, Result] = {}

    def measure(name: str, benchmark: Callable[[], Result]) -> None:
        measured[name] = benchmark()
        print(f"\n{name}\n{measured[name].table}", flush=True)

    with services() as running:
        server = running.version()
        measure("invocation", lambda: invocation.measure(running))
        measure("profile", lambda: invocation.profile(running))
        measure("cold_start", lambda: cold_start.measure(running))
        measure("memory_size", lambda: memory_size.measure(running))
        measure("growth_invocations", lambda: growth.invocations(running))
        measure("growth_environments", lambda: growth.environments(running))
        measure("growth_hour", lambda: growth.hour(running))
        measure("writes", lambda: invocation.writes(running))
    measure("storm", storm.measure)
    measure("capacity", capacity.measure)
    measure("synthesis", synthesis.measure)
    machine = {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "python": subprocess.run([PYTHON, "--version"], capture_output=True, text=True).stdout.strip(),
        "database": server,
        "aws-cdk-lib": version("aws-cdk-lib"),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "minutes": f"{(time.monotonic() - started) / 60:.1f}",
    }
    worse = results.worse(results.read(), measured)
    results.write(machine, measured)
    subprocess.run([PYTHON, "-m", "proof.benchmarks.plots", ROOT / "proof" / "pictures"], cwd=ROOT, check=True)
    _write_page(machine, measured)
    print(
        "\n".join(
            ["", "worse than the run before:", *worse] if worse else ["", "no ratio is worse than in the run before"]
        )
    )


def _write_page(machine: dict[str, str], measured: dict[str, Result]) -> None:
    told = (
        f"{machine['system']}, {machine['cores']} cores; functions in {machine['python']}; {machine['database']}; "
        f"aws-cdk-lib {machine['aws-cdk-lib']}; {machine['date']}; {machine['minutes']} minutes for all"
    )
    measured_apart = commands.DOCUMENT.read_text().partition(commands.HEADING)[1:]
    text = TEXTS.read_text().format(machine=told, **{name: result.table for name, result in measured.items()})
    commands.DOCUMENT.write_text("\n".join([text, "".join(measured_apart)]) if all(measured_apart) else text)


if __name__ == "__main__":
    main()
