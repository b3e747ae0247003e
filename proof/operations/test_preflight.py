"""`make deploy` names all that would stop it before it changes anything."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import boto3
import pytest

from app import templates
from local.cloud import LocalCloud
from local.tests.fixtures import local_cloud
from operations import aws, deploy
from operations.commands import ROOT, environment
from operations.preflight import Preflight
from proof.conftest import edit
from proof.testbed import account
from stacks.settings import SettingsError, from_context


@pytest.fixture(scope="module")
def new_account() -> Iterator[LocalCloud]:
    """A new account: not bootstrapped, with a limit of ten concurrent executions."""
    with local_cloud("account", concurrency_limit=10) as cloud:
        yield cloud


def _deploy(variables: Mapping[str, str], env: str = "dev", root: Path = ROOT) -> str:
    """Return what a stopped deploy prints."""
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "operations.deploy", env],
        cwd=root,
        env=environment() | dict(variables),
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    assert finished.stdout == ""
    return finished.stderr


def test_all_that_would_stop_a_deploy_is_said_at_once(new_account: LocalCloud) -> None:
    new_account.client("logs").create_log_group(logGroupName="/aws/rds/instance/prod-demoapp/error")
    new_account.client("ssm").put_parameter(Name="/prod/demoApp/app_config", Value="{}", Type="String")
    said = _deploy(new_account.variables, "prod")
    assert said.startswith("zones: us-east-1a and us-east-1b\n")
    lines = said[said.index("Nothing was deployed") :].splitlines()
    assert [line.partition(":")[0].strip() for line in lines] == [
        "Nothing was deployed",
        "bootstrap stack",
        "concurrency",
        "log group /aws/rds/instance/prod-demoapp/error",
        "parameter /prod/demoApp/app_config",
    ]
    assert "the functions reserve 107 more, the account has 0 to give" in lines[2]
    assert new_account.client("cloudformation").describe_stacks()["Stacks"] == []


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ("", "no region: set AWS_REGION"),
        ("us-east-1", "no credentials that AWS takes"),
        ("us-gov-west-1", "us-gov-west-1: rds-root-certificates.pem has no root certificate of RDS"),
    ],
)
def test_a_deploy_without_credentials_or_to_no_region_that_serves_is_refused(
    monkeypatch: pytest.MonkeyPatch, region: str, said: str
) -> None:
    monkeypatch.setattr("operations.deploy.templates", lambda **_: {})
    monkeypatch.setattr("operations.deploy.subprocess.run", lambda *_: pytest.fail("something was deployed"))
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    if region:
        monkeypatch.setenv("AWS_REGION", region)
    with pytest.raises(SystemExit, match=said):
        deploy.main("dev")


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ({"github_repository": "owner/name"}, "GitHub: the account has no identity provider"),
        ({"engine_version": "8.4.99"}, "with MySQL of 5.7.44"),
        ({"instance_class": "m8g.large"}, "offers db.m8g.large, Multi-AZ, with MySQL of no version, not 8.4"),
        (
            {"availability_zones": "us-east-1a,us-east-1e"},
            "zone us-east-1e: no Systems Manager; there is in us-east-1a, us-east-1b",
        ),
    ],
)
def test_settings_that_the_account_cannot_serve_are_named(
    new_account: LocalCloud, context: Mapping[str, str], said: str
) -> None:
    faults = Preflight(from_context(context), {}, new_account.session()).faults()
    assert [fault for fault in faults if said in fault], faults


def test_calls_that_the_credentials_do_not_allow_are_skipped(new_account: LocalCloud) -> None:
    iam = new_account.client("iam")
    iam.create_user(UserName="deployer")
    key = iam.create_access_key(UserName="deployer")["AccessKey"]
    session = new_account.session(aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"])
    assert Preflight(from_context({}), {}, session).faults() == []


def test_an_existing_environment_does_not_stop_its_own_deploy(cloud: LocalCloud) -> None:
    assert Preflight(from_context({"owner": "local"}), templates(env="dev"), cloud.session()).faults() == []


def _faults(*context: tuple[str, str], env: str = "dev", **answers: Any) -> list[str]:
    settings = from_context({"env": env, **dict(context)})
    return Preflight(settings, _templates(env, *context), account.session(**answers)).faults()


@cache
def _templates(env: str, *context: tuple[str, str]) -> dict[str, dict[str, Any]]:
    return templates(env=env, **dict(context))


def test_nothing_stops_a_deploy_to_a_healthy_account() -> None:
    assert _faults() == []


@pytest.mark.parametrize(
    ("now", "free", "said"),
    [
        ("20", 109, ["the functions reserve 10 more, the account has 9 to give"]),
        ("20", 110, []),
        ("10", 90, []),  # The account's limit was lowered since.
        ("5", 90, []),
        ("0", 90, []),
    ],
)
def test_a_deployed_environment_may_reserve_no_more_than_the_account_has(now: str, free: int, said: list[str]) -> None:
    session = account.session(
        cloudformation__DescribeStacks=account.stacks(**dict.fromkeys(_templates("dev"), "UPDATE_COMPLETE")),
        cloudformation__GetTemplate=lambda asked: {
            "TemplateBody": json.dumps(_templates("dev")[asked["StackName"].rpartition("-")[2]])
        },
        lambda__GetAccountSettings={"AccountLimit": {"UnreservedConcurrentExecutions": free}},
    )
    context = ("reserved_concurrency", now)
    found = Preflight(from_context(dict([context])), _templates("dev", context), session)._concurrency()
    assert [each.split(": ")[1] for each in found] == said


def _of_others(names: Mapping[str, str], *context: tuple[str, str], moved: bool = False) -> list[str]:
    """What is said of an account with stacks of these names, each with its owner."""
    deployed = {"Stacks": [account.stack(name, "CREATE_COMPLETE", owner=owner) for name, owner in names.items()]}
    settings = from_context(dict(context))
    session = account.session(cloudformation__DescribeStacks=deployed)
    return list(Preflight(settings, _templates("dev"), session, moved=moved)._owner())


@pytest.mark.parametrize("own", ["", "ours-2"])
def test_another_copys_stacks_are_refused_and_both_copies_named(own: str) -> None:
    theirs = {f"demoApp-dev-{stack}": "theirs-1" for stack in ("Network", "Database")}
    (found,) = _of_others(theirs, ("owner", own))
    assert "belong to theirs-1" in found
    assert (own or "one without an id") in found
    assert "MOVED=yes" in found
    assert _of_others(theirs, ("owner", own), moved=True) == []
    assert _of_others(theirs, ("owner", "theirs-1")) == []
    assert _of_others(dict.fromkeys(theirs, ""), ("owner", own)) == []


def test_a_name_that_differs_in_capitals_only_is_refused_beside_the_other() -> None:
    (found,) = _of_others({"DEMOapp-dev-Network": "theirs-1", "orders-dev-Network": "theirs-1"})
    assert found.startswith("stack DEMOapp-dev-Network: named as this application's but for capitals")


def test_an_environment_of_version_0_1_is_found_until_its_successor_is_there() -> None:
    (found,) = _of_others({"Dev-Network": "", "Prod-Network": ""})
    assert re.match("stack Dev-Network: of an environment of version 0.1, .* its data moves by a snapshot", found)
    assert _of_others({"Dev-Network": "", "demoApp-dev-Network": ""}) == []


def test_credentials_of_another_account_are_refused_by_name() -> None:
    (found,) = _faults(("account", "210987654321"))
    assert found.startswith("account 123456789012: of arn:aws:iam::123456789012:user/a; dev is of account 210987654321")
    assert _faults(("account", "123456789012")) == []


STATUSES = boto3.client("cloudformation", "us-east-1").meta.service_model.shape_for("StackStatus").enum


@pytest.mark.parametrize(("status", "protected"), list(product(STATUSES, (False, True))))
def test_a_stack_that_cannot_be_deployed_is_named_with_what_to_do(status: str, *, protected: bool) -> None:
    """Each state that CloudFormation's API names."""
    described = {"Stacks": [account.stack("demoApp-dev-Database", status, protected=protected)]}
    session = account.session(cloudformation__DescribeStacks=described)
    found = list(Preflight(from_context({}), _templates("dev"), session)._stacks())
    fails = status.endswith(("_FAILED", "_IN_PROGRESS")) and status not in ("REVIEW_IN_PROGRESS", "ROLLBACK_FAILED")
    if not (fails or (protected and status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED"))):
        assert found == []
        return
    assert len(found) == 4
    name, said, remedy = found[1].removeprefix("stack ").split(": ", 2)
    assert (name, said) == ("demoApp-dev-Database", status)
    assert remedy != "its events say why"
    assert all(f"-c env=dev {name}" in command for command in re.findall(r"npx cdk [^;]+", remedy))
    for heading in re.findall('"(.*)"', remedy):
        assert f"## {heading}\n" in (ROOT / "docs" / "operations.md").read_text()


def test_a_first_deploy_that_was_rolled_back_has_no_names_of_its_own() -> None:
    rolled_back = account.stacks(Database="ROLLBACK_COMPLETE")
    taken = {"DBInstances": [{"DBInstanceIdentifier": "dev-demoapp"}]}
    (found,) = _faults(cloudformation__DescribeStacks=rolled_back, rds__DescribeDBInstances=taken)
    assert found.startswith("database instance dev-demoapp: exists already")
    there = account.stacks(Database="UPDATE_COMPLETE")
    assert _faults(cloudformation__DescribeStacks=there, rds__DescribeDBInstances=taken) == []


def test_a_name_on_a_later_page_is_found() -> None:
    instances = [[{"DBInstanceIdentifier": name}] for name in ("other", "dev-demoapp")]
    answer = account.paged("DBInstances", *instances, marker="Marker")
    (found,) = _faults(rds__DescribeDBInstances=answer)
    assert found.startswith("database instance dev-demoapp")
    group = "/aws/rds/instance/dev-demoapp/error"
    groups = [[{"logGroupName": f"{group}-{name}"}] for name in "ab"] + [[{"logGroupName": group}]]
    (found,) = _faults(logs__DescribeLogGroups=account.paged("logGroups", *groups, marker="nextToken"))
    assert found.startswith(f"log group {group}: exists")


def test_a_call_that_is_denied_ends_no_other_question_and_is_named() -> None:
    answers: dict[str, Any] = {
        "logs__DescribeLogGroups": account.refusal("AccessDeniedException"),
        "rds__DescribeOrderableDBInstanceOptions": account.refusal("AccessDenied"),
        "ec2__DescribeVpcEndpointServices": account.endpoint_services({"lambda": ["us-east-1a"]}),
        "ssm__GetParameters": {"Parameters": [{"Name": "/dev/demoApp/app_config"}]},
    }
    preflight = Preflight(from_context({}), _templates("dev"), account.session(**answers))
    assert [each.partition(":")[0] for each in preflight.faults()] == [
        "parameter /dev/demoApp/app_config",
        "zone us-east-1b",
        "zone us-east-1a",
        "zone us-east-1b",
        "zone us-east-1a",
        "zone us-east-1b",
    ]
    assert [each.partition(":")[0] for each in preflight.notes] == [
        "not asked, log groups",
        "not asked, snapshot",
        "not asked, engine",
        "zones",
        "not asked, class in both zones",
    ]


def test_a_class_that_one_of_the_zones_does_not_offer_is_named() -> None:
    offered = account.orderable(["us-east-1a", "us-east-1c"])
    (found,) = _faults(rds__DescribeOrderableDBInstanceOptions=offered)
    assert found.startswith("zone us-east-1b: no db.t4g.micro; there is in us-east-1a, us-east-1c")
    chosen = ("availability_zones", "us-east-1a,us-east-1c")
    assert _faults(chosen, rds__DescribeOrderableDBInstanceOptions=offered) == []


def test_with_a_nat_gateway_only_lambda_must_be_in_the_zones() -> None:
    lambda_alone = account.endpoint_services({"lambda": account.ZONES})
    assert len(_faults(ec2__DescribeVpcEndpointServices=lambda_alone)) == 4
    assert _faults(("egress", "nat"), ec2__DescribeVpcEndpointServices=lambda_alone) == []


def test_a_region_without_the_layer_is_named() -> None:
    def answer(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        missing = "extension/arm64" in asked["Name"]
        return account.refusal("ParameterNotFound") if missing else {"Parameter": {"Value": "30"}}

    (found,) = _faults(ssm__GetParameter=answer)
    assert found.startswith("layer: AWS names none for arm64 in us-east-1")
    assert _faults(("architecture", "x86_64"), ssm__GetParameter=answer) == []


def test_the_zones_are_those_with_a_default_subnet_and_a_deployed_network_does_not_move() -> None:
    def answer(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        default = [{"SubnetId": f"subnet-{zone}", "AvailabilityZone": f"us-east-1{zone}"} for zone in "dac"]
        own = [{"SubnetId": f"subnet-{zone}", "AvailabilityZone": f"us-east-1{zone}"} for zone in "ed"]
        return {"Subnets": own if "SubnetIds" in asked else default}

    preflight = Preflight(from_context({}), {}, account.session(ec2__DescribeSubnets=answer))
    assert (preflight.faults(), preflight.notes) == ([], ["zones: us-east-1a and us-east-1c"])
    resources = [
        {
            "LogicalResourceId": f"VpcPrivateSubnet{number}Subnet",
            "PhysicalResourceId": f"subnet-{zone}",
            "ResourceType": "AWS::EC2::Subnet",
            "LastUpdatedTimestamp": datetime(2026, 11, 1, tzinfo=UTC),
            "ResourceStatus": "CREATE_COMPLETE",
        }
        for number, zone in ((2, "d"), (1, "e"))
    ]
    answers: dict[str, Any] = {
        "ec2__DescribeSubnets": answer,
        "cloudformation__DescribeStacks": account.stacks(Network="CREATE_COMPLETE"),
        "cloudformation__ListStackResources": {"StackResourceSummaries": resources},
    }
    (found,) = _faults(**answers)
    assert "would move the subnets from us-east-1e and us-east-1d to us-east-1a and us-east-1c" in found
    assert found.endswith('"context": {"dev": {"availability_zones": "us-east-1e,us-east-1d"}}')
    assert _faults(("availability_zones", "us-east-1e,us-east-1d"), **answers) == []
    for each in resources:
        each["ResourceStatus"] = "DELETE_COMPLETE"
    assert _faults(**answers) == []


def test_a_name_that_cloudformation_makes_cannot_be_taken() -> None:
    made = {"Fn::Join": ["-", ["a", {"Ref": "AWS::StackName"}]]}
    resources = {
        "Parameter": {"Type": "AWS::SSM::Parameter", "Properties": {"Value": "v"}},
        "Joined": {"Type": "AWS::SSM::Parameter", "Properties": {"Name": made}},
        "LogGroup": {"Type": "AWS::Logs::LogGroup"},
        "JoinedLogGroup": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": made}},
        "Replica": {"Type": "AWS::RDS::DBInstance", "Properties": {"SourceDBInstanceIdentifier": "a"}},
    }
    templates = {name: {"Resources": dict(each["Resources"])} for name, each in _templates("dev").items()}
    templates["Service"]["Resources"] |= resources
    preflight = Preflight(from_context({}), templates, account.session())
    for question in (preflight._log_groups, preflight._parameters, preflight._instances, preflight._free_plan):
        assert list(question()) == []


def test_what_the_free_plan_refuses_is_named() -> None:
    free = {"accountId": "123456789012", "accountPlanType": "FREE", "accountPlanStatus": "ACTIVE"}
    assert _faults(freetier__GetAccountPlanState=free) == []
    found = _faults(env="prod", freetier__GetAccountPlanState=free)
    assert [each.split(": ")[:2] for each in found] == [
        ["free plan", "RDS refuses db.m7g.large"],
        ["free plan", "RDS refuses 14 days of backups, which protect_data sets"],
    ]
    paid = {**free, "accountPlanType": "PAID"}
    assert _faults(env="prod", freetier__GetAccountPlanState=paid) == []


def test_a_deploy_by_credentials_that_may_not_ask_for_the_zones_has_succeeded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As those that may only assume CDK's roles."""
    monkeypatch.setattr("operations.deploy.templates", lambda **_: {})
    monkeypatch.setattr("operations.deploy.lasting_settings", lambda *_: from_context({"owner": "ours-1"}))
    monkeypatch.setattr("operations.deploy.commands", lambda *_, **__: [])
    refused = account.session(cloudformation__ListStackResources=account.refusal("AccessDenied"))
    monkeypatch.setattr(aws, "session", lambda _: refused)
    with pytest.raises(SystemExit, match=r"^0$"):
        deploy.main("dev")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("It is deployed; the subnets' zones, for cdk.json, were not asked: An error occurred (Acces")


def test_settings_that_only_cdk_refuses_are_said_without_a_traceback(tree: Path) -> None:
    edit(tree / "cdk.json", '"context": {', '"context": {"dev": {"instance_class": "m7g.micro"},')
    said = _deploy({"AWS_REGION": "us-east-1", "PYTHONPATH": str(ROOT)}, root=tree)
    assert "ERROR DBInstanceClass: 'db.m7g.micro' is not one of" in said
    assert "ValidationFailed: " in said


def test_settings_that_only_a_stack_refuses_are_said_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """As more connections of all functions together than the instance carries."""
    refused = MagicMock(side_effect=SettingsError(["reserved concurrency 40 (Serving) + 40 (Other)"]))
    monkeypatch.setattr("app.build", refused)
    with pytest.raises(SystemExit, match=r"^Settings refused, in cdk\.json or after -c:\n  reserved concurrency 40"):
        deploy.main("dev")


def test_a_profile_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    with pytest.raises(SystemExit, match=r"profile \(nobodys\) could not be found: `aws configure list-profiles`"):
        deploy.main("dev")


def test_credentials_of_aws_login_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What `aws login` writes, which CDK takes too; the SDK reads it with an extra package only."""
    name = "arn:aws:iam::123456789012:user/a"
    (tmp_path / "config").write_text(f"[profile work]\nlogin_session = {name}\nregion = us-east-1\n")
    keys = {"accessKeyId": "AKIALOGIN", "secretAccessKey": "secret", "sessionToken": "t", "accountId": "123456789012"}
    token = {
        "accessToken": {**keys, "expiresAt": f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"},
        **dict.fromkeys(("refreshToken", "dpopKey", "clientId"), "x"),
    }
    (tmp_path / f"{hashlib.sha256(name.encode()).hexdigest()}.json").write_text(json.dumps(token))
    for variable, value in {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_LOGIN_CACHE_DIRECTORY": str(tmp_path),
        "AWS_PROFILE": "work",
    }.items():
        monkeypatch.setenv(variable, value)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    assert aws.session().get_credentials().access_key == "AKIALOGIN"
