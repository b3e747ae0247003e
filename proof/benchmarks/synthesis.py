"""What `cdk synth` takes, beside an app of one empty stack and beside the same app with every rule pack."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from operations.commands import ROOT, environment
from proof.benchmarks import markdown
from proof.benchmarks.results import Result

ROUNDS = 3

EMPTY = """
import aws_cdk as cdk
app = cdk.App()
cdk.Stack(app, "Empty")
app.synth()
"""
CHECKED = """
import aws_cdk as cdk
from app import build
from stacks.settings import from_context
from proof.findings import PACKS
app = cdk.App()
cdk.Validations.of(app).add_plugins(*[pack(app) for pack in PACKS.values()])
build(app, from_context({}))
app.synth()
"""


PARTS = """
import json, time
begun = time.monotonic()
import app, aws_cdk as cdk
imported = time.monotonic()
made = cdk.App(context=json.load(open("cdk.json"))["context"] | {"aws:cdk:bundling-stacks": []})
started = time.monotonic()
app.build(made, app.from_context({}))
built = time.monotonic()
made.synth()
print(json.dumps([imported - begun, started - imported, built - started, time.monotonic() - built]))
"""


def measure() -> Result:
    """Synthesise each in turn, round after round; medians, as ratios to the empty app."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, source in (("empty", EMPTY), ("checked", CHECKED)):
            (folder / f"{name}.py").write_text(source)
        variants = {
            "the floor: one empty stack": (f"{sys.executable} {folder / 'empty.py'}", folder / "empty"),
            "ours, nothing changed": ("python3 app.py", folder / "ours"),
            "ours with five rule packs": (f"{sys.executable} {folder / 'checked.py'}", folder / "checked"),
            "ours, the package made anew": ("python3 app.py", None),
        }
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
        for round_ in range(ROUNDS + 1):
            for name, (app, out) in variants.items():
                measured = _synth(app, out or folder / f"new-{round_}")
                if round_:  # The first makes the packages.
                    took[name].append(measured)
    floor = median(seconds for seconds, _ in took["the floor: one empty stack"])
    rows = []
    for name, runs in took.items():
        seconds = [each for each, _ in runs]
        memory = max(each for _, each in runs) / 1024
        ratio = f"{median(seconds) / floor:.2f}"
        rows.append([name, f"{median(seconds):.1f}", markdown.span(seconds, 1), ratio, f"{memory:.0f}"])
    table = markdown.table(["synth", "seconds", "from-to", "/ floor", "peak memory, MiB"], rows)
    return Result(f"{table}\n\n{_where()}", {name: [each for each, _ in runs] for name, runs in took.items()})


def _synth(app: str, out: Path) -> tuple[float, float]:
    """Seconds and the largest process's peak memory in KiB of one `cdk synth`."""
    started = time.monotonic()
    process = subprocess.Popen(
        ["cdk", "synth", "--quiet", f"--app={app}", f"--output={out}"],
        cwd=ROOT,
        env=environment() | {"PYTHONPATH": f"{ROOT}:{ROOT / 'lambda_src'}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return time.monotonic() - started, usage.ru_maxrss


def _where() -> str:
    """Where our time goes: imports and the start of Node, the stacks, the rest."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PARTS],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    imports, start, build, synth = json.loads(run.stdout.splitlines()[-1])
    return (
        f"Within it, in one run: {imports:.1f} s importing CDK's library and starting Node, {start:.1f} s making the "
        f"app, {build:.1f} s making the stacks, {synth:.1f} s writing and validating the templates; the rest is the "
        "command line."
    )
