"""Installs what the proofs need beside a local run: `checkov`, and what the benchmarks compare with, `bench`.

Uses the standard library only, because it runs before anything is installed.
"""

import sys
from typing import Final

from local.install import parts
from operations.commands import LOCAL
from operations.install import BASE_PYTHON, LOCKS, install, virtual_environment
from stacks.constructs.runtime_python import runtime_python

CHECKOV: Final = LOCAL / "checkov"
"""checkov's virtual environment: it pins a hundred packages that nothing else needs."""
BENCH: Final = LOCAL / "bench"
"""The benchmarks' virtual environment: only what they compare with."""

if __name__ == "__main__":
    asked = sys.argv[1:]
    found = parts(["development"])
    if "checkov" in asked:
        found.append(lambda: virtual_environment(CHECKOV, LOCKS / "checkov.txt"))
    if "bench" in asked:
        found.append(lambda: virtual_environment(BENCH, LOCKS / "bench.txt", runtime_python() or BASE_PYTHON))
    install(found)
