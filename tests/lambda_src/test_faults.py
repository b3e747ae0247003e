"""Every fault that the function must survive: what it does, how often it tries, how long it takes.

FAULTS is the data of both the tests here and docs/faults.md, which a test holds to it.
"""

import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trustme

import database
import errors
from handler import Service
from local.install import ROOT
from tests.aws import AWS, ServiceError
from tests.lambda_src.conftest import CANARY, CONFIG, PARAMETER, SECRET_ID, Context, Server, connection_details
from tests.lambda_src.faulty import (
    Answer,
    FaultyDatabase,
    FaultyExtension,
    drip,
    greeting_without_tls,
    hang,
    refuse_connection,
    refuse_query,
    reset,
    respond,
    running,
    send,
)

PASSWORD = CANARY + "faulty"
TOKEN = CANARY + "token"
USER = "faulty"


@dataclass
class Bench:
    """One execution environment between a scriptable extension and a scriptable database."""

    extension: FaultyExtension
    database: FaultyDatabase
    server: Server
    aws: AWS
    monkeypatch: pytest.MonkeyPatch
    service: Service
    remaining_ms: int = 29_500
    details: dict[str, Any] = field(default_factory=dict)

    def invoke(self) -> dict[str, Any]:
        return self.service.handle({}, Context(self.remaining_ms))

    def heal(self) -> None:
        """Everything as it should be again."""
        self.monkeypatch.undo()
        _set_variables(self.monkeypatch, self.extension.port)
        for server in (self.extension, self.database):
            server.stop()
            server.start()
        self.extension.script.clear()
        self.database.at_greeting.clear()
        self.database.at_query.clear()
        self.database._context = _server_context(self.server)
        self.extension.parameter = _parameter(json.dumps(CONFIG))
        self.set_secret(self.details)
        self.remaining_ms = 29_500
        _make_user(self.server)

    def set_secret(self, value: object) -> None:
        """The secret that the extension serves, and Secrets Manager too."""
        self.extension.secret = {"SecretString": json.dumps(value), "VersionId": "v1"}
        self.aws.secrets[SECRET_ID] = {"v1": {"SecretString": json.dumps(value), "Stages": {"AWSCURRENT"}}}


def _parameter(value: object, kind: str = "String") -> dict[str, Any]:
    return {"Parameter": {"Name": PARAMETER, "Type": kind, "Value": value, "Version": 0}, "ResultMetadata": {}}


def _server_context(server: Server) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.certificates.certificate, server.certificates.key)
    return context


def _make_user(server: Server) -> None:
    server.execute(
        f"DROP USER IF EXISTS {USER}@'%'",
        f"CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL",
        f"GRANT SELECT ON `dev\\_DB`.* TO {USER}@'%'",
    )


def _set_variables(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", str(port))


@pytest.fixture
def bench(aws: AWS, server: Server) -> Iterator[Bench]:
    extension = FaultyExtension(None, None)
    proxy = FaultyDatabase(server.mysql.port, _server_context(server))
    with running(extension, proxy), pytest.MonkeyPatch.context() as monkeypatch:
        _set_variables(monkeypatch, extension.port)
        bench = Bench(extension, proxy, server, aws, monkeypatch, Service())
        bench.details = connection_details(server, port=proxy.port, username=USER, password=PASSWORD)
        bench.heal()
        yield bench


Inject = Callable[[Bench], None]


def _answers(*answers: Answer) -> Inject:
    return lambda bench: bench.extension.script.extend(answers)


def _greets(*answers: Answer) -> Inject:
    return lambda bench: bench.database.at_greeting.extend(answers)


def _queried(*answers: Answer) -> Inject:
    return lambda bench: bench.database.at_query.extend(answers)


def _value(value: object, kind: str = "String") -> Inject:
    return lambda bench: setattr(bench.extension, "parameter", _parameter(value, kind))


def _secret(**changed: object) -> Inject:
    return lambda bench: bench.set_secret(bench.details | changed)


def _sql(*statements: str) -> Inject:
    return lambda bench: [None for _ in bench.server.execute(*statements)].clear()


def _connecting_raises(error: OSError) -> Inject:
    """At the database's address, and at no other."""

    def inject(bench: Bench) -> None:
        real = socket.create_connection

        def raising(address: tuple[str, int], *rest: Any) -> socket.socket:
            if address[1] == bench.database.port:
                raise error
            return real(address, *rest)

        bench.monkeypatch.setattr(socket, "create_connection", raising)

    return inject


def _certificate(name: str, *, trusted: bool, expired: bool = False) -> Inject:
    """Present another certificate: for another name, of another authority, or out of its time."""

    def inject(bench: Bench) -> None:
        authority = trustme.CA()
        end = datetime.now(UTC) + timedelta(days=-1 if expired else 1)
        issued = authority.issue_cert(name, not_before=end - timedelta(days=2), not_after=end)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        issued.configure_cert(context)
        bench.database._context = context
        if trusted:
            authority.configure_trust(bench.service._database._context)

    return inject


def _kill_on_server(bench: Bench) -> None:
    rows = bench.server.execute(f"SELECT id FROM information_schema.processlist WHERE user = '{USER}'")
    for (thread,) in rows:
        bench.server.execute(f"KILL {thread}")


def _stream_forever(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(50):
            connection.sendall(b"x" * 1_000_000)


def _close_extensions_connections(bench: Bench) -> None:
    bench.extension.stop()
    bench.extension.start()


def _after_idling(bench: Bench) -> None:
    bench.monkeypatch.setattr(database, "IDLE", -1.0)


def _proxied(bench: Bench) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        bench.monkeypatch.setenv(name, "http://127.0.0.1:9")


def _hanging_with_little_time(bench: Bench) -> None:
    bench.remaining_ms = 1500
    bench.extension.script.extend([hang] * 3)


def _aws_refuses(code: str) -> Inject:
    """Both of the services refuse, and the extension tells nothing of it."""

    def refuse(request: object) -> None:
        raise ServiceError(code)

    def inject(bench: Bench) -> None:
        bench.extension.script.extend([GENERIC] * ALWAYS)
        for action in ("GetParameter", "GetSecretValue"):
            bench.monkeypatch.setattr(bench.aws, action, refuse)

    return inject


CONFIGURATION = errors.ConfigurationError
UNAVAILABLE = errors.DependencyUnavailableError
REFUSED = errors.CredentialsRefusedError
QUERY = errors.QueryFailedError
TLS = errors.TLSVerificationError

GENERIC = respond(400, b"an unexpected error occurred while executing request")
NOT_READY = respond(400, b"not ready to serve traffic, please wait")
BAD_GATEWAY = respond(502, b"")
CHUNKED = send(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"Par\r\n')
TRUNCATED = send(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"Par')
ALWAYS = 20


@dataclass(frozen=True)
class Fault:
    """One fault: what is wrong, what the invocation comes to, and what it costs."""

    area: str
    name: str
    inject: Inject
    error: type[errors.ServiceError] | None
    """What the caller hears; None when the invocation answers."""
    tries: int
    """Requests for the parameter, or connections to the database, that the invocation makes."""
    within: float = 1.5
    """Seconds, at the most."""
    warm: bool = False
    """Whether a connection was kept from an invocation before."""


def _extension(name: str, inject: Inject, error: type[errors.ServiceError] | None, tries: int, **more: Any) -> Fault:
    return Fault("extension", name, inject, error, tries, **more)


def _database(name: str, inject: Inject, error: type[errors.ServiceError] | None, tries: int, **more: Any) -> Fault:
    return Fault("database", name, inject, error, tries, **more)


FAULTS = [
    _extension("not listening", lambda bench: bench.extension.stop(), UNAVAILABLE, 0, within=3.8),
    _extension("`not ready` for a moment", _answers(*[NOT_READY] * 3), None, 4, within=2.0),
    _extension("`not ready` for ever", _answers(*[NOT_READY] * ALWAYS), UNAVAILABLE, 7, within=3.8),
    _extension("the generic 400 once, as when throttled", _answers(GENERIC), None, 2),
    _extension("the generic 400 for seconds, and AWS answers", _answers(*[GENERIC] * ALWAYS), None, 3, within=3.0),
    _extension("the generic 400, and AWS denies", _aws_refuses("AccessDeniedException"), CONFIGURATION, 3, within=3.0),
    _extension("the generic 400, and AWS throttles", _aws_refuses("ThrottlingException"), UNAVAILABLE, 3, within=4.0),
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
    Fault("secret", "not JSON", lambda b: setattr(b.extension, "secret", {"SecretString": CANARY}), CONFIGURATION, 1),
    Fault("secret", "JSON, but no object", lambda bench: bench.set_secret([CANARY]), CONFIGURATION, 1),
    Fault("secret", "binary", lambda b: setattr(b.extension, "secret", {"SecretBinary": "eA=="}), CONFIGURATION, 1),
    _database("refused", lambda bench: bench.database.stop(), UNAVAILABLE, 0, within=3.0),
    _database("its name unknown", _connecting_raises(socket.gaierror(-2, "unknown")), UNAVAILABLE, 0, within=3.0),
    _database("no answer to the connection", _connecting_raises(TimeoutError()), UNAVAILABLE, 0, within=3.0),
    _database("accepts and never greets", _greets(hang), UNAVAILABLE, 1, within=3.0),
    _database("accepts and closes, once", _greets(send(b"")), None, 2),
    _database("accepts and closes", _greets(*[send(b"")] * 3), UNAVAILABLE, 3, within=3.0),
    _database("speaks another protocol", _greets(send(b"\x01\x00\x00\x07x")), CONFIGURATION, 1),
    _database("greets in garbage", _greets(send(b"\x03\x00\x00\x00\x0a\xff\xfe")), CONFIGURATION, 1),
    _database("of another authority", _certificate("localhost", trusted=False), TLS, 1),
    _database("of another name", _certificate("db.example", trusted=True), TLS, 1),
    _database("with an expired certificate", _certificate("localhost", trusted=True, expired=True), TLS, 1),
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
    _database("read-only after a failover (1290), once", _queried(refuse_query(1290)), None, 1, warm=True),
    _database("read-only after a failover (1836), again", _queried(*[refuse_query(1836)] * 2), UNAVAILABLE, 2),
    _database("shutting down (1053)", _queried(refuse_query(1053)), None, 1, warm=True),
    _database("killed by an operator (1927)", _queried(refuse_query(1927)), None, 1, warm=True),
    _database("a deadlock (1213), once", _queried(refuse_query(1213)), None, 1, warm=True),
    _database("a lock not had in time (1205), again", _queried(*[refuse_query(1205)] * 2), UNAVAILABLE, 2),
    _database("a query it refuses (1142)", _queried(refuse_query(1142)), QUERY, 1),
    Fault("time", "200 ms left", lambda bench: setattr(bench, "remaining_ms", 200), UNAVAILABLE, 0, within=0.5),
    Fault("time", "1.5 s left, and an extension that hangs", _hanging_with_little_time, UNAVAILABLE, 1, within=1.5),
]


def _everything_said(error: BaseException | None, caplog: pytest.LogCaptureFixture) -> str:
    """All that the invocation left anywhere: records, and the error with all that hangs on it."""
    said = [repr(vars(record)) for record in caplog.records if not record.name.startswith("botocore")]
    while error is not None:
        said += [str(error), repr(error), repr(error.args), repr(vars(error)), repr(getattr(error, "doc", ""))]
        error = error.__cause__ or error.__context__
    return "\n".join(said)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.area}: {fault.name}")
def test_what_a_fault_comes_to(bench: Bench, fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    if fault.warm:
        bench.invoke()
    requests, connections = len(bench.extension.requests), bench.database.connections
    fault.inject(bench)
    started = time.monotonic()
    failure: errors.ServiceError | None = None
    try:
        answer = bench.invoke()
        assert answer["database"] == bench.server.database
    except errors.ServiceError as error:
        failure = error
    elapsed = time.monotonic() - started
    assert type(failure) is (fault.error or type(None)), failure
    asked = [path for path in bench.extension.requests[requests:] if path.startswith("/systemsmanager")]
    if fault.area != "database":
        # Until a budget ends, jitter decides how many tries there are.
        assert abs(len(asked) - fault.tries) <= (2 if fault.within > 3 and fault.tries > 3 else 0), asked
    elif fault.area == "database":
        assert bench.database.connections - connections == fault.tries
    assert elapsed < fault.within
    said = _everything_said(failure, caplog)
    for secret in (PASSWORD, TOKEN, CANARY):
        assert secret not in said
    if failure:
        stages = {"secret": ("secret",), "database": ("connect", "query")}
        assert {"elapsed_ms", "remaining_ms"} <= set(failure.facts)
        assert failure.facts["stage"] in stages.get(fault.area, ("parameter",))
    bench.heal()
    if fault.area == "database" and fault.error is TLS:
        bench.service = Service()  # Its trust was changed by the test.
    assert bench.invoke()["database"] == bench.server.database


def test_the_extension_may_come_up_late(bench: Bench) -> None:
    bench.extension.stop()
    _later(0.4, bench.extension.start)
    assert bench.invoke()["database"] == bench.server.database


def test_the_database_may_come_back_within_the_invocation(bench: Bench) -> None:
    bench.database.stop()
    _later(0.2, bench.database.start)
    assert bench.invoke()["database"] == bench.server.database


def _later(seconds: float, action: Callable[[], None]) -> None:
    threading.Timer(seconds, action).start()


def test_after_a_failover_the_next_invocation_finds_the_new_address(bench: Bench) -> None:
    bench.invoke()
    bench.database.stop()
    addresses = socket.getaddrinfo("127.0.0.2", bench.database.port, type=socket.SOCK_STREAM)
    with pytest.raises(UNAVAILABLE):
        bench.invoke()
    real = socket.getaddrinfo

    def moved(host: str, *rest: Any, **more: Any) -> Any:
        return addresses if rest[0] == bench.database.port else real(host, *rest, **more)

    bench.monkeypatch.setattr(socket, "getaddrinfo", moved)
    bench.database.start("127.0.0.2")
    assert bench.invoke()["database"] == bench.server.database


def test_of_an_answer_that_is_too_large_only_the_beginning_is_read(bench: Bench) -> None:
    sent = 0

    def stream(connection: socket.socket) -> None:
        nonlocal sent
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        while sent < 50_000_000:
            connection.sendall(b"x" * 10_000)
            sent += 10_000

    bench.extension.script.append(stream)
    with pytest.raises(CONFIGURATION, match="answer too large"):
        bench.invoke()
    assert sent < 10_000_000


def test_an_encrypted_parameter_is_told_from_one_that_is_no_json(bench: Bench) -> None:
    bench.extension.parameter = _parameter('{"enableVersion": true}', "SecureString")
    with pytest.raises(CONFIGURATION, match="a SecureString, where a String is read"):
        bench.invoke()


def test_a_redirect_is_not_followed_with_the_token(bench: Bench) -> None:
    elsewhere = FaultyExtension({}, {})
    with running(elsewhere):
        bench.extension.script.append(respond(302, b"", f"Location: http://127.0.0.1:{elsewhere.port}/"))
        with pytest.raises(CONFIGURATION):
            bench.invoke()
    assert not elsewhere.requests


def test_the_token_is_read_for_each_call(bench: Bench) -> None:
    bench.invoke()
    bench.monkeypatch.setenv("AWS_SESSION_TOKEN", "another")
    bench.invoke()
    assert bench.extension.tokens[-4:] == [TOKEN, TOKEN, "another", "another"]


def test_a_parameter_that_changes_is_seen_at_once_when_the_extension_sees_it(bench: Bench) -> None:
    assert "serverVersion" in bench.invoke()
    bench.extension.parameter = _parameter('{"enableVersion": false}')
    assert "serverVersion" not in bench.invoke()


def table() -> str:
    """docs/faults.md's table."""
    rows = ["| where | fault | the function | tries | within |\n|---|---|---|---|---|\n"]
    for fault in FAULTS:
        does = f"fails: `{fault.error.__name__}`" if fault.error else "answers"
        rows.append(f"| {fault.area} | {fault.name} | {does} | {fault.tries} | {fault.within:g} s |\n")
    return "".join(rows)


def test_the_documented_table_is_this_one() -> None:
    text = (ROOT / "docs" / "faults.md").read_text()
    assert text[text.index("| where |") :] == table()
