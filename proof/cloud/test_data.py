"""Data that comes along: `make data` moves an environment's, restores it, and adopts somebody's database.

Each test prints what it did and compared. The commands are those of docs/operations.md.
"""

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pymysql
import pytest

import operations.aws
from app import lasting_settings, templates
from local.cloud import CloudError, LocalCloud
from local.tests.fixtures import local_cloud, wait_for_rotation
from operations import adoption
from operations.commands import ROOT, environment
from operations.preflight import Preflight
from operations.verify.database import instance
from operations.verify.deployed import Deployed
from proof.testbed import instances
from shared import schema
from stacks.settings import from_context

pytestmark = pytest.mark.data

SECOND = {
    "env": "prod",
    "owner": "local",
    "protect_data": "false",
    "instance_class": "t4g.small",
    "reserved_concurrency": "20",
    "release": "at-once",
    "vpc_cidr": "10.9.0.0/16",
    "public_subnet_cidr": "10.9.3.0/24",
    "private_subnet_a_cidr": "10.9.2.0/24",
    "private_subnet_b_cidr": "10.9.1.0/24",
}
"""The settings of an environment of another name, with other address ranges."""
DEV, PROD = (lasting_settings(env).stack_prefix for env in ("dev", "prod"))
RECORDS = "SELECT version, name, checksum, begun_at, finished_at FROM {}.schema_history ORDER BY version"
HISTORY = RECORDS.format(schema.HISTORY)
NAMED = "cannot update a stack when a custom-named resource requires replacing"
FIRST_RELEASE = "dd3016c"
"""The last commit of version 0.1."""


def _say(text: str) -> None:
    print(f"  ✓ {text}", flush=True)


def _blocks(heading: str) -> list[str]:
    """The blocks of commands under a heading of docs/operations.md."""
    (section,) = re.findall(
        rf"^## {heading}\n(.*?)^## ", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE | re.DOTALL
    )
    return re.findall(r"^```sh[^\n]*\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def _run(cloud: LocalCloud, commands: str, **variables: str) -> str:
    """Run commands of a document against the cloud; what they print."""
    ours = {key: value for key, value in environment().items() if not key.startswith("AWS_")}
    given = ours | cloud.variables | {"AWS_PAGER": "", "AUTHORITIES": cloud.variables["AWS_CA_BUNDLE"]} | variables
    aws = 'aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }'
    script = f"set -euo pipefail\n{aws}\n{commands}"
    run = subprocess.run(["bash", "-c", script], cwd=ROOT, env=given, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return run.stdout


def _deploy(cloud: LocalCloud, settings: dict[str, str], *options: str) -> str:
    """Deploy as a bare `cdk deploy` does, which asks for no approval."""
    output = f"--output={cloud.folder / 'second'}"  # The first environment's is kept for its destruction.
    context = [f"--context={name}={value}" for name, value in settings.items()]
    return cloud.cdk("deploy", "--require-approval=never", output, *context, *options)


def _outputs(cloud: LocalCloud, stack: str) -> dict[str, str]:
    (described,) = cloud.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return {each["OutputKey"]: each["OutputValue"] for each in described["Outputs"]}


def _invoke(cloud: LocalCloud, event: object, stack: str = f"{DEV}Service") -> Any:
    result = operations.aws.invoke(cloud.client("lambda"), _outputs(cloud, stack)["FunctionName"], event)
    assert not result["error"], result["answer"]
    return result["answer"]


def _faults(cloud: LocalCloud, settings: dict[str, str]) -> list[str]:
    return Preflight(from_context(settings), templates(**settings), cloud.session()).faults()


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    """Dev with three notes."""
    with local_cloud("moving") as cloud:
        cloud.bootstrap()
        cloud.deploy()
        for text in ("one", "two", "three"):
            _invoke(cloud, {"note": text})
        yield cloud


def test_a_lost_table_comes_back(cloud: LocalCloud) -> None:
    before = instances.execute(cloud, "dev-demoapp", "SELECT * FROM devDB.note ORDER BY id")
    snapshot, restore = _blocks("Restore from a backup")
    _run(cloud, snapshot, INSTANCE="dev-demoapp")
    instances.execute(cloud, "dev-demoapp", "DROP TABLE devDB.note")
    printed = _run(cloud, restore)
    assert "copied note of dev-demoapp-restored to note: 3 rows" in printed
    assert "deleted dev-demoapp-restored" in printed
    after = instances.execute(cloud, "dev-demoapp", "SELECT * FROM devDB.note ORDER BY id")
    assert after == before
    _say(f"restored a snapshot into a copy, and a dropped table from it: {len(after)} rows, as before")
    make, *back = restore.splitlines()
    _run(cloud, make.replace("before-change", "latest"))
    instances.execute(cloud, "dev-demoapp", "DROP TABLE devDB.note")
    _run(cloud, "\n".join(back))
    assert instances.execute(cloud, "dev-demoapp", "SELECT * FROM devDB.note ORDER BY id") == before
    _say(f"the latest time into a copy, and a table dropped since from it: {len(before)} rows, as before")
    assert [each["text"] for each in _invoke(cloud, {"latest": 10})["notes"]] == ["three", "two", "one"]
    _say("the function answers from it")


def test_a_second_environment_has_the_firsts_data_and_outlives_it(cloud: LocalCloud) -> None:
    _run(cloud, _blocks("Move the data to another environment")[0], INSTANCE="dev-demoapp")
    notes, history = _invoke(cloud, {"latest": 10})["notes"], instances.execute(cloud, "dev-demoapp", HISTORY)
    secrets, secret_id = cloud.client("secretsmanager"), _outputs(cloud, f"{DEV}Service")["DatabaseSecretArn"]
    firsts = [
        json.loads(secrets.get_secret_value(SecretId=secret_id, VersionStage=stage)["SecretString"])
        for stage in ("AWSCURRENT", "AWSPREVIOUS")
    ]
    assert {value["username"] for value in firsts} == {"demoapp", "demoapp_clone"}
    (refused,) = _faults(cloud, SECOND | {"snapshot": "before-the-move"})
    assert f"its key belongs to {DEV}Database" in refused
    _say(f"refused: {refused.partition(', and')[0]}")

    second = SECOND | {"snapshot": "before-the-move-lasting"}
    assert _faults(cloud, second) == []
    _deploy(cloud, second, "--all")
    assert _invoke(cloud, {"latest": 10}, f"{PROD}Service")["notes"] == notes
    assert instances.execute(cloud, "prod-demoapp", HISTORY) == history
    _say(f"prod, made from dev's snapshot: {len(notes)} notes and {len(history)} migrations, the same as dev's")

    for value in firsts:
        instances.log_in(cloud, "dev-demoapp", value["username"], value["password"]).close()
        with pytest.raises(pymysql.OperationalError, match="1045"):
            instances.log_in(cloud, "prod-demoapp", value["username"], value["password"])
    _say("the passwords of dev's two users open dev's database, and not prod's")
    _rotate(cloud, f"{PROD}Service")
    assert _invoke(cloud, {"latest": 10}, f"{PROD}Service")["notes"] == notes
    _say("a rotation of prod's password, and the function answers")

    found = instance.run(Deployed(from_context(second), second, cloud.session()))
    _say(f"make verify's check of the instance: {found}")

    before = _templates(cloud)
    added = {"env": "dev", "owner": "local", "snapshot": "before-the-move-lasting"}
    for settings, prefix in ((SECOND, PROD), (SECOND | {"snapshot": "before-change"}, PROD), (added, DEV)):
        assert [each for each in _faults(cloud, settings) if each.startswith("snapshot=")]
        with pytest.raises(CloudError, match=NAMED):
            _deploy(cloud, settings, "--exclusively", f"{prefix}Database")
        assert _templates(cloud) == before
        assert _invoke(cloud, {"latest": 10}, f"{prefix}Service")["notes"] == notes
        what = settings.get("snapshot", "taken away")
        _say(
            f"{prefix}Database, snapshot {what}: named by preflight, refused to a bare cdk deploy; the notes are there"
        )

    cloud.destroy()
    there = [each["DBInstanceIdentifier"] for each in cloud.client("rds").describe_db_instances()["DBInstances"]]
    assert there == ["prod-demoapp"]
    _invoke(cloud, {"note": "after dev"}, f"{PROD}Service")
    _rotate(cloud, f"{PROD}Service")
    assert _invoke(cloud, {"latest": 1}, f"{PROD}Service")["notes"][0]["text"] == "after dev"
    _say("dev is destroyed and its key on the way; prod stores, rotates and answers")


def _rotate(cloud: LocalCloud, stack: str) -> None:
    secret_id = _outputs(cloud, stack)["DatabaseSecretArn"]
    cloud.client("secretsmanager").rotate_secret(SecretId=secret_id)
    wait_for_rotation(cloud, secret_id)


def _templates(cloud: LocalCloud) -> dict[str, Any]:
    client = cloud.client("cloudformation")
    names = (f"{DEV}Database", f"{PROD}Database")
    return {name: client.get_template(StackName=name)["TemplateBody"] for name in names}


@pytest.fixture(scope="module")
def first_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of version 0.1."""
    folder = tmp_path_factory.mktemp("first-release")
    archive = folder.with_suffix(".tar")
    made = subprocess.run(["git", "archive", "-o", archive, FIRST_RELEASE], cwd=ROOT, capture_output=True, text=True)
    if (ROOT / ".git/shallow").exists() and made.returncode:
        pytest.fail(f"{FIRST_RELEASE}, the tree of version 0.1, is not in this shallow clone: git fetch --unshallow")
    if made.returncode:
        pytest.skip(f"{FIRST_RELEASE}, the tree of version 0.1, is not in this clone's history: {made.stderr.strip()}")
    with tarfile.open(archive) as tree:
        tree.extractall(folder, filter="data")
    return folder


def test_an_environment_of_0_1_moves_to_this_version(first_release: Path) -> None:
    with local_cloud("first-release") as cloud:
        cloud.bootstrap()
        cloud.cdk(
            "deploy", "--all", "--require-approval=never", f"--output={cloud.folder / 'first'}", cwd=first_release
        )
        instances.execute(cloud, "dev-demoapp", "INSERT INTO devDB.note (text) VALUES ('of 0.1'), ('also')")
        kept = "SELECT * FROM devDB.note ORDER BY id"
        notes = instances.execute(cloud, "dev-demoapp", kept)
        applied = instances.execute(cloud, "dev-demoapp", RECORDS.format("devDB"))
        assert _invoke(cloud, None, "Dev-Service")["schemaVersion"] == 1
        _say(f"deployed version 0.1 from {FIRST_RELEASE}: {len(notes)} notes, {len(applied)} migration")

        _run(cloud, _blocks("Move the data to another environment")[0], INSTANCE="dev-demoapp")
        second = SECOND | {"snapshot": "before-the-move-lasting"}
        assert _faults(cloud, second) == []
        _deploy(cloud, second, "--all")
        assert instances.execute(cloud, "prod-demoapp", kept) == notes
        assert instances.execute(cloud, "prod-demoapp", HISTORY)[: len(applied)] == applied
        assert [each["text"] for each in _invoke(cloud, {"latest": 2}, f"{PROD}Service")["notes"]] == ["also", "of 0.1"]
        _say("prod of this version, made from its snapshot: the notes, and the history with what came since")
        _invoke(cloud, {"note": "of this version"}, f"{PROD}Service")
        _rotate(cloud, f"{PROD}Service")
        assert _invoke(cloud, {"latest": 1}, f"{PROD}Service")["notes"][0]["text"] == "of this version"
        _say("it stores, rotates and answers")


SHOP = (
    "CREATE TABLE shop.customer (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(50) NOT NULL)",
    "CREATE TABLE shop.purchase (id INT PRIMARY KEY, customer INT, FOREIGN KEY (customer) REFERENCES customer (id))",
    "CREATE TABLE shop.visit (at DATETIME, page VARCHAR(80)) ENGINE = MyISAM",
    "INSERT INTO shop.customer (name) VALUES ('Ada'), ('Grace')",
    "INSERT INTO shop.purchase VALUES (10, 1), (11, 2), (12, 2)",
    "INSERT INTO shop.visit VALUES ('2026-11-22 10:00:00', '/')",
    "CREATE USER web@'%' IDENTIFIED BY 'Web-site-1' REQUIRE SSL",
    "GRANT SELECT ON shop.* TO web@'%'",
    "CREATE USER demoapp@'%' IDENTIFIED BY 'Somebody-else-1'",
    "CREATE TABLE shop.note (id INT PRIMARY KEY)",
)
TABLES = ("customer", "purchase", "visit")


def test_a_database_of_three_tables_that_no_migration_made_is_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    with local_cloud("adopting") as cloud:
        own = instances.FRESH | {"DBInstanceIdentifier": "shop", "StorageEncrypted": False}
        assert instances.deploy(cloud, "Shop", {key: own[key] for key in own if key != "KmsKeyId"}) == ""
        instances.execute(cloud, "shop", *SHOP)
        for name, value in cloud.variables.items():
            monkeypatch.setenv(name, value)
        settings = SECOND | {"database_name": "shop", "database_username": "owner"}
        monkeypatch.setattr("operations.adoption.lasting_settings", lambda _: from_context(settings))
        check: Callable[[], None] = lambda: adoption.main(  # noqa: E731
            ["prod", "shop", "--authorities", cloud.variables["AWS_CA_BUNDLE"]]
        )
        with pytest.raises(SystemExit) as said:
            check()
        lines = str(said.value).splitlines()[1:]
        assert [line.strip().partition(":")[0] for line in lines] == [
            "table visit",
            "user demoapp",
            "0001_create_note.sql",
        ]
        _say(f"the check of somebody's database names {len(lines)} things:")
        print("\n".join(lines))

        mended = ("ALTER TABLE shop.visit ENGINE = InnoDB", "RENAME USER demoapp@'%' TO old_demoapp@'%'")
        instances.execute(cloud, "shop", *mended, "RENAME TABLE shop.note TO shop.old_note")
        with redirect_stdout(io.StringIO()) as output:
            check()
        printed = output.getvalue()
        assert "shop can become prod's database" in printed
        _say(printed.strip())

        rows = {each: instances.execute(cloud, "shop", f"SELECT * FROM shop.{each} ORDER BY 1") for each in TABLES}
        rds = cloud.client("rds")
        rds.create_db_snapshot(DBInstanceIdentifier="shop", DBSnapshotIdentifier="of-the-shop")
        cloud.bootstrap()
        (fault,) = _faults(cloud, settings | {"snapshot": "of-the-shop"})
        assert "not encrypted" in fault
        _run(cloud, fault.rpartition(": ")[2] + " > /dev/null")
        adopted = settings | {"snapshot": "of-the-shop-lasting"}
        assert _faults(cloud, adopted) == []
        _deploy(cloud, adopted, "--all")
        found = {
            each: instances.execute(cloud, "prod-demoapp", f"SELECT * FROM shop.{each} ORDER BY 1") for each in TABLES
        }
        assert found == rows
        _say(
            f"prod, adopted from it: {', '.join(f'{len(found[each])} rows of {each}' for each in TABLES)}, as they were"
        )
        assert instances.instance(cloud, "prod-demoapp")["StorageEncrypted"] is True
        applied = [name for _, name, *_ in instances.execute(cloud, "prod-demoapp", HISTORY)]
        assert applied == [file.name for file in sorted((ROOT / "migrations").glob("*.sql"))]
        _invoke(cloud, {"note": "of the shop"}, f"{PROD}Service")
        _rotate(cloud, f"{PROD}Service")
        assert _invoke(cloud, {"latest": 10}, f"{PROD}Service")["notes"][0]["text"] == "of the shop"
        instances.log_in(cloud, "prod-demoapp", "web", "Web-site-1").close()
        _say("its migrations are applied from the first on, it stores, rotates and answers; the shop's user logs in")
