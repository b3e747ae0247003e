"""The page of `make demo`, in a real browser where this machine has one."""

import json
import re
import shutil
import subprocess
from collections import Counter
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from local.demo_page import page
from local.recording import KINDS, Event, Invocation, Kind, Recording, Step

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
PAPER = {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}
NUMBERS: dict[Kind, int] = {"kept connection": 40, "new connection": 5, "cold start": 3, "failed": 1}
START = 1_790_000_000.0

PROBE = """<script>
const inside = (each, box) => each.width > 0 && each.left >= box.left && each.right <= box.right
    && each.top >= box.top && each.bottom <= box.bottom;
const count = what => document.querySelectorAll(what).length;
addEventListener("load", () => {
  const drawing = document.querySelector("svg").getBoundingClientRect();
  const marks = [...document.querySelectorAll("circle, rect.mark, svg text")];
  const texts = [...document.querySelectorAll("svg text")].map(each => each.getBoundingClientRect());
  const found = {
    paper: getComputedStyle(document.body).backgroundColor,
    circles: Object.fromEntries(KINDS.map(kind => [kind, count(`circle.${kind.replace(" ", "-")}`)])),
    events: count("rect.mark"),
    outside: marks.filter(each => !inside(each.getBoundingClientRect(), drawing)).length,
    colours: new Set([...document.querySelectorAll("circle")].map(each => getComputedStyle(each).fill)).size,
    overlapping: texts.filter((one, i) => texts.some((other, j) => i < j && one.left < other.right
        && other.left < one.right && one.top < other.bottom && other.top < one.bottom)).length,
    scrolls: document.documentElement.scrollWidth > innerWidth,
  };
  document.body.insertAdjacentHTML("beforeend", `<pre id="found">${JSON.stringify(found)}</pre>`);
});
</script>""".replace("KINDS", json.dumps(KINDS))


def _recording() -> Recording:
    invocations = [
        Invocation(START + 10 + number / 10, 2.5 + number * 200, kind)
        for kind, count in NUMBERS.items()
        for number in range(count)
    ]
    return Recording(
        server="9.7.4",
        summary=["shown & said"],
        steps=[Step("deploy <all>", START, START + 9), Step("invoke", START + 9, START + 40)],
        invocations=invocations,
        events=[Event(START + 12, "rotations", "rotation 1"), Event(START + 13, "calls to AWS", "GetParameter")],
        stacks={"Dev-Network": Counter({"AWS::EC2::Subnet": 2, "AWS::EC2::VPC": 1})},
    )


def _drawn(html: str, folder: Path, scheme: str, width: int) -> dict[str, Any]:
    """Return what the probe finds in the page as the browser draws it."""
    file = folder / "page.html"
    file.write_text(html.replace("</html>", f"{PROBE}</html>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    options += [f"--window-size={width},900", f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"]
    command = [BROWSER, *options, "--virtual-time-budget=5000", "--dump-dom", file.as_uri()]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(unescape(re.findall(r'<pre id="found">({.*?)</pre>', printed, re.DOTALL)[0]))
    return found


@pytest.mark.skipif(not BROWSER, reason="this machine has no Chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_draws_every_invocation_and_event(tmp_path: Path, scheme: str, width: int) -> None:
    found = _drawn(page(_recording()), tmp_path, scheme, width)
    assert found == {
        "paper": PAPER[scheme],
        "circles": NUMBERS,
        "events": 2,
        "outside": 0,
        "colours": len(NUMBERS),
        "overlapping": 0,
        "scrolls": False,
    }


def test_the_page_needs_nothing_from_elsewhere() -> None:
    html = page(_recording())
    assert re.findall(r"https?:|src=|<script|@import|url\(", html) == []
    assert "deploy &lt;all&gt;" in html
    assert "shown &amp; said" in html
    assert "2 EC2::Subnet, 1 EC2::VPC" in html
