"""The measurements of a run as data: written as JSON, and compared with those of the run before."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

FILE: Final = Path(__file__).parent / "results.json"
COMPARED: Final = {
    "invocation": ("ours", "the floor"),
    "cold_start": ("ours", "the floor"),
    "synthesis": ("ours, nothing changed", "the floor"),
}
"""The benchmarks with a ratio to watch: ours, and what it is divided by, by the beginning of their names."""


@dataclass(frozen=True)
class Result:
    """What one benchmark measured."""

    table: str
    """In Markdown, with what is said below it."""
    samples: Mapping[str, list[float]] = field(default_factory=dict)
    """The figures of each row that the plots draw, one for each round or size."""


def write(machine: Mapping[str, str], results: Mapping[str, Result]) -> None:
    """Write a run's results."""
    written = {name: asdict(result) for name, result in results.items()}
    FILE.write_text(json.dumps({"machine": machine, "results": written}, indent=1, ensure_ascii=False) + "\n")


def read() -> dict[str, Result]:
    """Return the results of the run before; none if there was no run."""
    if not FILE.exists():
        return {}
    return {name: Result(**result) for name, result in json.loads(FILE.read_text())["results"].items()}


def worse(before: Mapping[str, Result], now: Mapping[str, Result]) -> list[str]:
    """Return a sentence for each watched ratio that grew by more than its rounds differ in either run."""
    found = []
    for name, (ours, other) in COMPARED.items():
        if name not in before or name not in now:
            continue
        (old, old_spread), (new, new_spread) = (_ratio(each[name].samples, ours, other) for each in (before, now))
        spread = max(old_spread, new_spread)
        if new / old - 1 > spread:
            found.append(f"{name}: {ours} / {other} was {old:.2f} and is {new:.2f}; the rounds differ by {spread:.0%}")
    return found


def _ratio(samples: Mapping[str, list[float]], ours: str, other: str) -> tuple[float, float]:
    """The ratio of the medians, and how far the rounds lie apart, as a part of their median."""
    rounds = [next(values for name, values in samples.items() if name.startswith(each)) for each in (ours, other)]
    spread = max((max(each) - min(each)) / median(each) for each in rounds)
    return median(rounds[0]) / median(rounds[1]), spread
