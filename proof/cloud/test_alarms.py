"""Alarms of the deployed application: each goes off by the fault that its page of the runbook names, and goes back.

`RAISED` is the data of the tests here and of the table in local/README.md. A minute of an alarm's period takes a
second. An alarm is known by the page that its description names.
"""

import io
import json
import re
import shutil
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

import operations.alarms
import operations.aws
from local.certificates import Certificates
from local.cloud import LocalCloud
from local.tests.fixtures import assembly, local_cloud, wait_for_rotation
from operations.aws import listed
from operations.commands import ROOT
from operations.environment import Environment
from operations.waiting import wait_until
from proof.conftest import copied, edit
from proof.functions.test_transactions import Schedule
from proof.testbed.fault_servers import FaultyDatabase, common_name_certificate, cut_unanswered, running
from shared.errors import BadRequestError
from shared.schema import HISTORY

MINUTE = 1
CONCURRENCY = 2
APPLIED = f"{HISTORY}.schema_history"
CONTEXT = ("release=gradual", "parameter_ttl=0", "secret_ttl=0", f"reserved_concurrency={CONCURRENCY}")

FAULTS = """
    if isinstance(event, dict) and "fault" in event:
        import time
        from pathlib import Path

        folder = Path("FOLDER")
        if event["fault"] == "hold":
            (folder / "held").touch()
            while not (folder / "release").exists():
                time.sleep(0.01)
        if event["fault"] == "hang" and context.function_version == "1":
            time.sleep(60)
        if event["fault"] == "slow":
            for _ in range(60):
                database.rows("SELECT SLEEP(0.8)")
        if event["fault"] == "answer":
            return object()
        if event["fault"] == "crash":
            raise KeyError("crash")
        return None
    match event:"""
REFUSAL = """
import pathlib
if pathlib.Path("FOLDER/refuse").exists():
    raise RuntimeError("this environment does not start")
"""
"""What the tests put into the deployed application, so that it fails when they ask for it."""


class Alarms:
    """The application with faults to order, and the state of its alarms."""

    def __init__(self, cloud: LocalCloud, folder: Path) -> None:
        self.cloud = cloud
        self.folder = folder
        self.outputs = cloud.outputs("Service")
        self.client = cloud.client("cloudwatch")
        self.function = self.outputs["FunctionName"]
        self.lambda_ = cloud.client("lambda")

    def described(self) -> dict[str, dict[str, Any]]:
        """Each alarm by its page; the one of the release, which has none, as ReleaseErrors."""
        found = listed(self.client, "describe_alarms", "MetricAlarms")
        pages = [re.search(r"(\w+)\.md$", each["AlarmDescription"]) for each in found]
        return {page[1] if page else "ReleaseErrors": each for page, each in zip(pages, found, strict=True)}

    def state(self, page: str) -> str:
        return str(self.described()[page]["StateValue"])

    def went_off(self) -> Counter[str]:
        """How often each alarm went off since the beginning."""
        names = {each["AlarmName"]: page for page, each in self.described().items()}
        history = listed(self.client, "describe_alarm_history", "AlarmHistoryItems", HistoryItemType="StateUpdate")
        of_ours = [each for each in history if each["AlarmName"] in names]  # And not of one that a test has deleted.
        return Counter(names[each["AlarmName"]] for each in of_ours if each["HistorySummary"].endswith("to ALARM"))

    def wait(self, condition: Callable[[], bool]) -> None:
        assert wait_until(condition, 120)

    def set_off(self, page: str, fault: Callable[[], object], times: int = 1) -> None:
        """Make the fault so often, again and again until the alarm has gone off: a slow machine is late."""
        give_up, before = time.monotonic() + 120, self.went_off()[page]
        while True:
            for _ in range(times):
                fault()
            if wait_until(lambda: self.went_off()[page] > before, 3 * MINUTE):
                return
            assert time.monotonic() < give_up, self.described()[page]["StateReason"]

    def invoke(self, event: object = None) -> dict[str, Any]:
        return operations.aws.invoke(self.lambda_, self.function, event)

    def error(self, event: object = None) -> str:
        """The class of the error of an invocation; empty when it is answered."""
        result = self.invoke(event)
        return str(result["answer"]["errorType"]) if result["error"] else ""

    @contextmanager
    def master(self) -> Iterator[Any]:
        connection = self.cloud.database_connection(self.outputs["DatabaseSecretArn"])
        with connection, connection.cursor() as cursor:
            yield cursor

    def cut_connections(self) -> None:
        for _ in range(2):  # Those that the last call found too.
            self.cloud.cut_connections(self.outputs["DatabaseSecretArn"])

    @contextmanager
    def secret(self, **changed: object) -> Iterator[None]:
        """The function's secret with other values, and a new login at the next invocation."""
        secrets, secret_id = self.cloud.client("secretsmanager"), self.outputs["DatabaseSecretArn"]
        wait_for_rotation(self.cloud, secret_id)
        before = secrets.get_secret_value(SecretId=secret_id)
        value = json.dumps(json.loads(before["SecretString"]) | changed)
        self.cut_connections()
        version = secrets.put_secret_value(SecretId=secret_id, SecretString=value)["VersionId"]
        try:
            yield
        finally:  # By the label, as the page says.
            moved = {"RemoveFromVersionId": version, "MoveToVersionId": before["VersionId"]}
            secrets.update_secret_version_stage(SecretId=secret_id, VersionStage="AWSCURRENT", **moved)

    def proxy(self, context: ssl.SSLContext) -> FaultyDatabase:
        """A server before the database's."""
        (instance,) = self.cloud.client("rds").describe_db_instances()["DBInstances"]
        return FaultyDatabase(instance["Endpoint"]["Port"], context, instance["Endpoint"]["Address"])

    @contextmanager
    def held(self) -> Iterator[Callable[[], None]]:
        """Call it to have one more environment busy, until the end."""
        (self.folder / "release").unlink(missing_ok=True)
        threads: list[threading.Thread] = []

        def hold() -> None:
            (self.folder / "held").unlink(missing_ok=True)
            threads.append(threading.Thread(target=self.invoke, args=({"fault": "hold"},)))
            threads[-1].start()
            self.wait((self.folder / "held").exists)

        try:
            yield hold
        finally:
            (self.folder / "release").touch()
            for each in threads:
                each.join()

    def data(self, page: str, value: float) -> None:
        """Data points of the alarm's own metric, for all its periods."""
        alarm = self.described()[page]
        now = datetime.now(UTC)
        times = [now - timedelta(seconds=alarm["Period"] / 60 * MINUTE * each) for each in range(10)]
        metric = {"MetricName": alarm["MetricName"], "Dimensions": alarm["Dimensions"], "Value": value}
        data = [metric | {"Timestamp": each} for each in times]
        self.client.put_metric_data(Namespace=alarm["Namespace"], MetricData=data)

    def function_named(self, name: str) -> str:
        functions = listed(self.lambda_, "list_functions", "Functions")
        (found,) = [each["FunctionName"] for each in functions if f"-{name}" in each["FunctionName"]]
        return str(found)


@pytest.fixture(scope="module")
def alarms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alarms]:
    folder = tmp_path_factory.mktemp("faults")
    faulty = copied(assembly(*CONTEXT), tmp_path_factory.mktemp("assembly") / "faulty")
    for application in faulty.glob("asset.*/application.py"):
        edit(application, "\n    match event:", FAULTS.replace("FOLDER", str(folder)))
        application.write_text(application.read_text() + REFUSAL.replace("FOLDER", str(folder)))
        shutil.rmtree(application.parent / "__pycache__", ignore_errors=True)
    with local_cloud("alarms", alarm_minute=MINUTE) as cloud:
        cloud.bootstrap()
        cloud.deploy(assembly=faulty)
        found = Alarms(cloud, folder)
        wait_for_rotation(cloud, found.outputs["DatabaseSecretArn"])
        found.wait(lambda: {found.state(page) for page in found.described()} == {"OK"})
        yield found


@pytest.fixture(scope="module")
def told(alarms: Alarms) -> Callable[[], Counter[tuple[str, str]]]:
    """What a subscriber of the topic was told: page and state."""
    queue = alarms.cloud.client("sqs").create_queue(QueueName="alarms")["QueueUrl"]
    sqs, sns = alarms.cloud.client("sqs"), alarms.cloud.client("sns")
    (topic,) = sns.list_topics()["Topics"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    admitted = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:*", "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [admitted]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    sns.subscribe(TopicArn=topic["TopicArn"], Protocol="sqs", Endpoint=arn)
    names = {each["AlarmName"]: page for page, each in alarms.described().items()}
    messages: Counter[tuple[str, str]] = Counter()

    def read() -> Counter[tuple[str, str]]:
        while found := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for each in found:
                message = json.loads(json.loads(each["Body"])["Message"])
                messages[names[message["AlarmName"]], message["NewStateValue"]] += 1
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=each["ReceiptHandle"])
        return messages

    return read


def test_a_thousand_bad_requests_in_a_gradual_release_set_no_alarm_off_and_a_failed_start_and_a_timeout_do(
    alarms: Alarms,
) -> None:
    """The new version, which has the alarm of the release, gets a tenth of the traffic."""
    name = alarms.function.split(":")[-2]
    assert not alarms.error()
    alarms.lambda_.update_function_configuration(FunctionName=name, Description="the version before")
    before = alarms.lambda_.publish_version(FunctionName=name)["Version"]
    weights = {"AdditionalVersionWeights": {"1": 0.1}}
    alarms.lambda_.update_alias(FunctionName=name, Name="live", FunctionVersion=before, RoutingConfig=weights)
    results = [alarms.invoke({"note": ""}) for _ in range(1000)]
    assert {each["answer"]["errorType"] for each in results} == {BadRequestError.__name__}
    assert {each["error"] for each in results} == {""}
    answered = Counter(each["version"] for each in results)
    assert 40 < answered["1"] < 200
    # A later look than the last invocation's has seen them all.
    looked_at = alarms.described()["ReleaseErrors"]["StateReason"]
    alarms.wait(
        lambda: (
            not alarms.invoke({"note": ""})["error"] and alarms.described()["ReleaseErrors"]["StateReason"] != looked_at
        )
    )
    assert alarms.went_off() == {}
    alarms.lambda_.update_alias(
        FunctionName=name,
        Name="live",
        FunctionVersion=before,
        RoutingConfig={"AdditionalVersionWeights": {"1": 1.0}},
    )
    with alarms.held() as hold:
        hold()
        (alarms.folder / "refuse").touch()  # The next call needs another environment, which does not start.
        try:
            assert "does not start" in alarms.invoke()["answer"]["errorMessage"]
        finally:
            (alarms.folder / "refuse").unlink()
        alarms.wait(lambda: alarms.went_off()["ReleaseErrors"] > 0)
    alarms.wait(lambda: alarms.state("ReleaseErrors") == "OK")
    assert alarms.error({"fault": "hang"}) == "Sandbox.Timedout"
    alarms.wait(lambda: alarms.went_off()["ReleaseErrors"] > 1)
    alarms.wait(lambda: alarms.state("ReleaseErrors") == "OK")
    assert alarms.went_off()["ReleaseErrors"] == 2


def test_an_alarm_is_quiet_when_another_function_fails(alarms: Alarms) -> None:
    before = alarms.went_off()
    _migration_fails(alarms)
    after = alarms.went_off()
    assert after - before == {"MigrationFailed": 1}
    dimensions = [{"Name": "FunctionName", "Value": alarms.function_named("Migration")}]
    now = datetime.now(UTC)
    asked = {"StartTime": now - timedelta(hours=1), "EndTime": now + timedelta(hours=1), "Period": 3600}
    asked |= {"Namespace": "AWS/Lambda", "MetricName": "Errors", "Statistics": ["Sum"], "Dimensions": dimensions}
    errors = alarms.client.get_metric_statistics(**asked)["Datapoints"]
    assert sum(each["Sum"] for each in errors) >= alarms.described()["FunctionErrors"]["Threshold"]


def _migration_fails(alarms: Alarms) -> None:
    """The page's `was changed after it was applied`, five times and more."""
    function = alarms.function_named("Migration")
    with alarms.master() as cursor:
        cursor.execute(f"UPDATE {APPLIED} SET checksum = REVERSE(checksum)")
        try:
            alarms.set_off("MigrationFailed", lambda: operations.aws.invoke(alarms.lambda_, function), times=5)
        finally:
            cursor.execute(f"UPDATE {APPLIED} SET checksum = REVERSE(checksum)")


OFF = r"(?:(?:ALARM| ) .*\n)*ALARM +\w*FunctionErrors: Threshold Crossed: .*\n {18}.* Runbook: \S+/FunctionErrors\.md\n"


def _fails_five_times(alarms: Alarms) -> None:
    alarms.set_off("FunctionErrors", lambda: alarms.error({"fault": "crash"}), times=5)

    def is_printed_first() -> bool:
        """By `make alarms`, with its page, after such alone; while it goes on failing, because the alarm goes back."""
        for _ in range(5):
            alarms.error({"fault": "crash"})
        with redirect_stdout(io.StringIO()) as printed:
            operations.alarms.main(Environment("dev", alarms.cloud.session()))
        return bool(re.match(OFF, printed.getvalue()))

    alarms.wait(is_printed_first)


def _all_environments_are_busy(alarms: Alarms) -> None:
    with alarms.held() as hold:
        for _ in range(CONCURRENCY):
            hold()

        def turned_away() -> None:
            with pytest.raises(ClientError, match="TooManyRequestsException"):
                alarms.invoke()

        alarms.set_off("FunctionThrottles", turned_away)


def _many_environments_are_busy(alarms: Alarms) -> None:
    with alarms.held() as hold:
        hold()
        alarms.set_off("FunctionConcurrency", alarms.invoke)


def _queries_are_slow(alarms: Alarms) -> None:
    alarms.set_off("FunctionDuration", lambda: alarms.error({"fault": "slow"}))


def _the_parameter_is_no_json(alarms: Alarms) -> None:
    parameters, name = alarms.cloud.client("ssm"), alarms.outputs["ParameterName"]
    before = parameters.get_parameter(Name=name)["Parameter"]["Value"]
    parameters.put_parameter(Name=name, Value="no json", Overwrite=True)
    alarms.set_off("ConfigurationError", alarms.error)
    parameters.put_parameter(Name=name, Value=before, Overwrite=True)


def _the_schema_is_older(alarms: Alarms) -> None:
    """As after a restore of an old snapshot."""
    with alarms.master() as cursor:
        cursor.execute(f"RENAME TABLE {APPLIED} TO {APPLIED}_kept")
        cursor.execute(f"CREATE TABLE {APPLIED} SELECT * FROM {APPLIED}_kept LIMIT 1")
        try:
            alarms.cut_connections()
            alarms.set_off("SchemaVersionError", alarms.error)
        finally:
            cursor.execute(f"DROP TABLE {APPLIED}")
            cursor.execute(f"RENAME TABLE {APPLIED}_kept TO {APPLIED}")


def _the_secret_names_another_server(alarms: Alarms) -> None:
    _, context = common_name_certificate("localhost")
    with running(alarms.proxy(context)) as (other,), alarms.secret(host="localhost", port=other.port):
        alarms.set_off("TLSVerificationError", alarms.error)


def _the_password_was_changed_by_hand(alarms: Alarms) -> None:
    with alarms.secret(password="changed"):
        alarms.set_off("CredentialsRefusedError", alarms.error)


def _a_failover(alarms: Alarms) -> None:
    rds = alarms.cloud.client("rds")
    (instance,) = rds.describe_db_instances()["DBInstances"]

    def fails_over() -> None:
        with suppress(rds.exceptions.InvalidDBInstanceStateFault):  # It still does.
            rds.reboot_db_instance(DBInstanceIdentifier=instance["DBInstanceIdentifier"], ForceFailover=True)
        with ThreadPoolExecutor(CONCURRENCY) as callers:
            list(callers.map(lambda _: alarms.error(), range(6)))

    alarms.set_off("DependencyUnavailableError", fails_over)


def _a_table_is_missing(alarms: Alarms) -> None:
    with alarms.master() as cursor:
        cursor.execute("RENAME TABLE note TO elsewhere")
        try:
            alarms.set_off("QueryFailedError", lambda: alarms.error({"latest": 1}), times=5)
        finally:
            cursor.execute("RENAME TABLE elsewhere TO note")


def _commit_is_not_answered(alarms: Alarms) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = Certificates.within(alarms.cloud.folder / "certificates")
    context.load_cert_chain(files.certificate, files.key)
    proxy = alarms.proxy(context)
    proxy.on_statement = Schedule(*[cut_unanswered] * 100, since="COMMIT")
    with running(proxy), alarms.secret(host="localhost", port=proxy.port):
        alarms.set_off("OutcomeUnknownError", lambda: alarms.error({"note": "a"}))


def _an_answer_without_a_form(alarms: Alarms) -> None:
    alarms.set_off("AnswerError", lambda: alarms.error({"fault": "answer"}), times=5)


def _the_rotation_fails(alarms: Alarms) -> None:
    """The master's password is another one, which RDS's own rotation has not written yet."""
    secrets, secret_id = alarms.cloud.client("secretsmanager"), alarms.outputs["DatabaseSecretArn"]
    wait_for_rotation(alarms.cloud, secret_id)
    master = json.loads(secrets.get_secret_value(SecretId=secret_id)["SecretString"])["masterarn"]
    before = secrets.get_secret_value(SecretId=master)["SecretString"]
    secrets.put_secret_value(SecretId=master, SecretString=json.dumps(json.loads(before) | {"password": "another"}))
    went_off = alarms.went_off()["RotationFailed"]
    secrets.rotate_secret(SecretId=secret_id)
    alarms.wait(lambda: alarms.went_off()["RotationFailed"] > went_off)
    secrets.put_secret_value(SecretId=master, SecretString=before)
    wait_for_rotation(alarms.cloud, secret_id)


def _the_password_is_old(alarms: Alarms) -> None:
    """By the age that the function itself logs; the threshold is 18 seconds, as the periods are short."""
    known = alarms.client.meta.service_model.operation_model("PutMetricAlarm").input_shape.members
    alarm = {name: value for name, value in alarms.described()["RotationOverdue"].items() if name in known and value}
    went_off = alarms.went_off()["RotationOverdue"]
    alarms.client.put_metric_alarm(**alarm | {"Threshold": 0.005})
    try:
        alarms.wait(lambda: bool(alarms.invoke()) and alarms.went_off()["RotationOverdue"] > went_off)
    finally:
        alarms.client.put_metric_alarm(**alarm)


def _all_connections_are_taken(alarms: Alarms) -> None:
    with ExitStack() as stack:
        for _ in range(int(alarms.described()["DatabaseConnections"]["Threshold"])):
            stack.enter_context(alarms.cloud.database_connection(alarms.outputs["DatabaseSecretArn"]))
        alarms.wait(lambda: alarms.state("DatabaseConnections") == "ALARM")


def _data(page: str, value: float) -> Callable[[Alarms], None]:
    return lambda alarms: alarms.set_off(page, lambda: alarms.data(page, value))


RAISED: dict[str, tuple[str, Callable[[Alarms], None]]] = {
    "FunctionErrors": ("the application raises an exception", _fails_five_times),
    "FunctionThrottles": ("all reserved environments are busy", _all_environments_are_busy),
    "FunctionConcurrency": ("nearly all reserved environments are busy", _many_environments_are_busy),
    "FunctionDuration": ("slow queries, one after the other", _queries_are_slow),
    "ConfigurationError": ("the parameter is no JSON", _the_parameter_is_no_json),
    "SchemaVersionError": ("the history lacks the last migration", _the_schema_is_older),
    "TLSVerificationError": ("the secret names a server with another certificate", _the_secret_names_another_server),
    "CredentialsRefusedError": ("the secret has another password", _the_password_was_changed_by_hand),
    "DependencyUnavailableError": ("a failover", _a_failover),
    "QueryFailedError": ("a table is missing", _a_table_is_missing),
    "OutcomeUnknownError": ("the connection is cut when COMMIT was sent", _commit_is_not_answered),
    "AnswerError": ("an answer with no form in JSON", _an_answer_without_a_form),
    "RotationFailed": ("the master's password is another", _the_rotation_fails),
    "MigrationFailed": ("an applied file was changed", _migration_fails),
    "RotationOverdue": (
        "the password is older than the threshold, which the test makes 18 seconds",
        _the_password_is_old,
    ),
    "DatabaseConnections": ("the server has as many connections", _all_connections_are_taken),
    "DatabaseCpu": ("the test puts data points: 95 %", _data("DatabaseCpu", 95)),
    "DatabaseMemory": ("the test puts data points: 1 MiB free", _data("DatabaseMemory", 2**20)),
    "DatabaseStorage": ("the test puts data points: 1 MiB free", _data("DatabaseStorage", 2**20)),
}
"""For each page: how the test sets the alarm off. The release's alarm has a test of its own."""


@pytest.mark.parametrize("page", RAISED)
def test_an_alarm_goes_off_by_its_fault_and_goes_back(
    alarms: Alarms, told: Callable[[], Counter[tuple[str, str]]], page: str
) -> None:
    alarms.wait(lambda: alarms.state(page) == "OK")
    before = told().copy()
    RAISED[page][1](alarms)
    if found := re.search(r"--filter-pattern '([^']+)'", (ROOT / "docs" / "runbook" / f"{page}.md").read_text()):
        # What the page says to look at has this failure's lines, and no other.
        group = alarms.lambda_.get_function_configuration(FunctionName=alarms.function)["LoggingConfig"]["LogGroup"]
        logs, pattern = alarms.cloud.client("logs"), found[1]
        events = listed(logs, "filter_log_events", "events", logGroupName=group, filterPattern=pattern)
        assert {json.loads(each["message"])["outcome"] for each in events} == {page}
    alarms.wait(lambda: (told() - before)[page, "ALARM"] > 0)
    alarms.wait(lambda: alarms.state(page) == "OK" and not alarms.error())
    alarms.wait(lambda: (told() - before)[page, "OK"] > 0)


@pytest.mark.parametrize("way", ["put", "deployed"])
def test_an_alarm_on_an_expression_has_no_missing_data_where_they_are_filled(alarms: Alarms, way: str) -> None:
    metric = {"Namespace": "Test", "MetricName": way}
    definition: dict[str, Any] = {
        "AlarmName": way,
        "AlarmDescription": f"{way}.md",
        "Metrics": [
            {"Id": "filled", "Expression": "FILL(m1, 0)", "ReturnData": True},
            {"Id": "m1", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}, "ReturnData": False},
        ],
        "EvaluationPeriods": 1,
        "Threshold": 5,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "breaching",
    }
    cloudformation = alarms.cloud.client("cloudformation")
    if way == "put":
        alarms.client.put_metric_alarm(**definition)
    else:
        template = {"Resources": {"Alarm": {"Type": "AWS::CloudWatch::Alarm", "Properties": definition}}}
        cloudformation.create_stack(StackName=way, TemplateBody=json.dumps(template))
        cloudformation.get_waiter("stack_create_complete").wait(StackName=way, WaiterConfig={"Delay": 1})

    def is_off() -> bool:
        alarms.client.put_metric_data(Namespace="Test", MetricData=[{"MetricName": way, "Value": 5}])
        return alarms.state(way) == "ALARM"

    try:
        alarms.wait(lambda: alarms.state(way) == "OK")
        alarms.wait(is_off)
        alarms.wait(lambda: alarms.state(way) == "OK")
    finally:
        alarms.client.delete_alarms(AlarmNames=[way])
        cloudformation.delete_stack(StackName=way)


def test_a_data_point_counts_for_the_minute_of_its_time_and_for_no_other(alarms: Alarms) -> None:
    """Two just before and after a minute's end are never taken together, whenever the alarm is looked at."""
    alarms.client.put_metric_alarm(
        AlarmName="minutes",
        AlarmDescription="minutes.md",
        Namespace="Test",
        MetricName="minutes",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=2,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="notBreaching",
    )

    def put(*seconds: float) -> None:
        """A one at each time around the end of the next minute, which is 0."""
        end = (time.time() // MINUTE + 2) * MINUTE
        data = [
            {"MetricName": "minutes", "Value": 1, "Timestamp": datetime.fromtimestamp(end + s, UTC)} for s in seconds
        ]
        alarms.client.put_metric_data(Namespace="Test", MetricData=data)

    def is_over() -> bool:
        return "no datapoints were received" in alarms.described()["minutes"]["StateReason"]

    try:
        for _ in range(3):
            put(-0.1 * MINUTE, 0.1 * MINUTE)
            alarms.wait(lambda: not is_over())
            alarms.wait(is_over)
        assert alarms.went_off()["minutes"] == 0
        put(0.1 * MINUTE, 0.9 * MINUTE)
        alarms.wait(lambda: alarms.went_off()["minutes"] > 0)
    finally:
        alarms.client.delete_alarms(AlarmNames=["minutes"])


def test_every_alarm_is_set_off(alarms: Alarms) -> None:
    assert {*alarms.described()} == {*RAISED, "ReleaseErrors"}


def test_the_table_says_how() -> None:
    table = "".join(f"| {page} | {how} |\n" for page, (how, _) in RAISED.items())
    assert table in (ROOT / "local" / "README.md").read_text()
