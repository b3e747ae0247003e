"""Asks a new version for an answer before any caller reaches it; CloudFormation goes on or rolls back."""

import json
import time
from typing import Any, Final, Protocol

import boto3
import botocore.config
import urllib3

PATIENCE: Final = 120.0
"""Seconds in which what may pass by itself is tried again: a first rotation, which makes the
function's database user, is still running when the function is first deployed."""
PAUSE: Final = 5.0
"""Seconds between two tries."""
MAY_PASS: Final = frozenset({"CredentialsRefusedError", "DependencyUnavailableError"})

_client = boto3.client("lambda", config=botocore.config.Config(read_timeout=35, retries={"total_max_attempts": 1}))


class Context(Protocol):
    """What is used here of Lambda's context object."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the invocation."""


class SmokeTestError(Exception):
    """The version gave no answer; the message has the error's type and nothing of its message."""


def lambda_handler(event: dict[str, Any], context: Context) -> None:
    """Test the version that a custom resource of CloudFormation names, and tell CloudFormation.

    Whatever happens here is told: without a word CloudFormation would wait for an hour
    (CloudFormation user guide, "Custom resource response objects").
    """
    version = event["ResourceProperties"]["FunctionVersion"]
    result = {"Status": "SUCCESS", "PhysicalResourceId": event.get("PhysicalResourceId", version)}
    if event["RequestType"] != "Delete":
        try:
            if not _is_live(version, event["ResourceProperties"]["Alias"]):
                answer(version, context.get_remaining_time_in_millis() / 1000)
        except Exception as error:  # noqa: BLE001 - see above
            result |= {"Status": "FAILED", "Reason": f"{type(error).__name__}: {error}"[:1000]}
    told = {key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")}
    response = urllib3.request(
        "PUT",
        event["ResponseURL"],
        # Signed with no content type (CloudFormation user guide, "cfn-response module").
        headers={"Content-Type": ""},
        body=json.dumps(result | told).encode(),
        timeout=10,
        retries=3,
    )
    if response.status != 200:
        raise SmokeTestError(f"CloudFormation was told {result['Status']} and answered {response.status}")


def _is_live(version: str, alias: str) -> bool:
    """Whether callers have this version already: then CloudFormation is rolling back to it.

    A rollback must succeed, whatever made the deploy fail: if the version that was serving
    had to answer again, a broken database would leave the stack stuck half-way.
    """
    function, number = version.split(":")[-2:]
    try:
        return bool(_client.get_alias(FunctionName=function, Name=alias)["FunctionVersion"] == number)
    except _client.exceptions.ResourceNotFoundException:
        return False


def answer(version: str, remaining: float) -> None:
    """Invoke the version until it answers.

    Args:
        version: The version's ARN.
        remaining: Seconds left to this function.

    Raises:
        SmokeTestError: it failed for good, or is still failing when patience ends.
    """
    give_up = time.monotonic() + min(PATIENCE, remaining - 60)
    while error := _error(version):
        if error not in MAY_PASS or time.monotonic() + PAUSE > give_up:
            raise SmokeTestError(f"{version} fails: {error}; its log says why")
        time.sleep(PAUSE)


def _error(version: str) -> str:
    """Invoke the version once; the type of the error, or empty when it answered."""
    invoked = _client.invoke(FunctionName=version, Payload=b"{}")
    payload = invoked["Payload"].read()
    return str(json.loads(payload).get("errorType", "Unhandled")) if "FunctionError" in invoked else ""
