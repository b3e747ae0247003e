"""Invokes a version for the deploy, and tells CloudFormation whether it succeeded: to go on, or to roll back.

First a new version of the migration function, then the smoke test of a new version of the serving function.
"""

import json
import os
import re
import time
from typing import Any, Final

import boto3
import botocore.config
import urllib3
from botocore.exceptions import BotoCoreError, ClientError

from shared.attempts import attempts
from shared.deadline import Deadline

PATIENCE: Final = 150.0
"""Seconds in which a transient failure is tried again."""
# In a first deploy the first rotation still makes the users, and a new permission takes seconds to hold
# (https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html).
PAUSE: Final = 5.0
"""Seconds between two tries."""
TELLING: Final = 40.0
"""Seconds kept to tell CloudFormation the result."""
SHOWN: Final = frozenset({"MigrationError", "SchemaVersionError"})
"""Errors whose messages are our own and hold no data: CloudFormation shows them."""
MAY_PASS: Final = frozenset({"CredentialsRefusedError", "DependencyUnavailableError"})
MAY_SPREAD: Final = frozenset(
    {"AccessDenied", "AccessDeniedException", "KMSAccessDeniedException", "ResourceConflictException", "Throttling"}
)
"""Codes of CloudFormation and Lambda while a new permission or version is not yet known everywhere, and a throttle."""

HEALTH: Final = {"reserved": "health"}
"""The event that the serving function's frame answers itself (shared/frame.py)."""
CONFIG: Final = botocore.config.Config(read_timeout=900, tcp_keepalive=True, retries={"total_max_attempts": 1})
"""For the calls to Lambda. This module bounds and repeats them, not the SDK."""

_lambda = boto3.client("lambda", config=CONFIG)
_cloudformation = boto3.client("cloudformation", config=CONFIG)
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
        if event["RequestType"] != "Delete" and not _is_rollback(event["StackId"]):
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

    By a pattern for the whole address, because two parsers may see two hosts in one.

    Raises:
        SmokeTestError: it is not; nothing is sent.
    """
    bucket = r"https://cloudformation-custom-resource-response-[a-z0-9-]+\.s3([.-][a-z0-9-]+)*\.amazonaws\.com(\.cn)?"
    endpoint = re.escape(os.environ.get("AWS_ENDPOINT_URL", "none:"))
    if not re.fullmatch(rf"({bucket}|{endpoint})/[!-\[\]-~]*", url):
        raise SmokeTestError("ResponseURL is not an address of CloudFormation")
    return url


def _is_rollback(stack: str) -> bool:
    """Return whether CloudFormation takes the stack back, which must succeed although a database is broken."""
    with _deadline.limit(min(PATIENCE, _deadline.remaining() - TELLING)):
        for _ in attempts(_deadline, lambda _: PAUSE, 0):
            try:
                (found,) = _deadline.call(_cloudformation.describe_stacks, StackName=stack)["Stacks"]
                return "ROLLBACK" in found["StackStatus"]
            except (BotoCoreError, ClientError) as error:
                failure = error
                if not _may_pass(error):
                    break
    raise failure


def answer(version: str, seconds: float) -> None:
    """Invoke the version, by its ARN, until it answers; one invocation may take these seconds.

    One without an answer may still run. The next is told so, and has as long again to wait for its end.

    Raises:
        SmokeTestError: it failed permanently, or still fails after `PATIENCE`.
    """
    patience, is_repeat = PATIENCE, False
    started = time.monotonic()
    for _ in attempts(_deadline, lambda _: PAUSE, TELLING):
        failure = _failure(version, seconds, is_repeat=is_repeat)
        if not failure:
            return
        name, may_pass, is_unanswered = failure
        if is_unanswered and not is_repeat:
            patience, is_repeat = time.monotonic() - started + max(seconds, PATIENCE), True
        if not may_pass or time.monotonic() + PAUSE > started + patience:
            break
    raise SmokeTestError(f"{version} fails: {name}; its log says why")


def _failure(version: str, seconds: float, *, is_repeat: bool) -> tuple[str, bool, bool] | None:
    """Invoke once; None when it answered, else the error's name, whether it may pass, and whether it may still run."""
    try:
        with _deadline.limit(min(seconds, _deadline.remaining() - TELLING)):
            event = json.dumps(HEALTH | {"repeat": True} if is_repeat else HEALTH)
            invoked = _deadline.call(_lambda.invoke, FunctionName=version, Payload=event)
            payload = _deadline.call(invoked["Payload"].read)
    except ClientError as error:
        return error.response.get("Error", {}).get("Code", "ClientError"), _may_pass(error), False
    except (BotoCoreError, TimeoutError) as error:
        return type(error).__name__, True, True
    if "FunctionError" not in invoked:
        return None
    failure = json.loads(payload)
    name = str(failure.get("errorType", "Unhandled"))
    shown = f"{name}: {failure.get('errorMessage')}" if name in SHOWN else name
    return shown, name in MAY_PASS, False


def _may_pass(error: Exception) -> bool:
    """Return whether the same call may succeed later: no answer, a throttle, a server error, or too early."""
    if not isinstance(error, ClientError):
        return True
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status == 429 or status >= 500 or error.response.get("Error", {}).get("Code") in MAY_SPREAD
