"""The schema is migrated in a deploy before the new version takes traffic, and never backwards."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest

import operations.aws
from local.cloud import CloudError, LocalCloud
from local.demo import next_version
from local.tests.fixtures import assembly, wait_for_rotation
from shared.frame import HEALTH

MIGRATION = "0003_add_priority_to_note.sql"


@pytest.fixture
def tree(cloud: LocalCloud, tmp_path: Path) -> Iterator[Path]:
    """A copy of the repository with one migration more; afterwards the repository is deployed, on the new schema."""
    cloud.deploy(assembly=assembly())
    yield next_version(tmp_path / "next")
    cloud.deploy(assembly=assembly())
    connection = cloud.database_connection(cloud.outputs("Service")["DatabaseSecretArn"])
    with connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM migrations_history.schema_history WHERE version > 2")
        with suppress(pymysql.OperationalError):  # The test's deploy may not have added it.
            cursor.execute("ALTER TABLE note DROP COLUMN priority")


def _deploy(cloud: LocalCloud, tree: Path) -> str:
    return cloud.deploy(root=tree)


def test_a_migration_that_fails_fails_the_deploy_and_the_corrected_one_goes_on(
    cloud: LocalCloud, invoke: Callable[..., dict[str, Any]], outputs: dict[str, str], tree: Path
) -> None:
    before = invoke()
    right = (tree / "migrations" / MIGRATION).read_text()
    (tree / "migrations" / MIGRATION).write_text(right.replace("TABLE note", "TABLE nowhere"))
    with pytest.raises(CloudError, match=rf"MigrationError: {MIGRATION}: MySQL error 1146: Table 'devDB\.nowhere'"):
        _deploy(cloud, tree)
    assert (invoke()["version"], invoke(HEALTH)["schemaVersion"]) == (before["version"], 2)
    (tree / "migrations" / MIGRATION).write_text(right)
    _deploy(cloud, tree)
    after = invoke(HEALTH)
    assert (after["error"], after["schemaVersion"]) == ("", 3)
    # Expand, migrate, contract: the version before answers on the schema after.
    previous = outputs["FunctionName"].replace(":live", f":{before['version']}")
    assert operations.aws.invoke(cloud.client("lambda"), previous)["answer"]["database"] == "devDB"


def test_code_that_needs_a_later_schema_fails_its_smoke_test(
    cloud: LocalCloud, invoke: Callable[..., dict[str, Any]], tree: Path
) -> None:
    version = invoke()["version"]
    (tree / "migrations" / MIGRATION).unlink()
    sentence = "SchemaVersionError: database: schema version 2, where this version of the function needs 3"
    with pytest.raises(CloudError, match=sentence):
        _deploy(cloud, tree)
    assert invoke()["version"] == version


def test_the_schemas_user_may_define_tables_in_the_one_database_and_the_serving_user_may_not(cloud: LocalCloud) -> None:
    secret = cloud.outputs("Service")["DatabaseSecretArn"]
    connection = cloud.database_connection(secret)
    with connection, connection.cursor() as cursor:
        granted = {}
        for user in ("demoapp", "demoapp_clone", "demoapp_schema", "demoapp_schema_clone"):
            cursor.execute("SHOW GRANTS FOR %s@'%%'", (user,))
            granted[user] = {row[0].partition(" TO ")[0] for row in cursor.fetchall() if "USAGE" not in row[0]}
    data = {"GRANT SELECT, INSERT, UPDATE, DELETE ON `devDB`.*", "GRANT SELECT ON `migrations\\_history`.*"}
    allowed = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE VIEW, SHOW VIEW"
    definitions = {
        f"GRANT {allowed} ON `devDB`.*",
        f"GRANT {allowed} ON `migrations\\_rehearsal`.*",
        "GRANT SELECT, INSERT, UPDATE, EXECUTE ON `migrations\\_history`.*",
    }
    assert granted == {
        "demoapp": data,
        "demoapp_clone": data,
        "demoapp_schema": definitions,
        "demoapp_schema_clone": definitions,
    }


def test_the_schemas_password_rotates_too(cloud: LocalCloud, invoke: Callable[..., dict[str, Any]]) -> None:
    functions = cloud.client("lambda")
    found = functions.list_functions()["Functions"]
    migration = next(each for each in found if each["Handler"] == "migration.lambda_handler")
    secret = migration["Environment"]["Variables"]["CREDS_PATH"]
    for _ in range(2):
        cloud.client("secretsmanager").rotate_secret(SecretId=secret)
        wait_for_rotation(cloud, secret)
        answer = operations.aws.invoke(functions, migration["FunctionName"])["answer"]
        assert answer["applied"] == [], answer


def test_a_deploy_without_a_new_migration_invokes_nothing(cloud: LocalCloud) -> None:
    cloud.deploy(assembly=assembly())

    def invoked() -> int:
        return cloud.log().count("migration.finished")

    before = invoked()
    cloud.deploy(assembly=assembly("parameter_ttl=60"))
    assert invoked() == before
    cloud.deploy(assembly=assembly())
