"""boto3 alone: both services asked on every invocation, and a kept connection."""

import json
import os
from typing import Any

import boto3
from connection import query

parameter_store = boto3.client("ssm")
secrets_manager = boto3.client("secretsmanager")


def lambda_handler(event: object, context: object) -> dict[str, Any]:
    """Answer with the configuration and the database's name."""
    name = f"/{os.environ['ENV']}/{os.environ['APP_CONFIG_PATH']}"
    config = json.loads(parameter_store.get_parameter(Name=name)["Parameter"]["Value"])
    secret = json.loads(secrets_manager.get_secret_value(SecretId=os.environ["CREDS_PATH"])["SecretString"])
    return {"config": config, "database": query(secret)}
