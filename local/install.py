"""Installs what the local runs need beside the tools: the emulated cloud, and a database server.

Uses the standard library only, because it runs before anything is installed.
"""

import sys
from collections.abc import Sequence
from typing import Final

from local import database_server
from operations.commands import LOCAL, ROOT
from operations.install import DEVELOPMENT_PART, Part, command_line, environment_part, install
from operations.packages import BASE_PYTHON
from stacks.packaging.runtime_python import runtime_python

CLOUD: Final = LOCAL / "cloud"
"""The local cloud's virtual environment: it pins botocore, and functions see its packages."""


def chains(*asked: str) -> list[Sequence[Part]]:
    """Return what a local run needs, the functions on their runtime's Python where the machine has it."""
    found = [command_line(*asked), [environment_part(CLOUD, 70, 2, runtime_python() or BASE_PYTHON)]]
    try:
        if not database_server.on_the_machine():
            sources = [ROOT / "local" / "database_server.py", ROOT / "operations" / "debian.py"]
            found.append([Part(database_server.folder(), database_server.install, sources, 330, 8)])
    except ValueError as error:
        sys.exit(str(error))
    return [*found]


if __name__ == "__main__":
    install(*chains(*sys.argv[1:]), later=[] if "development" in sys.argv else [DEVELOPMENT_PART])
