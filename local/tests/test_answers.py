"""What the frame makes of an application's answers and of the events around them, whatever the application is."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import application
import smoke
from local.tests.functions import Context, Server, an_application
from operations.verify import deployed
from shared import frame
from shared.application_database import ApplicationDatabase
from shared.errors import AnswerError, BadRequestError, QueryFailedError
from shared.frame import HEALTH, Frame
from shared.keys import Key

Answering = Callable[..., Frame]


@pytest.fixture
def answering(rotate: Callable[[], str], environment: Callable[..., Frame]) -> Answering:
    """Make the function whose application answers so."""
    rotate()
    return lambda answer, **more: environment(an_application(answer, **more))


@pytest.fixture
def typed(server: Server) -> Iterator[Callable[..., None]]:
    """Make a table of one column with one value; the application reads it."""
    table = f"{server.database}.typed"

    def make(kind: str, value: str, *settings: str) -> None:
        server.execute(*settings, f"CREATE TABLE {table} (a {kind})", f"INSERT INTO {table} VALUES ({value})")

    yield make
    server.execute(f"DROP TABLE {table}")


def _read(_: object, __: object, ___: object, database: ApplicationDatabase) -> object:
    return database.rows("SELECT a FROM typed")


def test_a_queues_message_is_stored_once_however_often_it_is_delivered(
    answering: Answering, typed: Callable[..., None]
) -> None:
    """By its message id; the receipt handle and the number of receptions differ, and are not in the request."""

    def answer(event: Any, _: object, __: object, database: ApplicationDatabase) -> object:
        (message,) = event["Records"]
        key = Key("message", message["messageId"], message["body"])
        return database.transaction(
            lambda transaction: transaction.execute("INSERT INTO typed (a) VALUES (%s)", (message["body"],)), key
        )

    typed("TEXT, id INT AUTO_INCREMENT PRIMARY KEY", "'', 1")
    function = answering(answer)

    def deliver(message_id: str, times: int) -> Any:
        record = {"messageId": message_id, "body": "a", "receiptHandle": f"handle {times}"}
        return function.handle(
            {"Records": [record | {"attributes": {"ApproximateReceiveCount": f"{times}"}}]}, Context()
        )

    first, again, other = deliver("1", 1), deliver("1", 2), deliver("2", 1)
    assert first == again
    assert other[1] == first[1] + 1


def test_the_health_event_is_answered_by_the_frame_and_by_the_applications_check(answering: Answering) -> None:
    answer = answering(_read, check=lambda config, _: config["app"]).handle(HEALTH, Context())
    assert answer.pop("serverVersion")
    assert answer == {
        "database": "dev_DB",
        "schemaVersion": application.SCHEMA,
        "tlsVersion": "TLSv1.3",
        "check": "NotesApp",
    }


def test_a_caller_of_a_function_url_cannot_send_the_health_event(answering: Answering) -> None:
    """Its text stands in the event's body (https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html)."""
    request = {"http": {"method": "POST", "path": "/"}, "domainName": "abc.lambda-url.us-east-1.on.aws"}
    event = {"version": "2.0", "requestContext": request, "body": json.dumps(HEALTH), "isBase64Encoded": False}
    assert answering(lambda event, *_: event["body"]).handle(event, Context()) == json.dumps(HEALTH)


def test_an_application_without_a_check_is_healthy_when_the_database_answers(answering: Answering) -> None:
    assert answering(_read).handle(HEALTH, Context())["check"] is None


def test_a_check_that_refuses_fails_the_smoke_test(answering: Answering) -> None:
    def check(*_: object) -> None:
        raise BadRequestError("no")

    with pytest.raises(BadRequestError):
        answering(_read, check=check).handle(HEALTH, Context())


def test_the_smoke_test_and_verify_send_the_health_event() -> None:
    assert smoke.HEALTH == deployed.HEALTH == frame.HEALTH


def test_an_answer_that_cannot_be_encoded_is_logged_with_its_outcome(
    answering: Answering, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(AnswerError, match="type=set"):
        answering(lambda *_: {"a": {1, 2}}).handle({}, Context())
    finished = [vars(record) for record in caplog.records if record.getMessage() == "invocation.finished"]
    assert [each["outcome"] for each in finished] == ["AnswerError"]


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
def test_a_zero_date_is_answered_as_mysqls_text(answering: Answering, typed: Callable[..., None], kind: str) -> None:
    typed(kind, "0", "SET sql_mode = ''")
    assert answering(_read).handle({}, Context()) == [[ZERO[kind]]]


@pytest.mark.parametrize("kind", COLUMNS)
def test_each_type_of_column_is_answered_as_the_rule_says(
    answering: Answering, typed: Callable[..., None], kind: str
) -> None:
    value, encoded = COLUMNS[kind]
    typed(kind, value)
    assert answering(_read).handle({}, Context()) == [[encoded]]


def test_mysqls_sentence_is_told_on_the_laptop_alone(answering: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    function = answering(lambda _, __, ___, database: database.rows("SELECT wrong FROM transaction_key"))
    with pytest.raises(QueryFailedError) as refused:
        function.handle({}, Context())
    assert "wrong" not in str(refused.value)
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "local")
    with pytest.raises(QueryFailedError, match=r"says=.*Unknown column 'wrong' in"):
        function.handle({}, Context())
