"""Invokes a version for the deploy, and tells CloudFormation whether it succeeded: to go on, or to roll back.

First a new version of the migration function, then the smoke test of a new version of the serving function.
"""

import json
import os
import re
import time
from typing import Any, Final
from urllib.parse import urlsplit

import boto3
import botocore.config
import urllib3
from botocore.exceptions import BotoCoreError, ClientError

from shared.deadline import Deadline

PATIENCE: Final = 150.0
"""Seconds in which a transient failure is tried again.

During the first deploy, the first rotation, which creates the database user, is still running; a
new permission takes seconds to reach all of IAM
(https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html).
"""
PAUSE: Final = 5.0
"""Seconds between two tries."""
TELLING: Final = 40.0
"""Seconds kept to tell CloudFormation the result."""
SHOWN: Final = frozenset({"MigrationError", "SchemaVersionError"})
"""Errors whose messages are our own and hold no data: CloudFormation shows them."""
MAY_PASS: Final = frozenset({"CredentialsRefusedError", "DependencyUnavailableError"})
MAY_SPREAD: Final = frozenset({"AccessDeniedException", "KMSAccessDeniedException", "ResourceConflictException"})
"""Lambda's error codes while a new permission or version is not yet known everywhere."""

HEALTH: Final = b'{"reserved": "health"}'
"""The event that the serving function's frame answers itself (shared/frame.py)."""
CONFIG: Final = botocore.config.Config(read_timeout=900, tcp_keepalive=True, retries={"total_max_attempts": 1})
"""For the calls to Lambda. This module bounds and repeats them, not the SDK."""

_client = boto3.client("lambda", config=CONFIG)
_deadline = Deadline()


class SmokeTestError(Exception):
    """The version gave no answer; the message has the error's type, and its message only where that is in `SHOWN`."""


def lambda_handler(event: dict[str, Any], context: Any) -> None:
    """Test the version that a custom resource of CloudFormation names, and tell CloudFormation.

    CloudFormation always gets an answer; without one it would wait for an hour
    (https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html).
    """
    _deadline.start(context.get_remaining_time_in_millis() / 1000 - 1)
    version = event["ResourceProperties"]["FunctionVersion"]
    result = {"Status": "SUCCESS", "PhysicalResourceId": event.get("PhysicalResourceId", version)}
    try:
        if event["RequestType"] != "Delete" and not _is_rollback(event):
            answer(version, float(event["ResourceProperties"]["InvocationSeconds"]))
    except Exception as error:  # noqa: BLE001 - see above
        result |= {"Status": "FAILED", "Reason": f"{type(error).__name__}: {error}"[:1000]}
    told = {key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")}
    response = _deadline.call(
        urllib3.request,
        "PUT",
        _response_url(event["ResponseURL"]),
        # The address is signed without a content type
        # (https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cfn-lambda-function-code-cfnresponsemodule.html).
        headers={"Content-Type": ""},
        body=json.dumps(result | told).encode(),
        timeout=10,
        retries=urllib3.Retry(3, redirect=False),
        redirect=False,
    )
    if response.status != 200:
        raise SmokeTestError(f"CloudFormation was told {result['Status']} and answered {response.status}")


def _response_url(url: str) -> str:
    """Return the address if it is CloudFormation's: one of its buckets, or the configured endpoint.

    Raises:
        SmokeTestError: it is not; nothing is sent.
    """
    place = urlsplit(url)
    bucket = re.fullmatch(r"cloudformation-custom-resource-response-[a-z0-9-]+\.s3[a-z0-9.-]*", place.hostname or "")
    is_aws = bucket and place.scheme == "https" and bucket[0].endswith((".amazonaws.com", ".amazonaws.com.cn"))
    if not is_aws and place[:2] != urlsplit(os.environ.get("AWS_ENDPOINT_URL", "none://"))[:2]:
        raise SmokeTestError("ResponseURL is not an address of CloudFormation")
    return url


def _is_rollback(event: dict[str, Any]) -> bool:
    """Return whether CloudFormation returns to a version that passed before, or to the alias's version.

    A rollback must succeed, whatever made the deploy fail: if the version had to answer again, a
    broken database would leave the stack in a failed state. Lambda numbers versions in order, so a
    lower number than the one tried is an earlier version.
    """
    function, number = _number(event["ResourceProperties"])
    tried = event.get("OldResourceProperties")
    if tried and int(number) < int(_number(tried)[1]):
        return True
    while "Alias" in event["ResourceProperties"]:
        try:
            alias = _deadline.call(_client.get_alias, FunctionName=function, Name=event["ResourceProperties"]["Alias"])
        except _client.exceptions.ResourceNotFoundException:
            return False
        except (BotoCoreError, ClientError) as error:
            if not _may_pass(error) or _deadline.remaining() < TELLING + PAUSE:
                raise
            time.sleep(PAUSE)
        else:
            return bool(alias["FunctionVersion"] == number)
    return False


def _number(properties: dict[str, Any]) -> tuple[str, str]:
    """Return the function's name and the version's number."""
    function, number = properties["FunctionVersion"].split(":")[-2:]
    return function, number


def answer(version: str, seconds: float) -> None:
    """Invoke the version until it answers.

    Args:
        version: The version's ARN.
        seconds: that one invocation may take.

    Raises:
        SmokeTestError: it failed permanently, or still fails after `PATIENCE`.
    """
    give_up = time.monotonic() + min(PATIENCE, _deadline.remaining() - TELLING)
    while failure := _failure(version, seconds):
        name, may_pass = failure
        if not may_pass or time.monotonic() + PAUSE > give_up:
            raise SmokeTestError(f"{version} fails: {name}; its log says why")
        time.sleep(PAUSE)


def _failure(version: str, seconds: float) -> tuple[str, bool] | None:
    """Invoke the version once; None when it answered, else the error's name and whether it may pass."""
    try:
        with _deadline.limit(seconds):
            invoked = _deadline.call(_client.invoke, FunctionName=version, Payload=HEALTH)
            payload = _deadline.call(invoked["Payload"].read)
    except ClientError as error:
        return error.response.get("Error", {}).get("Code", "ClientError"), _may_pass(error)
    except (BotoCoreError, TimeoutError) as error:
        return type(error).__name__, True
    if "FunctionError" not in invoked:
        return None
    failure = json.loads(payload)
    name = str(failure.get("errorType", "Unhandled"))
    shown = f"{name}: {failure.get('errorMessage')}" if name in SHOWN else name
    return shown, name in MAY_PASS


def _may_pass(error: Exception) -> bool:
    """Return whether the same call may succeed later: no answer, a throttle, a server error, or too early."""
    if not isinstance(error, ClientError):
        return True
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status == 429 or status >= 500 or error.response.get("Error", {}).get("Code") in MAY_SPREAD
