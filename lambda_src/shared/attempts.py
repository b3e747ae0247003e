"""The one place where something is tried again: after a pause, until the deadline."""

import time
from collections.abc import Callable, Iterator

from shared.deadline import Deadline


def attempts(deadline: Deadline, pause: Callable[[int], float], needs: float) -> Iterator[int]:
    """Count the tries from 1; `pause` gives the seconds after each, and a further one needs so many."""
    number = 0
    while not number or (seconds := pause(number)) + needs <= deadline.remaining():
        if number:
            time.sleep(seconds)
        number += 1
        yield number
