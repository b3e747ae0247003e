"""Waits for something that another process or AWS does."""

import time
from collections.abc import Callable
from subprocess import Popen
from typing import Any


def wait_until(condition: Callable[[], bool], seconds: float, pause: float = 0.05) -> bool:
    """Return whether the condition came to hold in time; it is asked at least once."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(pause)
    return True


def comes_up(process: Popen[Any], answers: Callable[[], bool]) -> bool:
    """Return whether a process that was started answers within ten minutes and before it ends."""
    return wait_until(lambda: process.poll() is not None or answers(), 600) and process.poll() is None
