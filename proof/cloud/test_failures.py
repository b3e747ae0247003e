"""A deploy that fails at its last resource is repeated and succeeds: each stack, dev and prod, first deploy and update.

`make changes` runs it weekly. What takes more than `cdk deploy` is done by the commands of docs/operations.md.
"""

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import lasting_settings
from local.cloud import CloudError, LocalCloud
from local.tests.fixtures import assembly, local_cloud
from operations.aws import invoke
from operations.commands import ROOT, environment
from operations.waiting import wait_until
from proof.conftest import copied

pytestmark = pytest.mark.changes

STACKS = ("Network", "Database", "Service", "Monitoring")
DELAY = 5
"""Seconds until a permission holds, where it is late."""
TAKEN = "/taken"
"""The name of a log group that exists already, so that the stack's last resource cannot be created."""


@pytest.fixture(params=["dev", "prod"])
def env(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def cloud(env: str) -> Iterator[LocalCloud]:
    with local_cloud(f"{env}-failures") as cloud:
        cloud.bootstrap()
        yield cloud


def _name(env: str, stack: str) -> str:
    return f"{lasting_settings(env).stack_prefix}{stack}"


def _failing(folder: Path, env: str, stack: str) -> Path:
    """A copy of an assembly in which the stack has one resource more, after all others, that cannot be created."""
    copy = copied(folder, folder.with_name(f"{folder.name}-{stack}-fails"))
    name = _name(env, stack)
    file = copy / f"{name}.template.json"
    template = json.loads(file.read_text())
    others = list(template["Resources"])
    template["Resources"]["Last"] = {
        "Type": "AWS::Logs::LogGroup",
        "Properties": {"LogGroupName": TAKEN},
        "DependsOn": others,
    }
    file.write_text(json.dumps(template))
    # The template's name in the bucket is its hash; CDK uploads none that is there.
    manifest = (copy / "manifest.json").read_text()
    before = json.loads(manifest)["artifacts"][name]["properties"]["stackTemplateAssetObjectUrl"].rpartition("/")[2]
    digest = before.removesuffix(".json")
    for other in (copy / "manifest.json", copy / f"{name}.assets.json"):
        other.write_text(other.read_text().replace(digest, hashlib.sha256(digest.encode()).hexdigest()))
    return copy


def _deploy(cloud: LocalCloud, folder: Path, env: str, stack: str) -> None:
    cloud.cdk("deploy", _name(env, stack), "--exclusively", "--require-approval=never", f"--app={folder}")


def _commands(heading: str, env: str, stack: str) -> str:
    """The commands of docs/operations.md for the stack, without the deploy at their end."""
    text = (ROOT / "docs" / "operations.md").read_text()
    (block,) = re.findall(rf"## {heading}\n.*?```sh account\n(.*?)```", text, re.DOTALL)
    *commands, last = block.strip().splitlines()
    assert last.startswith("make deploy ENV=")
    kept = "\n".join(line for line in commands if stack == "Database" or "modify-db-instance" not in line)
    return re.sub("STACK=[A-Za-z-]+-Database", f"STACK={_name(env, stack)}", kept)


def _run(cloud: LocalCloud, commands: str) -> None:
    # Version 1 of the command line asks RDS at AWS, whatever the variable says.
    aws = 'aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }\n'
    variables = environment() | cloud.variables | {"AWS_PAGER": ""}
    shell = subprocess.run(["bash", "-c", f"set -e\n{aws}{commands}"], env=variables, capture_output=True, text=True)
    assert shell.returncode == 0, shell.stderr


def _wait_for_status(cloud: LocalCloud, env: str, stack: str, status: str) -> None:
    assert wait_until(lambda: _status(cloud, env, stack) == status, 60, 0.2), _status(cloud, env, stack)


def _status(cloud: LocalCloud, env: str, stack: str) -> str:
    (found,) = cloud.client("cloudformation").describe_stacks(StackName=_name(env, stack))["Stacks"]
    status: str = found["StackStatus"]
    return status


def test_a_deploy_that_fails_is_repeated_and_succeeds(cloud: LocalCloud, env: str) -> None:
    logs = cloud.client("logs")
    right = assembly(f"env={env}")
    changed = assembly(f"env={env}", "parameter_ttl=60", "alarm_email=oncall@example.com", "rotation_days=60")
    for stack in STACKS:
        logs.create_log_group(logGroupName=TAKEN)
        with pytest.raises(CloudError, match="already exists"):
            _deploy(cloud, _failing(right, env, stack), env, stack)
        logs.delete_log_group(logGroupName=TAKEN)
        if env == "prod":
            assert _status(cloud, env, stack) == ("ROLLBACK_FAILED" if stack == "Database" else "ROLLBACK_COMPLETE")
            _run(cloud, _commands("When the first deploy of prod fails", env, stack))
        _deploy(cloud, right, env, stack)
        assert _status(cloud, env, stack) == "CREATE_COMPLETE"
    name = cloud.outputs("Service", env)["FunctionName"]
    client = cloud.client("lambda")
    assert not invoke(client, name)["error"]
    for stack in STACKS:
        logs.create_log_group(logGroupName=TAKEN)
        with pytest.raises(CloudError, match="already exists"):
            _deploy(cloud, _failing(changed, env, stack), env, stack)
        if stack == "Database":
            # The rollback changes the schedule again, which begins a rotation while one is under way.
            assert _status(cloud, env, stack) == "UPDATE_ROLLBACK_FAILED"
            _run(cloud, _commands("When a rollback fails", env, stack))
            _wait_for_status(cloud, env, stack, "UPDATE_ROLLBACK_COMPLETE")
        assert _status(cloud, env, stack) == "UPDATE_ROLLBACK_COMPLETE"
        assert not invoke(client, name)["error"]
        logs.delete_log_group(logGroupName=TAKEN)
        _deploy(cloud, changed, env, stack)
        assert _status(cloud, env, stack) in ("UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
        assert not invoke(client, name)["error"]


def test_permissions_that_are_late_are_waited_for(env: str) -> None:
    right, changed = assembly(f"env={env}"), assembly(f"env={env}", "parameter_ttl=60")
    with local_cloud(f"{env}-late", permission_delay=DELAY) as cloud:
        cloud.bootstrap()
        for folder in (right, changed):
            before = len(cloud.log())
            for stack in STACKS:
                _deploy(cloud, folder, env, stack)
            log = cloud.log()[before:]
            late = set(re.findall(r"iam: the policies of (\S+) do not hold yet", log))
            assert [role for role in late if "SmokeTest" in role], late
            # The first rotation fails until the rotation function may read the secret, and is repeated.
            assert ("createSecret failed" in log) == (folder == right)
        name = cloud.outputs("Service", env)["FunctionName"]
        assert not invoke(cloud.client("lambda"), name)["error"]


def test_after_a_rollback_the_same_code_and_an_alias_moved_by_hand_are_deployed(cloud: LocalCloud, env: str) -> None:
    right, changed = assembly(f"env={env}"), assembly(f"env={env}", "parameter_ttl=60")
    for stack in STACKS:
        _deploy(cloud, right, env, stack)
    name = cloud.outputs("Service", env)["FunctionName"]
    client, logs = cloud.client("lambda"), cloud.client("logs")
    _deploy(cloud, changed, env, "Service")
    second = client.get_alias(FunctionName=name.removesuffix(":live"), Name="live")["FunctionVersion"]
    # By hand, back to the version before; then the same code is deployed again, and then the code of before.
    client.update_alias(FunctionName=name.removesuffix(":live"), Name="live", FunctionVersion="1")
    logs.create_log_group(logGroupName=TAKEN)
    with pytest.raises(CloudError, match="already exists"):
        _deploy(cloud, _failing(right, env, "Service"), env, "Service")
    logs.delete_log_group(logGroupName=TAKEN)
    _deploy(cloud, right, env, "Service")
    assert not invoke(client, name)["error"]
    _deploy(cloud, changed, env, "Service")
    assert not invoke(client, name)["error"]
    assert second != "1"
