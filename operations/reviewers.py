"""Refuses a deploy by GitHub's workflow that nobody has to approve (`python -m operations.reviewers prod`).

Asked of environments with `protect_data`: in most private repositories GitHub has no required reviewers, and runs
the job at once without saying so. The setting `deploy_without_reviewers` allows it. Prints the setting
`account`, for the workflow's next step.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

import urllib3

from app import lasting_settings
from stacks.settings import Settings, SettingsError

REVIEWERS: Final = "required_reviewers"


def faults(settings: Settings, variables: Mapping[str, str]) -> Iterator[str]:
    """Yield what is missing in the environment's protection, as GitHub's API describes it.

    https://docs.github.com/en/rest/deployments/environments#get-an-environment

    Args:
        settings: of the environment.
        variables: those of a job of GitHub's: GITHUB_API_URL, GITHUB_REPOSITORY and GITHUB_TOKEN.
    """
    if not settings.protect_data or settings.deploy_without_reviewers:
        return
    path = f"/repos/{variables['GITHUB_REPOSITORY']}/environments/{quote(settings.env, safe='')}"
    headers = {"Authorization": f"Bearer {variables['GITHUB_TOKEN']}", "Accept": "application/vnd.github+json"}
    answer = urllib3.request("GET", variables["GITHUB_API_URL"] + path, headers=headers, timeout=30)
    if answer.status != 200:
        yield f"environment {settings.env}: GitHub answered {answer.status} when asked for its reviewers"
        return
    found: Mapping[str, Any] = answer.json()
    rules = {rule["type"]: rule for rule in found.get("protection_rules", [])}
    if not rules.get(REVIEWERS, {}).get("reviewers"):
        yield (
            f"environment {settings.env}: has no required reviewers: set them in the repository's settings, "
            "or deploy_without_reviewers=true in cdk.json"
        )
    if not found.get("deployment_branch_policy"):
        yield f"environment {settings.env}: takes any branch: allow the default branch alone in its settings"


def main(env: str) -> None:
    """Exit with the faults, if there are any."""
    try:
        settings = lasting_settings(env)
    except SettingsError as error:
        sys.exit(str(error))
    found = list(faults(settings, os.environ))
    if found:
        sys.exit("\n".join(["Nothing was deployed:", *(f"  {fault}" for fault in found)]))
    print(f"account={settings.account}")


if __name__ == "__main__":
    main(*sys.argv[1:])
