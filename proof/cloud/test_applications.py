"""Two copies of the repository in one account: two names live beside each other; of one name, the first stays."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import operations.aws
from local.cloud import LocalCloud
from local.tests.fixtures import local_cloud, wait_for_rotation
from operations.application import copy_application
from operations.commands import ROOT, environment
from proof.conftest import edit

ADDRESS = "https://example.com/owner/reference.git"

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="needs git")


@pytest.fixture(scope="module")
def account() -> Iterator[LocalCloud]:
    """An account and region of their own, bootstrapped."""
    with local_cloud("applications") as cloud:
        cloud.bootstrap()
        yield cloud


class Copy:
    """A copy of the repository, as `make deploy` uses it."""

    def __init__(self, folder: Path, account: LocalCloud, **context: str) -> None:
        self.folder = copy_application(folder)
        shutil.copytree(ROOT / "operations", folder / "operations", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "node_modules").symlink_to(ROOT / "node_modules")
        (folder / ".venv").symlink_to(ROOT / ".venv")
        self._account = account
        content = json.loads((folder / "cdk.json").read_text())
        content["context"] |= context
        (folder / "cdk.json").write_text(json.dumps(content, indent=2))
        # Each is a clone of the same address.
        for command in (["init", "-q"], ["remote", "add", "origin", ADDRESS]):
            subprocess.run(["git", *command], cwd=folder, check=True)

    @property
    def context(self) -> dict[str, str]:
        """What its cdk.json says."""
        context: dict[str, str] = json.loads((self.folder / "cdk.json").read_text())["context"]
        return context

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command with the account's credentials, at no terminal."""
        variables = {key: value for key, value in environment().items() if key != "CI"}
        return subprocess.run(
            command,
            cwd=self.folder,
            env=variables | dict(self._account.variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def deploy(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run what `make deploy` runs."""
        return self.run(sys.executable, "-W", "ignore", "-m", "operations.deploy", "dev", *options)

    def deployed(self, *options: str) -> str:
        """Deploy, and return what was printed."""
        done = self.deploy(*options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refusal(self) -> str:
        """Try to deploy in vain, and return what was said."""
        done = self.deploy()
        assert done.returncode == 1, done.stdout
        return done.stderr

    def refusal_of_cdk_alone(self) -> str:
        """Try to deploy without the preflight, and return what was said."""
        done = self.run("cdk", "deploy", "--all", "--require-approval=never", "--no-notices")
        assert done.returncode != 0
        return done.stdout + done.stderr

    def outputs(self) -> dict[str, str]:
        """Of its service's stack."""
        name = f"{self.context.get('application', 'demoApp')}-dev-Service"
        (stack,) = self._account.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}

    def answer(self) -> str:
        """The beginning of the function's sentence."""
        result = operations.aws.invoke(self._account.client("lambda"), self.outputs()["FunctionName"])
        assert not result["error"], result
        return str(result["answer"]["message"])

    def rotate(self) -> str:
        """Rotate the function's password; the user whose password is current then."""
        secrets, secret = self._account.client("secretsmanager"), self.outputs()["DatabaseSecretArn"]
        secrets.rotate_secret(SecretId=secret)
        wait_for_rotation(self._account, secret)
        return str(json.loads(secrets.get_secret_value(SecretId=secret)["SecretString"])["username"])

    def destroy(self) -> None:
        """Run what docs/operations.md says."""
        done = self.run("cdk", "destroy", "--all", "--force", "--no-notices")
        assert done.returncode == 0, done.stdout + done.stderr


def _stacks(account: LocalCloud) -> set[str]:
    return {each["StackName"] for each in account.client("cloudformation").describe_stacks()["Stacks"]} - {"CDKToolkit"}


def test_two_names_live_beside_each_other(account: LocalCloud, tmp_path: Path) -> None:
    orders = Copy(tmp_path / "orders", account, application="orders")
    invoices = Copy(tmp_path / "invoices", account, application="billApi")
    for copy in (orders, invoices):
        copy.deployed()
    for copy, name, user in ((orders, "Orders", "orders"), (invoices, "BillApi", "billapi")):
        assert copy.answer().startswith(f"{name} successfully loaded config")
        assert copy.rotate().removesuffix("_clone") == user
        assert copy.answer().startswith(name)
    orders.destroy()
    assert invoices.answer().startswith("BillApi")
    assert {name.partition("-")[0] for name in _stacks(account)} == {"billApi"}
    invoices.destroy()
    assert _stacks(account) == set()


def test_a_second_copy_that_was_not_renamed_is_refused_and_the_first_goes_on(
    account: LocalCloud, tmp_path: Path
) -> None:
    first, second = (Copy(tmp_path / name, account) for name in ("first", "second"))
    printed = first.deployed()
    assert 'so that they stay: "context": {"dev": {"availability_zones": "us-east-1a,us-east-1b"}}' in printed
    owner = first.context["owner"]
    assert re.fullmatch("reference-[0-9a-f]{8}", owner)
    assert f"this copy is {owner}: commit it" in printed
    before = first.answer()

    # The commonest case, a clone that never deployed; then one with an id. Each by CDK alone too.
    assert f"belong to {owner}, and this copy of the repository is one without an id" in second.refusal()
    assert "Another copy of the repository than ''" in second.refusal_of_cdk_alone()
    assert "owner" not in second.context
    third = Copy(tmp_path / "third", account, owner="theirs-1")
    assert f"belong to {owner}, and this copy of the repository is theirs-1" in third.refusal()
    assert "Another copy of the repository than 'theirs-1' has deployed it" in third.refusal_of_cdk_alone()
    assert first.answer() == before

    # The same copy, elsewhere; and one that takes its place.
    Copy(tmp_path / "clone", account, owner=owner).deployed()
    third.deployed("moved")
    third.deployed()
    assert f"belong to theirs-1, and this copy of the repository is {owner}" in first.refusal()
    assert first.answer() == before
    third.destroy()


def test_cdk_alone_deploys_nothing_for_a_copy_without_an_id(account: LocalCloud, tmp_path: Path) -> None:
    alone = Copy(tmp_path / "copy", account, application="fresh")
    assert "make deploy writes it there" in alone.refusal_of_cdk_alone()
    statuses = {
        each["StackStatus"]
        for each in account.client("cloudformation").describe_stacks()["Stacks"]
        if each["StackName"].startswith("fresh-")
    }
    assert statuses <= {"REVIEW_IN_PROGRESS"}


def test_a_deploy_that_fails_ends_with_the_functions_last_errors_of_this_deploy(
    account: LocalCloud, tmp_path: Path
) -> None:
    copy = Copy(tmp_path / "copy", account, application="failing")
    copy.deployed()

    def errors() -> dict[str, str]:
        """What is printed of each function, after CDK's own lines."""
        return dict(re.findall(r"^\d\d:\d\d:\d\d (\w+)  (ERROR .*)$", copy.refusal(), re.MULTILINE))

    application = copy.folder / "lambda_src" / "application.py"
    right = application.read_text()
    edit(application, "    return _sentence(config, database)[", "    return 1 // 0 or _sentence(config, database)[")
    assert "ZeroDivisionError" in errors()["Serving"]
    application.write_text(right)
    (copy.folder / "migrations" / "0003_make.sql").write_text("CREATE TABLE a (\n    id INTT PRIMARY KEY\n);\n")
    second = errors()
    assert "0003_make.sql:2" in second["Migration"]
    assert "Serving" not in second
