"""Every fault that the function must handle: the outcome, how often it tries, how long it takes.

FAULTS is the data of both the tests here and proof/faults.md, which a test holds to it.
"""

import json
import logging
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trustme

import application
from local.tests.aws import AWSError
from local.tests.functions import CANARY, CONFIG, start_frame
from proof.testbed import lateness
from proof.testbed.fault_servers import (
    Answer,
    FaultyExtension,
    answer_twice,
    close_handshake,
    common_name_certificate,
    drip,
    endless,
    endless_rows,
    full_listener,
    greeting_without_tls,
    hang,
    refuse_connection,
    refuse_query,
    reset,
    respond,
    running,
    send,
)
from proof.testbed.harness import PASSWORD, TOKEN, USER, Harness, parameter_answer, secret_answer
from shared import database, errors

Inject = Callable[[Harness], object]


def _answers(*answers: Answer) -> Inject:
    return lambda harness: harness.extension.script.extend(answers)


def _greets(*answers: Answer) -> Inject:
    return lambda harness: harness.database.at_greeting.extend(answers)


def _queried(*answers: Answer) -> Inject:
    return lambda harness: harness.database.at_query.extend(answers)


def _value(value: object, kind: str = "String") -> Inject:
    return lambda harness: setattr(harness.extension, "parameter", parameter_answer(value, kind))


def _secret(**changed: object) -> Inject:
    return lambda harness: harness.set_secret(harness.details | changed)


def _sql(*statements: str) -> Inject:
    return lambda harness: list(harness.server.execute(*statements))


def _looked_up(harness: Harness, *ports: int, look_up: Callable[[], Any]) -> None:
    """Replace the look-up of the names at these ports only."""
    real = socket.getaddrinfo

    def replaced(host: str, port: int, *rest: Any, **more: Any) -> Any:
        return look_up() if port in ports else real(host, port, *rest, **more)

    harness.monkeypatch.setattr(socket, "getaddrinfo", replaced)


def _unknown_name(harness: Harness) -> None:
    def unknown() -> None:
        raise socket.gaierror(-2, "unknown")

    _looked_up(harness, harness.database.port, look_up=unknown)


def _silent_resolver(of: Callable[[Harness], int]) -> Inject:
    """A look-up that returns long after every deadline; test_resolver.py has a real resolver."""
    return lambda harness: _looked_up(harness, of(harness), look_up=threading.Event().wait)


def _dead_addresses(number: int) -> Inject:
    """Addresses that drop every SYN: sockets whose queue is full."""

    def inject(harness: Harness) -> None:
        dead = [full_listener(f"127.0.0.{index + 2}") for index in range(number)]
        harness.keep.extend(dead)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", sockets[0].getsockname()) for sockets in dead]
        _looked_up(harness, harness.database.port, look_up=lambda: found)

    return inject


def _aws_drips(harness: Harness) -> None:
    """AWS's own answer comes a byte at a time; each byte comes in time, the whole answer never."""
    harness.extension.script.extend([GENERIC] * ALWAYS)
    dripping = FaultyExtension(None, None)
    dripping.script.extend([drip(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b"x" * 900, 0.2)] * ALWAYS)
    dripping.start()
    harness.keep.append([dripping])
    harness.monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{dripping.port}")


def _answers_another_request(harness: Harness) -> None:
    """The secret's request gets the parameter's answer."""
    late = respond(200, json.dumps(parameter_answer(json.dumps(CONFIG))).encode())
    harness.extension.script.extend([late, late])


def _broken_token(harness: Harness) -> None:
    harness.monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN + "\n")


def _certificate_without_names(harness: Harness) -> None:
    """Present a certificate of a trusted authority whose only name is a common name."""
    authority, context = common_name_certificate("localhost")
    harness.database._context = context
    harness.frame._database._context.load_verify_locations(cadata=authority)


def _certificate(name: str, *, trusted: bool, expired: bool = False) -> Inject:
    """Present another certificate: for another name, of another authority, or not valid now."""

    def inject(harness: Harness) -> None:
        authority = trustme.CA()
        end = datetime.now(UTC) + timedelta(days=-1 if expired else 1)
        issued = authority.issue_cert(name, not_before=end - timedelta(days=2), not_after=end)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        issued.configure_cert(context)
        harness.database._context = context
        if trusted:
            authority.configure_trust(harness.frame._database._context)

    return inject


def _kill_on_server(harness: Harness) -> None:
    rows = harness.server.execute(f"SELECT id FROM information_schema.processlist WHERE user = '{USER}'")
    for (thread,) in rows:
        harness.server.execute(f"KILL {thread}")


def _stream_forever(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(50):
            connection.sendall(b"x" * 1_000_000)


def _close_extensions_connections(harness: Harness) -> None:
    harness.extension.stop()
    harness.extension.start()


def _after_idling(harness: Harness) -> None:
    harness.monkeypatch.setattr(database, "IDLE", -1.0)


def _proxied(harness: Harness) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        harness.monkeypatch.setenv(name, "http://127.0.0.1:9")


def _hanging_with_little_time(harness: Harness) -> None:
    harness.remaining_ms = 1500
    harness.extension.script.extend([hang] * 3)


def _aws_refuses(code: str) -> Inject:
    """Both services refuse, and the extension does not say why."""

    def refuse(request: object) -> None:
        raise AWSError(code)

    def inject(harness: Harness) -> None:
        harness.extension.script.extend([GENERIC] * ALWAYS)
        harness.monkeypatch.setattr("shared.frame.THROTTLE_PAUSE", 0.5)
        for action in ("GetParameter", "GetSecretValue"):
            harness.monkeypatch.setattr(harness.aws, action, refuse)

    return inject


def _aws_throttles_for_a_moment(harness: Harness) -> None:
    """Both of one read's tries; the read is repeated after a pause."""
    harness.extension.script.extend([GENERIC] * ALWAYS)
    harness.monkeypatch.setattr("shared.frame.THROTTLE_PAUSE", 0.5)
    answer, refusals = harness.aws.GetParameter, [AWSError("ThrottlingException")] * 2

    def refuse(request: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return answer(request)

    harness.monkeypatch.setattr(harness.aws, "GetParameter", refuse)


def _binary(harness: Harness) -> None:
    harness.extension.secret = secret_answer(None, SecretBinary="eA==")


CONFIGURATION = errors.ConfigurationError
UNAVAILABLE = errors.DependencyUnavailableError
REFUSED = errors.CredentialsRefusedError
QUERY = errors.QueryFailedError
TLS = errors.TLSVerificationError

GENERIC = respond(400, b"an unexpected error occurred while executing request")
NOT_READY = respond(400, b"not ready to serve traffic, please wait")
BAD_GATEWAY = respond(502, b"")
NEGATIVE_CHUNK = endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n")
CHUNKED = send(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"Par\r\n')
TRUNCATED = send(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"Par')
ALWAYS = 20


def extension_port(harness: Harness) -> int:
    """The extension's port."""
    return harness.extension.port


def database_port(harness: Harness) -> int:
    """The database's port."""
    return harness.database.port


def _closes_handshake(times: int) -> Inject:
    def inject(harness: Harness) -> None:
        harness.database.at_greeting.extend([close_handshake(harness.server.mysql.port)] * times)

    return inject


@dataclass(frozen=True)
class Fault:
    """One fault: what is wrong, how the invocation ends, and what it costs."""

    area: str
    name: str
    inject: Inject
    error: type[errors.InvocationError] | None
    """What the caller hears; None when the invocation answers."""
    tries: int
    """Requests for the parameter, or connections to the database, that the invocation makes."""
    within: float = 1.5
    """Seconds, at the most."""
    warm: bool = False
    """Whether a connection was kept from an invocation before."""


def _extension(name: str, inject: Inject, error: type[errors.InvocationError] | None, tries: int, **more: Any) -> Fault:
    return Fault("extension", name, inject, error, tries, **more)


def _database(name: str, inject: Inject, error: type[errors.InvocationError] | None, tries: int, **more: Any) -> Fault:
    return Fault("database", name, inject, error, tries, **more)


FAULTS = [
    _extension("not listening", lambda harness: harness.extension.stop(), UNAVAILABLE, 0, within=3.8),
    _extension("`not ready` for a moment", _answers(*[NOT_READY] * 3), None, 4, within=2.0),
    _extension("`not ready` for ever", _answers(*[NOT_READY] * ALWAYS), UNAVAILABLE, 7, within=3.8),
    _extension("the generic 400, and AWS answers", _answers(*[GENERIC] * ALWAYS), None, 1, within=3.0),
    _extension("the generic 400, and AWS denies", _aws_refuses("AccessDeniedException"), CONFIGURATION, 1, within=3.0),
    _extension("the generic 400, and AWS throttles", _aws_refuses("ThrottlingException"), UNAVAILABLE, 1, within=5.0),
    _extension("the generic 400, and AWS throttles for a moment", _aws_throttles_for_a_moment, None, 1, within=5.0),
    _extension("401 once, with a new token then", _answers(respond(401, b"")), None, 2),
    _extension("401 again", _answers(*[respond(401, b"")] * ALWAYS), CONFIGURATION, 2),
    _extension("403 again", _answers(*[respond(403, b"")] * ALWAYS), CONFIGURATION, 2),
    _extension("404", _answers(respond(404, b"404 page not found\n")), CONFIGURATION, 1),
    _extension("500, 502, 503 for a moment", _answers(respond(500, b""), BAD_GATEWAY, respond(503, b"")), None, 4),
    _extension("502 for ever", _answers(*[BAD_GATEWAY] * ALWAYS), UNAVAILABLE, 7, within=3.8),
    _extension("no answer", _answers(hang, hang), UNAVAILABLE, 2, within=3.8),
    _extension(
        "a head that drips", _answers(*[drip(b"HTTP/1.1 200 OK\r\n" * 50, 0.2)] * 2), UNAVAILABLE, 2, within=3.8
    ),
    _extension(
        "a body that drips",
        _answers(*[drip(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b"x" * 900, 0.1)] * 2),
        UNAVAILABLE,
        2,
        within=3.8,
    ),
    _extension("an answer cut short, once", _answers(TRUNCATED), None, 2),
    _extension("an answer cut short, again", _answers(TRUNCATED, TRUNCATED), UNAVAILABLE, 2),
    _extension("a chunked answer cut short", _answers(CHUNKED, CHUNKED), UNAVAILABLE, 2),
    _extension("an empty answer", _answers(*[respond(200, b"")] * 2), UNAVAILABLE, 2),
    _extension("a garbage status line", _answers(*[send(b"\x16\x03garbage\r\n\r\n")] * 2), UNAVAILABLE, 2),
    _extension("an answer that is no JSON object", _answers(*[respond(200, b"[1]")] * 2), UNAVAILABLE, 2),
    _extension("an answer of 50 MB", _answers(_stream_forever), CONFIGURATION, 1),
    _extension("a redirect", _answers(respond(302, b"", "Location: http://127.0.0.1:9/")), CONFIGURATION, 1),
    _extension("a reset in place of an answer", _answers(reset), None, 2),
    _extension("its kept connection gone after a freeze", _close_extensions_connections, None, 1, warm=True),
    _extension("a proxy in the environment", _proxied, None, 1),
    _extension("the look-up of localhost never returns", _silent_resolver(extension_port), UNAVAILABLE, 0, within=3.8),
    _extension("the generic 400, and AWS's answer drips", _aws_drips, UNAVAILABLE, 1, within=7.0),
    _extension("an answer to another request", _answers_another_request, None, 1),
    _extension("a chunk of size -1, without end", _answers(NEGATIVE_CHUNK), CONFIGURATION, 1),
    _extension("a session token that HTTP cannot carry", _broken_token, CONFIGURATION, 0),
    Fault("parameter", "a SecureString", _value("AQICAH", "SecureString"), CONFIGURATION, 1),
    Fault("parameter", "a StringList", _value("a,b", "StringList"), CONFIGURATION, 1),
    Fault("parameter", "not JSON", _value(CANARY), CONFIGURATION, 1),
    Fault("parameter", "JSON, but no object", _value("[true]"), CONFIGURATION, 1),
    Fault("parameter", "no value", _value(None), CONFIGURATION, 1),
    Fault("parameter", "`enableVersion` that is no truth value", _value('{"enableVersion": 1}'), CONFIGURATION, 1),
    Fault("parameter", "an answer without Parameter", _answers(respond(200, b"{}")), CONFIGURATION, 1),
    Fault("secret", "a key missing, empty or blank", _secret(host=" ", password=""), CONFIGURATION, 1),
    Fault("secret", "a port that is none", _secret(port=CANARY), CONFIGURATION, 1),
    Fault("secret", "keys that are not known", _secret(other=CANARY), None, 1),
    Fault(
        "secret", "a port that is a text", lambda b: b.set_secret(b.details | {"port": str(b.database.port)}), None, 1
    ),
    Fault("secret", "not JSON", lambda b: setattr(b.extension, "secret", secret_answer(CANARY)), CONFIGURATION, 1),
    Fault("secret", "JSON, but no object", lambda harness: harness.set_secret([CANARY]), CONFIGURATION, 1),
    Fault(
        "secret",
        "binary",
        _binary,
        CONFIGURATION,
        1,
    ),
    _database("refused", lambda harness: harness.database.stop(), UNAVAILABLE, 0, within=3.0),
    _database("its name unknown", _unknown_name, UNAVAILABLE, 0, within=3.0),
    _database("no answer to the connection", _dead_addresses(1), UNAVAILABLE, 0, within=3.0),
    _database("four addresses, none of which answers", _dead_addresses(4), UNAVAILABLE, 0, within=3.0),
    _database("the look-up of its name never returns", _silent_resolver(database_port), UNAVAILABLE, 0, within=3.0),
    _database("accepts and never greets", _greets(hang), UNAVAILABLE, 1, within=3.0),
    _database("accepts and closes, once", _greets(send(b"")), None, 2),
    _database("accepts and closes", _greets(*[send(b"")] * 3), UNAVAILABLE, 3, within=3.0),
    _database("speaks another protocol", _greets(send(b"\x01\x00\x00\x07x")), CONFIGURATION, 1),
    _database("greets in garbage", _greets(send(b"\x03\x00\x00\x00\x0a\xff\xfe")), CONFIGURATION, 1),
    _database("of another authority", _certificate("localhost", trusted=False), TLS, 1),
    _database("of another name", _certificate("db.example", trusted=True), TLS, 1),
    _database("with an expired certificate", _certificate("localhost", trusted=True, expired=True), TLS, 1),
    _database("whose certificate has a common name alone", _certificate_without_names, TLS, 1),
    _database("close_notify during the TLS handshake, once", _closes_handshake(1), None, 2),
    _database("close_notify during the TLS handshake", _closes_handshake(3), UNAVAILABLE, 3, within=3.0),
    _database("the server cannot look up this host (1042)", _greets(refuse_connection(1042)), None, 2),
    _database("the server is unavailable (3168)", _greets(*[refuse_connection(3168)] * 3), UNAVAILABLE, 3, within=3.0),
    _database(
        "without TLS", lambda b: b.database.at_greeting.append(greeting_without_tls(b.server.mysql.port)), TLS, 1
    ),
    _database("that wants TLS and sees none (3159)", _greets(refuse_connection(3159)), TLS, 1),
    _database("a password it refuses (1045)", _sql(f"ALTER USER {USER}@'%' IDENTIFIED BY 'x'"), REFUSED, 1, within=3.0),
    _database("a locked account (3118, 4151)", _sql(f"ALTER USER {USER}@'%' ACCOUNT LOCK"), CONFIGURATION, 1),
    _database("a database without a grant (1044)", _secret(dbname="mysql"), CONFIGURATION, 1),
    _database("a database that is not there (1049)", _greets(refuse_connection(1049)), CONFIGURATION, 1),
    _database("a blocked host (1129)", _greets(refuse_connection(1129)), CONFIGURATION, 1),
    _database("too many connections, for a moment (1040)", _greets(refuse_connection(1040)), None, 2),
    _database("too many connections (1040)", _greets(*[refuse_connection(1040)] * 3), UNAVAILABLE, 3, within=3.0),
    _database("too many for the user (1203)", _greets(*[refuse_connection(1203)] * 3), UNAVAILABLE, 3, within=3.0),
    _database("resources used up (1226)", _greets(*[refuse_connection(1226)] * 3), UNAVAILABLE, 3, within=3.0),
    _database("the kept connection killed", _kill_on_server, None, 1, warm=True),
    _database("the kept connection idle for too long", _after_idling, None, 1, warm=True),
    _database("the kept connection closed for idleness (4031)", _queried(refuse_query(4031)), None, 1, warm=True),
    _database("lost during the query, once", _queried(send(b"")), None, 1, warm=True),
    _database("lost during the query of a new connection", _queried(send(b"")), None, 2),
    _database("lost during the query, again", _queried(send(b""), send(b"")), UNAVAILABLE, 2),
    _database("no answer to the query, once", _queried(hang), None, 1, warm=True, within=4.0),
    _database("an answer in garbage", _queried(*[send(b"\x01\x00\x00\x09x")] * 2), QUERY, 1),
    _database("rows without end", _queried(endless_rows), QUERY, 1),
    _database("one answer more than was asked for", _queried(answer_twice), None, 0, warm=True),
    _database("read-only after a failover (1290), once", _queried(refuse_query(1290)), None, 1, warm=True),
    _database("read-only after a failover (1836), again", _queried(*[refuse_query(1836)] * 2), UNAVAILABLE, 2),
    _database("shutting down (1053)", _queried(refuse_query(1053)), None, 1, warm=True),
    _database("interrupted by a shutdown or an operator (1317)", _queried(refuse_query(1317)), None, 1, warm=True),
    _database("killed by an operator (1927)", _queried(refuse_query(1927)), None, 1, warm=True),
    _database("a deadlock (1213), once", _queried(refuse_query(1213)), None, 1, warm=True),
    _database("a lock not had in time (1205), again", _queried(*[refuse_query(1205)] * 2), UNAVAILABLE, 2),
    _database("a query it refuses (1142)", _queried(refuse_query(1142)), QUERY, 1),
    Fault("time", "200 ms left", lambda harness: setattr(harness, "remaining_ms", 200), UNAVAILABLE, 0, within=0.5),
    Fault("time", "1.5 s left, and an extension that hangs", _hanging_with_little_time, UNAVAILABLE, 1, within=1.5),
]


def _everything_said(error: BaseException | None, caplog: pytest.LogCaptureFixture) -> str:
    """All that the invocation left: log records, and the error with its causes, context and traceback."""
    said = [repr(vars(record)) + record.getMessage() for record in caplog.records]
    while error is not None:
        said += [str(error), repr(error), repr(error.args), repr(vars(error)), repr(getattr(error, "doc", ""))]
        error = error.__cause__ or error.__context__
    return "\n".join(said)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.area}: {fault.name}")
def test_each_fault_ends_as_the_table_says(harness: Harness, fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    lateness.hold(fault.within, lambda: _seconds_of(harness, fault, caplog))


def _seconds_of(harness: Harness, fault: Fault, caplog: pytest.LogCaptureFixture) -> float:
    harness.frame = start_frame(application)
    if fault.warm:
        harness.invoke()
    requests, connections = len(harness.extension.requests), harness.database.connections
    fault.inject(harness)
    started = time.monotonic()
    failure: errors.InvocationError | None = None
    try:
        answer = harness.invoke()
        assert answer["database"] == harness.server.database
    except errors.InvocationError as error:
        failure = error
    elapsed = time.monotonic() - started
    assert type(failure) is (fault.error or type(None)), failure
    asked = [path for path in harness.extension.requests[requests:] if path.startswith("/systemsmanager")]
    if fault.area != "database":
        # Until a budget ends, jitter decides how many tries there are.
        assert abs(len(asked) - fault.tries) <= (3 if fault.within > 3 and fault.tries > 3 else 0), asked
    elif fault.area == "database":
        assert harness.database.connections - connections == fault.tries
    said = _everything_said(failure, caplog)
    for secret in (PASSWORD, TOKEN, CANARY):
        assert secret not in said
    if failure:
        operations = {"secret": ("secret",), "database": ("connect", "query")}
        assert {"elapsed_ms", "remaining_ms"} <= set(failure.facts)
        assert failure.facts["operation"] in operations.get(fault.area, ("parameter",))
    harness.heal()
    if fault.area == "database" and fault.error is TLS:
        harness.frame = start_frame(application)  # Its trust was changed by the test.
    assert harness.invoke()["database"] == harness.server.database
    return elapsed


def test_a_throttled_read_is_not_repeated_when_the_pause_would_outlast_the_deadline(
    harness: Harness,
) -> None:
    _aws_throttles_for_a_moment(harness)
    harness.monkeypatch.setattr("random.uniform", lambda *_: 31.0)  # Of 34 seconds; the read may take 4.
    started = time.monotonic()
    with pytest.raises(UNAVAILABLE, match="AWS refused"):
        harness.invoke()
    assert time.monotonic() - started < 5


def test_the_extension_may_come_up_late(harness: Harness) -> None:
    harness.extension.stop()
    _later(0.4, harness.extension.start)
    assert harness.invoke()["database"] == harness.server.database


def test_the_database_may_come_back_within_the_invocation(harness: Harness) -> None:
    harness.database.stop()
    _later(0.2, harness.database.start)
    assert harness.invoke()["database"] == harness.server.database


def _later(seconds: float, action: Callable[[], None]) -> None:
    threading.Timer(seconds, action).start()


def test_after_a_failover_the_next_invocation_finds_the_new_address(harness: Harness) -> None:
    harness.invoke()
    harness.database.stop()
    addresses = socket.getaddrinfo("127.0.0.2", harness.database.port, type=socket.SOCK_STREAM)
    with pytest.raises(UNAVAILABLE):
        harness.invoke()
    real = socket.getaddrinfo

    def moved(host: str, *rest: Any, **more: Any) -> Any:
        return addresses if rest[0] == harness.database.port else real(host, *rest, **more)

    harness.monkeypatch.setattr(socket, "getaddrinfo", moved)
    harness.database.start("127.0.0.2")
    assert harness.invoke()["database"] == harness.server.database


def test_only_the_beginning_of_a_too_large_answer_is_read(harness: Harness) -> None:
    sent = 0

    def stream(connection: socket.socket) -> None:
        nonlocal sent
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        while sent < 50_000_000:
            connection.sendall(b"x" * 10_000)
            sent += 10_000

    harness.extension.script.append(stream)
    with pytest.raises(CONFIGURATION, match="answer too large"):
        harness.invoke()
    assert sent < 10_000_000


@pytest.mark.parametrize(
    "inject", [_answers(NEGATIVE_CHUNK, NEGATIVE_CHUNK), _queried(endless_rows)], ids=["chunk", "rows"]
)
def test_an_endless_answer_is_bounded_while_it_is_read(harness: Harness, inject: Inject) -> None:
    harness.invoke()
    inject(harness)
    tracemalloc.start()
    try:
        with pytest.raises(errors.InvocationError):
            harness.invoke()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * database.LARGEST


def test_an_extra_answer_is_never_given_to_the_next_invocation(harness: Harness) -> None:
    harness.invoke()  # The query that follows is the first on the kept connection.
    harness.database.at_query.append(answer_twice)
    assert harness.invoke()["serverVersion"] != "stale"
    harness.extension.parameter = parameter_answer('{"enableVersion": false}')
    assert set(harness.invoke()) == {"message", "database", "notes"}


def test_a_server_that_asks_for_a_file_gets_none(harness: Harness, tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text(CANARY + "file")
    received = b""

    def ask(connection: socket.socket) -> None:
        nonlocal received
        body = b"\xfb" + str(file).encode()  # A LOCAL INFILE request, as MySQL's protocol has it.
        connection.sendall(len(body).to_bytes(3, "little") + b"\x01" + body)
        received = connection.recv(65536)

    harness.database.at_query.append(ask)
    with pytest.raises(errors.InvocationError):
        harness.invoke()
    assert (CANARY + "file").encode() not in received


@pytest.mark.parametrize("cut_off", [KeyboardInterrupt, SystemExit, MemoryError])
def test_after_an_exception_between_query_and_answer_the_next_one_reads_its_own(
    harness: Harness, cut_off: type[BaseException]
) -> None:
    harness.invoke()
    connection = harness.frame._database._connection
    with harness.monkeypatch.context() as patch:
        patch.setattr(connection, "_read_bytes", mock.Mock(side_effect=cut_off))
        with pytest.raises((cut_off, errors.InvocationError)):
            harness.invoke()
    assert harness.frame._database._connection is not connection
    assert harness.invoke()["database"] == harness.server.database


@pytest.mark.parametrize("errno", [1041, 1042, 1135, 1152, 1158, 1159, 1160, 1161, 3032, 3168])
def test_a_server_without_free_resources_is_tried_again(harness: Harness, errno: int) -> None:
    harness.database.at_greeting.append(refuse_connection(errno))
    assert harness.invoke()["database"] == harness.server.database


def test_a_secure_string_and_invalid_json_have_different_errors(harness: Harness) -> None:
    harness.extension.parameter = parameter_answer('{"enableVersion": true}', "SecureString")
    with pytest.raises(CONFIGURATION, match="a SecureString, where a String is read"):
        harness.invoke()


def test_a_redirect_is_not_followed_with_the_token(harness: Harness) -> None:
    elsewhere = FaultyExtension({}, {})
    with running(elsewhere):
        harness.extension.script.append(respond(302, b"", f"Location: http://127.0.0.1:{elsewhere.port}/"))
        with pytest.raises(CONFIGURATION):
            harness.invoke()
    assert not elsewhere.requests


def test_the_token_is_read_for_each_call(harness: Harness) -> None:
    harness.invoke()
    harness.monkeypatch.setenv("AWS_SESSION_TOKEN", "another")
    harness.invoke()
    assert harness.extension.tokens[-4:] == [TOKEN, TOKEN, "another", "another"]


def test_a_parameter_that_changes_is_seen_at_once_when_the_extension_sees_it(harness: Harness) -> None:
    assert "serverVersion" in harness.invoke()
    harness.extension.parameter = parameter_answer('{"enableVersion": false}')
    assert "serverVersion" not in harness.invoke()


def table() -> str:
    """proof/faults.md's table."""
    rows = ["| where | fault | the function | tries | within |\n|---|---|---|---|---|\n"]
    for fault in FAULTS:
        does = f"fails: `{fault.error.__name__}`" if fault.error else "answers"
        rows.append(f"| {fault.area} | {fault.name} | {does} | {fault.tries} | {fault.within:g} s |\n")
    return "".join(rows)
