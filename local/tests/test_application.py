"""The application on a real server and deployed: the twin of tests/lambda_src/test_application.py."""

import json
import logging
import uuid
from collections.abc import Callable
from typing import Any

import pytest

import application
from app import lasting_settings
from local.cloud import LocalCloud
from local.tests.aws import AWS
from local.tests.functions import PARAMETER, Context, Server
from operations.waiting import wait_until
from shared.frame import HEALTH, Frame

Environment = Callable[..., Frame]


@pytest.fixture
def function(server: Server, rotate: Callable[[], str], environment: Environment) -> Frame:
    server.execute(f"DELETE FROM {server.database}.note")
    rotate()
    return environment(application)


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


def test_a_bad_event_is_told_to_the_caller_and_logged_and_is_no_failure(
    function: Frame, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    function.handle({"note": "hello", "key": "1"}, Context())
    for event, reason in (
        ({"note": 7}, "either note, 1 to 200"),
        ({"note": "other", "key": "1"}, "another request"),
        ({"note": "half a pair: \ud800"}, "must have a form in JSON"),
    ):
        answer = function.handle(event, Context())
        assert answer["errorType"] == "BadRequestError"
        assert reason in answer["errorMessage"]
        assert reason in vars(caplog.records[-1])["reason"]
    finished = [vars(record) for record in caplog.records if record.getMessage() == "invocation.finished"]
    assert [each["outcome"] for each in finished] == ["ok", *3 * ["BadRequestError"]]
    assert function.handle({}, Context())["notes"] == 1


def test_the_answer_is_the_aws_samples_sentence_and_what_the_database_says(function: Frame) -> None:
    answer = function.handle({}, Context())
    config = '{"enableVersion": true, "version": 1, "app": "NotesApp"}'
    assert answer.pop("serverVersion")
    assert answer == {
        "message": f"NotesApp successfully loaded config {config} and connected to RDS database dev_DB!",
        "database": "dev_DB",
        "notes": 0,
    }
    json.dumps(answer)


def test_the_configuration_decides_whether_the_version_is_returned(aws: AWS, function: Frame) -> None:
    aws.parameters[PARAMETER] = '{"app": "NotesApp", "enableVersion": false}'
    assert "serverVersion" not in function.handle({}, Context())


def test_the_check_counts_the_notes(function: Frame) -> None:
    assert function.handle(HEALTH, Context())["check"] == 0
    function.handle({"note": "hello"}, Context())
    assert function.handle(HEALTH, Context())["check"] == 1


def test_the_deployed_function_answers(invoke: Callable[..., dict[str, Any]]) -> None:
    answer = invoke()
    assert not answer["error"]
    config = json.loads(lasting_settings().app_config)
    loaded = f"{config['app']} successfully loaded config {json.dumps(config)}"
    assert answer["message"] == f"{loaded} and connected to RDS database devDB!"
    assert answer["database"] == "devDB"
    assert answer["serverVersion"]
    assert invoke(HEALTH)["check"] == answer["notes"]


def test_lambda_repeats_an_asynchronous_invocation_with_its_id_and_the_note_is_stored_once(
    cloud: LocalCloud, outputs: dict[str, str]
) -> None:
    client = cloud.client("lambda")
    text = str(uuid.uuid4())
    _, start = cloud.function_log()  # It has a line before Lambda's pause: the table must be back when that ends.

    def finished() -> list[dict[str, Any]]:
        lines, _ = cloud.function_log(start)
        return [json.loads(line) for _, _, line in lines if "invocation.finished" in line]

    def wait_for(tries: int) -> list[dict[str, Any]]:
        assert wait_until(lambda: len(finished()) >= tries, 120)
        return finished()

    with cloud.database_connection(outputs["DatabaseSecretArn"]) as connection, connection.cursor() as cursor:
        cursor.execute("RENAME TABLE note TO elsewhere")
        try:
            event = json.dumps({"note": text})
            client.invoke(FunctionName=outputs["FunctionName"], InvocationType="Event", Payload=event)
            wait_for(1)
        finally:
            cursor.execute("RENAME TABLE elsewhere TO note")
        first, second = wait_for(2)
        assert (first["outcome"], second["outcome"]) == ("QueryFailedError", "ok")
        assert first["requestId"] == second["requestId"]
        cursor.execute("SELECT COUNT(*) FROM note WHERE text = %s", (text,))
        assert cursor.fetchall() == ((1,),)


@pytest.mark.parametrize("key", ["the caller's own", None])
def test_a_caller_that_repeats_has_a_key_of_its_own_or_stores_again(
    cloud: LocalCloud, invoke: Callable[..., dict[str, Any]], outputs: dict[str, str], key: str | None
) -> None:
    """Lambda's id is another for each of a caller's invocations."""
    event = {"note": str(uuid.uuid4())} | ({"key": key} if key else {})
    answers = [invoke(event)["stored"] for _ in range(2)]
    with cloud.database_connection(outputs["DatabaseSecretArn"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM note WHERE text = %s", (event["note"],))
        assert [number for (number,) in cursor.fetchall()] == sorted(set(answers))
    assert len(set(answers)) == (1 if key else 2)
