"""Deploys one environment to the account of the shell's credentials (`make deploy ENV=dev`).

What would stop the deploy is said first, all of it at once (`operations/preflight.py`).

The stacks that hold data come first, and a change that would delete or replace one of their
resources needs an approval: at a terminal CDK asks, elsewhere the deploy is refused before
anything is touched. `APPROVAL=never` approves. The other stacks replace a version of the
function with every deploy, which is no such change.
"""

import subprocess
import sys
from collections.abc import Sequence

from app import lasting_context, templates
from operations import aws
from operations.commands import ROOT
from operations.preflight import Preflight
from stacks.settings import ENVIRONMENTS, SettingsError, from_context


def commands(env: str, approval: str = "destructive") -> list[list[str]]:
    """Return CDK's command lines, in order.

    Raises:
        ValueError: there is no such environment, or no such approval.
    """
    if env not in ENVIRONMENTS or approval not in ("destructive", "never"):
        raise ValueError(
            f"ENV={env} APPROVAL={approval}: ENV is one of {', '.join(ENVIRONMENTS)}, APPROVAL never or nothing"
        )
    prefix = ENVIRONMENTS[env].stack_prefix
    data = [f"{prefix}Network", f"{prefix}Database"]
    deploy = ["cdk", "deploy", f"--context=env={env}"]
    return [[*deploy, "--require-approval", approval, *data], [*deploy, "--require-approval", "never", "--all"]]


def main(arguments: Sequence[str]) -> None:
    """Run them, in the shell's own environment; exit with the status of the first that fails.

    When something would stop the deploy, none is run.
    """
    session = aws.session()
    try:
        lines = commands(*arguments)
        settings = from_context(lasting_context() | {"env": arguments[0]}, session.region_name or "")
    except SettingsError as error:
        sys.exit("\n".join(["Settings refused:", *(f"  {fault}" for fault in error.faults)]))
    except (TypeError, ValueError) as error:
        sys.exit(f"{error}; for example: make deploy ENV=dev")
    faults = Preflight(settings, templates(env=settings.env), session).faults()
    if faults:
        sys.exit("\n".join(["Nothing was deployed:", *(f"  {fault}" for fault in faults)]))
    for line in lines:
        status = subprocess.run(line, cwd=ROOT).returncode
        if status:
            sys.exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
