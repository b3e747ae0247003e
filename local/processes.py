"""Starts processes so that they end with the command that started them, however it ends.

Processes are listed with `ps`, which Linux and macOS have.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, Final

from tools.commands import isolate

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


def run(command: Sequence[str], started: Callable[[int], None], **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a command in its own process group, and end the group when this process is told to end.

    `started` gets the group's id, so that it can be stored in case this process is killed.
    """
    with subprocess.Popen(command, start_new_session=True, text=True, **options) as process:
        try:
            started(process.pid)
            output, errors = process.communicate()
        except BaseException:
            end_group(process.pid, "")
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def end_group(group: int, command: str, patience: float = 30) -> None:
    """End the process group if one of its processes has `command` in its command line, and wait.

    Its leader may have ended already. A group without such a process is not ours: the system reuses ids.
    """
    give_up = time.monotonic() + patience
    number = signal.SIGTERM
    while is_group(group, command):
        with suppress(ProcessLookupError):
            os.killpg(group, number)
        if time.monotonic() > give_up:
            number = signal.SIGKILL
        time.sleep(0.05)


def is_group(group: int, command: str) -> bool:
    """Whether the process group has a process with `command` in its command line."""
    return any(command in line for line in _group(group))


def is_running(pid: int, command: str) -> bool:
    """Whether the process is there and has `command` in its command line."""
    return any(command in line for line in _ps("-p", str(pid), "-o", "pid=,stat=,command="))


def _group(group: int) -> list[str]:
    return [line for line in _ps("-A", "-o", "pgid=,stat=,command=") if line.split()[0] == str(group)]


def _ps(*options: str) -> list[str]:
    """Return the lines of `ps` about processes that have not ended, without zombies."""
    listed = subprocess.run(["ps", "-ww", *options], capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if not line.split()[1].startswith("Z")]
