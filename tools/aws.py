"""What the commands that ask AWS share: the shell's session, and which answers are no answers."""

import os
from typing import Any, Final

import boto3
from botocore import exceptions

NO_ANSWER: Final = (exceptions.ConnectionError, exceptions.HTTPClientError)
"""The SDK's exceptions for a call that got no answer from AWS."""


def session() -> Any:
    """Return a boto3 session with the shell's credentials and region.

    CDK and AWS CLI 2 read `AWS_REGION`, which boto3 does not.
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html
    """
    return boto3.Session(region_name=os.environ.get("AWS_REGION"))


def is_denied(error: Any) -> bool:
    """Whether a ClientError says that the credentials do not allow the call."""
    code: str = error.response["Error"]["Code"]
    return code.startswith(("AccessDenied", "UnauthorizedOperation", "AuthorizationError"))
