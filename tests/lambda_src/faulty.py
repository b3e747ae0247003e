"""A scriptable extension and a scriptable proxy before the real database, on real sockets."""

import json
import re
import select
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

Answer = Callable[[socket.socket], None]
"""What to do with one request: whatever happens on its connection."""


class _Server:
    """Accepts on a fixed port of 127.0.0.1, a thread for each connection; can go away and come back."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()

    def start(self, address: str = "127.0.0.1") -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, self.port))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def stop(self) -> None:
        """Refuse from now on, and cut what is connected."""
        if self._listener:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(connection)
            threading.Thread(target=self._serve_quietly, args=(connection,), daemon=True).start()

    def _serve_quietly(self, connection: socket.socket) -> None:
        with suppress(OSError, EOFError, ValueError):  # The last of a socket closed meanwhile.
            self._serve(connection)
        with suppress(OSError):
            connection.close()
        self._open.discard(connection)

    def _serve(self, connection: socket.socket) -> None:
        raise NotImplementedError


class FaultyExtension(_Server):
    """Answers as the script says, request by request, and well once it has run out."""

    def __init__(self, parameter: object, secret: object) -> None:
        super().__init__()
        self.parameter = parameter
        self.secret = secret
        self.script: deque[Answer] = deque()
        self.requests: list[str] = []
        self.tokens: list[str] = []

    def _serve(self, connection: socket.socket) -> None:
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                received = connection.recv(65536)
                if not received:
                    return
                head += received
            path = head.split(b" ")[1].decode()
            self.requests.append(path)
            self.tokens += re.findall(r"(?im)^X-Aws-Parameters-Secrets-Token: (.*?)\r?$", head.decode())
            if self.script:
                self.script.popleft()(connection)
            else:
                body = self.parameter if path.startswith("/systemsmanager") else self.secret
                respond(200, json.dumps(body).encode())(connection)


def respond(status: int, body: bytes, *headers: str, length: int | None = None) -> Answer:
    """A response, with another length than the body's when told."""

    def answer(connection: socket.socket) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
        connection.sendall("\r\n".join(lines).encode() + body)

    return answer


def send(data: bytes) -> Answer:
    """Bytes as they are, and the end of the connection."""

    def answer(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_RDWR)

    return answer


def drip(data: bytes, pause: float) -> Answer:
    """One byte, a pause, and so on: each in time, the whole never."""

    def answer(connection: socket.socket) -> None:
        for index in range(len(data)):
            connection.sendall(data[index : index + 1])
            time.sleep(pause)

    return answer


def hang(connection: socket.socket) -> None:
    """Nothing, until the other side has had enough."""
    while connection.recv(65536):
        pass


def reset(connection: socket.socket) -> None:
    """A reset instead of an answer."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class FaultyDatabase(_Server):
    """A proxy between the function and the real server that knows the protocol, TLS included.

    `at_greeting` acts on new connections, in turn; `at_query` on statements once logged in.
    An action that returns nothing has taken the connection's place; `pass_on` lets it through.
    """

    def __init__(self, upstream: int, context: ssl.SSLContext) -> None:
        super().__init__()
        self._upstream = upstream
        self._context = context
        self.at_greeting: deque[Answer] = deque()
        self.at_query: deque[Answer] = deque()
        self.connections = 0

    def _serve(self, connection: socket.socket) -> None:
        self.connections += 1
        if self.at_greeting:
            self.at_greeting.popleft()(connection)
            return
        with socket.create_connection(("127.0.0.1", self._upstream)) as upstream:
            greeting = _packet(upstream)
            connection.sendall(greeting)
            request = _packet(connection)
            upstream.sendall(request)
            client_context = ssl.create_default_context()
            client_context.check_hostname = False
            client_context.verify_mode = ssl.CERT_NONE
            with (
                self._context.wrap_socket(connection, server_side=True) as client,
                client_context.wrap_socket(upstream) as server,
            ):
                self._open.add(client)
                try:
                    self._relay(client, server)
                finally:
                    self._open.discard(client)

    def _relay(self, client: ssl.SSLSocket, server: ssl.SSLSocket) -> None:
        """Whatever either side sends, but for the statements that the script is about."""
        while True:
            ready = [side for side in (client, server) if side.pending()] or select.select([client, server], [], [])[0]
            if server in ready:
                server.settimeout(0)
                try:
                    received = server.recv(65536)
                except ssl.SSLWantReadError:  # A session ticket, say, and no data.
                    received = None
                server.settimeout(None)
                if received == b"":
                    return
                client.sendall(received or b"")
            if client in ready:
                packet = _packet(client)
                # A statement is a packet numbered 0 that begins with COM_QUERY.
                if packet[3:5] == b"\x00\x03" and b"DATABASE()" in packet and self.at_query:
                    self.at_query.popleft()(client)
                else:
                    server.sendall(packet)


def _packet(connection: socket.socket) -> bytes:
    head = _exactly(connection, 4)
    return head + _exactly(connection, int.from_bytes(head[:3], "little"))


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        received = connection.recv(size - len(data))
        if not received:
            raise EOFError
        data += received
    return data


def error_packet(errno: int, sequence: int) -> bytes:
    """MySQL's error packet (client/server protocol, ERR_Packet)."""
    body = b"\xff" + struct.pack("<H", errno) + b"#HY000" + b"told by the test"
    return len(body).to_bytes(3, "little") + bytes([sequence]) + body


def refuse_connection(errno: int) -> Answer:
    """An error in the place of the greeting, as for too many connections; without a state."""
    body = b"\xff" + struct.pack("<H", errno) + b"told by the test"
    return send(len(body).to_bytes(3, "little") + b"\x00" + body)


def refuse_query(errno: int) -> Answer:
    """An error in answer to a statement; the connection stays."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(error_packet(errno, 1))

    return answer


def greeting_without_tls(upstream: int) -> Answer:
    """The real server's greeting, saying that it has no TLS."""

    def answer(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", upstream)) as server:
            greeting = bytearray(_packet(server))
        flags = greeting.index(0, 5) + 1 + 4 + 8 + 1  # After version, thread, salt and filler.
        greeting[flags + 1] &= ~0x08 & 0xFF  # CLIENT_SSL is 0x0800.
        connection.sendall(bytes(greeting))
        hang(connection)

    return answer


@contextmanager
def running(*servers: _Server) -> Iterator[Any]:
    for server in servers:
        server.start()
    try:
        yield servers
    finally:
        for server in servers:
            server.stop()
