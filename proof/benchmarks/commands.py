"""What README's two commands take in a fresh clone, and again; ten minutes in all."""

import os
import subprocess
import tempfile
import time

from operations.commands import ROOT
from proof.benchmarks import markdown

DOCUMENT = ROOT / "proof" / "performance.md"
HEADING = "## The commands\n"


def main() -> None:
    """Measure in clones of HEAD without this tree's caches; write the table to the end of proof/performance.md."""
    # As a person's shell has them, without this tree's tools and folders.
    kept = [each for each in os.environ["PATH"].split(os.pathsep) if not each.startswith(str(ROOT))]
    environ = {key: value for key, value in os.environ.items() if str(ROOT) not in value and "MAKE" not in key}
    environ["PATH"] = os.pathsep.join(kept)
    rows = []
    for command in ("demo", "test"):
        times = []
        with tempfile.TemporaryDirectory() as clone:
            subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
            for _ in range(2):
                started = time.monotonic()
                subprocess.run(["make", command], cwd=clone, env=environ, check=True)
                times.append(f"{time.monotonic() - started:.0f}")
                print(f"make {command}: {times[-1]} s", flush=True)
        rows.append([f"make {command}", *times])
    table = markdown.table(["command", "first, s", "again, s"], rows)
    text = DOCUMENT.read_text()
    text = text[: text.index(HEADING)] if HEADING in text else f"{text}\n"
    how = "Measured by `make commands`, each in a fresh clone; the first time installs all that the command needs."
    DOCUMENT.write_text(f"{text}{HEADING}\n{how}\n\n{table}\n")


if __name__ == "__main__":
    main()
