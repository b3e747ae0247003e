"""Installs what the proofs need beside a local run: `checkov`, and what the benchmarks compare with, `bench`.

Uses the standard library only, because it runs before anything is installed.
"""

import sys
from typing import Final

from local.install import chains
from operations.commands import LOCAL
from operations.install import environment_part, install
from operations.packages import BASE_PYTHON
from stacks.packaging.runtime_python import runtime_python

CHECKOV: Final = LOCAL / "checkov"
"""checkov's virtual environment: it pins a hundred packages that nothing else needs."""
BENCH: Final = LOCAL / "bench"
"""The benchmarks' virtual environment: only what they compare with."""

if __name__ == "__main__":
    parts = [environment_part(CHECKOV, 190, 3), environment_part(BENCH, 240, 2, runtime_python() or BASE_PYTHON)]
    install(*chains("development"), *([part] for part in parts if part.target.name in sys.argv))
