"""The one place where something is tried again: after a pause, until the deadline."""

import time
from collections.abc import Callable, Iterator

from shared.deadline import Deadline


def attempts(deadline: Deadline, pause: Callable[[int], float], needs: float) -> Iterator[int]:
    """Count the tries from 1, and pause before the next, as long as the deadline leaves time for it.

    Args:
        deadline: as it is limited now.
        pause: the seconds to wait after the try of this number.
        needs: seconds that a further try must have.
    """
    number = 0
    while True:
        number += 1
        yield number
        seconds = pause(number)
        if seconds + needs > deadline.remaining():
            return
        time.sleep(seconds)
