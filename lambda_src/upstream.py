"""The way around the extension: for the moment after a rotation, and when it does not say why it refuses."""

from typing import Any, Final

from deadline import Deadline
from errors import ConfigurationError, DependencyUnavailableError

BUDGET: Final = 4.0
"""Seconds for the one read: two tries of a second and a half, and botocore's pause between them."""

_TRANSIENT: Final = frozenset(
    {"InternalServerError", "InternalServiceError", "RequestLimitExceeded", "ThrottlingException"}
)


def secret(secret_id: str, deadline: Deadline) -> dict[str, Any]:
    """Return Secrets Manager's own `GetSecretValue` answer, of the version current now.

    Raises:
        ConfigurationError: the answer is a refusal.
        DependencyUnavailableError: there was no answer, or it was a throttle.
    """
    return _read("secret", secret_id, deadline, "secretsmanager", "get_secret_value", SecretId=secret_id)


def parameter(name: str, deadline: Deadline) -> dict[str, Any]:
    """Return Parameter Store's own `Parameter` object; raises as `secret`."""
    answer = _read("parameter", name, deadline, "ssm", "get_parameter", Name=name)
    found: dict[str, Any] = answer["Parameter"]
    return found


def _read(stage: str, name: str, deadline: Deadline, service: str, operation: str, **request: str) -> dict[str, Any]:
    """Ask with the runtime's boto3, imported only here: it costs more than all else together."""
    facts: dict[str, object] = {"stage": stage, "around": "extension"}
    if deadline.remaining() < BUDGET:
        raise DependencyUnavailableError(f"{stage}: too little time left to read it anew", **facts)
    import boto3
    import botocore.config
    import botocore.exceptions

    config = botocore.config.Config(connect_timeout=0.75, read_timeout=0.75, retries={"total_max_attempts": 2})
    try:
        answer: dict[str, Any] = getattr(boto3.client(service, config=config), operation)(**request)
    except botocore.exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        kind = DependencyUnavailableError if code in _TRANSIENT else ConfigurationError
        raise kind(f"{stage} {name}: AWS refused", **facts, code=code) from None
    except botocore.exceptions.BotoCoreError as error:
        raise DependencyUnavailableError(
            f"{stage} {name}: AWS did not answer", **facts, cause=type(error).__name__
        ) from None
    return answer
