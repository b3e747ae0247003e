"""The serving function: its variables, its permissions and its connections."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import app
from app import lasting_settings
from shared import database, direct_read, extension, frame
from stacks.packaging import bundling
from stacks.packaging.bundling import SOURCE
from tests.conftest import Templates


def _function(templates: Templates) -> dict[str, Any]:
    return templates.functions["Serving"]


def _in_vpc(templates: Templates) -> list[str]:
    """The names of the functions that query the database."""
    return [name for name, function in templates.functions.items() if "VpcConfig" in function]


def _statements(templates: Templates, role: str) -> list[dict[str, Any]]:
    """All statements of all policies of the role with this logical id, but for its hash."""
    statements: list[dict[str, Any]] = []
    for policy in templates.resources("AWS::IAM::ManagedPolicy").values():
        if any(each["Ref"][:-8] == role for each in policy["Properties"]["Roles"]):
            statements += policy["Properties"]["PolicyDocument"]["Statement"]
    return statements


def _actions(statement: dict[str, Any]) -> list[str]:
    action = statement["Action"]
    return [action] if isinstance(action, str) else action


def test_the_parameter_is_that_of_the_aws_sample(templates: Templates, request: pytest.FixtureRequest) -> None:
    parameter = templates.only("AWS::SSM::Parameter")
    variables = _function(templates)["Environment"]["Variables"]
    assert parameter["Name"] == f"/{variables['ENV']}/{variables['APP_CONFIG_PATH']}"
    config = json.loads(parameter["Value"])
    assert (config["enableVersion"], config["version"], set(config)) == (True, 1, {"enableVersion", "version", "app"})


def test_the_variables_are_those_of_the_aws_sample_and_the_extension(templates: Templates) -> None:
    variables = _function(templates)["Environment"]["Variables"]
    assert variables["APP_CONFIG_PATH"] == f"{lasting_settings().application}/app_config"
    assert "Secret" in json.dumps(variables["CREDS_PATH"])
    assert variables["PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"] == "2773"
    settings = lasting_settings(variables["ENV"])
    assert variables["SSM_PARAMETER_STORE_TTL"] == str(settings.parameter_ttl)
    assert variables["SECRETS_MANAGER_TTL"] == str(settings.secret_ttl)
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


def _allowed(templates: Templates, function: str) -> list[tuple[str, Any]]:
    """The actions that the function's role allows, each with its resource."""
    return [
        (action, statement["Resource"])
        for statement in _statements(templates, f"{function}Role")
        if statement["Effect"] == "Allow"
        for action in _actions(statement)
    ]


def test_each_serving_function_reads_one_parameter_and_one_secret_and_no_other(templates: Templates) -> None:
    (parameter,) = templates.resources("AWS::SSM::Parameter")
    for name in templates.serving:
        about = ("ssm:", "secretsmanager:", "kms:", "rds", "iam:", "sts:")
        allowed = [each for each in _allowed(templates, name) if each[0].startswith(about)]
        assert sorted(action for action, _ in allowed) == [
            "kms:Decrypt",
            "secretsmanager:GetSecretValue",
            "ssm:GetParameter",
        ]
        assert {"Ref": parameter} in dict(allowed)["ssm:GetParameter"]["Fn::Join"][1]
        secret = json.dumps(dict(allowed)["secretsmanager:GetSecretValue"])
        assert re.search("ExportsOutputRefSecretAttachment[0-9A-F]", secret)


def test_the_applications_function_may_do_this_and_nothing_else(templates: Templates) -> None:
    assert {action for action, _ in _allowed(templates, "Serving")} == {
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


def test_the_migration_function_reads_its_own_secret_and_nothing_else(templates: Templates) -> None:
    allowed = [
        (action, json.dumps(statement["Resource"]))
        for statement in _statements(templates, "MigrationRole")
        for action in _actions(statement)
        if action.startswith(("secretsmanager:", "ssm:"))
    ]
    ((action, resource),) = allowed
    assert action == "secretsmanager:GetSecretValue"
    assert "SchemaSecret" in resource


def test_the_key_decrypts_only_through_secrets_manager(templates: Templates) -> None:
    for name in _in_vpc(templates):
        (statement,) = [each for each in _statements(templates, f"{name}Role") if "kms:Decrypt" in _actions(each)]
        assert list(statement["Condition"]) == ["StringEquals"]
        assert "secretsmanager." in json.dumps(statement["Condition"]["StringEquals"]["kms:ViaService"])


def test_the_functions_own_code_may_not_touch_network_interfaces(templates: Templates) -> None:
    for name in _in_vpc(templates):
        (deny,) = [each for each in _statements(templates, f"{name}Role") if each["Effect"] == "Deny"]
        assert deny["Action"] == "ec2:*"
        assert list(deny["Condition"]["ArnEquals"]) == ["lambda:SourceFunctionArn"]


def _is_wide(resource: Any) -> bool:
    """Whether it is everything, or ends as an ARN of every resource of a kind does."""
    return re.search(r'(^"|:)\*(/\*)?"\W*$', json.dumps(resource)) is not None


def test_only_statements_without_a_possible_resource_are_on_all_resources(templates: Templates) -> None:
    on_everything = {
        (policy["Properties"]["Roles"][0]["Ref"][:-8], action)
        for policy in templates.resources("AWS::IAM::ManagedPolicy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if _is_wide(statement["Resource"]) and statement["Effect"] == "Allow"
        for action in _actions(statement)
    }
    interfaces, traces = ("NetworkInterfaces", "Subnets"), ("TelemetryRecords", "TraceSegments")
    made = (
        "AssignPrivateIpAddresses",
        "CreateNetworkInterface",
        "DeleteNetworkInterface",
        "UnassignPrivateIpAddresses",
    )
    assert on_everything == {
        ("RotationRole", "secretsmanager:GetRandomPassword"),
        *((f"{each}Role", f"ec2:Describe{what}") for each in _in_vpc(templates) for what in interfaces),
        *((f"{each}Role", f"ec2:{what}") for each in _in_vpc(templates) for what in made),
        *((f"{each}Role", f"xray:Put{what}") for each in templates.functions for what in traces),
    }
    assert not templates.resources("AWS::IAM::Policy")


def test_the_deploys_function_alone_is_outside_the_vpc(templates: Templates) -> None:
    assert set(templates.functions) - set(_in_vpc(templates)) == {"SmokeTest"}


def test_only_the_functions_of_the_vpc_may_reach_the_database_and_only_on_its_port(templates: Templates) -> None:
    (group,) = [each for each in templates.resources("AWS::EC2::SecurityGroup") if each.startswith("SecurityGroup")]
    assert "SecurityGroupIngress" not in templates.resources("AWS::EC2::SecurityGroup")[group]["Properties"]
    ways = [
        each["Properties"]
        for each in templates.resources("AWS::EC2::SecurityGroupIngress").values()
        if group in json.dumps(each["Properties"]["GroupId"])
    ]
    assert {(way["FromPort"], way["ToPort"], way["IpProtocol"]) for way in ways} == {(3306, 3306, "tcp")}
    sources = [way["SourceSecurityGroupId"]["Fn::GetAtt"][0][:-8] for way in ways]
    assert sorted(sources) == sorted(f"{name}SecurityGroup" for name in _in_vpc(templates))


def test_the_functions_are_in_both_private_subnets_each_with_its_own_group(templates: Templates) -> None:
    places = [templates.functions[name]["VpcConfig"] for name in _in_vpc(templates)]
    for place in places:
        subnets = json.dumps(place["SubnetIds"])
        assert "PrivateSubnet1" in subnets
        assert "PrivateSubnet2" in subnets
    assert len({json.dumps(place["SecurityGroupIds"]) for place in places}) == len(places)


def test_functions_go_nowhere_but_to_the_database_and_the_endpoints(synthesise: Callable[..., Templates]) -> None:
    templates = synthesise(egress="endpoints")
    ways = templates.resources("AWS::EC2::SecurityGroupEgress").values()
    found = Counter((way["Properties"]["GroupId"]["Fn::GetAtt"][0][:-8], way["Properties"]["FromPort"]) for way in ways)
    # A serving function to both endpoints, the others to that of Secrets Manager.
    assert found == {
        **{(f"{name}SecurityGroup", 3306): 1 for name in _in_vpc(templates)},
        **{(f"{name}SecurityGroup", 443): 1 + (name in templates.serving) for name in _in_vpc(templates)},
    }
    assert all("DestinationSecurityGroupId" in way["Properties"] for way in ways)


def test_all_functions_are_traced_and_their_variables_encrypted_with_our_key(templates: Templates) -> None:
    for function in templates.functions.values():
        assert function["TracingConfig"]["Mode"] == "Active"
        assert "Key" in json.dumps(function["KmsKeyArn"])


def test_every_function_has_a_log_of_its_own_and_every_log_is_encrypted_with_our_key(templates: Templates) -> None:
    log_groups = templates.resources("AWS::Logs::LogGroup")
    of_functions = [each["LoggingConfig"]["LogGroup"]["Ref"] for each in templates.functions.values()]
    assert len(set(of_functions)) == len(of_functions)
    assert set(of_functions) < set(log_groups)
    assert [name for name, each in log_groups.items() if "KmsKeyId" not in each["Properties"]] == []


def test_no_secret_is_in_a_variable_or_a_template(templates: Templates) -> None:
    for function in templates.resources("AWS::Lambda::Function").values():
        variables = function["Properties"].get("Environment", {}).get("Variables", {})
        assert not [name for name in variables if "PASSWORD" in name.upper()]
    assert "resolve:secretsmanager" not in json.dumps(templates)


def test_no_template_makes_a_function_believe_that_it_runs_on_a_laptop(templates: Templates) -> None:
    """Nor can one: Lambda refuses variables with its own names, and CDK refuses them before."""
    local = set(
        re.findall(r'os\.environ\.get\("(AWS_LAMBDA_\w+)"\) == "local"', (SOURCE / "shared/database.py").read_text())
    )
    assert len(local) == 1
    for function in templates.resources("AWS::Lambda::Function").values():
        assert local.isdisjoint(function["Properties"].get("Environment", {}).get("Variables", {}))


def test_concurrency_is_reserved_within_the_databases_connections(synthesise: Callable[..., Templates]) -> None:
    assert _function(synthesise(env="prod"))["ReservedConcurrentExecutions"] == 100


def test_without_reserved_concurrency_no_function_reserves_any(synthesise: Callable[..., Templates]) -> None:
    templates = synthesise(reserved_concurrency="0")
    for function in templates.resources("AWS::Lambda::Function").values():
        assert "ReservedConcurrentExecutions" not in function["Properties"]
    alarms = templates.resources("AWS::CloudWatch::Alarm")
    assert not [name for name in alarms if "FunctionConcurrency" in name]


def test_pinning_the_layer_changes_the_function_so_that_a_version_can_be_published(
    synthesise: Callable[..., Templates],
) -> None:
    arn = "arn:aws:lambda:us-east-1:177933569100:layer:AWS-Parameters-and-Secrets-Lambda-Extension-Arm64:99"
    descriptions = {_function(synthesise(**pin))["Description"] for pin in ({}, {"extension_layer_arn": arn})}
    assert len(descriptions) == 2


def test_the_outputs_name_the_function_the_parameter_and_the_secret(templates: Templates) -> None:
    outputs = {name for name in templates["Service"]["Outputs"] if not name.startswith("Exports")}
    assert outputs >= {"FunctionName", "ParameterName", "DatabaseSecretArn"}


def _versions(templates: Templates) -> dict[str, str]:
    """The logical ids of the published versions by their function's name."""
    return {
        each["Properties"]["FunctionName"]["Ref"][:-8]: version
        for version, each in templates.resources("AWS::Lambda::Version").items()
    }


def test_callers_invoke_an_alias_which_moves_after_its_smoke_test(templates: Templates) -> None:
    outputs, versions = templates["Service"]["Outputs"], _versions(templates)
    for alias, each in templates.resources("AWS::Lambda::Alias").items():
        name = each["Properties"]["FunctionName"]["Ref"][:-8]
        output = "FunctionName" if name == "Serving" else f"{name}FunctionName"
        assert json.dumps({"Ref": alias}) in json.dumps(outputs[output])
        (smoke_test,) = [
            step
            for step, tested in templates.resources("Custom::SmokeTest").items()
            if tested["Properties"]["FunctionVersion"] == {"Ref": versions[name]}
        ]
        assert smoke_test in each["DependsOn"]
        assert templates.resources("AWS::Lambda::Version")[versions[name]]["DeletionPolicy"] == "RetainExceptOnCreate"


def test_the_migrations_come_first_and_then_one_smoke_test_after_the_other(templates: Templates) -> None:
    assert templates.only("Custom::Migration")["FunctionVersion"] == {"Ref": _versions(templates)["Migration"]}
    (before,) = templates.resources("Custom::Migration")
    for step, each in templates.resources("Custom::SmokeTest").items():
        assert before in each["DependsOn"]
        before = step


def test_lambda_itself_repeats_no_step(templates: Templates) -> None:
    """A repeat would wait for the lock that the first still holds, and tell CloudFormation FAILED.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
    """
    ((setting, each),) = templates.resources("AWS::Lambda::EventInvokeConfig").items()
    assert each["Properties"]["FunctionName"]["Ref"][:-8] == "SmokeTest"
    assert (each["Properties"]["Qualifier"], each["Properties"]["MaximumRetryAttempts"]) == ("$LATEST", 0)
    for step in (
        *templates.resources("Custom::SmokeTest").values(),
        *templates.resources("Custom::Migration").values(),
    ):
        assert setting in step["DependsOn"]


def test_the_steps_wait_for_the_functions_security_group_rules(templates: Templates) -> None:
    steps = {**templates.resources("Custom::SmokeTest"), **templates.resources("Custom::Migration")}.values()
    ways = [
        logical_id
        for kind in ("AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress")
        for logical_id in templates.resources(kind)
        if logical_id in templates["Service"]["Resources"]
    ]
    assert ways
    assert set(ways) <= {each for step in steps for each in step["DependsOn"]}


def test_the_smoke_test_may_invoke_the_new_versions_and_nothing_else(templates: Templates) -> None:
    allowed = {
        action: statement["Resource"]
        for statement in _statements(templates, "SmokeTestRole")
        for action in _actions(statement)
    }
    assert set(allowed) == {
        "cloudformation:DescribeStacks",
        "lambda:InvokeFunction",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
    }
    assert allowed["cloudformation:DescribeStacks"] == {"Ref": "AWS::StackId"}
    versions = [each["Ref"] for each in allowed["lambda:InvokeFunction"]]
    assert sorted(versions) == sorted(_versions(templates)[name] for name in ("Migration", *templates.serving))


def test_a_gradual_release_goes_back_when_the_alias_has_an_error(synthesise: Callable[..., Templates]) -> None:
    templates = synthesise(env="prod")
    groups = templates.resources("AWS::CodeDeploy::DeploymentGroup")
    for each in templates.resources("AWS::Lambda::Alias").values():
        update = each["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
        group = groups[update["DeploymentGroupName"]["Ref"]]["Properties"]
        assert group["DeploymentConfigName"] == "CodeDeployDefault.LambdaCanary10Percent5Minutes"
        assert group["AutoRollbackConfiguration"]["Enabled"] is True
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
        (errors,) = group["AlarmConfiguration"]["Alarms"]
        alarm = templates.resources("AWS::CloudWatch::Alarm")[errors["Name"]["Ref"]]["Properties"]
        assert (alarm["MetricName"], alarm["Threshold"]) == ("Errors", 1)
        # Of the new version alone: while the live one fails, the release that mends it must go through.
        dimensions = {each["Name"]: each["Value"] for each in alarm["Dimensions"]}
        version = _versions(templates)[each["Properties"]["FunctionName"]["Ref"][:-8]]
        assert dimensions["ExecutedVersion"] == {"Fn::GetAtt": [version, "Version"]}
        assert set(dimensions) == {"ExecutedVersion", "FunctionName", "Resource"}


def test_a_release_at_once_has_no_deployment_group(synthesise: Callable[..., Templates]) -> None:
    assert not synthesise(env="dev").resources("AWS::CodeDeploy::DeploymentGroup")


def test_all_waits_together_are_shorter_than_the_functions_timeout(templates: Templates) -> None:
    worst = (
        2 * extension.BUDGET  # parameter and secret
        + direct_read.BUDGET  # one of them around an extension that does not say why it refuses
        + database.CONNECT  # with cached credentials, refused
        + 2 * frame.SCHEMA_CHECK  # the schema's version, on each new connection
        + direct_read.BUDGET  # around the cache
        + database.CONNECT
        + database.QUERY  # lost
        + direct_read.BUDGET  # around the cache, which still holds what was refused
        + database.CONNECT
        + database.QUERY
    )
    for function in [templates.functions[name] for name in templates.serving]:
        assert worst <= frame.BUDGET < function["Timeout"]
        variables = function["Environment"]["Variables"]
        for name in ("SSM_PARAMETER_STORE_TIMEOUT_MILLIS", "SECRETS_MANAGER_TIMEOUT_MILLIS"):
            assert int(variables[name]) / 1000 < extension.TRY


@pytest.mark.parametrize(
    ("edited", "changed"),
    [
        ("handler.py", {"Service"}),
        ("application.py", {"Service"}),
        ("rotation.py", {"Database"}),
        ("smoke.py", {"Service"}),
        ("shared/database.py", {"Database", "Service"}),
        ("requirements.txt", {"Database", "Service"}),
    ],
)
def test_a_comment_changes_the_stacks_that_run_its_file_and_no_other(
    tmp_path: Path, edited: str, changed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = app.templates()
    copy = shutil.copytree(SOURCE, tmp_path / "lambda_src")
    with (copy / edited).open("a") as file:
        file.write("# A comment.\n")
    monkeypatch.setattr(bundling, "SOURCE", copy)
    after = app.templates()
    assert {stack for stack in before if before[stack] != after[stack]} == changed
