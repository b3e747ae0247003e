"""Destroys one environment, and says what it keeps (`make destroy ENV=dev NAME=orders-dev`).

Protections that the environment has are taken away first, so that its name must be given. What CloudFormation keeps
is named at the end. A run that was interrupted is repeated.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from app import lasting_settings
from operations import aws
from operations.aws import is_a, listed
from stacks.settings import Settings, SettingsError

STACKS: Final = ("Monitoring", "Service", "Database", "Network", "Deployment")
"""In the order in which none is used by one that is left."""


def destroy(settings: Settings, session: Any) -> Iterator[str]:
    """Delete the stacks one after the other, and yield a line for each, and for each resource that is kept.

    Raises:
        DestroyError: a stack cannot be deleted.
    """
    client = session.client("cloudformation")
    for stack in STACKS:
        name = f"{settings.stack_prefix}{stack}"
        found = _stack(client, name)
        if found is None:
            continue
        if found.get("EnableTerminationProtection"):
            client.update_termination_protection(StackName=name, EnableTerminationProtection=False)
        if stack == "Database":
            _unprotect(session.client("rds"), settings.database_identifier)
        client.delete_stack(StackName=found["StackId"])
        while (found := _stack(client, found["StackId"]) or {})["StackStatus"] == "DELETE_IN_PROGRESS":
            time.sleep(1)
        events = listed(client, "describe_stack_events", "StackEvents", StackName=found["StackId"])
        if found["StackStatus"] != "DELETE_COMPLETE":
            raise DestroyError(name, events)
        yield f"{name}: deleted"
        for each in events:
            if each["ResourceStatus"] == "DELETE_SKIPPED":
                yield f"  kept: {each['ResourceType']} {each['PhysicalResourceId']}"


class DestroyError(Exception):
    """A stack could not be deleted; the message has the resources that hold it, with CloudFormation's reasons."""

    def __init__(self, stack: str, events: list[dict[str, Any]]) -> None:
        failed = [
            f"  {each['LogicalResourceId']}: {each.get('ResourceStatusReason')}"
            for each in events
            if each["ResourceStatus"] == "DELETE_FAILED"
        ]
        super().__init__("\n".join([f"{stack} is not deleted; run the command again when this is mended:", *failed]))


def _stack(client: Any, name: str) -> dict[str, Any] | None:
    try:
        (found,) = client.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if not is_a(error, "ValidationError"):
            raise
        return None
    return dict(found)


def _unprotect(rds: Any, identifier: str) -> None:
    with suppress(rds.exceptions.DBInstanceNotFoundFault):  # A stack that was rolled back.
        rds.modify_db_instance(DBInstanceIdentifier=identifier, DeletionProtection=False, ApplyImmediately=True)


def main(env: str = "", name: str = "") -> None:
    """Print what is deleted and kept; exit with status 1 and a sentence when a stack is left, or none was there."""
    try:
        settings = lasting_settings(env)
        whole = settings.stack_prefix.removesuffix("-")
        if name != whole:
            sys.exit(f"This deletes {whole} with its data, protected or not: make destroy ENV={env} NAME={whole}")
        session = aws.session_for(settings)
        is_there = False
        for line in destroy(settings, session):
            is_there = True
            print(line, flush=True)
        if not is_there:
            account = session.client("sts").get_caller_identity()["Account"]
            sys.exit(f"nothing of {whole} in {session.region_name} of account {account}")
    except (DestroyError, aws.AccountError, SettingsError, BotoCoreError, ClientError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
