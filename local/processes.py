"""Starts processes so that they end with the command that started them, however it ends."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil


@dataclass(frozen=True)
class Running:
    """A process that has not ended: its id, its process group's id and its command line."""

    pid: int
    group: int
    command: str


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


def end_group(group: int, command: str) -> None:
    """End the process group if one of its processes has `command` in its command line, and wait.

    Its leader may have ended already. A group without such a process is not ours: the system reuses ids.
    """
    give_up = time.monotonic() + 30
    number = signal.SIGTERM
    while is_group(group, command):
        with suppress(ProcessLookupError):
            os.killpg(group, number)
        if time.monotonic() > give_up:
            number = signal.SIGKILL
        time.sleep(0.05)


def is_group(group: int, command: str) -> bool:
    """Whether the process group has a process with `command` in its command line."""
    return any(each.group == group and command in each.command for each in running())


def is_running(pid: int, command: str) -> bool:
    """Whether the process is there and has `command` in its command line."""
    return any(each.pid == pid and command in each.command for each in running())


def running() -> list[Running]:
    """Return the processes that have not ended, without zombies and without those that this user may not see."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # psutil gives no command line of a zombie.
            found.append(Running(process.pid, os.getpgid(process.pid), " ".join(process.cmdline())))
    return found
