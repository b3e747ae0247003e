"""What a run of the benchmarks writes, and which ratios it reports as worse."""

import json
import re

import pytest

from operations.commands import ROOT
from proof.benchmarks.results import FILE, Result, worse

GREW = "ours / the floor was 1.00 and is 1.50"
PAGE = (ROOT / "proof" / "performance.md").read_text()


def _run(ours: list[float], floor: list[float]) -> dict[str, Result]:
    return {"cold_start": Result("", {"ours": ours, "the floor: imported": floor})}


@pytest.mark.parametrize(
    ("ours", "floor", "said"),
    [
        ([150, 150, 151], [100, 100, 101], [f"cold_start: {GREW}; the rounds differ by 2%"]),
        ([150, 150, 151], [150, 150, 151], []),  # A slower machine.
        ([70, 110, 190], [100, 100, 101], []),  # Within what the rounds differ.
        ([80, 80, 81], [100, 100, 101], []),
    ],
)
def test_a_ratio_is_worse_when_it_grew_by_more_than_the_rounds_differ(
    ours: list[float], floor: list[float], said: list[str]
) -> None:
    assert worse(_run([100, 100, 102], [100, 100, 101]), _run(ours, floor)) == said


def test_the_first_run_is_compared_with_none() -> None:
    assert worse({}, _run([1], [1])) == []


def test_the_page_shows_the_results_that_are_kept() -> None:
    kept = json.loads(FILE.read_text())
    assert [name for name, result in kept["results"].items() if result["table"] not in PAGE] == []
    assert all(value in PAGE for value in kept["machine"].values())
    pictures = re.findall(r"\]\((pictures/performance-[\w-]+\.svg)\)", PAGE)
    assert len(pictures) == 6
    assert [each for each in pictures if not (ROOT / "proof" / each).exists()] == []
