"""AWS's own cache for secrets, and Powertools' for the parameter, both in the function's memory; a kept connection."""

import json
import os
from typing import Any

import boto3
from aws_lambda_powertools.utilities import parameters
from aws_secretsmanager_caching import SecretCache
from connection import query

_secrets = SecretCache(client=boto3.client("secretsmanager"))


def lambda_handler(event: object, context: object) -> dict[str, Any]:
    """Answer with the configuration and the database's name."""
    name = f"/{os.environ['ENV']}/{os.environ['APP_CONFIG_PATH']}"
    config = parameters.get_parameter(name, transform="json", max_age=300)
    secret = json.loads(_secrets.get_secret_string(os.environ["CREDS_PATH"]))
    return {"config": config, "database": query(secret)}
