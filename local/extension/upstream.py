"""Asks AWS, and converts AWS's answers to those of the extension."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from local.extension.configuration import Configuration


class Upstream:
    """Parameter Store and Secrets Manager, with answers in the extension's form."""

    def __init__(self, configuration: Configuration) -> None:
        import botocore.session
        from botocore.config import Config

        def client(service: str, timeout: float) -> Any:
            config = Config(
                connect_timeout=timeout or None,
                read_timeout=timeout or None,
                max_pool_connections=configuration.max_connections,
                retries={"total_max_attempts": 3, "mode": "standard"},
            )
            return session.create_client(service, config=config)

        session = botocore.session.get_session()
        self._parameters = client("ssm", configuration.parameter_timeout)
        self._secrets = client("secretsmanager", configuration.secret_timeout)

    def parameter(self, name: str, selector: str, *, with_decryption: bool) -> str:
        """GetParameter's answer as JSON."""
        answer = self._parameters.get_parameter(Name=name + selector, WithDecryption=with_decryption)
        given = answer["Parameter"]
        keys = ["ARN", "DataType", "LastModifiedDate", "Name", "Selector", "SourceResult", "Type", "Value", "Version"]
        return _go_json({"Parameter": {key: given.get(key) for key in keys}, "ResultMetadata": {}})

    def secret(self, secret_id: str, version: Mapping[str, str]) -> str:
        """GetSecretValue's answer as JSON."""
        given = self._secrets.get_secret_value(SecretId=secret_id, **version)
        keys = ["ARN", "CreatedDate", "Name", "SecretBinary", "SecretString", "VersionId", "VersionStages"]
        return _go_json({key: given.get(key) for key in keys} | {"ResultMetadata": {}})


def _go_json(value: object) -> str:
    """JSON as Go's encoding/json writes it: compact, and HTML's characters escaped."""
    text = json.dumps(value, default=_go_value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _go_value(value: object) -> str:
    """Bytes as standard base64, times as RFC 3339 in UTC without trailing zeros."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        text = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        return text.rstrip("0").rstrip(".") + "Z"
    raise TypeError(type(value).__name__)
