"""The whole application, deployed to the local cloud by the real CDK."""

import io
import ipaddress
import json
import re
import socket
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest

from app import lasting_settings
from local.cloud import LocalCloud
from local.peer import TELLS_PROCESSES
from local.tests.fixtures import assembly, wait_for_rotation
from operations.commands import ROOT
from operations.waiting import wait_until
from shared.frame import HEALTH

USER = lasting_settings().application_username


def test_the_deployed_function_answers(invoke: Callable[..., dict[str, Any]]) -> None:
    answer = invoke()
    assert not answer["error"]
    config = json.loads(lasting_settings().app_config)
    loaded = f"{config['app']} successfully loaded config {json.dumps(config)}"
    assert answer["message"] == f"{loaded} and connected to RDS database devDB!"
    assert answer["database"] == "devDB"
    assert answer["serverVersion"]
    health = invoke(HEALTH)
    assert health["tlsVersion"] in ("TLSv1.2", "TLSv1.3")
    assert health["check"] == answer["notes"]


def test_the_extension_is_asked_every_time_and_aws_once(
    cloud: LocalCloud, invoke: Callable[[], dict[str, Any]]
) -> None:
    invoke()

    def asked() -> int:
        attribute = {"AttributeKey": "EventName", "AttributeValue": "GetSecretValue"}
        return len(cloud.client("cloudtrail").lookup_events(LookupAttributes=[attribute])["Events"])

    before = asked()
    assert not any(invoke()["error"] for _ in range(20))
    assert asked() == before


def test_the_log_tells_what_happened_and_no_secret(
    cloud: LocalCloud, invoke: Callable[[], dict[str, Any]], outputs: dict[str, str]
) -> None:
    answer = invoke()
    (line,) = [line for line in answer["log"].splitlines() if "invocation.finished" in line]
    record = json.loads(line)
    assert record["outcome"] == "ok"
    assert record["connection_reused"] is True
    secret = cloud.client("secretsmanager").get_secret_value(SecretId=outputs["DatabaseSecretArn"])
    assert record["version_id"] == secret["VersionId"]
    assert json.loads(secret["SecretString"])["password"] not in (ROOT / cloud.folder / "log").read_text()


def test_the_function_logs_in_as_its_own_user_and_not_as_the_master(cloud: LocalCloud, outputs: dict[str, str]) -> None:
    secret = cloud.client("secretsmanager").get_secret_value(SecretId=outputs["DatabaseSecretArn"])
    value = json.loads(secret["SecretString"])
    assert {"engine", "host", "port", "dbname", "username", "password", "masterarn"} == set(value)
    assert value["username"] in (USER, f"{USER}_clone")
    assert value["engine"] == "mysql"


def test_a_rotation_goes_through_the_deployed_function_and_invocations_go_on(
    cloud: LocalCloud, invoke: Callable[[], dict[str, Any]], outputs: dict[str, str]
) -> None:
    secrets = cloud.client("secretsmanager")
    secret_id = outputs["DatabaseSecretArn"]
    before = json.loads(secrets.get_secret_value(SecretId=secret_id)["SecretString"])
    secrets.rotate_secret(SecretId=secret_id)
    wait_for_rotation(cloud, secret_id)
    after = json.loads(secrets.get_secret_value(SecretId=secret_id)["SecretString"])
    assert {before["username"], after["username"]} == {USER, f"{USER}_clone"}
    assert after["password"] != before["password"]
    assert not invoke()["error"]


def test_deploying_again_changes_nothing(cloud: LocalCloud) -> None:
    printed = cloud.deploy()
    assert printed.count("(no changes)") == 4


def test_the_diff_is_empty(cloud: LocalCloud) -> None:
    printed = cloud.cdk("diff", "--all", "--fail", f"--app={assembly()}")
    assert "Number of stacks with differences: 0" in printed


def test_the_database_server_runs_without_privileges_on_localhost_only(cloud: LocalCloud) -> None:
    (pid_file,) = cloud.folder.glob("*/pid")
    process = psutil.Process(int(pid_file.read_text()))
    assert process.uids().real != 0
    command = process.cmdline()
    if TELLS_PROCESSES:
        assert "--skip-networking" in command
    else:
        (address,) = [each.partition("=")[2] for each in command if each.startswith("--bind-address=")]
        assert ipaddress.ip_address(address).is_loopback
    assert "--require-secure-transport=ON" in command
    assert pid_file.parent.stat().st_mode & 0o077 == 0


def test_the_database_is_where_the_instance_says(cloud: LocalCloud) -> None:
    (instance,) = cloud.client("rds").describe_db_instances()["DBInstances"]
    assert instance["MultiAZ"] is True
    address, port = instance["Endpoint"]["Address"], instance["Endpoint"]["Port"]
    assert ipaddress.ip_address(address).is_loopback
    assert (port == 3306) == (address != "127.0.0.1")
    with socket.create_connection((address, port), 5) as connection:
        assert len(connection.recv(5)) == 5


@pytest.fixture
def role(cloud: LocalCloud, outputs: dict[str, str]) -> str:
    """The ARN of a role that Lambda may take."""
    arn: str = cloud.client("lambda").get_function_configuration(FunctionName=outputs["FunctionName"])["Role"]
    return arn


MODULE = "def handler(event, context):\n    return 'imported'\n"


def _answer_of_a_module(cloud: LocalCloud, role: str, mode: int) -> Any:
    """What a function says whose module has this mode in its archive."""
    archive = io.BytesIO()
    module = zipfile.ZipInfo("module.py")
    module.external_attr = mode << 16
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr(module, MODULE)
    client, name = cloud.client("lambda"), f"mode-{mode:o}"
    code = {"ZipFile": archive.getvalue()}
    client.create_function(FunctionName=name, Runtime="python3.13", Role=role, Handler="module.handler", Code=code)
    try:
        return json.load(client.invoke(FunctionName=name)["Payload"])
    finally:
        client.delete_function(FunctionName=name)


def test_a_module_that_only_its_owner_may_read_is_not_imported(cloud: LocalCloud, role: str) -> None:
    assert _answer_of_a_module(cloud, role, 0o100644) == "imported"
    assert _answer_of_a_module(cloud, role, 0o100600)["errorType"] == "Runtime.ImportModuleError"


def test_code_in_a_template_is_imported(cloud: LocalCloud, role: str) -> None:
    properties = {"Runtime": "python3.13", "Handler": "index.handler", "Role": role, "Code": {"ZipFile": MODULE}}
    template = {"Resources": {"Function": {"Type": "AWS::Lambda::Function", "Properties": properties}}}
    cloudformation = cloud.client("cloudformation")
    cloudformation.create_stack(StackName="Inline", TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(StackName="Inline", WaiterConfig={"Delay": 1})
    resource = cloudformation.describe_stack_resource(StackName="Inline", LogicalResourceId="Function")
    name = resource["StackResourceDetail"]["PhysicalResourceId"]
    assert json.load(cloud.client("lambda").invoke(FunctionName=name)["Payload"]) == "imported"
    cloudformation.delete_stack(StackName="Inline")
    cloudformation.get_waiter("stack_delete_complete").wait(StackName="Inline", WaiterConfig={"Delay": 1})


def test_a_secret_of_which_a_template_says_nothing_has_a_random_value(cloud: LocalCloud) -> None:
    secret = {"Type": "AWS::SecretsManager::Secret", "Properties": {"GenerateSecretString": {}}}
    cloudformation = cloud.client("cloudformation")
    cloudformation.create_stack(StackName="Random", TemplateBody=json.dumps({"Resources": {"Secret": secret}}))
    cloudformation.get_waiter("stack_create_complete").wait(StackName="Random", WaiterConfig={"Delay": 1})
    resource = cloudformation.describe_stack_resource(StackName="Random", LogicalResourceId="Secret")
    arn = resource["StackResourceDetail"]["PhysicalResourceId"]
    assert len(cloud.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]) == 32
    cloudformation.delete_stack(StackName="Random")
    cloudformation.get_waiter("stack_delete_complete").wait(StackName="Random", WaiterConfig={"Delay": 1})


def test_what_the_handler_logs_reaches_an_alarm(cloud: LocalCloud) -> None:
    filters = cloud.client("logs").describe_metric_filters()["metricFilters"]
    assert {"ConfigurationError", "SecretAgeHours"} <= {
        each["metricTransformations"][0]["metricName"] for each in filters
    }
    alarms = cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]
    (topic,) = cloud.client("sns").list_topics()["Topics"]
    assert len(alarms) > 10
    assert {action for alarm in alarms for action in alarm["AlarmActions"]} == {topic["TopicArn"]}


def test_lambda_repeats_an_asynchronous_invocation_with_its_id_and_the_note_is_stored_once(
    cloud: LocalCloud, outputs: dict[str, str]
) -> None:
    client, logs = cloud.client("lambda"), cloud.client("logs")
    group = client.get_function_configuration(FunctionName=outputs["FunctionName"])["LoggingConfig"]["LogGroup"]
    text = str(uuid.uuid4())

    def finished() -> list[dict[str, Any]]:
        messages = [each["message"] for each in logs.filter_log_events(logGroupName=group)["events"]]
        return [json.loads(each) for each in messages if "invocation.finished" in each]

    before = len(finished())

    def wait_for(tries: int) -> list[dict[str, Any]]:
        assert wait_until(lambda: len(finished()) >= before + tries, 20)
        return finished()[before:]

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


def test_a_thousand_bad_requests_are_no_error_for_lambdas_count_and_one_failure_is(
    cloud: LocalCloud, invoke: Callable[..., dict[str, Any]], outputs: dict[str, str]
) -> None:
    """The count that FunctionErrors and ReleaseErrors watch; none is subtracted from it, so that none can come late."""
    metrics = cloud.client("cloudwatch")
    name = outputs["FunctionName"].split(":")[-2]
    now = datetime.now(UTC)
    asked = {"StartTime": now - timedelta(hours=2), "EndTime": now + timedelta(hours=1), "Period": 60}
    dimensions = [{"Name": "FunctionName", "Value": name}]

    def counted(metric: str) -> float:
        found = metrics.get_metric_statistics(
            Namespace="AWS/Lambda", MetricName=metric, Dimensions=dimensions, Statistics=["Sum"], **asked
        )
        return float(sum(each["Sum"] for each in found["Datapoints"]))

    before = {metric: counted(metric) for metric in ("Invocations", "Errors")}
    with ThreadPoolExecutor(2) as callers:
        told = Counter(callers.map(lambda _: invoke({"note": ""})["errorType"], range(1000)))
    assert told == {"BadRequestError": 1000}
    assert counted("Invocations") == before["Invocations"] + 1000
    assert counted("Errors") == before["Errors"]
    with cloud.database_connection(outputs["DatabaseSecretArn"]) as connection, connection.cursor() as cursor:
        cursor.execute("RENAME TABLE note TO elsewhere")
        try:
            answer = invoke({"note": "a"})
            assert answer["errorType"] == "QueryFailedError"
            # MySQL's own sentence, which a laptop alone is told.
            assert re.search(r"says=.*Table '\w+\.note' doesn't exist", answer["errorMessage"])
        finally:
            cursor.execute("RENAME TABLE elsewhere TO note")
    assert counted("Errors") == before["Errors"] + 1
