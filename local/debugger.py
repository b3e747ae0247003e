"""Runs a function in AWS's runtime under debugpy: the local cloud starts its process so for `make debug`.

Arguments: the port of the debugger, and the function's handler.
"""

import sys

import debugpy  # noqa: T100
from awslambdaric.__main__ import main

from shared.deadline import Deadline

AN_HOUR = 3600.0


def start(port: int, handler: str) -> None:
    """Serve invocations, with an hour for each wait, so that no deadline passes while a breakpoint holds."""
    try:
        debugpy.listen(("127.0.0.1", port))  # noqa: T100
    except RuntimeError as error:
        # One execution environment has the port; those beside it run without a debugger.
        print(f"no debugger in this execution environment, port {port}: {error}", flush=True)
    Deadline.remaining = lambda self: AN_HOUR  # type: ignore[method-assign] # noqa: ARG005
    main(["awslambdaric", handler])


if __name__ == "__main__":
    start(int(sys.argv[1]), sys.argv[2])
