"""The application on a real server: the twin of tests/lambda_src/test_application.py."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

import application
import smoke
from local.tests.functions import Context, Server
from operations.verify import deployed
from shared import frame
from shared.application_database import ApplicationDatabase
from shared.errors import AnswerError, BadRequestError, QueryFailedError
from shared.frame import HEALTH, Frame
from shared.keys import Key

Environment = Callable[..., Frame]


@pytest.fixture
def function(rotate: Callable[[], str], environment: Environment) -> Frame:
    rotate()
    return environment()


def _outcomes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(record)["outcome"] for record in caplog.records if record.getMessage() == "invocation.finished"]


def test_a_note_is_stored_once_for_its_key_and_read(function: Frame) -> None:
    first = function.handle({"note": "hello", "key": "1"}, Context())
    assert function.handle({"note": "hello", "key": "1"}, Context()) == first
    function.handle({"note": "world", "key": "2"}, Context())
    notes = function.handle({"latest": 10}, Context())["notes"]
    assert [note["text"] for note in notes] == ["world", "hello"]
    assert notes[1]["id"] == first["stored"]
    assert notes[0]["created_at"].endswith("+00:00")
    assert function.handle({}, Context())["notes"] == 2


def test_a_note_without_a_key_is_stored_once_for_each_request(function: Frame) -> None:
    for context in (Context(aws_request_id="1"), Context(aws_request_id="1"), Context(aws_request_id="2")):
        function.handle({"note": "hello"}, context)
    assert function.handle({}, Context())["notes"] == 2


def test_a_queues_message_is_stored_once_however_often_it_is_delivered(
    function: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its message id; the receipt handle and the number of receptions differ, and are not in the request."""

    def answer(event: Any, _: object, __: object, database: ApplicationDatabase) -> object:
        (message,) = event["Records"]
        key = Key("message", message["messageId"], message["body"])
        return database.transaction(
            lambda transaction: transaction.execute("INSERT INTO note (text) VALUES (%s)", (message["body"],)), key
        )

    monkeypatch.setattr(application, "answer", answer)

    def deliver(message_id: str, times: int) -> Any:
        record = {"messageId": message_id, "body": "a", "receiptHandle": f"handle {times}"}
        return function.handle(
            {"Records": [record | {"attributes": {"ApproximateReceiveCount": f"{times}"}}]}, Context()
        )

    first, again, other = deliver("1", 1), deliver("1", 2), deliver("2", 1)
    assert first == again
    assert other[1] == first[1] + 1


def test_a_bad_event_is_told_to_the_caller_and_logged_and_is_no_failure(
    function: Frame, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    function.handle({"note": "hello", "key": "1"}, Context())
    for event, reason in (
        ({"note": 7}, "note is 1 to 200"),
        ({"note": "other", "key": "1"}, "another request"),
        ({"note": "half a pair: \ud800"}, "must have a form in JSON"),
    ):
        answer = function.handle(event, Context())
        assert answer["errorType"] == "BadRequestError"
        assert reason in answer["errorMessage"]
        assert reason in vars(caplog.records[-1])["reason"]
    assert _outcomes(caplog) == ["ok", *3 * ["BadRequestError"]]
    assert function.handle({}, Context())["notes"] == 1


def test_the_health_event_is_answered_by_the_frame_and_by_the_applications_check(function: Frame) -> None:
    answer = function.handle(HEALTH, Context())
    assert answer.pop("serverVersion")
    assert answer == {"database": "dev_DB", "schemaVersion": application.SCHEMA, "tlsVersion": "TLSv1.3", "check": 0}


def test_a_caller_of_a_function_url_cannot_send_the_health_event(
    function: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text stands in the event's body (https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html)."""
    monkeypatch.setattr(application, "answer", lambda event, *_: event["body"])
    request = {"http": {"method": "POST", "path": "/"}, "domainName": "abc.lambda-url.us-east-1.on.aws"}
    event = {"version": "2.0", "requestContext": request, "body": json.dumps(HEALTH), "isBase64Encoded": False}
    assert function.handle(event, Context()) == json.dumps(HEALTH)


def test_an_application_without_a_check_is_healthy_when_the_database_answers(
    function: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(application, "check")
    assert function.handle(HEALTH, Context())["check"] is None


def test_a_check_that_refuses_fails_the_smoke_test(function: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(*_: object) -> None:
        raise BadRequestError("no")

    monkeypatch.setattr(application, "check", check)
    with pytest.raises(BadRequestError):
        function.handle(HEALTH, Context())


def test_the_smoke_test_and_verify_send_the_health_event() -> None:
    assert smoke.HEALTH == deployed.HEALTH == frame.HEALTH


def test_an_answer_that_cannot_be_encoded_is_logged_with_its_outcome(
    function: Frame, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(application, "answer", lambda *_: {"a": {1, 2}})
    with pytest.raises(AnswerError, match="type=set"):
        function.handle({}, Context())
    assert _outcomes(caplog) == ["AnswerError"]


COLUMNS: dict[str, tuple[str, Any]] = {
    "DATETIME(6)": ("'2026-01-31 12:00:00.5'", "2026-01-31T12:00:00.500000"),
    "TIMESTAMP": ("'2026-01-31 12:00:00'", "2026-01-31T12:00:00+00:00"),
    "DATE": ("'2026-01-31'", "2026-01-31"),
    "TIME": ("'-36:30:00'", "-36:30:00"),
    "YEAR": ("2026", 2026),
    "DECIMAL(30,2)": ("1234567890123456789012345678.50", "1234567890123456789012345678.50"),
    "DOUBLE": ("0.1", 0.1),
    "BIGINT UNSIGNED": ("18446744073709551615", "18446744073709551615"),
    "BIT(9)": ("b'100000001'", "AQE="),
    "BINARY(3)": ("'ab'", "YWIA"),
    "BLOB": ("X'00ff'", "AP8="),
    "JSON": ("'{\"a\": 1}'", '{"a": 1}'),
    "SET('a','b')": ("'b,a'", "a,b"),
    "ENUM('x','y')": ("'y'", "y"),
    "BOOLEAN": ("TRUE", 1),
    "CHAR(36)": ("'00000000-0000-0000-0000-000000000001'", "00000000-0000-0000-0000-000000000001"),
}


ZERO = {"DATE": "0000-00-00", "DATETIME": "0000-00-00 00:00:00", "TIMESTAMP": "0000-00-00 00:00:00"}


@pytest.mark.parametrize("kind", ZERO)
def test_a_zero_date_is_answered_as_mysqls_text(
    server: Server, function: Frame, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "answer", lambda _, __, ___, database: database.rows("SELECT a FROM typed"))
    make = f"CREATE TABLE typed (a {kind})"
    server.execute(f"USE {server.database}", "SET sql_mode = ''", make, "INSERT INTO typed VALUES (0)")
    try:
        assert function.handle({}, Context()) == [[ZERO[kind]]]
    finally:
        server.execute(f"DROP TABLE {server.database}.typed")


@pytest.mark.parametrize("kind", COLUMNS)
def test_each_type_of_column_is_answered_as_the_rule_says(
    server: Server, function: Frame, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, encoded = COLUMNS[kind]
    monkeypatch.setattr(application, "answer", lambda _, __, ___, database: database.rows("SELECT a FROM typed"))
    server.execute(f"USE {server.database}", f"CREATE TABLE typed (a {kind})", f"INSERT INTO typed VALUES ({value})")
    try:
        assert function.handle({}, Context()) == [[encoded]]
    finally:
        server.execute(f"DROP TABLE {server.database}.typed")


def test_mysqls_sentence_is_told_on_the_laptop_alone(function: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "answer", lambda _, __, ___, database: database.rows("SELECT wrong FROM note"))
    with pytest.raises(QueryFailedError) as refused:
        function.handle({}, Context())
    assert "wrong" not in str(refused.value)
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "local")
    with pytest.raises(QueryFailedError, match=r"says=.*Unknown column 'wrong' in"):
        function.handle({}, Context())
