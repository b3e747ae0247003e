"""All recipes together, deployed to a local cloud and invoked. `-s` shows what they did."""

import json
import shutil
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

import operations.aws
from local.cloud import HERE, REGION, LocalCloud
from local.tests.fixtures import local_cloud
from operations.waiting import wait_until
from proof.cloud.roles import session_of_role
from proof.recipes import TOGETHER, run, tree_with

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="needs git")
LONG = 300
"""Seconds for what takes some seconds, or a minute for the schedule."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with the recipes."""
    return tree_with(tmp_path_factory.mktemp("recipes"), *TOGETHER)


@pytest.fixture(scope="module")
def cloud(tree: Path) -> Iterator[LocalCloud]:
    with local_cloud("recipes") as cloud:
        cloud.bootstrap()
        cloud.deploy(root=tree)
        yield cloud


@pytest.fixture(scope="module")
def outputs(cloud: LocalCloud) -> dict[str, str]:
    return dict(cloud.outputs("Service"))


@pytest.fixture
def rows(cloud: LocalCloud, outputs: dict[str, str]) -> Callable[..., Any]:
    """Run a statement in the application's database, and return its rows."""

    def rows(sql: str, *values: object) -> Any:
        with cloud.database_connection(outputs["DatabaseSecretArn"]) as connection, connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall()

    return rows


def test_verify_finds_all_serving_functions(tree: Path, cloud: LocalCloud) -> None:
    context = [f"--context={each}" for each in HERE]
    printed = run(tree, sys.executable, "-W", "ignore", "-m", "operations.verify", "dev", *context, **cloud.variables)
    print(printed)
    assert " 0 failed, " in printed.splitlines()[-1]
    assert "✓ answer: Api, Forget, Inbox, Report, Serving: database devDB over TLSv1.3" in printed


def test_the_second_function_and_the_new_table_answer(cloud: LocalCloud, outputs: dict[str, str]) -> None:
    client = cloud.client("lambda")
    report = operations.aws.invoke(client, outputs["ReportFunctionName"])["answer"]
    visits = operations.aws.invoke(client, outputs["FunctionName"], {"visits": True})["answer"]
    print(f"the second function: {report}; the first: {visits}")
    assert report["tables"] >= 3
    assert visits == {"visits": 0}


class Caller:
    """Sends requests to the API, signed or not; prints and returns status and answer."""

    def __init__(self, cloud: LocalCloud, url: str) -> None:
        api = urllib.parse.urlsplit(url).hostname or ""
        self._url = f"{cloud.variables['AWS_ENDPOINT_URL']}/_aws/execute-api/{api.partition('.')[0]}/"
        self._trust = ssl.create_default_context(cafile=cloud.variables["AWS_CA_BUNDLE"])

    def __call__(self, body: str, session: Any = None) -> tuple[int, Any]:
        request = AWSRequest("POST", self._url, data=body.encode(), headers={"Content-Type": "application/json"})
        if session:
            SigV4Auth(session.get_credentials(), "execute-api", REGION).add_auth(request)
        sent = urllib.request.Request(  # noqa: S310 - https
            self._url, body.encode(), dict(request.headers), method="POST"
        )
        try:
            with urllib.request.urlopen(sent, context=self._trust) as response:  # noqa: S310 - https
                status, answer = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, answer = error.code, error.read()
        print(f"{'signed' if session else 'unsigned'} {body!r}: {status} {answer.decode()}")
        return status, json.loads(answer)


def test_the_api_refuses_callers_and_tells_a_bad_request(
    cloud: LocalCloud, outputs: dict[str, str], rows: Callable[..., Any]
) -> None:
    call, caller = Caller(cloud, outputs["HttpApiUrl"]), cloud.session()
    key = uuid.uuid4().hex
    note = json.dumps({"note": f"by API {key}", "key": key})
    assert call(note) == (403, {"message": "Forbidden"})  # By the API: without an authoriser the gate would refuse.
    function = cloud.client("lambda").get_function_configuration(FunctionName=outputs["FunctionName"])
    assert call(note, session_of_role(cloud, function["Role"]))[0] == 403  # A role that may not call the API.
    assert rows("SELECT COUNT(*) FROM note WHERE text LIKE %s", "by API %") == ((0,),)
    status, stored = call(note, caller)
    assert (status, call(note, caller)) == (200, (200, stored))
    assert rows("SELECT id FROM note WHERE text LIKE %s", "by API %") == ((stored["stored"],),)
    assert call('{"note": ""}', caller) == (400, {"message": "either note, 1 to 200 characters, or latest, 1 to 100"})
    assert call("no JSON", caller) == (400, {"message": "the body is not JSON"})
    status, health = call('{"reserved": "health"}', caller)
    assert (status, set(health)) == (200, {"message", "database", "notes", "serverVersion"})


def test_the_queue_stores_each_message_once_and_keeps_the_bad_one(
    cloud: LocalCloud, outputs: dict[str, str], rows: Callable[..., Any]
) -> None:
    queues, functions, url = cloud.client("sqs"), cloud.client("lambda"), outputs["QueueUrl"]
    (mapping,) = functions.list_event_source_mappings()["EventSourceMappings"]
    (dead_letters,) = [each for each in queues.list_queues()["QueueUrls"] if "DeadLetters" in each]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    # A message that was not deleted comes back after this time, instead of minutes.
    queues.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "10"})

    # SQS delivers the first message before the poller sees it, and again to the poller.
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    twice = queues.send_message(QueueUrl=url, MessageBody='{"note": "twice"}')["MessageId"]
    (received,) = queues.receive_message(QueueUrl=url, VisibilityTimeout=0)["Messages"]
    assert received["MessageId"] == twice
    delivery = {"Records": [{"messageId": twice, "body": received["Body"]}]}
    first = operations.aws.invoke(functions, outputs["InboxFunctionName"], delivery)["answer"]
    print(f"first delivery of {twice}: {first}")
    assert first == {"batchItemFailures": []}
    bad = queues.send_message(QueueUrl=url, MessageBody='{"note": ""}')["MessageId"]
    queues.send_message(QueueUrl=url, MessageBody='{"note": "once"}')
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)

    def left(queue: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = queues.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    assert wait_until(lambda: left(dead_letters) == 1, LONG, pause=0.5)
    (dead,) = queues.receive_message(QueueUrl=dead_letters, VisibilityTimeout=0)["Messages"]
    print(f"dead letter: {dead['MessageId']} {dead['Body']}")
    assert (dead["MessageId"], dead["Body"]) == (bad, '{"note": ""}')
    assert left(url) == 0
    stored = rows("SELECT text, COUNT(*) FROM note WHERE text IN ('twice', 'once') GROUP BY text ORDER BY text")
    print(f"rows: {stored}")
    assert stored == (("once", 1), ("twice", 1))


def test_the_schedule_runs(cloud: LocalCloud, rows: Callable[..., Any]) -> None:
    rows("INSERT INTO note (text, created_at) VALUES ('old', NOW() - INTERVAL 91 DAY), ('new', NOW())")
    schedules = cloud.client("scheduler")
    (summary,) = schedules.list_schedules()["Schedules"]
    schedule = schedules.get_schedule(Name=summary["Name"])
    assert schedule["ScheduleExpression"] == "cron(0 3 * * ? *)"
    # Every minute, instead of every night.
    kept = {name: schedule[name] for name in ("Name", "FlexibleTimeWindow", "Target")}
    schedules.update_schedule(**kept, ScheduleExpression="rate(1 minute)")
    assert wait_until(lambda: not rows("SELECT id FROM note WHERE text = 'old'"), LONG, pause=1)
    left = rows("SELECT text FROM note WHERE text IN ('old', 'new')")
    print(f"the schedule ran: of old and new, {left} is left")
    assert left == (("new",),)
