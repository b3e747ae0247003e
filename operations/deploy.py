"""Deploys one environment to the account of the shell's credentials (`make deploy ENV=dev`).

The first deploy of all writes into cdk.json which copy of the repository this is. Another copy, which has the same
names, is refused; `MOVED=yes` says that it takes the other's place.

What would stop the deploy is said first, all of it at once (`operations/preflight.py`).

The stacks that hold data come first, and a change that would delete or replace one of their
resources needs an approval: at a terminal CDK asks, elsewhere the deploy is refused before
anything is touched. `APPROVAL=never` approves. The other stacks replace a version of the
function with every deploy, which is no such change.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from dataclasses import replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ProfileNotFound

from app import lasting_settings, templates
from operations import aws
from operations.commands import ROOT
from operations.environment import Environment
from operations.logs import LastErrors
from operations.preflight import Preflight
from operations.zones import as_setting, deployed_zones
from stacks.constructs.ownership import OWNER
from stacks.settings import ENVIRONMENTS, Settings, SettingsError


def commands(settings: Settings, approval: str = "destructive", *, moved: bool = False) -> list[list[str]]:
    """Return CDK's command lines, in order."""
    data = [f"{settings.stack_prefix}{each}" for each in ("Network", "Database")]
    deploy = ["cdk", "deploy", f"--context=env={settings.env}"]
    if moved:
        deploy += ["--parameters", f"{OWNER}={settings.owner}"]
    return [[*deploy, "--require-approval", approval, *data], [*deploy, "--require-approval", "never", "--all"]]


def main(env: str = "", *options: str) -> None:
    """Run them, in the shell's own environment; exit with the status of the first that fails.

    When something would stop the deploy, none is run. After a failure, the functions' own last errors are printed.
    """
    if env not in ENVIRONMENTS or not {*options} <= {"destructive", "never", "moved"}:
        sys.exit(
            f"{' '.join([env, *options])}: ENV is one of {', '.join(ENVIRONMENTS)}, APPROVAL destructive (the default) "
            "or never, MOVED yes or nothing; for example: make deploy ENV=dev"
        )
    moved = "moved" in options
    try:
        session = aws.session(lasting_settings(env).region)
        settings = lasting_settings(env, session.region_name or "")
        synthesised = templates(env=env)
    except (SettingsError, RuntimeError) as error:  # The second is CDK's, which has printed what it refuses.
        sys.exit(str(error))
    except ProfileNotFound as error:
        sys.exit(f"{error}: `aws configure list-profiles` names those that are there; set AWS_PROFILE to one")
    preflight = Preflight(settings, synthesised, session, moved=moved)
    faults = preflight.faults()
    print(*preflight.notes, sep="\n", file=sys.stderr, flush=True)
    if not settings.owner and not faults:
        settings = replace(settings, owner=new_owner())
        if "CI" in os.environ:  # What it wrote there would be lost.
            faults = [f'cdk.json names no owner: commit one in its context, as "owner": "{settings.owner}"']
    if faults:
        sys.exit("\n".join(["Nothing was deployed:", *(f"  {fault}" for fault in faults)]))
    if lasting_settings(env).owner != settings.owner:
        keep_in_context("owner", settings.owner)
        print(f"cdk.json says now that this copy is {settings.owner}: commit it", flush=True)
    lines = commands(settings, "never" if "never" in options else "destructive", moved=moved)
    with LastErrors(lambda: Environment(settings.env, session)) as errors:
        status = next((status for line in lines if (status := subprocess.run(line, cwd=ROOT).returncode)), 0)
    if status:
        print("\n".join(errors.shown()), file=sys.stderr)
    elif not settings.availability_zones:
        print(_zones(settings, session))
    sys.exit(status)


def _zones(settings: Settings, session: Any) -> str:
    """Say where the subnets are, as cdk.json takes it, or why that is not known."""
    network = f"{settings.stack_prefix}Network"
    try:
        zones = deployed_zones(session.client("cloudformation"), session.client("ec2"), network)
    except (BotoCoreError, ClientError) as error:  # CDK's roles, which have deployed, may do more.
        return f"It is deployed; the subnets' zones, for cdk.json, were not asked: {error}"
    return f"The subnets' zones, for cdk.json, so that they stay: {as_setting(settings.env, zones)}"


def new_owner() -> str:
    """Return an id for this copy: the repository's name, or its folder's, and what no other copy has."""
    git = ["git", "config", "--get", "remote.origin.url"]
    address = subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout if shutil.which("git") else ""
    name = re.split("[/:]", address.strip())[-1].removesuffix(".git") or ROOT.name
    return f"{re.sub('[^A-Za-z0-9]+', '-', name).strip('-')[:40] or 'copy'}-{uuid.uuid4().hex[:8]}"


def keep_in_context(name: str, value: str) -> None:
    """Write a setting into cdk.json."""
    file = ROOT / "cdk.json"
    content = json.loads(file.read_text())
    content["context"] = {name: value} | content.get("context", {})
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
