"""One page that shows what a demo did: no network, no script, in a light and in a dark scheme."""

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape
from typing import Final

from local.recording import KINDS, LANES, Kind, Recording

LEFT, RIGHT, TOP, LOWEST = 120, 1080, 40, 300
"""The plot of the invocations, in the drawing's units."""
LANE: Final = 34
FASTEST, SLOWEST = 1.0, 10_000.0
"""Milliseconds at the lower and at the upper end of the scale, which is logarithmic."""
SCALE: Final = {1: "1 ms", 10: "10 ms", 100: "100 ms", 1000: "1 s", 10_000: "10 s"}

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b2733; --paper: #ffffff; --line: #8aa0b5; --band: #eef3f8;
  --kept: #3b82c4; --new: #8e5bd0; --cold: #d9730d; --failed: #d1242f; }
@media (prefers-color-scheme: dark) { :root { --ink: #dbe4ee; --paper: #0d1117; --line: #4d6277; --band: #1a2531;
  --kept: #58a6ff; --new: #bc8cff; --cold: #f0883e; --failed: #ff7b72; } }
body { margin: 2rem auto; max-width: 1120px; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 Helvetica, Arial, sans-serif; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.drawing { overflow-x: auto; } svg { min-width: 900px; width: 100%; font-size: 13px; }
text { fill: var(--ink); } .grid { stroke: var(--line); stroke-width: 0.5; } .band { fill: var(--band); }
circle, rect.mark { fill-opacity: 0.65; }
.kept-connection { fill: var(--kept); } .new-connection { fill: var(--new); }
.cold-start { fill: var(--cold); } .failed { fill: var(--failed); } .event { fill: var(--ink); }
table { border-collapse: collapse; } td, th { border-bottom: 1px solid var(--line); padding: 0.3rem 0.8rem;
  text-align: left; vertical-align: top; } td.number { text-align: right; }
"""


def page(recording: Recording) -> str:
    """Return the whole page as HTML."""
    first, last = recording.steps[0].began, recording.steps[-1].ended
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(first))
    steps = (
        f"<tr><td class=number>{number}</td><td>{escape(step.what)}</td>"
        f"<td class=number>{step.ended - step.began:.1f} s</td></tr>"
        for number, step in enumerate(recording.steps, 1)
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>What make demo did</title><style>{STYLE}</style>
<h1>What make demo did: {when}, {last - first:.0f} seconds, database server {escape(recording.server)}</h1>
<p>Deployed by the CDK to a local cloud on this machine, which emulates AWS. Rest the pointer on a mark to read it.</p>
<div class="drawing">{_drawing(recording, first, last)}</div>
<h2>Shown</h2><ul>{"".join(f"<li>{escape(line)}</li>" for line in recording.summary)}</ul>
<h2>Steps</h2><table>{"".join(steps)}</table>
<h2>Stacks</h2><table>{"".join(_stacks(recording.stacks))}</table>
</html>
"""


def _drawing(recording: Recording, first: float, last: float) -> str:
    bottom = LOWEST + LANE * len(LANES) + 10

    def x(moment: float) -> float:
        return LEFT + (RIGHT - LEFT) * min(max((moment - first) / (last - first), 0), 1)

    parts = [f'<svg viewBox="0 0 1120 {bottom + 60}" role="img"><title>Time line of the demo</title>']
    for number, step in enumerate(recording.steps, 1):
        left, right = x(step.began), x(step.ended)
        what = f"<title>{number}. {escape(step.what)}</title>"
        if number % 2:
            parts.append(
                f'<rect class="band" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" height="{bottom - TOP}">'
                f"{what}</rect>"
            )
        if right - left > 12:
            parts.append(f'<text x="{(left + right) / 2:.1f}" y="{TOP - 8}" text-anchor="middle">{number}{what}</text>')
    parts += [_line(_y(milliseconds), label) for milliseconds, label in SCALE.items()]
    parts += [_line(LOWEST + LANE * number, lane) for number, lane in enumerate(LANES, 1)]
    parts += [
        _circle(x(each.began), _y(each.duration), each.kind, f"{each.duration:.1f} ms, {each.kind}")
        for kind in KINDS  # The rare kinds come last, above the others.
        for each in recording.invocations
        if each.kind == kind
    ]
    parts += [
        f'<rect class="mark event" x="{x(each.time) - 2:.1f}" y="{LOWEST + LANE * (LANES.index(each.lane) + 1) - 9}" '
        f'width="4" height="18"><title>{each.time - first:.1f} s: {escape(each.what)}</title></rect>'
        for each in recording.events
    ]
    parts += [
        f'<text x="{x(first + second):.1f}" y="{bottom + 20}" text-anchor="middle">{second} s</text>'
        for second in range(0, int(last - first) + 1, 10)
    ]
    parts += _legend(Counter(each.kind for each in recording.invocations), bottom + 48)
    return "".join([*parts, "</svg>"])


def _legend(numbers: Mapping[Kind, int], y: float) -> Iterable[str]:
    yield f'<text x="{LEFT - 8}" y="{y}" text-anchor="end">invocations</text>'
    for place, kind in enumerate(KINDS):
        left = LEFT + 245 * place
        yield f'<rect class="{_class(kind)}" x="{left}" y="{y - 10}" width="11" height="11"/>'
        yield f'<text x="{left + 18}" y="{y}">{kind}: {numbers.get(kind, 0):,}</text>'


def _stacks(stacks: Mapping[str, Counter[str]]) -> Iterable[str]:
    for name, types in stacks.items():
        named = ", ".join(f"{number} {kind.removeprefix('AWS::')}" for kind, number in sorted(types.items()))
        yield f"<tr><th>{escape(name)}</th><td class=number>{types.total()}</td><td>{escape(named)}</td></tr>"


def _y(milliseconds: float) -> float:
    within = min(max(milliseconds, FASTEST), SLOWEST)
    return LOWEST - (LOWEST - TOP - 10) * math.log(within / FASTEST) / math.log(SLOWEST / FASTEST)


def _line(y: float, label: str) -> str:
    line = f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'


def _circle(x: float, y: float, kind: Kind, title: str) -> str:
    return f'<circle class="{_class(kind)}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{title}</title></circle>'


def _class(kind: Kind) -> str:
    return kind.replace(" ", "-")
