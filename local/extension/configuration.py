"""The environment variables that AWS documents for the extension."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

LEVELS: Final = ("DEBUG", "INFO", "WARN", "ERROR", "NONE")
LONGEST_TTL: Final = 300
"""Seconds."""


@dataclass(frozen=True)
class Configuration:
    """The documented environment variables; TTLs and timeouts in seconds, 0 for none."""

    port: int = 2773
    cache_size: int = 1000
    parameter_ttl: float = 300
    secret_ttl: float = 300
    parameter_timeout: float = 0
    secret_timeout: float = 0
    max_connections: int = 3
    log_level: str = "INFO"
    token: str = field(default="", repr=False)
    """The function's session token; a random one when the credentials have none."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Configuration":
        """Read the variables.

        Raises:
            ValueError: naming every one that is out of its range.
        """
        faults: list[str] = []

        def number(name: str, default: int, least: int, most: int | None) -> int:
            text = environ.get(name, str(default))
            if not text.isdigit() or int(text) < least or (most is not None and int(text) > most):
                faults.append(f"{name}={text}: a whole number from {least}" + (f" to {most}" if most else ""))
                return default
            return int(text)

        prefix = "PARAMETERS_SECRETS_EXTENSION_"
        enabled = environ.get(f"{prefix}CACHE_ENABLED", "TRUE").upper()
        if enabled not in ("TRUE", "FALSE"):
            faults.append(f"{prefix}CACHE_ENABLED={enabled}: TRUE or FALSE")
        log_level = environ.get(f"{prefix}LOG_LEVEL", "INFO").upper()
        if log_level not in LEVELS:
            faults.append(f"{prefix}LOG_LEVEL={log_level}: one of {', '.join(LEVELS)}")
        size = number(f"{prefix}CACHE_SIZE", 1000, 0, 1000)
        configuration = cls(
            port=number(f"{prefix}HTTP_PORT", 2773, 1, 65535),
            cache_size=size if enabled == "TRUE" else 0,
            # A longer TTL is shortened, not refused (aws-samples/aws-lambda-extensions#104).
            parameter_ttl=min(number("SSM_PARAMETER_STORE_TTL", 300, 0, None), LONGEST_TTL),
            secret_ttl=min(number("SECRETS_MANAGER_TTL", 300, 0, None), LONGEST_TTL),
            parameter_timeout=number("SSM_PARAMETER_STORE_TIMEOUT_MILLIS", 0, 0, None) / 1000,
            secret_timeout=number("SECRETS_MANAGER_TIMEOUT_MILLIS", 0, 0, None) / 1000,
            max_connections=number(f"{prefix}MAX_CONNECTIONS", 3, 1, None),
            log_level=log_level,
            token=environ.get("AWS_SESSION_TOKEN") or secrets.token_urlsafe(),
        )
        if faults:
            raise ValueError("\n".join(faults))
        return configuration
