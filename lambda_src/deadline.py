"""One deadline per invocation, and sockets that cannot wait past it.

A socket's own timeout bounds each wait and not their sum: a peer that sends a byte a
second is always in time. These sockets set their timeout anew from the deadline before
every wait, so that neither a drip nor a hang outlives the invocation.
"""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Deadline:
    """When the work at hand must have ended; one object for an execution environment's life."""

    def __init__(self) -> None:
        self._end = float("inf")

    def start(self, seconds: float) -> None:
        """Begin an invocation that may take so many seconds."""
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left, below zero when it has passed."""
        return self._end - time.monotonic()

    def timeout(self) -> float:
        """Seconds left, for a socket.

        Raises:
            TimeoutError: none are.
        """
        remaining = self.remaining()
        if remaining <= 0:
            raise TimeoutError("deadline passed")
        return remaining

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Bring the deadline nearer for a part of the work, never further away."""
        end = self._end
        self._end = min(end, time.monotonic() + seconds)
        try:
            yield
        finally:
            self._end = end


class _Bounded:
    """What makes a socket obey a deadline; before a socket class among the bases."""

    deadline: Deadline

    def recv_into(self, *args: Any) -> int:
        self.settimeout(self.deadline.timeout())  # type: ignore[attr-defined]
        return super().recv_into(*args)  # type: ignore[misc, no-any-return]

    def sendall(self, *args: Any) -> None:
        self.settimeout(self.deadline.timeout())  # type: ignore[attr-defined]
        super().sendall(*args)  # type: ignore[misc]


class DeadlineSocket(_Bounded, socket.socket):
    """A TCP socket that waits no longer than its deadline."""


def connect(address: tuple[str, int], deadline: Deadline) -> DeadlineSocket:
    """Open a TCP connection, looking the name up anew.

    Raises:
        OSError: as `socket.create_connection`, TimeoutError among them.
    """
    plain = socket.create_connection(address, deadline.timeout())
    bounded = DeadlineSocket(plain.family, plain.type, plain.proto, fileno=plain.detach())
    bounded.deadline = deadline
    bounded.settimeout(deadline.timeout())
    bounded.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bounded


def tls_context(authorities: str, deadline: Deadline) -> ssl.SSLContext:
    """A context that verifies chain and host name against PEM certificates, for sockets with the deadline."""

    class DeadlineSSLSocket(_Bounded, ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as in ssl
            self.settimeout(self.deadline.timeout())
            super().do_handshake(block)

    DeadlineSSLSocket.deadline = deadline
    context = ssl.create_default_context(cadata=authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = DeadlineSSLSocket
    return context
