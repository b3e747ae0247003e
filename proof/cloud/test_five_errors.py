"""Five errors that everybody makes, and the sentence on the screen that names the cause and its place."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.cloud import LocalCloud
from local.tests.fixtures import local_cloud, wait_for_rotation
from local.watch import Watcher
from operations import invocation
from operations.environment import Environment
from proof.conftest import edit


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    """A cloud of this file's own, in which nothing is cached: a change is seen at once."""
    with local_cloud("errors") as cloud:
        cloud.bootstrap()
        cloud.deploy("parameter_ttl=0", "secret_ttl=0")
        wait_for_rotation(cloud, cloud.outputs("Service")["DatabaseSecretArn"])
        yield cloud


@pytest.fixture
def invoked(
    cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """What `make invoke` prints for an event."""

    def invoked(event: str) -> str:
        monkeypatch.setenv("EVENT", event)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            invocation.main(Environment("dev", cloud.session()))
        assert ended.value.code == 1
        return capsys.readouterr().out

    return invoked


@pytest.fixture
def watcher(cloud: LocalCloud, tree: Path) -> Iterator[Watcher]:
    """`make watch`; an edit of the application is taken back."""
    watcher = Watcher(cloud, tree)
    application = tree / "lambda_src" / "application.py"
    before = application.read_text()
    yield watcher
    application.write_text(before)
    assert watcher.step()


def test_a_typo_in_sql(
    watcher: Watcher, tree: Path, invoked: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    edit(tree / "lambda_src" / "application.py", "SELECT id, text", "SELCT id, text")
    assert watcher.step()
    printed = invoked('{"latest": 1}')
    watcher.step()
    watched = capsys.readouterr().out
    for each in (printed, watched):
        assert re.search(r"QueryFailedError: .*errno=1064.*near 'SELCT id, text", each)
        assert re.search(r'File "lambda_src/application.py", line \d+, in answer', each)


def test_a_key_error(
    watcher: Watcher, tree: Path, invoked: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    edit(
        tree / "lambda_src" / "application.py",
        "    match event:",
        '    print("asked")\n    event["customer"]\n    match event:',
    )
    assert watcher.step()
    printed = invoked('{"latest": 1}')
    watcher.step()
    watched = capsys.readouterr().out
    for each in (printed, watched):
        assert re.search(r"^(  |\S+ \S+  )asked$", each, re.MULTILINE)
        assert "ERROR KeyError: 'customer'" in each
        assert re.search(r'File "lambda_src/application.py", line \d+, in answer\n +event\["customer"\]', each)


def test_a_missing_permission(cloud: LocalCloud, invoked: Callable[[str], str]) -> None:
    iam, outputs = cloud.client("iam"), cloud.outputs("Service")
    configuration = cloud.client("lambda").get_function_configuration(FunctionName=outputs["FunctionName"])
    role = configuration["Role"].rpartition("/")[2]
    attached = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    for each in attached:
        iam.detach_role_policy(RoleName=role, PolicyArn=each["PolicyArn"])
    try:
        printed = invoked("{}")
    finally:
        for each in attached:
            iam.attach_role_policy(RoleName=role, PolicyArn=each["PolicyArn"])
    assert re.search(rf"{role}.* is not authorized to perform: ssm:GetParameter on resource: \S+", printed)


def test_a_wrong_secret(cloud: LocalCloud, invoked: Callable[[str], str]) -> None:
    secrets, arn = cloud.client("secretsmanager"), cloud.outputs("Service")["DatabaseSecretArn"]
    before = secrets.get_secret_value(SecretId=arn)
    for changed, sentence in (
        (
            {"password": "changed"},
            "CredentialsRefusedError: .*access denied, and the secret has no newer version .*secret={arn}, version_id=",
        ),
        ({"host": ""}, "ConfigurationError: secret: host is missing or empty.*secret={arn}"),
    ):
        value = json.dumps(json.loads(before["SecretString"]) | changed)
        for _ in range(2):  # A kept connection outlives its password. The second call cuts what the first has found.
            cloud.cut_connections(arn)
        version = secrets.put_secret_value(SecretId=arn, SecretString=value)["VersionId"]
        try:
            printed = invoked("{}")
        finally:
            moved = {"RemoveFromVersionId": version, "MoveToVersionId": before["VersionId"]}
            secrets.update_secret_version_stage(SecretId=arn, VersionStage="AWSCURRENT", **moved)
        assert re.search(sentence.format(arn=arn), printed)


def test_a_migration_that_fails(cloud: LocalCloud, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And when it is corrected into another mistake, that one alone."""
    watcher = Watcher(cloud, tree)
    file = tree / "migrations" / "0003_make.sql"
    file.write_text("CREATE TABLE a (\n    id INTT PRIMARY KEY\n);\n")
    assert watcher.step()
    first = capsys.readouterr().out
    assert re.search(r"0003_make.sql:2: MySQL error 1064: .*near 'INTT PRIMARY KEY", first)
    assert re.search(r"^\S+ Migration  ERROR .*0003_make.sql", first, re.MULTILINE)
    file.write_text("CREATE TABLE a (\n    id INT PRIMRY KEY\n);\n")
    assert watcher.step()
    second = capsys.readouterr().out
    assert re.search(r"0003_make.sql:2: MySQL error 1064: .*near 'PRIMRY KEY", second)
    assert "INTT" not in second
    (own,) = {*re.findall(r"^\S+ Migration  ERROR .*", second, re.MULTILINE)}
    assert "PRIMRY KEY" in own
    file.write_text("CREATE TABLE a (\n    id INT PRIMARY KEY\n);\n")
    assert watcher.step()
    assert "deployed in" in capsys.readouterr().out
