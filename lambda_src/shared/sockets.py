"""Sockets with a deadline and a limit on what they receive.

A socket's own timeout bounds each wait and not their sum: a peer that sends one byte a second is
always in time. These sockets set their timeout from the deadline before every wait.
"""

import socket
import ssl
from typing import Any

from shared.deadline import Deadline


class AnswerTooLargeError(OSError):
    """A peer sent more than any valid answer contains."""


class _Bounded:
    """Adds a deadline and a size limit to a socket class; must precede it among the base classes."""

    deadline: Deadline
    largest_answer: int
    """Bytes that may arrive between two sends."""
    received = 0
    may_wait = True

    def recv_into(self, *args: Any) -> int:
        self.settimeout(self.deadline.timeout() if self.may_wait else 0)  # type: ignore[attr-defined]
        size: int = super().recv_into(*args)  # type: ignore[misc]
        self.received += size
        if self.received > self.largest_answer:
            raise AnswerTooLargeError("answer too large")
        return size

    def sendall(self, *args: Any) -> None:
        self.received = 0
        self.settimeout(self.deadline.timeout())  # type: ignore[attr-defined]
        super().sendall(*args)  # type: ignore[misc]


class DeadlineSocket(_Bounded, socket.socket):
    """A TCP socket that waits no longer than its deadline."""


def open_connection(address: tuple[str, int], deadline: Deadline, largest_answer: int) -> DeadlineSocket:
    """Open a TCP connection, looking the name up anew.

    Each of the name's addresses gets an equal share of the time that is left.

    Raises:
        OSError: as `socket.create_connection`, TimeoutError among them.
    """
    host, port = address
    found = deadline.call(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    failure: OSError = OSError("getaddrinfo returned no address")
    for index, (family, kind, protocol, _, where) in enumerate(found):
        connection = DeadlineSocket(family, kind, protocol)
        connection.deadline, connection.largest_answer = deadline, largest_answer
        try:
            connection.settimeout(deadline.timeout() / (len(found) - index))
            connection.connect(where)
        except OSError as error:
            connection.close()
            failure = error
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    raise failure


def has_unread(connection: Any) -> bool:
    """Whether a PyMySQL connection has ended, or has bytes of no request: its next answer would be wrong."""
    connection._sock.may_wait = False  # noqa: SLF001 - PyMySQL has no method for this
    try:
        connection._rfile.peek(1)  # noqa: SLF001
        return True  # A byte, or the end.
    except ssl.SSLWantReadError:
        return False
    except OSError:
        return True
    finally:
        connection._sock.may_wait = True  # noqa: SLF001


def tls_context(authorities: str, deadline: Deadline, largest_answer: int) -> ssl.SSLContext:
    """Return a context that verifies chain and host name against PEM certificates, with deadline sockets."""

    class DeadlineSSLSocket(_Bounded, ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as in ssl
            self.settimeout(self.deadline.timeout())
            super().do_handshake(block)

    DeadlineSSLSocket.deadline = deadline
    DeadlineSSLSocket.largest_answer = largest_answer
    context = ssl.create_default_context(cadata=authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # RDS's certificates name the host as a subject alternative name; common names are not checked
    # (https://www.rfc-editor.org/rfc/rfc9525).
    context.hostname_checks_common_name = False
    context.sslsocket_class = DeadlineSSLSocket
    return context
