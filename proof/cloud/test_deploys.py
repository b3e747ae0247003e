"""Deploys that fail, that go elsewhere, and that are destroyed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import operations.aws
from local.cloud import HERE, CloudError, LocalCloud
from local.tests.fixtures import assembly, local_cloud
from proof.conftest import edit
from shared.frame import HEALTH


def test_a_version_that_cannot_answer_fails_the_deploy_and_callers_keep_the_one_before(
    cloud: LocalCloud, invoke: Callable[[], dict[str, Any]], outputs: dict[str, str]
) -> None:
    version = invoke()["version"]
    parameters = cloud.client("ssm")
    good = parameters.get_parameter(Name=outputs["ParameterName"])["Parameter"]["Value"]
    parameters.put_parameter(Name=outputs["ParameterName"], Value="no JSON", Overwrite=True)
    try:
        with pytest.raises(CloudError, match="ConfigurationError"):
            cloud.deploy(assembly=assembly("parameter_ttl=60"))
    finally:
        parameters.put_parameter(Name=outputs["ParameterName"], Value=good, Overwrite=True)
    (stack,) = cloud.client("cloudformation").describe_stacks(StackName="demoApp-dev-Service")["Stacks"]
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    answer = invoke()
    assert not answer["error"]
    assert answer["version"] == version
    cloud.deploy(assembly=assembly("parameter_ttl=60"))
    assert invoke()["version"] != version
    cloud.deploy(assembly=assembly())


def test_deploying_again_changes_nothing(cloud: LocalCloud) -> None:
    printed = cloud.deploy()
    assert printed.count("(no changes)") == 4


def test_the_diff_is_empty(cloud: LocalCloud) -> None:
    printed = cloud.cdk("diff", "--all", "--fail", f"--app={assembly()}")
    assert "Number of stacks with differences: 0" in printed


@pytest.fixture
def second_cloud() -> Iterator[LocalCloud]:
    with local_cloud("second") as cloud:
        cloud.bootstrap()
        yield cloud


def test_a_function_whose_construct_was_renamed_is_tested_and_a_rollback_invokes_nothing(
    second_cloud: LocalCloud, tree: Path
) -> None:
    """It is another function, whose versions begin at 1 again."""
    second_cloud.deploy(assembly=assembly())
    client, before = second_cloud.client("lambda"), second_cloud.outputs("Service")["FunctionName"]

    def invoked() -> list[str]:
        """The functions that have finished an invocation, one for each."""
        printed, _ = second_cloud.function_log()
        return [name for _, name, line in printed if "invocation.finished" in line or "migration.finished" in line]

    started = len(invoked())
    edit(tree / "stacks" / "service.py", '"Serving",\n', '"Renamed",\n')
    application = tree / "lambda_src" / "application.py"
    right = application.read_text()
    edit(application, "    return _sentence(config, database)[", "    return 1 // 0 or _sentence(config, database)[")
    with pytest.raises(CloudError, match="ZeroDivisionError"):
        second_cloud.deploy(root=tree)
    (failed,) = set(invoked()[started:])
    assert "Renamed" in failed
    assert second_cloud.outputs("Service")["FunctionName"] == before
    assert not operations.aws.invoke(client, before)["error"]
    application.write_text(right)
    # As on AWS: what the stack exports of the old function is in use. docs/extending.md says what to do.
    with pytest.raises(CloudError, match="UPDATE_ROLLBACK_COMPLETE"):
        second_cloud.deploy(root=tree)
    second_cloud.cdk("destroy", "demoApp-dev-Monitoring", "--exclusively", "--force", f"--app={assembly()}")
    second_cloud.deploy(root=tree)
    after = second_cloud.outputs("Service")["FunctionName"]
    answer = operations.aws.invoke(client, after, HEALTH)
    assert (after != before, answer["error"], answer["version"]) == (True, "", "1")


def test_after_a_hotswap_a_deploy_of_the_same_code_is_refused_and_one_of_other_code_is_not(
    second_cloud: LocalCloud, tree: Path
) -> None:
    """As on AWS: Lambda has that version, and the stack has not (https://github.com/aws/aws-cdk/issues/35540)."""
    second_cloud.deploy(assembly=assembly())
    client, function = second_cloud.client("lambda"), second_cloud.outputs("Service")["FunctionName"]

    def version() -> str:
        return str(operations.aws.invoke(client, function, HEALTH)["version"])

    application = tree / "lambda_src" / "application.py"
    application.write_text(application.read_text() + "\n# Hotswapped.\n")
    made = tree / "cdk.out"
    options = ["--require-approval=never", f"--output={made}", *(f"--context={each}" for each in HERE)]
    second_cloud.cdk("deploy", "--all", "--hotswap", *options, cwd=tree)
    assert version() == "2"
    with pytest.raises(CloudError, match=r"A version for this Lambda function exists \( 2 \)"):
        second_cloud.deploy(assembly=made)
    assert version() == "2"
    application.write_text(application.read_text() + "\n# Deployed.\n")
    second_cloud.deploy(root=tree)
    assert version() == "3"


def test_prod_with_nat_deploys_and_destroys_without_a_process_left(second_cloud: LocalCloud) -> None:
    prod = assembly("env=prod", "egress=nat", "database_name=shop", "rotation_days=7")
    second_cloud.deploy(assembly=prod)
    function_name = second_cloud.outputs("Service", "prod")["FunctionName"]
    client = second_cloud.client("lambda")
    answer = operations.aws.invoke(client, function_name)["answer"]
    assert answer["database"] == "shop", answer
    (pid_file,) = second_cloud.folder.glob("*/pid")
    process = psutil.Process(int(pid_file.read_text()))
    assert process.is_running()
    with pytest.raises(CloudError, match="TerminationProtection"):
        second_cloud.destroy()
    cloudformation = second_cloud.client("cloudformation")
    for stack in ("Network", "Database", "Service", "Monitoring"):
        cloudformation.update_termination_protection(
            StackName=f"demoApp-prod-{stack}", EnableTerminationProtection=False
        )
    with pytest.raises(CloudError, match="Cannot delete protected DB Instance"):
        second_cloud.destroy()
    second_cloud.client("rds").modify_db_instance(
        DBInstanceIdentifier="prod-demoapp", DeletionProtection=False, ApplyImmediately=True
    )
    second_cloud.destroy()
    assert not process.is_running()
    left = cloudformation.describe_stacks()["Stacks"]
    assert [stack["StackName"] for stack in left] == ["CDKToolkit"]
    # The logs stay, under fixed names, and are in the way of the next prod until they are deleted.
    logs = second_cloud.client("logs")
    for log in ("error", "slowquery"):
        assert logs.describe_log_groups(logGroupNamePrefix=f"/aws/rds/instance/prod-demoapp/{log}")["logGroups"]
    with pytest.raises(CloudError, match="already exists"):
        second_cloud.deploy(assembly=prod)
    for log in ("error", "slowquery"):
        logs.delete_log_group(logGroupName=f"/aws/rds/instance/prod-demoapp/{log}")
    cloudformation.update_termination_protection(StackName="demoApp-prod-Database", EnableTerminationProtection=False)
    second_cloud.deploy(assembly=prod)
    assert not operations.aws.invoke(client, second_cloud.outputs("Service", "prod")["FunctionName"])["error"]
