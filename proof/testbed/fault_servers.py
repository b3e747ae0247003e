"""A scriptable extension and a scriptable proxy before the real database, on real sockets."""

import json
import re
import select
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Answer = Callable[[socket.socket], None]
"""Handles one request on its connection."""


Interruption = Callable[[bytes, ssl.SSLSocket, ssl.SSLSocket], bool]
"""Handles one statement, between client and server; returns whether the connection goes on."""


class _Server:
    """Accepts on a fixed port of 127.0.0.1, a thread for each connection; can go away and come back."""

    def __init__(self) -> None:
        # Bound at once, so that no other process gets the port; it does not listen yet.
        self._bound: socket.socket | None = socket.socket()
        self._bound.bind(("127.0.0.1", 0))
        self.port: int = self._bound.getsockname()[1]
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()

    def start(self, address: str = "127.0.0.1") -> None:
        listener, self._bound = self._bound, None
        if listener is None or address != "127.0.0.1":
            if listener:
                listener.close()
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, self.port))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening, and close all connections."""
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
    """Answers each request by the next entry of the script, and correctly when the script has ended."""

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
            while b"\r\n\r\n" not in head:  # The SDK's body may come with it.
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
    """A response; `length` replaces the body's own length in its header."""

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
    """Send one byte at a time with pauses: every byte arrives in time, the whole answer never does."""

    def answer(connection: socket.socket) -> None:
        for index in range(len(data)):
            connection.sendall(data[index : index + 1])
            time.sleep(pause)

    return answer


def endless(head: bytes) -> Answer:
    """The head, and then bytes without end, until the other side closes the connection."""

    def answer(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.sendall(head)
            for _ in range(500):
                connection.sendall(b"x" * 1_000_000)

    return answer


def hang(connection: socket.socket) -> None:
    """Send nothing until the other side closes the connection."""
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
    `on_statement` is asked about every statement, and may return what becomes of it.
    """

    def __init__(self, upstream: int, context: ssl.SSLContext, address: str = "127.0.0.1") -> None:
        super().__init__()
        self._upstream = (address, upstream)
        self._context = context
        self.at_greeting: deque[Answer] = deque()
        self.at_query: deque[Answer] = deque()
        self.on_statement: Callable[[str], Interruption | None] = lambda _: None
        self.connections = 0

    def _serve(self, connection: socket.socket) -> None:
        self.connections += 1
        if self.at_greeting:
            self.at_greeting.popleft()(connection)
            return
        with socket.create_connection(self._upstream) as upstream:
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
        """Relay what both sides send, except the statements that the script handles."""
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
                is_asked = packet[4] in (0x03, 0x0E)  # COM_QUERY, COM_PING.
                interruption = self.on_statement(packet[5:].decode(errors="replace") or "PING") if is_asked else None
                if interruption:
                    if not interruption(packet, client, server):
                        return
                    continue
                # A statement is a packet numbered 0 that begins with COM_QUERY.
                if packet[3:5] == b"\x00\x03" and b"DATABASE()" in packet and self.at_query:
                    self.at_query.popleft()(client)
                else:
                    server.sendall(packet)


def cut_before(packet: bytes, client: ssl.SSLSocket, server: ssl.SSLSocket) -> bool:
    """The server never hears of the statement."""
    return False


def cut_within(packet: bytes, client: ssl.SSLSocket, server: ssl.SSLSocket) -> bool:
    """The server gets all of the statement but its last byte."""
    server.sendall(packet[:-1])
    return False


def cut_unanswered(packet: bytes, client: ssl.SSLSocket, server: ssl.SSLSocket) -> bool:
    """The server gets the statement, and runs it while both ends are being closed."""
    server.sendall(packet)
    return False


def cut_late(packet: bytes, client: ssl.SSLSocket, server: ssl.SSLSocket) -> bool:
    """The server gets the statement, and runs it, when the client has long gone on."""
    client.shutdown(socket.SHUT_RDWR)
    time.sleep(0.3)
    server.sendall(packet)
    server.recv(65536)
    return False


def cut_after(packet: bytes, client: ssl.SSLSocket, server: ssl.SSLSocket) -> bool:
    """The server has answered, and the client never hears it."""
    server.sendall(packet)
    server.recv(65536)
    return False


def cut_answer(packet: bytes, client: ssl.SSLSocket, server: ssl.SSLSocket) -> bool:
    """The client hears the beginning of the answer."""
    server.sendall(packet)
    client.sendall(server.recv(65536)[:6])
    return False


def hold_answer(packet: bytes, client: ssl.SSLSocket, server: ssl.SSLSocket) -> bool:
    """The client hears nothing, and closes the connection itself."""
    server.sendall(packet)
    with suppress(OSError):
        client.recv(65536)
    return False


def refuse_statement(errno: int) -> Interruption:
    """An error in answer to the statement, of which the server does not hear."""

    def refuse(packet: bytes, client: ssl.SSLSocket, server: ssl.SSLSocket) -> bool:
        client.sendall(error_packet(errno, 1))
        return True

    return refuse


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
    """MySQL's error packet (https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_err_packet.html)."""
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


def _result_set(*values: bytes) -> bytes:
    """One row of text, as MySQL answers a query.

    https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response_text_resultset.html
    """
    definition = b"\x03def\x00\x00\x00\x01c\x00\x0c\x2d\x00\xff\x00\x00\x00\xfd\x00\x00\x00\x00\x00"
    end = b"\xfe\x00\x00\x02\x00"
    row = b"".join(bytes([len(value)]) + value for value in values)
    bodies = [bytes([len(values)]), *[definition] * len(values), end, row, end]
    return b"".join(len(body).to_bytes(3, "little") + bytes([number]) + body for number, body in enumerate(bodies, 1))


def answer_twice(connection: socket.socket) -> None:
    """A right answer, and at once a second answer that was not asked for."""
    connection.sendall(_result_set(b"dev_DB", b"0", b"9") + _result_set(b"stale", b"stale", b"stale"))


def endless_rows(connection: socket.socket) -> None:
    """Rows in packets of the largest size, until the other side closes the connection."""
    head = _result_set(b"dev_DB", b"9")
    with suppress(OSError):
        connection.sendall(head[: head.index(b"\x06dev_DB") - 4])
        for number in range(100):
            connection.sendall(b"\xff\xff\xff" + bytes([(number + 5) % 256]) + b"\xfd\xf9\xff\xff" + b"x" * 0xFFFFFB)


def close_handshake(upstream: int) -> Answer:
    """The real server's greeting, and a TLS alert close_notify in answer to the client's hello."""

    def answer(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", upstream)) as server:
            connection.sendall(_packet(server))
        _packet(connection)
        connection.recv(65536)
        connection.sendall(b"\x15\x03\x03\x00\x02\x01\x00")

    return answer


def full_listener(address: str) -> list[socket.socket]:
    """A listening socket whose queue is full, so that it drops every SYN, and what fills it."""
    listener = socket.socket()
    listener.bind((address, 0))
    listener.listen(0)
    filling = []
    for _ in range(3):
        filling.append(socket.socket())
        filling[-1].settimeout(0)
        with suppress(BlockingIOError):
            filling[-1].connect(listener.getsockname())
    return [listener, *filling]


def common_name_certificate(name: str) -> tuple[str, ssl.SSLContext]:
    """An authority in PEM, and a server's context with a certificate that has a common name and no other."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile() as file:
        file.write(authority + private)
        file.flush()
        context.load_cert_chain(file.name)
    return authority.decode(), context


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
