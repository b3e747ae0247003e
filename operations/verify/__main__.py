"""`python -m operations.verify dev` makes the checks and prints a line for each; exit status 1 when one fails."""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from app import lasting_context
from operations import aws
from operations.verify.checks import CHECKS, LOUD_CHECKS
from operations.verify.deployed import Deployed, EnvironmentMissingError
from operations.verify.report import FAILED, PASSED, UNCHECKED, Result, as_json, run
from stacks.settings import SettingsError, from_context


def main() -> int:
    """Return the exit status: 0 when no check failed, 1 when one did; 2 when there was nothing to check."""
    arguments = _arguments()
    context: dict[str, Any] = dict(arguments.context)
    try:
        settings = from_context(lasting_context() | context | {"env": arguments.env})
        deployed = Deployed(settings, context, aws.session_for(settings))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except (EnvironmentMissingError, aws.AccountError, BotoCoreError, ClientError) as error:
        print(f"{arguments.env}: {error}", file=sys.stderr)
        return 2
    at = datetime.now(UTC).isoformat(timespec="seconds")
    where = "" if deployed.is_aws else f" at {deployed.endpoint}, which is not AWS"
    print(f"{settings.env} in account {deployed.account}, {deployed.region}{where}, {at}")
    loud_names = [name for name in LOUD_CHECKS if getattr(arguments, name.replace("-", "_"))]
    chosen = [CHECKS[name] for name in arguments.only or ([] if loud_names else CHECKS)]
    results: list[Result] = []
    for result in run([*chosen, *(LOUD_CHECKS[name] for name in loud_names)], deployed):
        print(result, flush=True)
        results.append(result)
    count = {status: sum(result.status == status for result in results) for status in (PASSED, FAILED, UNCHECKED)}
    print(f"{count[PASSED]} passed, {count[FAILED]} failed, {count[UNCHECKED]} not checked")
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(deployed, results, at), indent=2) + "\n")
    return 1 if count[FAILED] else 0


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text}: NAME=VALUE is expected")
    return name, value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make verify ENV=dev OPTIONS='...'", description=__doc__)
    parser.add_argument("env", help="the environment")
    parser.add_argument("--only", choices=CHECKS, nargs="+", metavar="NAME", help="these checks: %(choices)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report for machines too")
    parser.add_argument(
        "-c", "--context", action="append", default=[], type=_setting, metavar="NAME=VALUE", help="as of cdk deploy"
    )
    for name, check in LOUD_CHECKS.items():
        parser.add_argument(f"--{name}", action="store_true", help=check.promise)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
