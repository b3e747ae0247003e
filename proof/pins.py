"""Names the workflows' actions whose pinned commit is older than half a year (`python -m proof.pins`).

Asked of GitHub's API, with GITHUB_TOKEN where it is set. Dependabot proposes newer ones, where somebody has it.
"""

import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import urllib3

from operations.commands import ROOT

OLDEST: Final = timedelta(days=182)
USES: Final = re.compile(r"uses: ([\w-]+/[\w-]+)@([0-9a-f]{40}) # (v[\d.]+)")


def old(address: str, now: datetime, token: str = "") -> Iterator[str]:
    """Yield a line for each action whose commit is too old, or whose commit GitHub does not tell."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    workflows = "".join(each.read_text() for each in sorted((ROOT / ".github" / "workflows").glob("*.yml")))
    for action, commit, version in sorted(set(USES.findall(workflows))):
        answer = urllib3.request("GET", f"{address}/repos/{action}/commits/{commit}", headers=headers, timeout=30)
        if answer.status != 200:
            yield f"{action} {version}: GitHub answered {answer.status} when asked for {commit}"
            continue
        made = datetime.fromisoformat(answer.json()["commit"]["committer"]["date"])
        if now - made > OLDEST:
            yield f"{action} {version} is of {made:%Y-%m-%d}: take its newest version, by commit"


if __name__ == "__main__":
    address = os.environ.get("GITHUB_API_URL", "https://api.github.com")
    found = list(old(address, datetime.now(UTC), os.environ.get("GITHUB_TOKEN", "")))
    sys.exit("\n".join(found) or None)
