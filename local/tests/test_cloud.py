"""The whole application, deployed to the local cloud by the real CDK."""

import io
import ipaddress
import json
import socket
import zipfile
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from app import lasting_settings
from local.cloud import LocalCloud
from local.peer import TELLS_PROCESSES
from local.tests.fixtures import wait_for_rotation
from operations.commands import ROOT
from shared.frame import HEALTH

USER = lasting_settings().application_username


def test_the_deployed_function_is_healthy(invoke: Callable[..., dict[str, Any]]) -> None:
    health = invoke(HEALTH)
    assert not health["error"]
    assert health["database"] == "devDB"
    assert health["serverVersion"]
    assert health["tlsVersion"] in ("TLSv1.2", "TLSv1.3")


def test_the_extension_is_asked_every_time_and_aws_once(
    cloud: LocalCloud, invoke: Callable[..., dict[str, Any]]
) -> None:
    invoke(HEALTH)
    attribute = {"AttributeKey": "EventName", "AttributeValue": "GetSecretValue"}

    def asked() -> set[str]:
        events = cloud.client("cloudtrail").lookup_events(LookupAttributes=[attribute])["Events"]  # The newest fifty.
        return {each["EventId"] for each in events}

    def newly_asked() -> int:
        before = asked()
        assert not any(invoke(HEALTH)["error"] for _ in range(20))
        return len(asked() - before)

    first = newly_asked()
    assert first == 0 or (first == 1 and newly_asked() == 0)  # The cached value may have ended in the first round.


def test_the_log_tells_what_happened_and_no_secret(
    cloud: LocalCloud, invoke: Callable[..., dict[str, Any]], outputs: dict[str, str]
) -> None:
    secrets, secret_id = cloud.client("secretsmanager"), outputs["DatabaseSecretArn"]
    for _ in range(2):  # Whatever other tests have left: then what is cached is refused, and the newest version read.
        secrets.rotate_secret(SecretId=secret_id)
        wait_for_rotation(cloud, secret_id)
        cloud.cut_connections(secret_id)
    invoke(HEALTH)
    answer = invoke(HEALTH)
    (line,) = [line for line in answer["log"].splitlines() if "invocation.finished" in line]
    record = json.loads(line)
    assert record["outcome"] == "ok"
    assert record["connection_reused"] is True
    secret = secrets.get_secret_value(SecretId=secret_id)
    assert record["version_id"] == secret["VersionId"]
    assert json.loads(secret["SecretString"])["password"] not in (ROOT / cloud.folder / "log").read_text()


def test_the_function_logs_in_as_its_own_user_and_not_as_the_master(cloud: LocalCloud, outputs: dict[str, str]) -> None:
    secret = cloud.client("secretsmanager").get_secret_value(SecretId=outputs["DatabaseSecretArn"])
    value = json.loads(secret["SecretString"])
    assert {"engine", "host", "port", "dbname", "username", "password", "masterarn"} == set(value)
    assert value["username"] in (USER, f"{USER}_clone")
    assert value["engine"] == "mysql"


def test_a_rotation_goes_through_the_deployed_function_and_invocations_go_on(
    cloud: LocalCloud, invoke: Callable[..., dict[str, Any]], outputs: dict[str, str]
) -> None:
    secrets = cloud.client("secretsmanager")
    secret_id = outputs["DatabaseSecretArn"]
    before = json.loads(secrets.get_secret_value(SecretId=secret_id)["SecretString"])
    secrets.rotate_secret(SecretId=secret_id)
    wait_for_rotation(cloud, secret_id)
    after = json.loads(secrets.get_secret_value(SecretId=secret_id)["SecretString"])
    assert {before["username"], after["username"]} == {USER, f"{USER}_clone"}
    assert after["password"] != before["password"]
    assert not invoke(HEALTH)["error"]


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
