"""Every setting, changed on a live environment: applied without a failed invocation, or refused.

`make changes` runs the deploys, which take minutes; the workflow runs it weekly. CHANGES is the data of both the
tests here and docs/changes.md, which a test holds to it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import pytest

import operations.aws
from app import lasting_settings
from local.cloud import CloudError, LocalCloud
from local.tests.fixtures import assembly, local_cloud
from operations import deploy
from operations.load import ANSWERED, Load
from stacks.settings import Settings

APPLIED, REFUSED, ROLLED_BACK = "applied", "refused", "rolled back"
BESIDE = "another environment beside it"
"""Shown by proof/cloud/test_applications.py."""
LAYER = "arn:aws:lambda:us-east-1:177933569100:layer:AWS-Parameters-and-Secrets-Lambda-Extension-Arm64:99"
REPLACES = (
    "It would replace the instance or its network. "
    "[Make another environment from a snapshot](operations.md#move-the-data-to-another-environment)."
)

SAID = {"extended_support": "cannot be modified", "bootstrap_qualifier": "/cdk-bootstrap/other/version"}
"""In what a deploy says that fails for another reason."""


@dataclass(frozen=True)
class Change:
    """One setting given another value, on an environment of dev's settings."""

    setting: str
    value: str
    outcome: str
    remark: str = ""
    """What a user must know: an interruption on AWS, an approval that is needed, or the way round."""


CHANGES = [
    Change(
        "protect_data",
        "true",
        APPLIED,
        "Needs `APPROVAL=never`: CloudFormation says that the log groups may be replaced, and does not replace them.",
    ),
    Change("application", "other", BESIDE, "It names the stacks, and what has a name in them."),
    Change("owner", "other", BESIDE, "Of the same name it is refused, unless with `MOVED=yes`."),
    Change("account", "000000000000", APPLIED, "That of the environment: nothing that is deployed changes."),
    Change("region", "us-east-1", APPLIED, "That of the environment: nothing that is deployed changes."),
    Change("vpc_cidr", "172.31.0.0/17", REFUSED, REPLACES),
    Change("public_subnet_cidr", "172.31.4.0/24", APPLIED, "Nothing changes while `egress=endpoints`."),
    Change("private_subnet_a_cidr", "172.31.9.0/24", REFUSED, REPLACES),
    Change("private_subnet_b_cidr", "172.31.9.0/24", REFUSED, REPLACES),
    Change("availability_zones", "us-east-1a,us-east-1c", REFUSED, REPLACES),
    Change("availability_zones", "us-east-1a,us-east-1b", APPLIED, "The zones that it has already: nothing moves."),
    Change(
        "egress",
        "nat",
        APPLIED,
        "Deleting the endpoints needs `APPROVAL=never`. On AWS the functions reach AWS again when their own stacks are "
        "deployed, minutes later; what the extension caches goes on.",
    ),
    Change("database_name", "other", REFUSED, REPLACES),
    Change("database_username", "root_user", REFUSED, REPLACES),
    Change("snapshot", "before-the-move-lasting", REFUSED, REPLACES),
    Change(
        "engine_version",
        "9.7",
        APPLIED,
        "Another series needs `APPROVAL=never`, for the parameter group, and `allow_major_version_upgrade`; on AWS the "
        "database is not available for minutes: docs/operations.md.",
    ),
    Change(
        "extended_support",
        "true",
        ROLLED_BACK,
        "RDS takes it only when the instance is made, and CDK cannot tell before.",
    ),
    Change("instance_class", "t4g.small", APPLIED, "On AWS a failover, of a minute or two."),
    Change("architecture", "x86_64", APPLIED),
    Change("extension_layer_arn", LAYER, APPLIED),
    Change("parameter_ttl", "60", APPLIED),
    Change("secret_ttl", "60", APPLIED),
    Change("reserved_concurrency", "0", APPLIED, "Then the account's limit bounds the function and its connections."),
    Change("release", "gradual", APPLIED, "From the release after this one."),
    Change("alarm_email", "oncall@example.com", APPLIED, "The address must confirm its subscription."),
    Change("runbook", "https://example.com/runbook", APPLIED),
    Change("github_repository", "owner/name", APPLIED, "`cdk deploy` of the deployment stack by somebody with rights."),
    Change("deploy_without_reviewers", "true", APPLIED, "Nothing changes in AWS."),
    Change(
        "bootstrap_qualifier",
        "other",
        REFUSED,
        "CDK finds no such bootstrap. First `cdk bootstrap --qualifier`, then deploy the deployment stack.",
    ),
    Change(
        "rotation_days",
        "60",
        APPLIED,
        "Needs `APPROVAL=never`: CloudFormation says that the schedule may be replaced. Rotates at once.",
    ),
]


def _execute(cloud: LocalCloud, secret_id: str, *statements: str) -> list[Any]:
    """Run statements as the master; the rows of the last."""
    connection = cloud.database_connection(secret_id)
    with connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


def _load(invoke: Callable[[], dict[str, Any]]) -> Load:
    def call() -> str | None:
        time.sleep(0.02)  # Leave the processors to the deploy.
        error: str | None = invoke().get("errorType")
        return error

    return Load(call, callers=1)


def _deploy(cloud: LocalCloud, *context: str, approval: str = "destructive") -> None:
    """Deploy as `make deploy` does."""
    for line in deploy.commands(lasting_settings(), approval):
        cloud.cdk(*line[1:], f"--app={assembly(*context)}")


@pytest.mark.changes
@pytest.mark.parametrize(
    "change",
    [each for each in CHANGES if each.outcome != BESIDE],
    ids=lambda change: f"{change.setting}={change.value}",
)
def test_a_change_is_applied_without_a_failed_invocation_or_leaves_all_as_it_was(
    cloud: LocalCloud, outputs: dict[str, str], invoke: Callable[[], dict[str, Any]], change: Change
) -> None:
    secret_id = outputs["DatabaseSecretArn"]
    _execute(cloud, secret_id, "DROP TABLE IF EXISTS kept", "CREATE TABLE kept (id INT)", "INSERT INTO kept VALUES (7)")
    before = _templates(cloud)
    try:
        with _load(invoke) as load:
            if change.outcome != APPLIED:
                with pytest.raises(CloudError) as refused:
                    _deploy(cloud, f"{change.setting}={change.value}")
            else:
                approval = "never" if "APPROVAL=never" in change.remark else "destructive"
                _deploy(cloud, f"{change.setting}={change.value}", approval=approval)
        assert set(load.outcomes) == {ANSWERED}
        assert invoke()["database"] == "devDB"
        assert _execute(cloud, secret_id, "SELECT id FROM kept") == [(7,)]
        if change.outcome != APPLIED:
            said = {REPLACES: "is not attached so we are unable"}.get(change.remark, SAID.get(change.setting))
            assert str(said) in str(refused.value)
            assert _templates(cloud) == before
        elif change.setting not in ("public_subnet_cidr", "deploy_without_reviewers", "availability_zones"):
            assert _templates(cloud) != before
    finally:
        if change.outcome == APPLIED:
            _deploy(cloud, approval="never")
        _execute(cloud, secret_id, "DROP TABLE kept")


def _templates(cloud: LocalCloud) -> dict[str, Any]:
    """What each stack of the environment is now."""
    client = cloud.client("cloudformation")
    names = [stack["StackName"] for stack in client.describe_stacks()["Stacks"]]
    return {
        name: client.get_template(StackName=name)["TemplateBody"] for name in names if name.startswith("demoApp-dev-")
    }


def test_every_setting_has_its_change() -> None:
    assert list(dict.fromkeys(each.setting for each in CHANGES)) == [
        each.name for each in fields(Settings) if each.name != "env"
    ]


def table() -> str:
    """docs/changes.md's table."""
    alike: dict[tuple[str, str], list[str]] = {}
    for each in CHANGES:
        alike.setdefault((each.outcome, each.remark), []).append(f"`{each.setting}={each.value}`")
    rows = [f"| {', '.join(settings)} | {outcome} | {remark} |\n" for (outcome, remark), settings in alike.items()]
    return "".join(["| for example | | |\n|---|---|---|\n", *rows])


@pytest.mark.changes
def test_an_accounts_small_limit_refuses_any_reservation_and_none_is_needed() -> None:
    with local_cloud("limit", concurrency_limit=10) as cloud:
        cloud.bootstrap()
        with pytest.raises(CloudError, match="UnreservedConcurrentExecution"):
            cloud.deploy(assembly=assembly())
        # Repeat the failed deploy without its cause.
        cloud.deploy(assembly=assembly("reserved_concurrency=0"))
        function = cloud.outputs("Service")["FunctionName"]
        assert not operations.aws.invoke(cloud.client("lambda"), function)["error"]
