"""What an invocation answers, and what it does when the cached credentials are stale."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

import application
from local.tests.aws import AWS
from local.tests.functions import (
    CANARY,
    PARAMETER,
    SECRET_ID,
    Context,
    Server,
    an_application,
    connection_details,
)
from shared.credentials import Credentials
from shared.errors import (
    ConfigurationError,
    CredentialsRefusedError,
    DependencyUnavailableError,
    QueryFailedError,
    SchemaVersionError,
)
from shared.frame import HEALTH, Frame

Rotate = Callable[[], str]
Environment = Callable[..., Frame]


def _connections(server: Server) -> int:
    """Logins so far of the application's users; the general log tells of each."""
    return server.general_log().count("Connect\tnotesapp")


def _events(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.getMessage() == name]


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("not json", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ("a,b", "not a JSON object"),
        ('{"enableVersion": "yes"}', "enableVersion is not true or false"),
    ],
)
def test_an_invalid_parameter_is_named(
    aws: AWS, rotate: Rotate, environment: Environment, value: str, message: str
) -> None:
    rotate()
    aws.parameters[PARAMETER] = value
    with pytest.raises(ConfigurationError, match=f"parameter {PARAMETER}: {message}"):
        environment().handle({}, Context())


def test_both_values_are_asked_of_the_extension_each_time_and_of_aws_once(
    aws: AWS, rotate: Rotate, environment: Environment
) -> None:
    rotate()
    aws.calls.clear()
    frame = environment()
    for _ in range(10):
        frame.handle({}, Context())
    assert aws.calls == {"GetParameter": 1, "GetSecretValue": 1}


@pytest.mark.parametrize(
    ("variable", "value"), [("CREDS_PATH", SECRET_ID[:-7]), ("APP_CONFIG_PATH", PARAMETER.removeprefix("/dev/") + ":3")]
)
def test_a_partial_arn_and_a_parameters_version_are_answered(
    rotate: Rotate, environment: Environment, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    rotate()
    monkeypatch.setenv(variable, value)
    assert environment().handle({}, Context())["database"] == "dev_DB"


def test_one_connection_serves_all_invocations(
    server: Server, rotate: Rotate, environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    rotate()
    frame = environment()
    before = _connections(server)
    for _ in range(10):
        frame.handle({}, Context())
    assert _connections(server) == before + 1
    records = _events(caplog, "invocation.finished")
    assert [record["connection_reused"] for record in records] == [False] + [True] * 9


def test_the_log_has_the_age_of_the_credentials(
    environment: Environment, rotate: Rotate, caplog: pytest.LogCaptureFixture
) -> None:
    rotate()
    environment().handle({}, Context())
    assert 2 <= _events(caplog, "invocation.finished")[-1]["secret_age_hours"] < 3


def test_a_dead_connection_is_replaced_unseen_by_the_caller(
    server: Server, rotate: Rotate, environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    rotate()
    frame = environment()
    frame.handle({}, Context())
    _kill_connections(server)
    assert frame.handle({}, Context())["database"] == "dev_DB"
    assert _events(caplog, "invocation.finished")[-1]["connection_reused"] is False


def _kill_connections(server: Server) -> None:
    rows = server.execute("SELECT id FROM information_schema.processlist WHERE user LIKE 'notesapp%'")
    for (thread,) in rows:
        server.execute(f"KILL {thread}")


def test_an_open_connection_outlives_a_rotation(server: Server, rotate: Rotate, environment: Environment) -> None:
    rotate()
    frame = environment()
    frame.handle({}, Context())
    before = _connections(server)
    for _ in range(3):
        rotate()
        frame.handle({}, Context())
    # The rotations' own test logins, and not one of the function's.
    assert _connections(server) == before + 3


def test_cached_credentials_serve_a_new_connection_until_the_rotation_after_next(
    aws: AWS, server: Server, rotate: Rotate, environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    rotate()
    frame = environment()
    frame.handle({}, Context())
    rotate()
    _kill_connections(server)
    aws.calls.clear()
    frame.handle({}, Context())
    assert not aws.calls
    assert not _events(caplog, "credentials.refreshed")


def test_after_two_rotations_the_secret_is_read_once_around_the_cache(
    aws: AWS, server: Server, rotate: Rotate, environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    stale = rotate()
    frame = environment()
    frame.handle({}, Context())
    rotate()
    fresh = rotate()
    _kill_connections(server)
    aws.calls.clear()
    before = _connections(server)
    assert frame.handle({}, Context())["database"] == "dev_DB"
    assert aws.calls == {"GetSecretValue": 1}
    # One login refused, one accepted.
    assert _connections(server) == before + 2
    (record,) = _events(caplog, "credentials.refreshed")
    assert (record["refused_version_id"], record["version_id"]) == (stale, fresh)
    assert _events(caplog, "invocation.finished")[-1]["version_id"] == fresh


def test_a_version_once_refused_is_not_tried_again(server: Server, rotate: Rotate, environment: Environment) -> None:
    rotate()
    frame = environment()
    frame.handle({}, Context())
    rotate()
    rotate()
    for logins in (2, 1, 1):
        _kill_connections(server)
        before = _connections(server)
        frame.handle({}, Context())
        assert _connections(server) == before + logins


def test_a_password_changed_behind_secrets_managers_back_is_a_credentials_error(
    aws: AWS, server: Server, rotate: Rotate, environment: Environment
) -> None:
    token = rotate()
    user = aws.current(SECRET_ID)[1]["username"]
    server.execute(f"ALTER USER {user}@'%' IDENTIFIED BY 'other'")
    frame = environment()
    for logins in (1, 1, 1):
        before = _connections(server)
        with pytest.raises(CredentialsRefusedError, match=f"version_id={token}"):
            frame.handle({}, Context())
        assert _connections(server) == before + logins


def test_recovery_is_immediate_once_the_secret_is_right(
    aws: AWS, server: Server, rotate: Rotate, environment: Environment
) -> None:
    rotate()
    value = aws.current(SECRET_ID)[1]
    server.execute(f"ALTER USER {value['username']}@'%' IDENTIFIED BY 'other'")
    frame = environment()
    with pytest.raises(CredentialsRefusedError):
        frame.handle({}, Context())
    aws.set_current(SECRET_ID, value | {"password": "other"})
    assert frame.handle({}, Context())["database"] == "dev_DB"


def test_recovery_is_immediate_once_the_database_is_right(
    aws: AWS, server: Server, rotate: Rotate, environment: Environment
) -> None:
    rotate()
    value = aws.current(SECRET_ID)[1]
    server.execute(f"ALTER USER {value['username']}@'%' IDENTIFIED BY 'other'")
    frame = environment()
    with pytest.raises(CredentialsRefusedError):
        frame.handle({}, Context())
    server.execute(f"ALTER USER {value['username']}@'%' IDENTIFIED BY '{value['password']}'")
    assert frame.handle({}, Context())["database"] == "dev_DB"
    _kill_connections(server)
    before = _connections(server)
    frame.handle({}, Context())
    assert _connections(server) == before + 1


def test_a_missing_user_before_the_first_rotation_is_a_credentials_error(environment: Environment) -> None:
    with pytest.raises(CredentialsRefusedError):
        environment().handle({}, Context())


def test_too_little_time_left_is_a_clear_error(rotate: Rotate, environment: Environment) -> None:
    rotate()
    with pytest.raises(Exception, match=r"^parameter /dev/") as failed:
        environment().handle({}, Context(remaining_ms=200))
    assert type(failed.value).__name__ == "DependencyUnavailableError"


def test_no_secret_is_in_any_record_or_error(
    aws: AWS, rotate: Rotate, environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    rotate()
    frame = environment()
    frame.handle({}, Context())
    aws.set_current(SECRET_ID, {"host": "", "password": CANARY})
    password = aws.secrets[SECRET_ID]
    with pytest.raises(ConfigurationError) as failed:
        environment().handle({}, Context())
    seen = repr([(record.getMessage(), vars(record)) for record in caplog.records]) + repr(failed.value)
    for version in password.values():
        assert json.loads(version["SecretString"])["password"] not in seen
    assert CANARY not in seen


def test_an_unexpected_exception_is_not_logged_as_ok(
    environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    frame = environment(an_application(lambda *_: {"a": 1}["missing"]))
    with pytest.raises(KeyError):
        frame.handle({}, Context())
    (record,) = _events(caplog, "invocation.finished")
    assert record["outcome"] == "KeyError"


VALID = {"host": "h", "dbname": "d", "username": "u", "password": CANARY}


@pytest.mark.parametrize(
    ("value", "port"),
    [({}, 3306), ({"port": 3306}, 3306), ({"port": "3307"}, 3307), ({"port": 65535}, 65535), ({"extra": 1}, 3306)],
)
def test_a_secret_may_leave_out_the_port_or_hold_more(value: dict[str, Any], port: int) -> None:
    credentials = Credentials.parse({"SecretString": json.dumps(VALID | value), "VersionId": "v"})
    assert credentials.port == port
    assert CANARY not in repr(credentials)


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        (json.dumps(VALID | {"host": ""}), "host is missing or empty"),
        (json.dumps(VALID | {"host": "db.example:3306"}), "host is no name or address"),
        (json.dumps(VALID | {"host": "db example"}), "host is no name or address"),
        (json.dumps(VALID | {"host": "db.example\n"}), "host is no name or address"),
        (json.dumps(VALID | {"host": "https://db.example"}), "host is no name or address"),
        (json.dumps(VALID | {"username": "  "}), "username is missing or empty"),
        (
            json.dumps({}),
            "host is missing or empty; dbname is missing or empty; username is missing",
        ),
        (json.dumps(VALID | {"password": 1}), "password is missing or empty"),
        *((json.dumps(VALID | {"port": port}), "port is not a number") for port in (0, 70000, True, CANARY, -1, None)),
        (CANARY, "not a JSON object"),
        (json.dumps([VALID]), "not a JSON object"),
        (json.dumps(CANARY), "not a JSON object"),
        ("null", "not a JSON object"),
        ("\ufeff" + json.dumps(VALID), "not a JSON object"),
        (json.dumps(VALID)[:-1] + ', "host": "x"}', "not a JSON object with each key once"),
    ],
)
def test_an_invalid_secret_is_named_by_its_keys_and_never_quoted(secret: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        Credentials.parse({"SecretString": secret, "VersionId": "v"})
    link: BaseException | None = refused.value
    while link is not None:
        assert CANARY not in repr(link) + repr(getattr(link, "doc", ""))
        link = link.__cause__ or link.__context__


@pytest.mark.parametrize(
    ("secret", "message"),
    [({"SecretString": None, "SecretBinary": "eA=="}, "a binary secret"), ({}, "no SecretString")],
)
def test_a_secret_without_text_is_named(secret: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Credentials.parse(secret)


def test_the_tests_secret_has_the_fields_that_the_deploy_writes(server: Server) -> None:
    assert set(connection_details(server)) == {"engine", "host", "port", "dbname", "username", "password", "masterarn"}


@pytest.mark.parametrize("date", [None, "", "2026", "2026-01-01", "Nov 16, 2022, 8:22:40 AM", "1523477145.713", 1, {}])
def test_credentials_of_an_unknown_date_have_no_age(date: object) -> None:
    assert Credentials.parse({"SecretString": json.dumps(VALID), "CreatedDate": date}).age_hours is None


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (
            "UPDATE migrations_history.schema_history SET finished_at = NULL",
            "UPDATE migrations_history.schema_history SET finished_at = NOW()",
        ),
        (
            "RENAME TABLE migrations_history.schema_history TO elsewhere",
            "RENAME TABLE elsewhere TO migrations_history.schema_history",
        ),
    ],
)
def test_an_older_schema_is_refused_until_it_is_migrated(
    server: Server, rotate: Rotate, environment: Environment, older: str, newer: str
) -> None:
    rotate()
    frame = environment()
    server.execute(f"USE {server.database}", older)
    try:
        for _ in range(2):
            with pytest.raises(
                SchemaVersionError,
                match=f"schema version 0, where this version of the function needs {application.SCHEMA}",
            ):
                frame.handle({}, Context())
    finally:
        server.execute(f"USE {server.database}", newer)
    assert frame.handle(HEALTH, Context())["schemaVersion"] == application.SCHEMA


def test_an_unreadable_schema_version_is_not_reported_as_an_old_one(
    server: Server, rotate: Rotate, environment: Environment
) -> None:
    rotate()
    frame = environment()
    server.execute("ALTER TABLE migrations_history.schema_history CHANGE version number INT UNSIGNED NOT NULL")
    try:
        with pytest.raises(QueryFailedError, match="1054"):
            frame.handle({}, Context())
    finally:
        server.execute("ALTER TABLE migrations_history.schema_history CHANGE number version INT UNSIGNED NOT NULL")
    assert frame.handle(HEALTH, Context())["schemaVersion"] == application.SCHEMA


def test_a_user_that_may_not_read_the_history_yet_is_a_failure_that_passes(
    server: Server, rotate: Rotate, environment: Environment
) -> None:
    rotate()
    user = "notesapp_clone@'%'"
    server.execute(f"REVOKE SELECT ON `migrations\\_history`.* FROM {user}")
    frame = environment()
    with pytest.raises(DependencyUnavailableError, match="may not read the history yet"):
        frame.handle({}, Context())
    server.execute(f"GRANT SELECT ON `migrations\\_history`.* TO {user}")
    assert frame.handle(HEALTH, Context())["schemaVersion"] == application.SCHEMA
