"""The two libraries used plainly, with kept connections: no check, no deadline, no log."""

import json
import os
from typing import Any

import urllib3
from connection import query

_pool = urllib3.HTTPConnectionPool("localhost", int(os.environ["PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"]))
_headers = {"X-Aws-Parameters-Secrets-Token": os.environ["AWS_SESSION_TOKEN"]}
_parameter = f"/systemsmanager/parameters/get/?name=/{os.environ['ENV']}/{os.environ['APP_CONFIG_PATH']}"
_secret = f"/secretsmanager/get?secretId={os.environ['CREDS_PATH']}"


def read() -> tuple[dict[str, Any], dict[str, Any]]:
    """Ask the extension for the configuration and the secret's details."""
    config = json.loads(json.loads(_pool.request("GET", _parameter, headers=_headers).data)["Parameter"]["Value"])
    secret = json.loads(json.loads(_pool.request("GET", _secret, headers=_headers).data)["SecretString"])
    return config, secret


def lambda_handler(event: object, context: object) -> dict[str, Any]:
    """Answer with the configuration and the database's name."""
    config, secret = read()
    return {"config": config, "database": query(secret)}
