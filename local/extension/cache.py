"""The extension's cache."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable


class Cache:
    """A least-recently-used cache of limited size. A value that is too old is removed when it is requested."""

    def __init__(self, size: int, now: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._now = now
        self._entries: OrderedDict[object, tuple[float, str]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: object) -> str | None:
        """Return the value, or None if there is none or it is too old."""
        with self._lock:
            expiry, value = self._entries.pop(key, (0.0, None))
            if value is None or expiry <= self._now():
                return None
            self._entries[key] = (expiry, value)
            return value

    def put(self, key: object, value: str, ttl: float) -> None:
        """Keep the value for this many seconds; not at all when TTL or size is 0."""
        if self._size == 0 or ttl == 0:
            return
        with self._lock:
            self._entries.pop(key, None)
            self._entries[key] = (self._now() + ttl, value)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
