"""Installs what the local runs need beside the tools: the emulated cloud, and a database server.

Uses the standard library only, because it runs before anything is installed.
"""

import sys
from collections.abc import Sequence
from typing import Final

from local import database_server
from operations.commands import LOCAL, ROOT
from operations.install import BASE_PYTHON, LOCKS, Part, command_line_part, install, made, virtual_environment
from stacks.constructs.runtime_python import runtime_python

CLOUD: Final = LOCAL / "cloud"
"""The local cloud's virtual environment: it pins botocore, and functions see its packages."""


def parts(asked: Sequence[str]) -> list[Part]:
    """Return the parts of a local run; the command line's has tests' and checks' packages for `development`.

    The functions run on Python 3.13, their runtime, where the machine has it.
    """
    found: list[Part] = [
        command_line_part(asked),
        lambda: virtual_environment(CLOUD, LOCKS / "cloud.txt", runtime_python() or BASE_PYTHON),
    ]
    try:
        if not database_server.on_the_machine():
            sources = [ROOT / "local/database_server.py", ROOT / "operations/debian.py"]
            found.append(lambda: made(database_server.folder(), database_server.install, *sources))
    except ValueError as error:
        sys.exit(str(error))
    return found


if __name__ == "__main__":
    install(parts(sys.argv[1:]))
