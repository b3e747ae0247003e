"""How late the machine is, so that a bound in seconds is held to the code and not to the machine."""

import threading
import time
from collections.abc import Callable
from typing import Final

TRIES: Final = 5
PAUSE: Final = 0.01


def hold(seconds: float, work: Callable[[], float]) -> None:
    """Run the work, which returns how long it took; again while it was too late by less than the machine was.

    Raises:
        AssertionError: it was too late by more, or each time.
    """
    for _ in range(TRIES):
        late: list[float] = []
        end = threading.Event()
        clock = threading.Thread(target=_add_up, args=(late, end))
        clock.start()
        try:
            took = work()
        finally:
            end.set()
            clock.join()
        if took < seconds:
            return
        assert took - seconds < sum(late), f"{took:.2f} s of {seconds}; the machine was late by {sum(late):.2f}"
    raise AssertionError(f"{took:.2f} s of {seconds} in the last of {TRIES} tries")


def _add_up(late: list[float], end: threading.Event) -> None:
    while not end.is_set():
        started = time.monotonic()
        time.sleep(PAUSE)
        late.append(time.monotonic() - started - PAUSE)
