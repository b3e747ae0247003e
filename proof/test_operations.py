"""The commands of docs/operations.md, run against the local cloud and held to the output written there."""

import re
import subprocess

from local.cloud import LocalCloud
from operations.commands import ROOT, environment

FENCE = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_command_that_needs_no_account_does_what_is_written(cloud: LocalCloud) -> None:
    blocks = FENCE.findall((ROOT / "docs" / "operations.md").read_text())
    # One shell for all, because the first block's variables are used by the others.
    mark = "--- end of block ---"
    # Version 1 of the command line asks us-east-1's RDS where it stands, whatever the variable says.
    aws = 'aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }'
    script = f"set -euo pipefail\n{aws}\n" + "".join(f"{text}echo '{mark}'\n" for kind, text in blocks if kind == "sh")
    # As in a person's shell, to which no make has exported a variable of its own.
    exported = re.findall(r"^override export (\w+)", (ROOT / "operations/targets.mk").read_text(), re.MULTILINE)
    ours = {key: each for key, each in environment().items() if not key.startswith("AWS_") and key not in exported}
    variables = ours | cloud.variables | {"AWS_PAGER": ""}
    run = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    printed = run.stdout.split(f"{mark}\n")
    position = -1
    for kind, text in blocks:
        if kind == "sh":
            position += 1
        else:
            expected = ".*?".join(map(re.escape, text.strip().split("…")))
            assert re.fullmatch(expected, printed[position].strip(), re.DOTALL), (text, printed[position])
    assert position > 5


def test_commands_that_need_an_account_are_marked_so() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    assert set(re.findall(r"^```(\w[\w ]*)$", text, re.MULTILINE)) == {"json", "sh", "sh account", "text"}
