"""One deadline for each invocation, which bounds every wait."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")


class Deadline:
    """The time at which the current invocation must have ended. An execution environment has one object."""

    def __init__(self) -> None:
        self._end = float("inf")

    def start(self, seconds: float) -> None:
        """Begin an invocation that may take this many seconds."""
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds that are left; negative when the deadline has passed."""
        return self._end - time.monotonic()

    def timeout(self) -> float:
        """Return the seconds that are left, as a socket's timeout.

        Raises:
            TimeoutError: the deadline has passed.
        """
        remaining = self.remaining()
        if remaining <= 0:
            raise TimeoutError("deadline passed")
        return remaining

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Shorten the deadline for a part of the work; it is never extended."""
        end = self._end
        self._end = min(end, time.monotonic() + seconds)
        try:
            yield
        finally:
            self._end = end

    def call(self, function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Call a function that has no timeout of its own, and wait no longer than the deadline.

        It runs in a thread, because neither the system's name look-up nor the SDK can be interrupted. An
        abandoned thread goes on until its call returns. Warm invocations need no thread, because their
        connections are open.

        Raises:
            TimeoutError: the deadline passed first.
            Exception: as the function raises.
        """
        timeout = self.timeout()
        results: list[Result] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(min(timeout, threading.TIMEOUT_MAX))
        if errors:
            raise errors[0]
        if not results:
            raise TimeoutError("deadline passed")
        return results[0]
