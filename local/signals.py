"""How a command of this repository ends, and what its output may be."""

import signal
import sys
from types import FrameType
from typing import Final

from operations.commands import isolate

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_on_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP end this process through its `finally` clauses.

    Also when it was started with SIGINT ignored, as a shell does with background jobs. A second
    signal does not interrupt the clean-up.
    """

    def end(number: int, _: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for each in SIGNALS:
        signal.signal(each, end)


def set_up_terminal() -> None:
    """Prepare a command that a person runs: environment, signals, and a terminal with ASCII only."""
    isolate()
    end_on_signals()
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # A file, whatever the type says.
