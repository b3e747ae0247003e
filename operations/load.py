"""Invocations one after the other from several callers, while something else happens."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Self

ANSWERED: Final = "answered"


class Load:
    """Invokes from the beginning of a `with` block to its end, and counts how the invocations end.

    Args:
        invoke: makes one invocation, and returns its error's type, or None. It is called in several threads. An
            exception that it raises counts as a failed invocation.
        callers: how many invoke at once.

    Attributes:
        outcomes: the number of invocations, by the error's type or `ANSWERED`.
        failed_at: when each failed invocation ended, in seconds of `time.monotonic`.
    """

    def __init__(self, invoke: Callable[[], str | None], callers: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.failed_at: list[float] = []
        self._invoke = invoke
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._callers = [threading.Thread(target=self._call) for _ in range(callers)]

    @property
    def made(self) -> int:
        """How many invocations have ended."""
        return self.outcomes.total()

    @property
    def failed(self) -> int:
        """How many of them ended with an error."""
        return len(self.failed_at)

    def _call(self) -> None:
        while not self._stop.is_set():
            try:
                error_type = self._invoke()
            except Exception as error:  # noqa: BLE001 - whatever an invocation ends with is its outcome
                error_type = type(error).__name__
            with self._lock:
                self.outcomes[error_type or ANSWERED] += 1
                if error_type:
                    self.failed_at.append(time.monotonic())

    def __enter__(self) -> Self:
        for caller in self._callers:
            caller.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the last answers."""
        self._stop.set()
        for caller in self._callers:
            caller.join()
