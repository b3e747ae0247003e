"""The function: what it is given, what it may do, and whom it reaches."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import database
import extension
import handler
import upstream
from local.install import ROOT, environment
from stacks.package import SOURCE
from tests.conftest import Templates


def _function(templates: Templates, entry: str = "handler.lambda_handler") -> dict[str, Any]:
    function: dict[str, Any]
    (function,) = [
        each["Properties"]
        for each in templates.resources("AWS::Lambda::Function").values()
        if each["Properties"]["Handler"] == entry
    ]
    return function


def _statements(templates: Templates, role: str) -> list[dict[str, Any]]:
    """All statements of all policies of the role whose logical id begins so."""
    statements: list[dict[str, Any]] = []
    for policy in templates.resources("AWS::IAM::ManagedPolicy").values():
        if any(each["Ref"].startswith(role) for each in policy["Properties"]["Roles"]):
            statements += policy["Properties"]["PolicyDocument"]["Statement"]
    return statements


def _actions(statement: dict[str, Any]) -> list[str]:
    action = statement["Action"]
    return [action] if isinstance(action, str) else action


def test_the_parameter_is_the_seeds(templates: Templates, request: pytest.FixtureRequest) -> None:
    parameter = templates.only("AWS::SSM::Parameter")
    env = _function(templates)["Environment"]["Variables"]["ENV"]
    assert parameter["Name"] == f"/{env}/demoApp/app_config"
    assert json.loads(parameter["Value"]) == {"enableVersion": True, "version": 1, "app": "DemoApp"}


def test_the_environment_is_the_seeds_and_the_extensions(templates: Templates) -> None:
    variables = _function(templates)["Environment"]["Variables"]
    assert variables["APP_CONFIG_PATH"] == "demoApp/app_config"
    assert "Secret" in json.dumps(variables["CREDS_PATH"])
    assert variables["PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"] == "2773"
    assert variables["SSM_PARAMETER_STORE_TTL"] == variables["SECRETS_MANAGER_TTL"] == "300"
    assert variables["PARAMETERS_SECRETS_EXTENSION_LOG_LEVEL"] == "info"
    assert int(variables["SSM_PARAMETER_STORE_TIMEOUT_MILLIS"]) > 0
    assert int(variables["SECRETS_MANAGER_TIMEOUT_MILLIS"]) > 0


@pytest.mark.parametrize(("architecture", "processor"), [("arm64", "arm64"), ("x86_64", "x86")])
def test_the_layer_is_the_newest_of_the_region_when_it_is_deployed(
    synthesise: Callable[..., Templates], architecture: str, processor: str
) -> None:
    templates = synthesise(architecture=architecture)
    (layer,) = _function(templates)["Layers"]
    parameter = templates["Service"]["Parameters"][layer["Ref"]]
    assert parameter["Type"] == "AWS::SSM::Parameter::Value<String>"
    assert parameter["Default"] == f"/aws/service/aws-parameters-and-secrets-lambda-extension/{processor}/latest"
    assert _function(templates)["Architectures"] == [architecture]


def test_the_layer_can_be_pinned(synthesise: Callable[..., Templates]) -> None:
    arn = "arn:aws:lambda:eu-central-1:187925254637:layer:AWS-Parameters-and-Secrets-Lambda-Extension-Arm64:101"
    assert _function(synthesise(extension_layer_arn=arn))["Layers"] == [arn]


def test_the_function_reads_one_parameter_and_one_secret_and_nothing_else(templates: Templates) -> None:
    allowed = {
        action: statement["Resource"]
        for statement in _statements(templates, "FunctionRole")
        if statement["Effect"] == "Allow"
        for action in _actions(statement)
    }
    assert set(allowed) == {
        "ssm:GetParameter",
        "secretsmanager:GetSecretValue",
        "kms:Decrypt",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
    }
    (parameter,) = templates.resources("AWS::SSM::Parameter")
    assert {"Ref": parameter} in allowed["ssm:GetParameter"]["Fn::Join"][1]
    assert "SecretAttachment" in json.dumps(allowed["secretsmanager:GetSecretValue"])
    assert "MasterUserSecret" not in json.dumps(_statements(templates, "FunctionRole"))


def test_the_key_opens_secrets_only_through_secrets_manager(templates: Templates) -> None:
    for role in ("FunctionRole", "RotationRole"):
        (statement,) = [each for each in _statements(templates, role) if "kms:Decrypt" in _actions(each)]
        assert list(statement["Condition"]) == ["StringEquals"]
        assert "secretsmanager." in json.dumps(statement["Condition"]["StringEquals"]["kms:ViaService"])


def test_the_functions_own_code_may_not_touch_network_interfaces(templates: Templates) -> None:
    for role in ("FunctionRole", "RotationRole"):
        (deny,) = [each for each in _statements(templates, role) if each["Effect"] == "Deny"]
        assert deny["Action"] == "ec2:*"
        assert list(deny["Condition"]["ArnEquals"]) == ["lambda:SourceFunctionArn"]


def test_statements_on_everything_are_those_aws_forces_each_in_a_policy_of_its_own(templates: Templates) -> None:
    on_everything = [
        (policy["Properties"]["PolicyDocument"]["Statement"], statement)
        for policy in templates.resources("AWS::IAM::ManagedPolicy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if statement["Resource"] == "*" and statement["Effect"] == "Allow"
    ]
    assert all(statements == [statement] for statements, statement in on_everything)
    assert {action for _, statement in on_everything for action in _actions(statement)} == {
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "secretsmanager:GetRandomPassword",
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
    }


def test_only_the_two_functions_may_reach_the_database_and_only_on_its_port(templates: Templates) -> None:
    (group,) = [each for each in templates.resources("AWS::EC2::SecurityGroup") if each.startswith("SecurityGroup")]
    assert "SecurityGroupIngress" not in templates.resources("AWS::EC2::SecurityGroup")[group]["Properties"]
    ways = [
        each["Properties"]
        for each in templates.resources("AWS::EC2::SecurityGroupIngress").values()
        if group in json.dumps(each["Properties"]["GroupId"])
    ]
    assert [(way["FromPort"], way["ToPort"], way["IpProtocol"]) for way in ways] == [(3306, 3306, "tcp")] * 2
    sources = sorted(json.dumps(way["SourceSecurityGroupId"]) for way in ways)
    assert "FunctionSecurityGroup" in sources[0]
    assert "RotationSecurityGroup" in sources[1]


def test_both_functions_stand_in_both_private_subnets_with_a_group_each(templates: Templates) -> None:
    places = [_function(templates, f"{name}.lambda_handler")["VpcConfig"] for name in ("handler", "rotation")]
    for place in places:
        subnets = json.dumps(place["SubnetIds"])
        assert "PrivateSubnet1" in subnets
        assert "PrivateSubnet2" in subnets
    assert len({json.dumps(place["SecurityGroupIds"]) for place in places}) == 2


def test_functions_go_nowhere_but_to_the_database_and_the_endpoints(synthesise: Callable[..., Templates]) -> None:
    templates = synthesise(egress="endpoints")
    ways = templates.resources("AWS::EC2::SecurityGroupEgress").values()
    assert sorted(way["Properties"]["FromPort"] for way in ways) == [443, 443, 443, 3306, 3306]
    assert all("DestinationSecurityGroupId" in way["Properties"] for way in ways)


def test_both_functions_are_traced_and_their_variables_encrypted_with_our_key(templates: Templates) -> None:
    for function in templates.resources("AWS::Lambda::Function").values():
        assert function["Properties"]["TracingConfig"]["Mode"] == "Active"
        assert "Key" in json.dumps(function["Properties"]["KmsKeyArn"])


def test_every_log_is_encrypted_with_our_key(templates: Templates) -> None:
    log_groups = templates.resources("AWS::Logs::LogGroup")
    assert len(log_groups) == 6
    assert [name for name, each in log_groups.items() if "KmsKeyId" not in each["Properties"]] == []


def test_no_secret_stands_in_a_variable_or_a_template(templates: Templates) -> None:
    for function in templates.resources("AWS::Lambda::Function").values():
        variables = function["Properties"].get("Environment", {}).get("Variables", {})
        assert not [name for name in variables if "PASSWORD" in name.upper()]
    assert "resolve:secretsmanager" not in json.dumps(templates)


def test_concurrency_is_reserved_within_what_the_database_carries(synthesise: Callable[..., Templates]) -> None:
    assert _function(synthesise(env="prod"))["ReservedConcurrentExecutions"] == 100


def test_a_person_finds_what_the_person_needs_in_the_outputs(templates: Templates) -> None:
    outputs = {name for name in templates["Service"]["Outputs"] if not name.startswith("Exports")}
    assert outputs == {"FunctionName", "ParameterName", "DatabaseSecretArn"}


def test_callers_invoke_the_alias_which_moves_after_the_smoke_test(templates: Templates) -> None:
    (alias,) = templates.resources("AWS::Lambda::Alias")
    assert json.dumps({"Ref": alias}) in json.dumps(templates["Service"]["Outputs"]["FunctionName"])
    (smoke_test,) = templates.resources("Custom::SmokeTest")
    assert smoke_test in templates.resources("AWS::Lambda::Alias")[alias]["DependsOn"]
    (version,) = templates.resources("AWS::Lambda::Version")
    assert templates.only("Custom::SmokeTest")["FunctionVersion"] == {"Ref": version}
    assert templates.resources("AWS::Lambda::Version")[version]["DeletionPolicy"] == "Retain"


def test_the_smoke_test_waits_for_the_ways_that_the_function_needs(templates: Templates) -> None:
    (smoke_test,) = templates.resources("Custom::SmokeTest").values()
    ways = [
        logical_id
        for kind in ("AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress")
        for logical_id in templates.resources(kind)
        if logical_id in templates["Service"]["Resources"]
    ]
    assert ways
    assert set(ways) <= set(smoke_test["DependsOn"])


def test_the_smoke_test_may_invoke_the_new_version_and_nothing_else(templates: Templates) -> None:
    allowed = {
        action: statement["Resource"]
        for statement in _statements(templates, "SmokeTestRole")
        for action in _actions(statement)
    }
    assert set(allowed) == {
        "lambda:GetAlias",
        "lambda:InvokeFunction",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
    }
    (version,) = templates.resources("AWS::Lambda::Version")
    assert allowed["lambda:InvokeFunction"] == {"Ref": version}


def test_a_gradual_release_goes_back_when_the_alias_has_an_error(synthesise: Callable[..., Templates]) -> None:
    templates = synthesise(env="prod")
    (alias,) = templates.resources("AWS::Lambda::Alias").values()
    assert "CodeDeployLambdaAliasUpdate" in alias["UpdatePolicy"]
    group = templates.only("AWS::CodeDeploy::DeploymentGroup")
    assert group["DeploymentConfigName"] == "CodeDeployDefault.LambdaCanary10Percent5Minutes"
    assert group["AutoRollbackConfiguration"]["Enabled"] is True
    assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
    (errors,) = group["AlarmConfiguration"]["Alarms"]
    alarm = templates.resources("AWS::CloudWatch::Alarm")[errors["Name"]["Ref"]]["Properties"]
    assert (alarm["MetricName"], alarm["Threshold"]) == ("Errors", 1)


def test_a_release_at_once_takes_no_deployment(synthesise: Callable[..., Templates]) -> None:
    assert not synthesise(env="dev").resources("AWS::CodeDeploy::DeploymentGroup")


def test_all_waits_together_are_shorter_than_the_functions_timeout(templates: Templates) -> None:
    worst = (
        2 * extension.BUDGET  # parameter and secret
        + upstream.BUDGET  # one of them around an extension that does not say why it refuses
        + database.CONNECT  # with cached credentials, refused
        + upstream.BUDGET  # around the cache
        + database.CONNECT
        + database.QUERY  # lost
        + upstream.BUDGET  # around the cache, which still holds what was refused
        + database.CONNECT
        + database.QUERY
    )
    assert worst <= handler.BUDGET < _function(templates)["Timeout"]
    variables = _function(templates)["Environment"]["Variables"]
    for name in ("SSM_PARAMETER_STORE_TIMEOUT_MILLIS", "SECRETS_MANAGER_TIMEOUT_MILLIS"):
        assert int(variables[name]) / 1000 < extension.TRY


def test_the_package_is_the_source_and_two_dependencies(synthesised_package: dict[str, bytes]) -> None:
    top = {name.partition("/")[0] for name in synthesised_package}
    source = {path.name for path in SOURCE.iterdir() if path.name != "__pycache__"}
    assert {name for name in top if not name.endswith(".dist-info")} == source | {"pymysql", "urllib3"}
    assert not [name for name in synthesised_package if name.endswith(".pyc")]


def test_every_file_in_the_package_has_a_known_origin() -> None:
    listed = subprocess.run([sys.executable, "-m", "local.package"], cwd=ROOT, capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    parts = [line.split()[0] for line in listed.stdout.splitlines()]
    assert parts == ["lambda_src", "PyMySQL", "urllib3", "together"]


def test_the_package_is_made_again_only_when_its_source_has_changed(synthesised: Path) -> None:
    (package,) = [path.parent for path in synthesised.glob("asset.*/handler.py")]
    made = package.stat().st_ctime_ns
    # What is no source does not count: other times, and what Python leaves beside it.
    (SOURCE / "handler.py").touch()
    (SOURCE / "__pycache__").mkdir(exist_ok=True)
    (SOURCE / "__pycache__" / "left.pyc").touch()
    subprocess.run(["cdk", "synth", "--quiet", "--output", synthesised], cwd=ROOT, env=environment(), check=True)
    assert [path.parent for path in synthesised.glob("asset.*/handler.py")] == [package]
    assert package.stat().st_ctime_ns == made
