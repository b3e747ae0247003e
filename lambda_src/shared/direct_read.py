"""Reads from AWS directly, bypassing the extension.

Used after a rotation, when the cached password is refused, and when the extension refuses without a reason.
"""

from typing import Any, Final

from shared.deadline import Deadline
from shared.errors import ConfigurationError, DependencyUnavailableError, InvocationError

BUDGET: Final = 4.0
"""Seconds for one read: two tries of 1.5 seconds, and botocore's pause between them."""

_THROTTLES: Final = frozenset({"RequestLimitExceeded", "Throttling", "ThrottlingException"})


def secret(secret_id: str, deadline: Deadline) -> dict[str, Any]:
    """Return Secrets Manager's `GetSecretValue` answer for the current version.

    Raises:
        ConfigurationError: the answer is a refusal.
        DependencyUnavailableError: there was no answer, or a server's error, or a throttle (`throttled`).
    """
    return _read("secret", secret_id, deadline, "secretsmanager", "get_secret_value", SecretId=secret_id)


def parameter(name: str, deadline: Deadline) -> dict[str, Any]:
    """Return Parameter Store's `Parameter` object; raises as `secret`."""
    return dict(_read("parameter", name, deadline, "ssm", "get_parameter", Name=name)["Parameter"])


def _read(operation: str, name: str, deadline: Deadline, service: str, api: str, **request: str) -> dict[str, Any]:
    """Ask with the runtime's boto3."""
    facts: dict[str, object] = {"operation": operation, "bypassed": "extension"}
    if deadline.remaining() < BUDGET:
        raise DependencyUnavailableError(f"{operation}: too little time left to read it directly", **facts)
    # Imported only here, because it takes longer than all other imports together.
    import botocore.exceptions

    try:
        with deadline.limit(BUDGET):
            return deadline.call(_ask, service, api, request)
    except botocore.exceptions.ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        is_throttled = code in _THROTTLES or status == 429
        kind = DependencyUnavailableError if is_throttled or status >= 500 else ConfigurationError
        failure: InvocationError = kind(f"{operation} {name}: AWS refused", **facts, code=code)
        if isinstance(failure, DependencyUnavailableError):
            failure.throttled = is_throttled
    except (TimeoutError, botocore.exceptions.BotoCoreError) as error:
        cause = type(error).__name__
        failure = DependencyUnavailableError(f"{operation} {name}: AWS did not answer", **facts, cause=cause)
    # Raised here, because an exception raised in the except clause would contain the SDK's error, which may
    # quote what was received.
    raise failure


def _ask(service: str, api: str, request: dict[str, str]) -> dict[str, Any]:
    import boto3
    import botocore.config

    config = botocore.config.Config(connect_timeout=0.75, read_timeout=0.75, retries={"total_max_attempts": 2})
    return dict(getattr(boto3.client(service, config=config), api)(**request))
