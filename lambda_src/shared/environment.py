"""The functions' environment variables, read and checked once, when a function starts.

The stacks set them. Lambda itself sets `AWS_REGION` (Lambda developer guide,
https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.errors import ConfigurationError
from shared.json_object import json_object


@dataclass(frozen=True)
class ServingEnvironment:
    """What the serving function is configured with."""

    parameter_name: str
    """The parameter that holds the application's configuration."""
    secret_id: str
    """The ARN of the secret that holds the application user's connection details."""
    region: str
    extension_port: int
    """The port on localhost where the extension listens."""

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "ServingEnvironment":
        """Read the variables.

        Raises:
            ConfigurationError: a variable is missing, empty or wrong; the message names each.
        """
        names = ("ENV", "APP_CONFIG_PATH", "CREDS_PATH", "AWS_REGION")
        env, path, secret_id, region = required(variables, *names)
        port = variables.get("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "2773")
        if not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
            raise ConfigurationError("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT is not a port from 1 to 65535")
        return cls(f"/{env}/{path}", secret_id, region, int(port))


@dataclass(frozen=True)
class RotationEnvironment:
    """What the rotation function may change, declared by the stack. No secret's value can change it."""

    region: str
    host: str
    port: int
    database: str
    master_secret_id: str
    """The ARN of the master user's secret, which RDS keeps."""
    users: Mapping[str, tuple[str, Mapping[str, list[str]]]]
    """The secrets that may be rotated, by ARN: the first user's name, and both users' privileges by database."""

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "RotationEnvironment":
        """Read the variables; raises as `ServingEnvironment.read`."""
        names = ("AWS_REGION", "DATABASE_HOST", "DATABASE_PORT", "DATABASE_NAME", "MASTER_SECRET_ARN", "ROTATED_USERS")
        region, host, port, database, master, declared = required(variables, *names)
        users = json_object(declared)
        if not users or not port.isdigit():
            raise ConfigurationError("DATABASE_PORT is not a number, or ROTATED_USERS not a JSON object")
        pairs = {secret: (user["username"], user["privileges"]) for secret, user in users.items()}
        return cls(region, host, int(port), database, master, pairs)


@dataclass(frozen=True)
class MigrationEnvironment:
    """What the migration function is configured with."""

    secret_id: str
    """The ARN of the secret that holds the connection details of the schema's user."""
    region: str
    budget: float = 590.0
    """Seconds for all migrations of one deploy; less than the function's timeout."""
    lock_seconds: int = 60
    """How long a second deploy waits for the first. MySQL frees the lock of a session that ends."""

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "MigrationEnvironment":
        """Read the variables; raises as `ServingEnvironment.read`."""
        secret_id, region = required(variables, "CREDS_PATH", "AWS_REGION")
        return cls(secret_id, region)


def required(variables: Mapping[str, str], *names: str) -> list[str]:
    """Return the values of the variables, in the order of their names.

    Raises:
        ConfigurationError: some are missing or empty; the message names all of them.
    """
    missing = [name for name in names if not variables.get(name, "").strip()]
    if missing:
        raise ConfigurationError(f"environment variables missing or empty: {', '.join(missing)}")
    return [variables[name] for name in names]
