"""Deploys one environment to the account of the shell's credentials (`make deploy ENV=dev`).

What would stop the deploy is said first, all of it at once (`operations/preflight.py`).

The stacks that hold data come first, and a change that would delete or replace one of their
resources needs an approval: at a terminal CDK asks, elsewhere the deploy is refused before
anything is touched. `APPROVAL=never` approves. The other stacks replace a version of the
function with every deploy, which is no such change.
"""

import subprocess
import sys

from botocore.exceptions import ProfileNotFound

from app import lasting_settings, templates
from operations import aws
from operations.commands import ROOT
from operations.environment import Environment
from operations.logs import LastErrors
from operations.preflight import Preflight
from operations.zones import as_setting, deployed_zones
from stacks.settings import ENVIRONMENTS, Settings, SettingsError


def commands(settings: Settings, approval: str = "destructive") -> list[list[str]]:
    """Return CDK's command lines, in order."""
    data = [f"{settings.stack_prefix}{each}" for each in ("Network", "Database")]
    deploy = ["cdk", "deploy", f"--context=env={settings.env}"]
    return [[*deploy, "--require-approval", approval, *data], [*deploy, "--require-approval", "never", "--all"]]


def main(env: str = "", approval: str = "destructive", *others: str) -> None:
    """Run them, in the shell's own environment; exit with the status of the first that fails.

    When something would stop the deploy, none is run. After a failure, the functions' own last errors are printed.
    """
    if env not in ENVIRONMENTS or approval not in ("destructive", "never") or others:
        sys.exit(
            f"ENV={env} APPROVAL={' '.join([approval, *others])}: ENV is one of {', '.join(ENVIRONMENTS)}, "
            "APPROVAL never or nothing; for example: make deploy ENV=dev"
        )
    try:
        session = aws.session()
        settings = lasting_settings(env, session.region_name or "")
    except SettingsError as error:
        sys.exit("\n".join(["Settings refused:", *(f"  {fault}" for fault in error.faults)]))
    except ProfileNotFound as error:
        sys.exit(f"{error}: `aws configure list-profiles` names those that are there; set AWS_PROFILE to one")
    lines = commands(settings, approval)
    preflight = Preflight(settings, templates(env=settings.env), session)
    faults = preflight.faults()
    print(*preflight.notes, sep="\n", file=sys.stderr, flush=True)
    if faults:
        sys.exit("\n".join(["Nothing was deployed:", *(f"  {fault}" for fault in faults)]))
    with LastErrors(lambda: Environment(settings.env, session)) as errors:
        status = next((status for line in lines if (status := subprocess.run(line, cwd=ROOT).returncode)), 0)
    if status:
        print("\n".join(errors.shown()), file=sys.stderr)
    elif not settings.availability_zones:
        network = f"{settings.stack_prefix}Network"
        zones = deployed_zones(session.client("cloudformation"), session.client("ec2"), network)
        print(f"The subnets' zones, for cdk.json, so that they stay: {as_setting(settings.env, zones)}")
    sys.exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
