"""Virtual time, and what hundreds of execution environments share in it: the account's quota and the database."""

import heapq
import itertools
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import pymysql

CALL: Final = 0.01
"""Seconds of one call to AWS."""
LOGIN: Final = 0.03
"""Seconds of one login, TLS included."""


class Clock:
    """Virtual time: threads that sleep are woken in order, one at a time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = itertools.count()
        self._sleeping: list[tuple[float, int, threading.Event]] = []
        self._yielded = threading.Semaphore(0)

    def monotonic(self) -> float:
        """The time in seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let the others run until that time."""
        event = threading.Event()
        heapq.heappush(self._sleeping, (self.now + max(seconds, 0), next(self._order), event))
        self._yielded.release()
        event.wait()

    def run(self, works: list[Callable[[], None]]) -> None:
        """Run all of the works to their ends."""

        def body(work: Callable[[], None]) -> None:
            self.sleep(0)
            try:
                work()
            finally:
                self._yielded.release()

        for work in works:
            threading.Thread(target=body, args=(work,), daemon=True).start()
            self._yielded.acquire()
        while self._sleeping:
            self.now, _, event = heapq.heappop(self._sleeping)
            event.set()
            self._yielded.acquire()


@dataclass
class World:
    """What the environments share: the account's quota and the database."""

    clock: Clock
    quota: float
    max_connections: int
    tokens: float = 0.0
    filled: float = 0.0
    connections: int = 0
    calls: Counter[int] = field(default_factory=Counter)
    """Calls of `GetParameter`, by the second they fell into."""
    logins: int = 0

    def get_parameter(self) -> bool:
        """One call; whether it was within the quota. A refused call does not count against it."""
        self.clock.sleep(CALL)
        self.calls[int(self.clock.now)] += 1
        self.tokens = min(self.quota, self.tokens + (self.clock.now - self.filled) * self.quota)
        self.filled = self.clock.now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def login(self) -> None:
        """One login; refused when all connections are taken."""
        self.clock.sleep(LOGIN)
        self.logins += 1
        if self.connections >= self.max_connections:
            raise pymysql.OperationalError(1040, "Too many connections")
        self.connections += 1
