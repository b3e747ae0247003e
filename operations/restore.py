"""Restores a backup into a copy of the database, and copies a table back from it (`make restore ENV=dev FROM=latest`).

The steps are separate, and each is done only when it is asked for: `--from` makes the copy, whose master gets a new
password that RDS keeps; `--table` copies a table; `--delete` deletes the copy.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pymysql
import pymysql.cursors
from botocore.exceptions import ClientError

from app import lasting_settings
from operations import aws
from operations.databases import REFUSALS, ROOT_CERTIFICATES, DatabaseError, connect, credentials, quoted, rows_of
from operations.verify.database import HEALTHY
from operations.waiting import wait_until
from stacks.settings import Settings

HOUR: Final = 3600
BATCH: Final = 1000
"""Rows that are read and written at once."""


class Restore:
    """The copy of one environment's database.

    Args:
        settings: of the environment.
        session: a boto3 session.
        pause: seconds between two questions about an instance's state.
    """

    def __init__(self, settings: Settings, session: Any, pause: float = 15) -> None:
        self._settings = settings
        self._session = session
        self._pause = pause
        self._rds = session.client("rds")
        stack = f"{settings.stack_prefix}Database"
        resources = session.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
        (identifier,) = (
            each["PhysicalResourceId"] for each in resources if each["ResourceType"] == "AWS::RDS::DBInstance"
        )
        self.instance = self._described(identifier)
        self.copy_name = f"{identifier}-restored"

    def make(self, source: str) -> None:
        """Restore into a new instance, in the network of the first, and have RDS keep a new password of its master.

        Args:
            source: `latest`, a time as 2026-11-22T10:00:00Z, or a snapshot's name.

        Raises:
            ClientError: RDS refused.
        """
        given = {
            "DBInstanceClass": self.instance["DBInstanceClass"],
            "DBSubnetGroupName": self.instance["DBSubnetGroup"]["DBSubnetGroupName"],
            "VpcSecurityGroupIds": [each["VpcSecurityGroupId"] for each in self.instance["VpcSecurityGroups"]],
            "DBParameterGroupName": self.instance["DBParameterGroups"][0]["DBParameterGroupName"],
            "PubliclyAccessible": False,
            "MultiAZ": False,
            "DeletionProtection": False,
            # Without it RDS enrols the copy in extended support, which costs.
            "EngineLifecycleSupport": "open-source-rds-extended-support"
            + ("" if self._settings.extended_support else "-disabled"),
        }
        moment = re.fullmatch(r"latest|\d{4}-\d\d-\d\dT.*", source)
        if moment:
            given |= {
                "SourceDBInstanceIdentifier": self.instance["DBInstanceIdentifier"],
                "TargetDBInstanceIdentifier": self.copy_name,
                **({"UseLatestRestorableTime": True} if source == "latest" else {"RestoreTime": source}),
            }
            self._rds.restore_db_instance_to_point_in_time(**given)
        else:
            names = {"DBSnapshotIdentifier": source, "DBInstanceIdentifier": self.copy_name}
            self._rds.restore_db_instance_from_db_snapshot(**given | names)
        self._wait(self._is_healthy)
        # RDS takes it in a restore of Oracle alone.
        # https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RestoreDBInstanceFromDBSnapshot.html
        key = self.instance["MasterUserSecret"].get("KmsKeyId")
        wanted = {"ManageMasterUserPassword": True} | ({"MasterUserSecretKmsKeyId": key} if key else {})
        self._wait(lambda: self._is_modified(**wanted))
        self._wait(lambda: self._is_healthy() and self._secret_status() == "active")

    def copy_table(
        self, table: str, authorities: Path = ROOT_CERTIFICATES, tunnels: Sequence[int] = (0, 0)
    ) -> tuple[str, int]:
        """Copy a table into the environment's database; one that is there is left as it is.

        Args:
            table: its name.
            authorities: a file of root certificates.
            tunnels: ports of this machine that lead to the database and to its copy.

        Returns:
            The name of the new table, `_restored` at its end where there is one of that name, and its number of rows.

        Raises:
            DatabaseError: there is no such table in the copy, it is a view, or both names are taken.
        """
        database = self._settings.database_name
        ours, theirs = (
            connect(instance, credentials(self._session, instance), database, authorities, tunnel)
            for instance, tunnel in zip((self.instance, self._described(self.copy_name)), tunnels, strict=True)
        )
        with closing(ours), closing(theirs):
            there = {name for (name,) in rows_of(ours, "SHOW TABLES")}
            target = table if table not in there else f"{table}_restored"
            kinds = dict(rows_of(theirs, "SHOW FULL TABLES"))
            if table not in kinds:
                raise DatabaseError(f"{self.copy_name} has no table {database}.{table}")
            if kinds[table] != "BASE TABLE":
                raise DatabaseError(f"{database}.{table} of {self.copy_name} is a view: copy the tables that it reads")
            if target in there:
                raise DatabaseError(f"{database} has {table} and {target}: drop the one that is not wanted")
            return target, _copy(theirs, ours, table, target)

    def delete(self) -> None:
        """Delete the copy, and wait until it has gone.

        Raises:
            ClientError: RDS refused; there is no copy.
        """
        self._rds.delete_db_instance(
            DBInstanceIdentifier=self.copy_name, SkipFinalSnapshot=True, DeleteAutomatedBackups=True
        )
        self._rds.get_waiter("db_instance_deleted").wait(
            DBInstanceIdentifier=self.copy_name, WaiterConfig={"Delay": max(1, int(self._pause)), "MaxAttempts": 240}
        )

    def _described(self, identifier: str) -> Mapping[str, Any]:
        found: list[Mapping[str, Any]] = self._rds.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"]
        return found[0]

    def _is_healthy(self) -> bool:
        return self._described(self.copy_name)["DBInstanceStatus"] in HEALTHY

    def _secret_status(self) -> str:
        return str(self._described(self.copy_name).get("MasterUserSecret", {}).get("SecretStatus", ""))

    def _is_modified(self, **wanted: Any) -> bool:
        """Ask for a change at once; return whether RDS takes it in this state, as during a backup it does not."""
        try:
            self._rds.modify_db_instance(DBInstanceIdentifier=self.copy_name, ApplyImmediately=True, **wanted)
        except ClientError as error:
            if not aws.is_a(error, "InvalidDBInstanceState"):
                raise
            return False
        return True

    def _wait(self, holds: Callable[[], bool]) -> None:
        if not wait_until(holds, HOUR, self._pause):
            status = self._described(self.copy_name)["DBInstanceStatus"]
            raise DatabaseError(f"{self.copy_name}: {status} after an hour: look at its events in RDS")


def _copy(source: Any, target: Any, table: str, name: str) -> int:
    """Copy a table with its rows, in one transaction of each server; return their number."""
    columns = rows_of(
        source,
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = DATABASE() "
        "AND table_name = %s AND COALESCE(generation_expression, '') = '' ORDER BY ordinal_position",
        (table,),
    )
    ((_, definition),) = rows_of(source, f"SHOW CREATE TABLE {quoted(table)}")
    if name != table:  # The names of constraints are the database's.
        definition = re.sub(r"^CREATE TABLE .*? \($", f"CREATE TABLE {quoted(name)} (", definition, flags=re.MULTILINE)
        definition = re.sub(r"^  CONSTRAINT `(?:[^`]|``)*` ", "  ", definition, flags=re.MULTILINE)
    rows_of(target, "SET foreign_key_checks = 0")
    rows_of(target, definition)
    listed = ", ".join(quoted(column) for column, _ in columns)
    # A server writes a FLOAT with six digits, and a DOUBLE with all that it has; 1e0 is one, and keeps the sign of 0.
    read = ", ".join(quoted(column) + (" * 1e0" if kind == "float" else "") for column, kind in columns)
    values = ", ".join(["%s"] * len(columns))
    insert = f"INSERT INTO {quoted(name)} ({listed})".replace("%", "%%") + f" VALUES ({values})"  # noqa: S608 - quoted
    count = 0
    with source.cursor(pymysql.cursors.SSCursor) as reading, target.cursor() as writing:
        reading.execute(f"SELECT {read} FROM {quoted(table)}")  # noqa: S608 - quoted
        while rows := reading.fetchmany(BATCH):
            writing.executemany(insert, rows)
            count += len(rows)
    target.commit()
    return count


def _ports(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+),(\d+)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"TUNNELS={text}: expected two ports, as 13306,13307")
    return int(found[1]), int(found[2])


def main(arguments: Sequence[str]) -> None:
    """Do what is asked, in order; exit with a sentence about what cannot be done."""
    parser = argparse.ArgumentParser(prog="make restore")
    parser.add_argument("env")
    parser.add_argument("--from", dest="source", help="latest, a time, or a snapshot: make the copy")
    parser.add_argument("--table", help="copy this table from the copy into the database")
    parser.add_argument("--delete", action="store_true", help="delete the copy")
    parser.add_argument("--authorities", type=Path, default=ROOT_CERTIFICATES)
    parser.add_argument(
        "--tunnels", type=_ports, default=(0, 0), help="this machine's ports for the database and for its copy"
    )
    given = parser.parse_args(arguments)
    if not (given.source or given.table or given.delete):
        parser.error("say what: FROM=latest, TABLE=note or DELETE=yes")
    try:
        settings = lasting_settings(given.env)
        restore = Restore(settings, aws.session_for(settings))
        if given.source:
            restore.make(given.source)
            print(f"made {restore.copy_name} from {given.source}; RDS keeps a new password of its master")
        if given.table:
            name, rows = restore.copy_table(given.table, given.authorities, given.tunnels)
            print(f"copied {given.table} of {restore.copy_name} to {name}: {rows} rows")
        if given.delete:
            restore.delete()
            print(f"deleted {restore.copy_name}")
    except REFUSALS as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main(sys.argv[1:])
