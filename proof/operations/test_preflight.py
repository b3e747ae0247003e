"""`make deploy` names all that would stop it before it changes anything."""

import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest

from app import templates
from local.cloud import LocalCloud
from local.tests.fixtures import local_cloud
from operations import deploy
from operations.commands import ROOT, environment
from operations.preflight import Preflight
from stacks.settings import from_context


@pytest.fixture(scope="module")
def account() -> Iterator[LocalCloud]:
    """A new account: not bootstrapped, with a limit of ten concurrent executions."""
    with local_cloud("account", concurrency_limit=10) as cloud:
        yield cloud


def _deploy(variables: Mapping[str, str], env: str = "dev") -> str:
    """Return what a stopped deploy prints."""
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "operations.deploy", env],
        cwd=ROOT,
        env=environment() | dict(variables),
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    assert finished.stdout == ""
    return finished.stderr


def test_all_that_would_stop_a_deploy_is_said_at_once(account: LocalCloud) -> None:
    account.client("logs").create_log_group(logGroupName="/aws/rds/instance/prod-demoapp/error")
    account.client("ssm").put_parameter(Name="/prod/demoApp/app_config", Value="{}", Type="String")
    lines = _deploy(account.variables, "prod").splitlines()
    assert [line.partition(":")[0].strip() for line in lines] == [
        "Nothing was deployed",
        "bootstrap stack",
        "concurrency",
        "log group /aws/rds/instance/prod-demoapp/error",
        "parameter /prod/demoApp/app_config",
    ]
    assert "the functions reserve 107, the account has 0 to give" in lines[2]
    assert account.client("cloudformation").describe_stacks()["Stacks"] == []


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
        ({"availability_zones": "us-east-1a,us-east-1e"}, "zone us-east-1e: Lambda, Secrets Manager or Systems"),
    ],
)
def test_settings_that_the_account_cannot_serve_are_named(
    account: LocalCloud, context: Mapping[str, str], said: str
) -> None:
    faults = Preflight(from_context(context), {}, account.session()).faults()
    assert [fault for fault in faults if said in fault], faults


def test_calls_that_the_credentials_do_not_allow_are_skipped(account: LocalCloud) -> None:
    iam = account.client("iam")
    iam.create_user(UserName="deployer")
    key = iam.create_access_key(UserName="deployer")["AccessKey"]
    session = account.session(aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"])
    assert Preflight(from_context({}), {}, session).faults() == []


def test_an_existing_environment_does_not_stop_its_own_deploy(cloud: LocalCloud) -> None:
    assert Preflight(from_context({}), templates(env="dev"), cloud.session()).faults() == []
