"""The way around the extension's cache, for the moment after a rotation."""

from typing import Any, Final

from deadline import Deadline
from errors import ConfigurationError, DependencyUnavailableError

BUDGET: Final = 4.0
"""Seconds for the one read: two tries of a second and a half, and botocore's pause between them."""

_TRANSIENT: Final = frozenset({"ThrottlingException", "InternalServiceError", "RequestLimitExceeded"})


def read(secret_id: str, deadline: Deadline) -> dict[str, Any]:
    """Return Secrets Manager's own `GetSecretValue` answer, of the version current now.

    With the runtime's boto3, imported only here: it costs more than all else together.

    Raises:
        ConfigurationError: the answer is a refusal.
        DependencyUnavailableError: there was no answer, or it was a throttle.
    """
    facts: dict[str, object] = {"stage": "secret", "around": "cache"}
    if deadline.remaining() < BUDGET:
        raise DependencyUnavailableError("secret: too little time left to read it anew", **facts)
    import boto3
    import botocore.config
    import botocore.exceptions

    config = botocore.config.Config(connect_timeout=0.75, read_timeout=0.75, retries={"total_max_attempts": 2})
    try:
        answer: dict[str, Any] = boto3.client("secretsmanager", config=config).get_secret_value(SecretId=secret_id)
    except botocore.exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        kind = DependencyUnavailableError if code in _TRANSIENT else ConfigurationError
        raise kind(f"secret {secret_id}: Secrets Manager refused", **facts, code=code) from None
    except botocore.exceptions.BotoCoreError as error:
        raise DependencyUnavailableError(
            f"secret {secret_id}: Secrets Manager did not answer", **facts, cause=type(error).__name__
        ) from None
    return answer
