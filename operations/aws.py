"""What the commands that ask AWS share: the session, and what an answer says."""

import base64
import json
import os
from collections.abc import Mapping
from typing import Any, Final

import boto3
from botocore import exceptions

from stacks.settings import Settings

NO_ANSWER: Final = (exceptions.ConnectionError, exceptions.HTTPClientError)
"""The SDK's exceptions for a call that got no answer from AWS."""


class AccountError(Exception):
    """The credentials are of another account than an environment's; the message names both."""


def session(region: str = "") -> Any:
    """Return a boto3 session with the shell's credentials, and with a region or the shell's.

    CDK and AWS CLI 2 read `AWS_REGION`, which boto3 does not.
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html
    """
    return boto3.Session(region_name=region or os.environ.get("AWS_REGION"))


def session_for(settings: Settings) -> Any:
    """Return a session with the shell's credentials for an environment: in the region of its settings, or the shell's.

    A local cloud has neither the account nor the region of the settings.

    Raises:
        AccountError: the settings name an account, and the credentials are of another.
        BotoCoreError, ClientError: AWS does not say of which they are.
    """
    if os.environ.get("AWS_ENDPOINT_URL"):
        return session()
    made = session(settings.region)
    if settings.account and (fault := account_fault(settings, made.client("sts").get_caller_identity())):
        raise AccountError(fault)
    return made


def account_fault(settings: Settings, identity: Mapping[str, str]) -> str:
    """Say that credentials are of another account than the settings name, if they are.

    Args:
        settings: of the environment.
        identity: whose the credentials are, as STS says it.
    """
    if settings.account in ("", identity["Account"]):
        return ""
    return (
        f"account {identity['Account']}: of {identity['Arn']}; {settings.env} is of account {settings.account}, as "
        "its settings say: set AWS_PROFILE to one of that account"
    )


def invoke(client: Any, function: str, event: object = None) -> dict[str, Any]:
    """Invoke a function, and read the whole answer: only then is the connection used again.

    Args:
        client: boto3's, of Lambda.
        function: name or ARN, with or without an alias.
        event: what it is sent, as JSON; None is an empty object.

    Returns:
        `answer`, the payload; `error`, empty when there is none; `log`, the log's last 4 KB as text; `version`, which
        answered.
    """
    result = client.invoke(FunctionName=function, LogType="Tail", Payload=json.dumps({} if event is None else event))
    return {
        "answer": json.loads(result["Payload"].read()),
        "error": result.get("FunctionError", ""),
        "log": base64.b64decode(result.get("LogResult", "")).decode(errors="replace"),
        "version": result["ExecutedVersion"],
    }


def is_denied(error: Any) -> bool:
    """Whether a ClientError says that the credentials do not allow the call."""
    return is_a(error, "AccessDenied", "UnauthorizedOperation", "AuthorizationError")


def is_a(error: Any, *codes: str) -> bool:
    """Whether the code of a ClientError begins with one of these."""
    return str(error.response["Error"]["Code"]).startswith(codes)


def listed(client: Any, operation: str, key: str, **arguments: Any) -> list[Any]:
    """Return all that an operation lists under a key of its answers, from all its pages."""
    return list(client.get_paginator(operation).paginate(**arguments).search(f"{key}[]"))
