"""The connection details that a secret holds."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shared.errors import ConfigurationError
from shared.json_object import json_object


@dataclass(frozen=True)
class Credentials:
    """The connection details of one version of the secret."""

    host: str
    port: int
    dbname: str
    username: str
    password: str = field(repr=False)
    version_id: str
    created: datetime | None = None

    @property
    def age_hours(self) -> float | None:
        """Hours since this version was stored; None without a valid date."""
        if not self.created:
            return None
        return round((datetime.now(UTC) - self.created).total_seconds() / 3600, 2)

    @classmethod
    def parse(cls, secret: dict[str, Any]) -> "Credentials":
        """Read a `GetSecretValue` answer whose SecretString is the JSON that RDS secrets hold.

        Raises:
            ConfigurationError: it is not; the message names the keys at fault and no value.
        """
        version_id = str(secret.get("VersionId"))
        facts = {"operation": "secret", "secret": secret.get("ARN"), "version_id": version_id}
        text = secret.get("SecretString")
        if not isinstance(text, str):
            kind = "a binary secret" if secret.get("SecretBinary") else "no SecretString"
            raise ConfigurationError(f"secret: {kind}, where a JSON object is read", **facts)
        value = json_object(text)
        if value is None:
            raise ConfigurationError("secret: not a JSON object with each key once", **facts)
        faults = [
            f"{key} is missing or empty"
            for key in ("host", "dbname", "username", "password")
            if not (isinstance(value.get(key), str) and value[key].strip())
        ]
        port = _port(value.get("port", 3306))
        name_or_address = r"\s*|[A-Za-z0-9._-]+|[0-9A-Fa-f.]*(:[0-9A-Fa-f.]*){2,}"
        if not re.fullmatch(name_or_address, str(value.get("host", ""))):
            faults.append("host is no name or address")
        if not port:
            faults.append("port is not a number from 1 to 65535")
        if faults:
            raise ConfigurationError(f"secret: {'; '.join(faults)}", **facts)
        created = _moment(secret.get("CreatedDate"))
        return cls(value["host"], port, value["dbname"], value["username"], value["password"], version_id, created)


def _moment(value: object) -> datetime | None:
    """Parse an ISO 8601 date with a time zone; None if it is invalid."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _port(value: object) -> int:
    """Parse the port; 0 if it is invalid. The error of int() would quote the value."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535 else 0
