"""Says what keeps a database that somebody has from becoming an environment's (`make adoption ENV=prod INSTANCE=shop`).

It only reads: RDS's description of the instance, and its catalogue, as its master. docs/adoption.md has the way.
"""

import argparse
import getpass
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from app import lasting_settings
from operations import aws
from operations.commands import ROOT
from operations.databases import REFUSALS, ROOT_CERTIFICATES, connect, credentials, rows_of
from stacks.settings import Settings
from stacks.settings.rds_mysql import HISTORY, REHEARSAL

CREATES: Final = re.compile(r"\s*CREATE\s+TABLE\s+(?!IF\s)`?(\w+)`?", re.IGNORECASE)


def described_faults(settings: Settings, instance: Mapping[str, Any]) -> Iterator[str]:
    """Return a sentence for each thing that RDS says of the instance and that the settings do not.

    The snapshot's own faults are preflight's (operations/snapshots.py), which `make deploy` names.
    """
    if instance["Engine"] != "mysql":
        yield f"engine: {instance['Engine']}: RDS for MySQL alone can be adopted"
        return
    series = ".".join(instance["EngineVersion"].split(".")[:2])
    if series != settings.series:
        yield f"engine_version={settings.engine_version}: the instance is of {series}: set engine_version={series}"
    if instance["MasterUsername"] != settings.database_username:
        master = instance["MasterUsername"]
        yield f"database_username={settings.database_username}: the master is {master}: set database_username={master}"
    # CloudFormation writes the instance's own database, where it has one, into the secrets.
    # https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-secretsmanager-secrettargetattachment.html
    name = instance.get("DBName") or settings.database_name
    if name != settings.database_name:
        yield f"database_name={settings.database_name}: the instance was made with {name}: set database_name={name}"


def catalogue_faults(connection: Any, settings: Settings, migrations: Path) -> Iterator[str]:
    """Return a sentence for each thing in the server's catalogue that the functions would stop at.

    Args:
        connection: of the master.
        settings: of the environment.
        migrations: the folder of files, all of which are applied to what the snapshot has.
    """
    database = settings.database_name
    databases = {name for (name,) in rows_of(connection, "SHOW DATABASES")}
    if database not in databases:
        others = sorted(databases - {"information_schema", "mysql", "performance_schema", "sys"})
        yield f"database_name={database}: there is none; there are {', '.join(others) or 'no others'}"
    tables = dict(
        rows_of(
            connection,
            "SELECT table_name, engine FROM information_schema.tables "
            "WHERE table_schema = %s AND table_type = 'BASE TABLE' ORDER BY table_name",
            (database,),
        )
    )
    for table, engine in tables.items():
        if engine != "InnoDB":
            yield f"table {table}: of {engine}, which a migration refuses: ALTER TABLE {table} ENGINE=InnoDB"
    if HISTORY in databases:
        made = {name for (name,) in rows_of(connection, f"SHOW TABLES FROM {HISTORY}")}
        if made != {"schema_history"}:
            yield f"database {HISTORY}: not the migrations' history: rename it"
        return  # An environment's own database, with its users and its history.
    own = [
        f"{name}{end}" for name in (settings.application_username, settings.schema_username) for end in ("", "_clone")
    ]
    for (user,) in rows_of(connection, "SELECT DISTINCT user FROM mysql.user WHERE user IN %s ORDER BY user", (own,)):
        yield f"user {user}: the rotation would take it over, with another password and other rights: rename it"
    if REHEARSAL in databases:
        yield f"database {REHEARSAL}: the migration function drops it: rename it"
    for file in sorted(migrations.glob("[0-9]*.sql")):
        creates = CREATES.match(re.sub(r"^--.*$", "", file.read_text("utf-8"), flags=re.MULTILINE))
        if creates and creates[1] in tables:
            yield (
                f"{file.name}: makes {creates[1]}, which is there: write CREATE TABLE IF NOT EXISTS, "
                "when the file describes that table, or give the new one another name"
            )


def main(arguments: Sequence[str]) -> None:
    """Print what is wrong, each in a line; exit with status 1 when something is."""
    parser = argparse.ArgumentParser(prog="make adoption")
    parser.add_argument("env")
    parser.add_argument("instance", help="the instance's name in RDS")
    parser.add_argument("--authorities", type=Path, default=ROOT_CERTIFICATES)
    parser.add_argument("--tunnel", type=int, default=0, help="this machine's port that leads to the instance")
    given = parser.parse_args(arguments)
    try:
        settings = lasting_settings(given.env)
        session = aws.session_for(settings)
        described = session.client("rds").describe_db_instances(DBInstanceIdentifier=given.instance)
        (instance,) = described["DBInstances"]
        faults = [*described_faults(settings, instance)]
        # Once, and only where RDS does not keep it: a live database's password is not changed for a check.
        user = (
            credentials(session, instance)
            if "MasterUserSecret" in instance
            else (instance["MasterUsername"], getpass.getpass(f"password of {instance['MasterUsername']}: "))
        )
        with closing(connect(instance, user, None, given.authorities, given.tunnel)) as connection:
            faults += catalogue_faults(connection, settings, ROOT / "migrations")
    except REFUSALS as error:
        sys.exit(f"{error}")
    if faults:
        sys.exit(
            "\n".join([f"{given.instance} cannot become {given.env}'s database as it is:", *map("  {}".format, faults)])
        )
    print(f"{given.instance} can become {given.env}'s database: take its snapshot (docs/adoption.md)")


if __name__ == "__main__":
    main(sys.argv[1:])
