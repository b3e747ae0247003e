"""Carries the bytes of connections that the local cloud has let through; a process of its own, so that it is quick.

The cloud sends the descriptors of both ends over standard input (`Relay`), or only the client's where a connection is
to hang: what the client sends is then read and forgotten until it gives up.
"""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from local.peer import SET_DUMPABLE, set_process
from operations.commands import ROOT

CLIENT_SSL: Final = 0x0800
"""The bit of a client's capabilities by which it begins TLS; its first packet has four bytes and then these.

https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_ssl_request.html
"""
REFUSAL: Final = (
    b"\xff" + (3159).to_bytes(2, "little") + b"#HY000"
    b"Connections using insecure transport are prohibited while --require_secure_transport=ON."
)


class Relay:
    """The process that carries them, until this one ends."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen([sys.executable, "-m", "local.relay"], stdin=theirs.fileno(), cwd=ROOT)

    def carry(self, client: socket.socket, upstream: socket.socket | None, *, tls: bool = False) -> None:
        """Carry bytes between the two, which are closed here; without `upstream`, keep the client waiting.

        With `tls`, a MySQL client that begins without TLS is refused: the server is reached by a Unix socket, which
        counts as secure to it (https://dev.mysql.com/doc/refman/8.4/en/using-encrypted-connections.html).
        """
        ends = [each for each in (client, upstream) if each]
        socket.send_fds(self._control, [bytes([tls])], [each.fileno() for each in ends])
        for each in ends:
            each.close()


class HiddenSocket:
    """A listening Unix socket whose file is gone: only who has this descriptor can connect.

    See open(2) for O_PATH; the descriptor's path in /proc is open to this process alone (`SET_DUMPABLE`).
    """

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_PATH)
        Path(path).unlink()

    def connect(self, name: str = "") -> socket.socket:
        """Return a connection, whose own end has this name; Linux gives it one if it is empty (unix(7))."""
        connection = socket.socket(socket.AF_UNIX)
        connection.bind(name)
        connection.connect(f"/proc/self/fd/{self._descriptor}")
        return connection


def _serve(control: socket.socket) -> None:
    while (received := socket.recv_fds(control, 1, 2))[0]:
        tls, descriptors, _, _ = received
        client, *upstream = [socket.socket(fileno=each) for each in descriptors]
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _start(_copy_tls if upstream and any(tls) else _copy, client, *upstream)
        for each in upstream:
            _start(_copy, each, client)


def _start(run: Callable[..., None], *ends: socket.socket) -> None:
    threading.Thread(target=run, args=ends, daemon=True).start()


def _copy_tls(client: socket.socket, server: socket.socket) -> None:
    """Copy what a MySQL client sends, if it begins TLS; tell it what the server would tell if it does not."""
    with suppress(OSError):
        start = client.recv(8, socket.MSG_WAITALL)
        if int.from_bytes(start[4:], "little") & CLIENT_SSL:
            server.sendall(start)
        else:
            client.sendall(len(REFUSAL).to_bytes(3, "little") + b"\2" + REFUSAL)
            server.shutdown(socket.SHUT_RDWR)
    _copy(client, server)


def _copy(source: socket.socket, *target: socket.socket) -> None:
    """Copy until one end has gone, and end both: neither TLS nor MySQL goes on in one direction alone."""
    with suppress(OSError):
        while data := source.recv(65536):
            for each in target:
                each.sendall(data)
    for each in (source, *target):
        with suppress(OSError):  # It had gone already.
            each.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    set_process(SET_DUMPABLE, 0)
    _serve(socket.socket(fileno=0))
