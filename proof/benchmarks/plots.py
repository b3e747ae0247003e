"""Draws the results: `python -m proof.benchmarks.plots FOLDER` writes the pictures of proof/performance.md.

Runs in the benchmarks' own virtual environment, which has matplotlib.
"""

import re
import sys
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from proof.benchmarks.results import Result, read

OURS, OTHERS, GREY = "#d9730d", "#3b82c4", "#7d8590"
"""Readable on a light and on a dark page."""
STYLE = {
    "figure.figsize": (7.2, 2.8),
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "svg.hashsalt": "docs/pictures",
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), GREY),
}


def _bars(axes: Axes, result: Result, unit: str) -> None:
    """A bar for each approach, as long as its median, with a line from its least to its most."""
    names = list(result.samples)[::-1]
    middles = [median(result.samples[name]) for name in names]
    reach = [
        [middle - min(result.samples[name]) for middle, name in zip(middles, names, strict=True)],
        [max(result.samples[name]) - middle for middle, name in zip(middles, names, strict=True)],
    ]
    colours = [OURS if name.startswith("ours") else OTHERS for name in names]
    labels = [re.split("[:;]", name)[0] for name in names]
    bars = axes.barh(labels, middles, xerr=reach, color=colours, ecolor=GREY, height=0.6)
    axes.bar_label(bars, [f"{middle:.3g}" for middle in middles], padding=6, color=GREY)
    axes.set_xlabel(unit)


def invocation(axes: Axes, result: Result) -> None:
    """A warm invocation by approach; the scale is logarithmic."""
    axes.set_xscale("log")
    _bars(axes, result, "a warm invocation, ms (median, logarithmic)")


def cold_start(axes: Axes, result: Result) -> None:
    """The first answer by approach."""
    _bars(axes, result, "from the process's start to the first answer, ms (median)")


def memory_size(axes: Axes, result: Result) -> None:
    """Ours by memory."""
    sizes = list(result.samples)
    bars = axes.bar(sizes, [median(result.samples[size]) for size in sizes], color=OURS, width=0.5)
    axes.bar_label(bars, fmt="%.0f", padding=3, color=GREY)
    axes.set_ylabel("first answer, ms (computed)")


def growth_invocations(axes: Axes, result: Result) -> None:
    """Calls to AWS and connections against invocations."""
    count = result.samples["invocations"]
    axes.plot(count, result.samples["ours: calls to AWS"], "o-", color=OURS, label="ours: calls to AWS")
    axes.plot(count, result.samples["ours: connections"], "s--", color=OURS, label="ours: connections")
    other = result.samples["the AWS sample: connections"]
    axes.plot(count[: len(other)], other, "s--", color=OTHERS, label="the AWS sample: connections")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("invocations of one environment")
    axes.legend(frameon=False)


def storm(axes: Axes, result: Result) -> None:
    """How many environments have answered, over time."""
    for (name, answered), colour in zip(result.samples.items(), (OURS, OTHERS), strict=True):
        axes.step([0, *answered], range(len(answered) + 1), where="post", color=colour, label=name)
    axes.set_xlabel("seconds after the start of 500 environments, 40 GetParameter calls a second")
    axes.set_ylabel("have answered")
    axes.legend(frameon=False)


def synthesis(axes: Axes, result: Result) -> None:
    """Synthesis by what is synthesised."""
    _bars(axes, result, "cdk synth, seconds (median)")


def main(folder: Path) -> None:
    """Write a picture for each benchmark that has a plot."""
    results = read()
    with mpl.rc_context(STYLE):
        for draw in (invocation, cold_start, memory_size, growth_invocations, storm, synthesis):
            figure, axes = plt.subplots(layout="constrained")
            draw(axes, results[draw.__name__])
            path = folder / f"performance-{draw.__name__.replace('_', '-')}.svg"
            figure.savefig(path, transparent=True, metadata={"Date": None})
            plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
