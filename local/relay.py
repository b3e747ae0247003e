"""Carries the bytes of connections that the local cloud has let through; a process of its own, so that it is quick.

The cloud sends the descriptors of both ends over standard input (`Relay`), or only the client's where a connection is
to hang: what the client sends is then read and forgotten until it gives up.
"""

import ctypes
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from operations.commands import ROOT

CLIENT_SSL: Final = 0x0800
"""The bit of a client's capabilities by which it begins TLS; its first packet has four bytes and then these.

https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_ssl_request.html
"""
INSECURE: Final = b"Connections using insecure transport are prohibited while --require_secure_transport=ON."
_PLAIN: Final = b"-"
_TLS: Final = b"T"
_SET_DUMPABLE: Final = 4


class Relay:
    """The process that carries them, until this one ends."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "local.relay"]
        self._process = subprocess.Popen(command, stdin=theirs.fileno(), env=os.environ | {"PYTHONPATH": str(ROOT)})
        theirs.close()

    def carry(self, client: socket.socket, upstream: socket.socket | None, *, tls: bool = False) -> None:
        """Carry bytes between the two; without `upstream`, keep the client waiting.

        With `tls`, a MySQL client that begins without TLS is refused: the server is reached by a Unix socket, which
        counts as secure to it (https://dev.mysql.com/doc/refman/8.4/en/using-encrypted-connections.html).
        """
        ends = [each.fileno() for each in (client, upstream) if each]
        socket.send_fds(self._control, [_TLS if tls else _PLAIN], ends)


def keep_private() -> None:
    """Keep others of the same user from this process's memory and descriptors (prctl(2), Linux)."""
    ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)


class HiddenSocket:
    """A listening Unix socket whose file is gone: only who has this descriptor can connect.

    See open(2) for O_PATH; the descriptor's path in /proc is open to this process alone (`keep_private`).
    """

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_PATH)
        Path(path).unlink()

    def connect(self, name: bytes = b"") -> socket.socket:
        """Return a connection, whose own end has this name."""
        connection = socket.socket(socket.AF_UNIX)
        if name:
            connection.bind(name)
        connection.connect(f"/proc/self/fd/{self._descriptor}")
        return connection


def _serve(control: socket.socket) -> None:
    while True:
        kind, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not kind:
            os._exit(0)
        client, *upstream = [socket.socket(fileno=each) for each in descriptors]
        if not upstream:
            _start(_forget, client)
            continue
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _start(_copy_tls if kind == _TLS else _copy, client, upstream[0])
        _start(_copy, upstream[0], client)


def _start(run: Callable[..., None], *ends: socket.socket) -> None:
    threading.Thread(target=run, args=ends, daemon=True).start()


def _forget(client: socket.socket) -> None:
    with suppress(OSError):
        while client.recv(65536):
            pass
    client.close()


def _copy_tls(client: socket.socket, server: socket.socket) -> None:
    """Copy what a MySQL client sends, if it begins TLS; tell it what the server would tell if it does not."""
    with suppress(OSError):
        data = client.recv(8, socket.MSG_WAITALL)
        if int.from_bytes(data[4:8], "little") & CLIENT_SSL:
            server.sendall(data)
            _copy(client, server)
            return
        if data:
            error = b"\xff" + (3159).to_bytes(2, "little") + b"#HY000" + INSECURE
            client.sendall(len(error).to_bytes(3, "little") + bytes([data[3] + 1]) + error)
    _end(client, server)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):  # One end has gone.
        while data := source.recv(65536):
            target.sendall(data)
    _end(source, target)


def _end(*ends: socket.socket) -> None:
    """End both: neither TLS nor MySQL goes on in one direction alone."""
    for end in ends:
        with suppress(OSError):  # It had gone already.
            end.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    keep_private()
    _serve(socket.socket(fileno=0))
