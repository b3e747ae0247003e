"""`make verify`: each check notices its sabotage of the deployed environment, and that it was put back."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ParamValidationError

from local.cloud import LocalCloud
from local.tests.fixtures import assembly, wait_for_rotation
from operations import snapshots
from operations.commands import ROOT, environment
from operations.preflight import Preflight
from operations.verify.checks import CHECKS, LOUD_CHECKS
from operations.verify.deployed import Deployed
from operations.verify.report import FAILED, PASSED, UNCHECKED, Check, Result, as_json, run
from operations.verify.stacks import _differences
from proof.cloud.roles import session_of_role
from proof.stacks.test_rights import ASKED_BY_CHECKS
from stacks.settings import from_context

Examine = Callable[..., Deployed]
Sabotage = Callable[[LocalCloud, Deployed], AbstractContextManager[object]]
SABOTAGES: dict[str, list[Sabotage]] = {}
"""By the name of the check that must notice it."""
NOT_ON_A_LAPTOP = {"engine", "subscription", "tracing"}
"""Checks that pass in an account only; each has a test of its own here."""


def sabotages(name: str) -> Callable[..., Callable[..., Iterator[None]]]:
    """Add a sabotage of what the check verifies; the generator undoes it."""

    def add(function: Callable[[LocalCloud, Deployed], Iterator[None]]) -> Callable[..., Iterator[None]]:
        SABOTAGES.setdefault(name, []).append(contextmanager(function))
        return function

    return add


@pytest.fixture(scope="module")
def examine(cloud: LocalCloud) -> Examine:
    """The deployed environment, described anew; the templates are the same each time."""
    cloud.deploy(assembly=assembly())  # Whatever other tests have left.
    session = cloud.session()
    templates = Deployed(from_context({}), {}, session).templates

    def examine(**settings: str) -> Deployed:
        deployed = Deployed(from_context(settings), settings, session)
        if not settings:
            vars(deployed)["templates"] = templates
        return deployed

    return examine


def _only(check: Check, deployed: Deployed) -> Result:
    (result,) = run([check], deployed)
    return result


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in NOT_ON_A_LAPTOP])
def test_a_check_notices_its_sabotage_and_that_it_was_put_back(cloud: LocalCloud, examine: Examine, name: str) -> None:
    for sabotage in SABOTAGES[name]:
        with sabotage(cloud, examine()):
            result = _only(CHECKS[name], examine())
            assert (result.status, "; expected " in result.found) == (FAILED, True), result
        result = _only(CHECKS[name], examine())
        assert result.status == PASSED, result


@contextmanager
def _live_version_with(deployed: Deployed, **configuration: object) -> Iterator[None]:
    """Give callers a version with another configuration."""
    client, name = deployed.client("lambda"), deployed.functions["Serving"]
    before = client.get_function_configuration(FunctionName=name)
    version = client.get_alias(FunctionName=name, Name="live")["FunctionVersion"]
    client.update_function_configuration(FunctionName=name, **configuration)
    client.update_alias(
        FunctionName=name, Name="live", FunctionVersion=client.publish_version(FunctionName=name)["Version"]
    )
    yield
    client.update_alias(FunctionName=name, Name="live", FunctionVersion=version)
    client.update_function_configuration(
        FunctionName=name,
        Layers=[layer["Arn"] for layer in before["Layers"]],
        Environment=before["Environment"],
    )


@sabotages("answer")
def _a_version_that_cannot_start(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    variables = {**deployed.live["Serving"]["Environment"]["Variables"], "CREDS_PATH": ""}
    with _live_version_with(deployed, Environment={"Variables": variables}):
        yield


@sabotages("concurrency")
def _with_less_concurrency(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client, name = deployed.client("lambda"), deployed.functions["Serving"]
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=5)
    yield
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=10)


@sabotages("kept-connection")
def _connections_cut(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    invoke = Deployed.invoke

    def cut_and_invoke(self: Deployed, serving: str) -> dict[str, Any]:
        with cloud.database_connection(self.secret_arn) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE user LIKE 'demoapp%'")
            for (thread,) in cursor.fetchall():
                cursor.execute("CALL mysql.rds_kill(%s)", (thread,))
        return invoke(self, serving)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Deployed, "invoke", cut_and_invoke)
        yield


@sabotages("extension")
@sabotages("live-version")
def _a_version_without_the_layer(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    with _live_version_with(deployed, Layers=[]):
        yield


@sabotages("checkout")
def _another_template(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    body = deployed.templates["Network"]
    vpc = next(each for each in body["Resources"].values() if each["Type"] == "AWS::EC2::VPC")
    vpc["Properties"]["EnableDnsHostnames"] = False
    yield
    vpc["Properties"]["EnableDnsHostnames"] = True


@sabotages("drift")
def _another_memory_size(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client, name = deployed.client("lambda"), deployed.functions["Rotation"]
    client.update_function_configuration(FunctionName=name, MemorySize=512)
    yield
    client.update_function_configuration(FunctionName=name, MemorySize=256)


@sabotages("routes")
def _a_route_out(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client = deployed.client("ec2")
    table = deployed.physical_ids("AWS::EC2::RouteTable")["Network/VpcPrivateSubnet1RouteTable"]
    gateway = client.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    client.attach_internet_gateway(InternetGatewayId=gateway, VpcId=deployed.vpc_id)
    client.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    yield
    client.delete_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0")
    client.detach_internet_gateway(InternetGatewayId=gateway, VpcId=deployed.vpc_id)
    client.delete_internet_gateway(InternetGatewayId=gateway)


@sabotages("security-groups")
def _an_open_group(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client = deployed.client("ec2")
    group = deployed.physical_ids("AWS::EC2::SecurityGroup")["Database/SecurityGroup"]
    rule = {"IpProtocol": "tcp", "FromPort": 3306, "ToPort": 3306, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    client.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    yield
    client.revoke_security_group_ingress(GroupId=group, IpPermissions=[rule])


@pytest.mark.parametrize(("protocol", "last"), [("tcp", 65535), ("udp", 3306)])
def test_a_group_that_admits_more_ports_or_protocols_is_noticed(examine: Examine, protocol: str, last: int) -> None:
    deployed = examine()
    groups = deployed.physical_ids("AWS::EC2::SecurityGroup")
    rule = {
        "IpProtocol": protocol,
        "FromPort": 3306,
        "ToPort": last,
        "UserIdGroupPairs": [{"GroupId": groups["Service/ServingSecurityGroup"]}],
    }
    arguments = {"GroupId": groups["Database/SecurityGroup"], "IpPermissions": [rule]}
    deployed.client("ec2").authorize_security_group_ingress(**arguments)
    try:
        result = _only(CHECKS["security-groups"], examine())
    finally:
        deployed.client("ec2").revoke_security_group_ingress(**arguments)
    assert result.status == FAILED
    assert f"into Database {protocol} 3306" in result.found
    assert _only(CHECKS["security-groups"], examine()).status == PASSED


@sabotages("endpoints")
def _an_open_endpoint(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client = deployed.client("ec2")
    endpoint = deployed.physical_ids("AWS::EC2::VPCEndpoint")["Network/VpcSecretsManager"]
    (before,) = [each for each in client.describe_vpc_endpoints()["VpcEndpoints"] if each["VpcEndpointId"] == endpoint]
    everything = {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]}
    client.modify_vpc_endpoint(VpcEndpointId=endpoint, PolicyDocument=json.dumps(everything))
    yield
    client.modify_vpc_endpoint(VpcEndpointId=endpoint, PolicyDocument=before["PolicyDocument"])


@sabotages("subnets")
def _public_addresses(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client = deployed.client("ec2")
    subnet = deployed.live["Serving"]["VpcConfig"]["SubnetIds"][0]
    client.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})
    yield
    client.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": False})


@sabotages("instance")
def _one_zone(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client, identifier = deployed.client("rds"), deployed.instance["DBInstanceIdentifier"]
    client.modify_db_instance(DBInstanceIdentifier=identifier, MultiAZ=False, ApplyImmediately=True)
    yield
    client.modify_db_instance(DBInstanceIdentifier=identifier, MultiAZ=True, ApplyImmediately=True)


@sabotages("parameters")
def _plaintext(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client, (group,) = deployed.client("rds"), deployed.instance["DBParameterGroups"]

    def set_to(value: str) -> None:
        parameter = {
            "ParameterName": "require_secure_transport",
            "ParameterValue": value,
            "ApplyMethod": "immediate",
        }
        client.modify_db_parameter_group(DBParameterGroupName=group["DBParameterGroupName"], Parameters=[parameter])

    set_to("0")
    yield
    set_to("1")


@sabotages("rotation")
def _another_schedule(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client, secret = deployed.client("secretsmanager"), deployed.secret_arn
    before = client.describe_secret(SecretId=secret)["RotationRules"]
    for rules in ({"AutomaticallyAfterDays": 365}, before):
        client.rotate_secret(SecretId=secret, RotationRules=rules)
        wait_for_rotation(cloud, secret)
        if rules != before:
            yield


@sabotages("secret-policy")
def _an_open_secret(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client, secret = deployed.client("secretsmanager"), deployed.secret_arn
    before = client.get_resource_policy(SecretId=secret)["ResourcePolicy"]
    client.put_resource_policy(SecretId=secret, ResourcePolicy=before.replace('"Deny"', '"Allow"'))
    yield
    client.put_resource_policy(SecretId=secret, ResourcePolicy=before)


@sabotages("permissions")
def _a_policy_more(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client, role = deployed.client("iam"), deployed.live["Serving"]["Role"].rpartition("/")[2]
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    policy = client.create_policy(PolicyName="sabotage", PolicyDocument=json.dumps(document))["Policy"]["Arn"]
    client.attach_role_policy(RoleName=role, PolicyArn=policy)
    yield
    client.detach_role_policy(RoleName=role, PolicyArn=policy)
    client.delete_policy(PolicyArn=policy)


@sabotages("public-access")
def _anybody_invokes(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client, name = deployed.client("lambda"), deployed.functions["Serving"]
    client.add_permission(FunctionName=name, StatementId="sabotage", Action="lambda:InvokeFunction", Principal="*")
    yield
    client.remove_permission(FunctionName=name, StatementId="sabotage")


@sabotages("public-access")
def _another_account_invokes(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client, name = deployed.client("lambda"), deployed.functions["Serving"]
    permission = {"Action": "lambda:InvokeFunction", "Principal": "999999999999"}
    client.add_permission(FunctionName=name, StatementId="sabotage", **permission)
    yield
    client.remove_permission(FunctionName=name, StatementId="sabotage")


def _another_account_invokes_a_qualified(deployed: Deployed, qualifier: str) -> Iterator[None]:
    client, named = deployed.client("lambda"), {"FunctionName": deployed.functions["Serving"], "Qualifier": qualifier}
    permission = {"Action": "lambda:InvokeFunction", "Principal": "999999999999"}
    client.add_permission(**named, StatementId="sabotage", **permission)
    yield
    client.remove_permission(**named, StatementId="sabotage")


@sabotages("public-access")
def _another_account_invokes_the_alias(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    yield from _another_account_invokes_a_qualified(deployed, "live")


@sabotages("public-access")
def _another_account_invokes_the_version(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    yield from _another_account_invokes_a_qualified(deployed, deployed.live["Serving"]["Version"])


@sabotages("variables")
def _a_password(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client, name = deployed.client("lambda"), deployed.functions["Rotation"]
    before = client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    client.update_function_configuration(FunctionName=name, Environment={"Variables": {**before, "PASSWORD": "x"}})
    yield
    client.update_function_configuration(FunctionName=name, Environment={"Variables": before})


@sabotages("alarms")
def _a_silent_alarm(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    names = [deployed.physical_ids("AWS::CloudWatch::Alarm")["Monitoring/ServingConfigurationError"]]
    deployed.client("cloudwatch").disable_alarm_actions(AlarmNames=names)
    yield
    deployed.client("cloudwatch").enable_alarm_actions(AlarmNames=names)


@sabotages("alarms")
def _in_alarm(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client, name = deployed.client("cloudwatch"), next(iter(deployed.physical_ids("AWS::CloudWatch::Alarm").values()))
    client.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="sabotage")
    yield
    client.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="put back")


@sabotages("alarms")
def _an_alarm_deleted(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client, name = deployed.client("cloudwatch"), next(iter(deployed.physical_ids("AWS::CloudWatch::Alarm").values()))
    (before,) = client.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    client.delete_alarms(AlarmNames=[name])
    yield
    taken = client.meta.service_model.operation_model("PutMetricAlarm").input_shape.members
    client.put_metric_alarm(**{key: value for key, value in before.items() if key in taken})


@sabotages("logs")
def _logs_for_ever(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client, group = (
        deployed.client("logs"),
        deployed.physical_ids("AWS::Logs::LogGroup")["Service/ServingLogGroup"],
    )
    client.delete_retention_policy(logGroupName=group)
    yield
    client.put_retention_policy(logGroupName=group, retentionInDays=90)


@sabotages("flow-log")
def _no_flow_log(cloud: LocalCloud, deployed: Deployed) -> Iterator[None]:
    client = deployed.client("ec2")
    (before,) = client.describe_flow_logs()["FlowLogs"]
    client.delete_flow_logs(FlowLogIds=[before["FlowLogId"]])
    yield
    client.create_flow_logs(
        ResourceIds=[before["ResourceId"]],
        ResourceType="VPC",
        TrafficType="ALL",
        LogGroupName=before["LogDestination"],
    )


def test_every_check_has_its_sabotage() -> None:
    assert set(SABOTAGES) | NOT_ON_A_LAPTOP == set(CHECKS)


def test_the_engine_is_checked_where_it_is_one_of_rds(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _only(CHECKS["engine"], examine()).status == UNCHECKED
    monkeypatch.setattr(Deployed, "is_aws", True)
    deployed = examine()
    server = deployed.invoke("Serving")["answer"]["serverVersion"]
    assert _only(CHECKS["engine"], deployed).status == FAILED  # RDS reports no such version.
    vars(deployed)["instance"] = {**deployed.instance, "EngineVersion": re.match(r"[0-9.]+", server)[0]}  # type: ignore[index]
    assert _only(CHECKS["engine"], deployed).status == FAILED  # It is not of the requested series either.
    deployed.settings = from_context({"engine_version": "9.7"})
    vars(deployed)["instance"] = {**deployed.instance, "EngineVersion": "9.7.4"}
    monkeypatch.setattr(Deployed, "invoke", lambda *_: {"answer": {"serverVersion": "9.7.4-R2"}})
    assert _only(CHECKS["engine"], deployed).found == "MySQL 9.7.4-R2"


def test_the_subscription_is_checked_where_there_is_an_address(examine: Examine) -> None:
    assert _only(CHECKS["subscription"], examine()).status == UNCHECKED
    deployed = examine(alarm_email="oncall@example.com")
    (topic,) = deployed.physical_ids("AWS::SNS::Topic").values()
    assert _only(CHECKS["subscription"], deployed).status == FAILED
    sns = deployed.client("sns")
    arn = sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="oncall@example.com", ReturnSubscriptionArn=True)
    assert _only(CHECKS["subscription"], deployed).status == PASSED
    sns.unsubscribe(SubscriptionArn=arn["SubscriptionArn"])
    assert _only(CHECKS["subscription"], deployed).status == FAILED


def test_a_trace_is_waited_for_where_traces_are_kept(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _only(CHECKS["tracing"], examine()).status == UNCHECKED
    deployed = examine()
    vars(deployed)["live"] = {"Serving": {"TracingConfig": {"Mode": "PassThrough"}}}
    assert _only(CHECKS["tracing"], deployed).status == FAILED
    monkeypatch.setattr(Deployed, "is_aws", True)
    monkeypatch.setattr("operations.verify.monitoring.TRACE_WAIT", 0)
    answers = iter([{"TraceSummaries": []}, {"TraceSummaries": [{"Id": "1"}]}])
    xray = SimpleNamespace(get_trace_summaries=lambda **_: next(answers))
    client = Deployed.client
    monkeypatch.setattr(Deployed, "client", lambda self, name: xray if name == "xray" else client(self, name))
    assert [_only(CHECKS["tracing"], examine()).status for _ in range(2)] == [FAILED, PASSED]


@pytest.mark.parametrize(
    ("code", "status"), [("AccessDeniedException", UNCHECKED), ("UnauthorizedOperation", UNCHECKED), ("Other", FAILED)]
)
def test_a_call_that_the_credentials_do_not_allow_is_unchecked(examine: Examine, code: str, status: str) -> None:
    def refuse(_: Deployed) -> str:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "DescribeThings")

    result = _only(Check("refused", "", refuse, loud=False), examine())
    assert (result.status, result.found) == (status, f"DescribeThings answered {code}: no")


def _drift(status: str, kind: str = "AWS::KMS::Key", *paths: str, **more: Any) -> Callable[[dict[str, Any]], None]:
    """One more resource in an answer of drift detection."""
    differences = [
        {"PropertyPath": path, "ExpectedValue": "a", "ActualValue": "b", "DifferenceType": "NOT_EQUAL"}
        for path in paths
    ]
    found = {
        "LogicalResourceId": "Other",
        "ResourceType": kind,
        "StackResourceDriftStatus": status,
        "PropertyDifferences": differences,
        **more,
    }
    return lambda answer: answer["StackResourceDrifts"].append(found)


REASON = "User: a is not authorized to perform: kms:GetKeyPolicy"


@pytest.mark.parametrize(
    ("operation", "change", "status", "found"),
    [
        ("DescribeStackResourceDrifts", _drift("UNKNOWN", DriftStatusReason=REASON), UNCHECKED, REASON),
        (
            "DescribeStackDriftDetectionStatus",
            lambda answer: answer.update(DetectionStatus="DETECTION_FAILED", DetectionStatusReason=REASON),
            UNCHECKED,
            f"Network/*: {REASON}",
        ),
        ("DescribeStackResourceDrifts", _drift("UNKNOWN", "AWS::SecretsManager::Secret"), PASSED, "Other not read"),
        (
            "DescribeStackResourceDrifts",
            _drift("MODIFIED", "AWS::EC2::SecurityGroup", "/SecurityGroupIngress/0", "/SecurityGroupEgress"),
            PASSED,
            "Network/Other: rules of this and of other stacks",
        ),
        (
            "DescribeStackResourceDrifts",
            _drift("MODIFIED", "AWS::EC2::SecurityGroup", "/SecurityGroupIngress/0", "/GroupDescription"),
            FAILED,
            "Other modified /SecurityGroupIngress/0 /GroupDescription",
        ),
        (
            "DescribeStackResourceDrifts",
            _drift("DELETED"),
            FAILED,
            "-c env=dev demoApp-dev-Database demoApp-dev-Monitoring demoApp-dev-Network demoApp-dev-Service --revert",
        ),
    ],
)
def test_drift_that_cannot_be_read_is_unchecked_and_what_was_done_by_hand_is_named(
    examine: Examine, operation: str, change: Callable[[dict[str, Any]], None], status: str, found: str
) -> None:
    """As for an administrator: CloudFormation answers with the resources that it could read."""
    deployed = examine()

    def change_answer(parsed: dict[str, Any], **_: object) -> None:
        change(parsed)

    deployed.client("cloudformation").meta.events.register(f"after-call.cloudformation.{operation}", change_answer)
    result = _only(CHECKS["drift"], deployed)
    assert result.status == status, result
    assert found in result.found


def test_drift_is_read_from_all_pages(examine: Examine) -> None:
    deployed = examine()
    pages = iter([True, False])

    def change_answer(parsed: dict[str, Any], **_: object) -> None:
        if next(pages, False):
            parsed |= {"StackResourceDrifts": [], "NextToken": "2"}
        else:
            _drift("DELETED")(parsed)

    def without_token(params: dict[str, Any], **_: object) -> None:
        params.pop("NextToken", None)  # The local cloud has one page.

    events = deployed.client("cloudformation").meta.events
    events.register("after-call.cloudformation.DescribeStackResourceDrifts", change_answer)
    events.register("provide-client-params.cloudformation.DescribeStackResourceDrifts", without_token)
    assert "Network/Other deleted" in _only(CHECKS["drift"], deployed).found


def test_what_aws_changes_by_itself_is_no_drift_and_is_said(cloud: LocalCloud, examine: Examine) -> None:
    """The local cloud reads the storage as CloudFormation does."""
    deployed = examine()
    rds, identifier = deployed.client("rds"), deployed.instance["DBInstanceIdentifier"]
    rds.modify_db_instance(DBInstanceIdentifier=identifier, AllocatedStorage=23, ApplyImmediately=True)
    try:
        result = _only(CHECKS["drift"], examine())
    finally:
        rds.modify_db_instance(DBInstanceIdentifier=identifier, AllocatedStorage=20, ApplyImmediately=True)
    assert result.status == PASSED, result
    assert "storage that RDS has let grow" in result.found


def test_a_parameter_that_was_set_is_no_drift_and_is_said_beside_what_is(cloud: LocalCloud, examine: Examine) -> None:
    deployed = examine()
    ssm, name = deployed.client("ssm"), deployed.settings.parameter_name
    before, said = deployed.settings.app_config, "AppConfig: a value set without a deploy, which --revert-drift would"
    ssm.put_parameter(Name=name, Value=before.replace("true", "false"), Overwrite=True)
    try:
        alone = _only(CHECKS["drift"], examine())
        with SABOTAGES["drift"][0](cloud, deployed):
            beside = _only(CHECKS["drift"], examine())
    finally:
        ssm.put_parameter(Name=name, Value=before, Overwrite=True)
    assert (alone.status, beside.status) == (PASSED, FAILED), (alone, beside)
    assert "/MemorySize" in beside.found
    assert said in re.sub(r"(?<=AppConfig)\w{8}", "", alone.found)
    assert said in re.sub(r"(?<=AppConfig)\w{8}", "", beside.found)


def test_a_zone_that_the_settings_name_is_no_difference() -> None:
    first = {"Subnet": {"AvailabilityZone": {"Fn::Select": [0, {"Fn::GetAZs": ""}]}}}
    named = {"Subnet": {"AvailabilityZone": "us-east-1a"}}
    assert _differences(first, named) == []
    assert _differences(named, first) == _differences(named, {"Subnet": {"AvailabilityZone": "us-east-1b"}})
    assert _differences(named, first) == ["/Subnet/AvailabilityZone"]


@pytest.mark.parametrize("status", ["backing-up", "storage-optimization", "configuring-enhanced-monitoring"])
def test_an_instance_that_serves_is_healthy(examine: Examine, status: str) -> None:
    deployed = examine()
    vars(deployed)["instance"] = {**deployed.instance, "DBInstanceStatus": status}
    assert _only(CHECKS["instance"], deployed).status == PASSED


LAYER = "arn:aws:lambda:us-east-1:177933569100:layer:AWS-Parameters-and-Secrets-Lambda-Extension-Arm64"


@pytest.mark.parametrize(
    ("used", "newest", "pinned", "status"),
    [
        (f"{LAYER}:9", f"{LAYER}:10", "", UNCHECKED),
        (f"{LAYER}:10", f"{LAYER}:10", "", PASSED),
        (f"{LAYER}:11", f"{LAYER}:10", "", PASSED),
        ("arn:aws:lambda:us-east-1:123456789012:layer:mine:10", f"{LAYER}:10", "", FAILED),
        (f"{LAYER}:9", f"{LAYER}:10", f"{LAYER}:9", PASSED),
        (f"{LAYER}:10", f"{LAYER}:10", f"{LAYER}:9", FAILED),
    ],
)
def test_an_older_layer_is_unchecked_with_what_moves_it_and_another_fails(
    examine: Examine, used: str, newest: str, pinned: str, status: str
) -> None:
    deployed = examine(**({"extension_layer_arn": pinned} if pinned else {}))
    vars(deployed)["live"] = {name: {**live, "Layers": [{"Arn": used}]} for name, live in deployed.live.items()}
    vars(deployed)["newest_layer"] = {"Value": newest}
    result = _only(CHECKS["extension"], deployed)
    assert result.status == status, result
    command = (
        f'into the context of cdk.json: {{"dev": {{"extension_layer_arn": "{newest}"}}}}; then make deploy ENV=dev'
    )
    assert (command in result.found) == (status == UNCHECKED)


def _aged(**days: int) -> dict[str, Any]:
    return {name: datetime.now(UTC) - timedelta(days=each) for name, each in days.items()}


def test_what_grows_old_or_ends_is_named(cloud: LocalCloud, examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    check = LOUD_CHECKS["ageing"]
    assert _only(check, examine()).status == PASSED
    deployed = examine()
    older = {"Layers": [{"Arn": f"{LAYER}:1"}], "LastModified": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000+0000}"}
    vars(deployed)["live"] = {name: {**live, **older} for name, live in deployed.live.items()}
    newer = {"Value": f"{LAYER}:2"}
    vars(deployed)["newest_layer"] = newer | _aged(LastModifiedDate=29)
    assert _only(check, deployed).status == PASSED
    vars(deployed)["newest_layer"] = newer | _aged(LastModifiedDate=32)
    assert "layer version 1, and AWS has 2, for 32 days: into the context of cdk.json" in _only(check, deployed).found
    # AWS publishes often: the newest is new, and what is used is not.
    vars(deployed)["newest_layer"] = newer | _aged(LastModifiedDate=5)
    for live in deployed.live.values():
        live["LastModified"] = f"{datetime.now(UTC) - timedelta(days=60):%Y-%m-%dT%H:%M:%S.000+0000}"
    assert "for 60 days" in _only(check, deployed).found
    deployed = examine()
    vars(deployed)["instance"] = {**deployed.instance, "EngineVersion": "8.0.43"}
    assert "MySQL 8.0 leaves standard support on 2026-07-31" in _only(check, deployed).found
    deployed = examine()
    for function in deployed.functions.values():
        cloud.let_idle(function)
    found = _only(check, deployed).found
    for function in deployed.functions.values():
        with suppress(ClientError):  # The first invocation wakes it, and fails.
            deployed.client("lambda").invoke(FunctionName=function)
    assert all(f"{name} is Inactive" in found for name in ("Serving", "Rotation", "Migration", "SmokeTest"))
    monkeypatch.setattr("operations.verify.ageing.NOTICE", timedelta(days=36500))
    assert "a root certificate of RDS ends on 20" in _only(check, examine()).found


def _instance(**values: object) -> Callable[[dict[str, Any]], None]:
    return lambda answer: answer["DBInstances"][0].update(values)


def _with(**values: object) -> Callable[[dict[str, Any]], None]:
    return lambda answer: answer.update(values)


@pytest.mark.parametrize(
    ("name", "operation", "change", "found"),
    [
        ("rotation", "secretsmanager.DescribeSecret", _with(RotationEnabled=False), "rotation enabled: False"),
        ("rotation", "secretsmanager.DescribeSecret", _with(RotationLambdaARN="arn:other"), "rotated by other"),
        ("rotation", "secretsmanager.DescribeSecret", _with(VersionIdsToStages={"a": ["AWSPENDING"]}), "not ended"),
        ("rotation", "secretsmanager.DescribeSecret", _with(LastRotatedDate=None), "last rotated None"),
        ("rotation", "secretsmanager.DescribeSecret", _with(LastRotatedDate=datetime(2020, 1, 1, tzinfo=UTC)), "2020"),
        ("secret-policy", "secretsmanager.DescribeSecret", _with(KmsKeyId="alias/aws/secretsmanager"), "alias/aws"),
        ("instance", "rds.DescribeDBInstances", _instance(DBInstanceStatus="failed"), "failed"),
        ("instance", "rds.DescribeDBInstances", _instance(PubliclyAccessible=True), "'PubliclyAccessible': True"),
        ("instance", "rds.DescribeDBInstances", _instance(StorageEncrypted=False), "'StorageEncrypted': False"),
        ("instance", "rds.DescribeDBInstances", _instance(KmsKeyId="another"), "'KmsKeyId': 'another'"),
        ("instance", "rds.DescribeDBInstances", _instance(DeletionProtection=True), "'DeletionProtection': True"),
        ("instance", "rds.DescribeDBInstances", _instance(BackupRetentionPeriod=0), "'BackupRetentionPeriod': 0"),
        ("instance", "rds.DescribeDBInstances", _instance(DBInstanceClass="db.m7g.large"), "db.m7g.large"),
        ("instance", "rds.DescribeDBInstances", _instance(PendingModifiedValues={"MultiAZ": False}), "pending"),
        (
            "parameters",
            "rds.DescribeDBInstances",
            _instance(DBParameterGroups=[{"DBParameterGroupName": "a", "ParameterApplyStatus": "pending-reboot"}]),
            "pending-reboot",
        ),
        (
            "parameters",
            "rds.DescribeDBParameters",
            lambda answer: [
                each.update(ParameterValue="TLSv1.1,TLSv1.2")
                for each in answer["Parameters"]
                if each["ParameterName"] == "tls_version"
            ],
            "TLSv1.1",
        ),
        ("endpoints", "ec2.DescribeVpcEndpoints", lambda answer: answer["VpcEndpoints"].pop(), "endpoints"),
        (
            "endpoints",
            "ec2.DescribeVpcEndpoints",
            lambda answer: answer["VpcEndpoints"][0].update(State="failed"),
            "failed",
        ),
        (
            "endpoints",
            "ec2.DescribeVpcEndpoints",
            lambda answer: answer["VpcEndpoints"][0].update(PrivateDnsEnabled=False),
            "private DNS False",
        ),
        ("flow-log", "ec2.DescribeFlowLogs", lambda answer: answer["FlowLogs"][0].update(TrafficType="REJECT"), "REJE"),
        ("logs", "logs.DescribeLogGroups", _with(logGroups=[]), "no such log group"),
        ("logs", "logs.DescribeLogGroups", lambda answer: answer["logGroups"][0].pop("kmsKeyId"), "key None"),
        (
            "checkout",
            "cloudformation.DescribeStacks",
            lambda answer: answer["Stacks"][0].update(StackStatus="UPDATE_IN_PROGRESS"),
            "UPDATE_IN_PROGRESS",
        ),
        ("variables", "lambda.GetFunctionConfiguration", _with(KMSKeyArn=None), "key of the variables None"),
        (
            "public-access",
            "lambda.ListFunctionUrlConfigs",
            _with(FunctionUrlConfigs=[{"FunctionUrl": "https://example.lambda-url.us-east-1.on.aws"}]),
            "lambda-url",
        ),
        ("answer", "lambda.Invoke", _with(Payload=io.BytesIO(b'{"database": "other"}')), "database other"),
        (
            "answer",
            "lambda.Invoke",
            _with(Payload=io.BytesIO(b'{"database": "devDB", "tlsVersion": "TLSv1"}')),
            "TLSv1",
        ),
    ],
)
def test_each_part_of_a_check_is_held_to_what_aws_describes(
    examine: Examine, name: str, operation: str, change: Callable[[dict[str, Any]], object], found: str
) -> None:
    """AWS's answer is changed on its way: some of these states cannot be brought about in a test."""
    deployed = examine()
    service, _, operation = operation.partition(".")
    client = deployed.client(service)
    changed = []

    def change_answer(parsed: dict[str, Any], **_: object) -> None:
        changed.append(change(parsed))

    service_id = client.meta.service_model.service_id.hyphenize()
    client.meta.events.register(f"after-call.{service_id}.{operation}", change_answer)
    result = _only(CHECKS[name], deployed)
    assert changed
    assert result.status == FAILED
    assert found in result.found


@pytest.mark.parametrize("output", ["RoleArn", "VerifyRoleArn"])
def test_the_workflows_roles_may_ask_all_that_the_checks_ask(cloud: LocalCloud, examine: Examine, output: str) -> None:
    """With IAM on: who deploys and who verifies can make each check, and cannot read a secret."""
    role = _deploy_roles(cloud)[output]
    session = session_of_role(cloud, role)
    asked = {"xray:GetTraceSummaries", "cloudformation:DetectStackResourceDrift"}  # In an account.
    session.events.register("before-call", lambda model, **_: asked.add(_action(model)))
    deployed = Deployed(from_context({}), {}, session)
    vars(deployed)["templates"] = examine().templates
    results = list(run([*CHECKS.values(), LOUD_CHECKS["ageing"]], deployed))
    assert [each for each in results if each.status == FAILED] == []
    unchecked = {each.name: each.found for each in results if each.status == UNCHECKED}
    assert set(unchecked) == NOT_ON_A_LAPTOP, unchecked
    (drift,) = [each.found for each in results if each.name == "drift"]
    assert sorted(re.findall(r"Database/(\w+?)\w{8} not read", drift)) == ["SchemaSecret", "Secret"]
    assert asked >= ASKED_BY_CHECKS
    with pytest.raises(ClientError, match="AccessDenied"):
        session.client("secretsmanager").get_secret_value(SecretId=deployed.secret_arn)
    preflight = Preflight(from_context({"owner": "local"}), deployed.templates, session)
    assert preflight.faults() == []
    assert [each for each in preflight.notes if "free plan" not in each] == ["zones: us-east-1a and us-east-1b"]
    rds, snapshot = cloud.client("rds"), f"asked-about-by-{output}"
    rds.create_db_snapshot(
        DBInstanceIdentifier=deployed.instance["DBInstanceIdentifier"], DBSnapshotIdentifier=snapshot
    )
    settings = from_context({"env": "prod", "snapshot": snapshot})
    (fault,) = snapshots.faults(settings, deployed.templates["Database"], session.client)
    assert "its key belongs to demoApp-dev-Database" in fault
    rds.delete_db_snapshot(DBSnapshotIdentifier=snapshot)


def _deploy_roles(cloud: LocalCloud) -> Mapping[str, str]:
    app = f"--app={assembly('github_repository=owner/name')}"
    cloud.cdk("deploy", "demoApp-dev-Deployment", "--require-approval=never", app)
    return cloud.outputs("Deployment")


def _action(model: Any) -> str:
    """IAM's name of an operation."""
    service, name = model.service_model.service_name, str(model.name)
    return f"{service}:{'InvokeFunction' if name == 'Invoke' else name}"


def test_a_right_that_is_missing_is_named_and_fails_no_check(cloud: LocalCloud, examine: Examine) -> None:
    role = _deploy_roles(cloud)["VerifyRoleArn"]
    name, iam = role.rpartition("/")[2], cloud.client("iam")
    document = {"Statement": [{"Effect": "Deny", "Action": "lambda:GetFunction", "Resource": "*"}]}
    iam.put_role_policy(RoleName=name, PolicyName="less", PolicyDocument=json.dumps(document))
    try:
        deployed = Deployed(from_context({}), {}, session_of_role(cloud, role))
        result = _only(CHECKS["drift"], deployed)
    finally:
        iam.delete_role_policy(RoleName=name, PolicyName="less")
    assert result.status == UNCHECKED
    assert "is not authorized to perform: lambda:GetFunction" in result.found


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyError("Action"), FAILED),
        (ValueError("not enough values to unpack"), FAILED),
        (ParamValidationError(report="no such parameter"), FAILED),
        (EndpointConnectionError(endpoint_url="https://sts.us-east-1.amazonaws.com"), UNCHECKED),
    ],
)
def test_a_check_that_raises_fails_and_stops_no_other(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, error: Exception, status: str
) -> None:
    def fail(_: Deployed) -> str:
        raise error

    deployed = examine()
    results = list(run([Check("odd", "", fail, loud=False), CHECKS["flow-log"]], deployed))
    assert [each.status for each in results] == [status, PASSED]
    vars(deployed)["instance"] = {}  # The report is written all the same.
    assert as_json(deployed, results, "now")["versions"] == {}


@pytest.mark.parametrize("name", LOUD_CHECKS)
def test_a_loud_check_passes_and_puts_back_what_it_changed(examine: Examine, name: str) -> None:
    result = _only(LOUD_CHECKS[name], examine())
    assert result.status == PASSED, result
    assert [each for each in run(list(CHECKS.values()), examine()) if each.status == FAILED] == []


def test_a_failover_is_counted_in_failed_invocations(examine: Examine) -> None:
    found = _only(LOUD_CHECKS["fail-over"], examine()).found
    assert re.match("[1-9]", found), found


@pytest.mark.parametrize("name", ["rotate", "fail-over", "calls"])
def test_a_loud_check_fails_when_an_invocation_does(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    failure = {"answer": {"errorType": "QueryFailedError"}, "error": "Unhandled", "log": ""}
    monkeypatch.setattr(Deployed, "invoke", lambda *_: failure)
    monkeypatch.setattr("operations.verify.loud.ANSWER_WAIT", 1)
    assert _only(LOUD_CHECKS[name], examine()).status == FAILED


def test_calls_to_aws_are_counted(cloud: LocalCloud, examine: Examine) -> None:
    deployed = examine()
    variables = {
        **deployed.live["Serving"]["Environment"]["Variables"],
        "PARAMETERS_SECRETS_EXTENSION_CACHE_ENABLED": "false",
    }
    with _live_version_with(deployed, Environment={"Variables": variables}):
        result = _only(LOUD_CHECKS["calls"], examine())
    assert result.status == FAILED
    assert re.fullmatch(r"found [0-9]{3} calls for 100 invocations; expected at most 4", result.found)


def test_an_alarm_without_a_subscriber_fails_its_check(
    cloud: LocalCloud, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operations.verify.loud.ALARM_WAIT", 1)
    with contextmanager(_a_silent_alarm)(cloud, examine()):
        assert _only(LOUD_CHECKS["alarm"], examine()).status == FAILED


def _verify(variables: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """As from a shell, with the exports of `make up` and without this process's own variables."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "operations.verify", *arguments],
        cwd=ROOT,
        env=environment() | dict(variables),
        capture_output=True,
        text=True,
    )


def test_the_command_prints_a_line_for_each_check_and_a_report(cloud: LocalCloud, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    finished = _verify(cloud.variables, "dev", "--json", str(report))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    lines = finished.stdout.splitlines()
    assert "which is not AWS" in lines[0]
    assert [re.match("[✓-] ([a-z-]+): ", line)[1] for line in lines[1:-1]] == list(CHECKS)  # type: ignore[index]
    assert lines[-1] == f"{len(CHECKS) - len(NOT_ON_A_LAPTOP)} passed, 0 failed, {len(NOT_ON_A_LAPTOP)} not checked"
    written = json.loads(report.read_text())
    assert [check["name"] for check in written["checks"]] == list(CHECKS)
    assert written["account"] == "000000000000"
    assert written["versions"]["runtime"] == "python3.13"
    secrets = cloud.client("secretsmanager")
    passwords = [
        json.loads(secrets.get_secret_value(SecretId=secret["ARN"])["SecretString"]).get("password", "none")
        for secret in secrets.list_secrets()["SecretList"]
        if secret["Name"].startswith(("demoApp-dev-", "rds!"))
    ]
    assert len(passwords) == 3
    assert not any(password in finished.stdout + report.read_text() for password in passwords)


def test_the_command_fails_when_a_check_does(cloud: LocalCloud) -> None:
    finished = _verify(cloud.variables, "dev", "--only", "checkout", "-c", "parameter_ttl=60")
    assert finished.returncode == 1
    assert "✗ checkout: found differences at Service/" in finished.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prod"], "demoApp-prod-Network: no such stack in account 000000000000, region us-east-1"),
        (["other"], "env=other: unknown environment; allowed: dev, prod"),
        (["dev", "-c", "egress=x"], "egress=x"),
        (["dev", "-c", "egress"], "egress: NAME=VALUE is expected"),
    ],
)
def test_without_an_environment_the_command_says_what_is_missing(
    cloud: LocalCloud, arguments: list[str], said: str
) -> None:
    finished = _verify(cloud.variables, *arguments)
    assert finished.returncode == 2
    assert said in finished.stderr
    assert "Traceback" not in finished.stderr


def test_without_credentials_the_command_says_so() -> None:
    finished = _verify({"AWS_REGION": "us-east-1"}, "dev")
    assert (finished.returncode, "Unable to locate credentials" in finished.stderr) == (2, True)
