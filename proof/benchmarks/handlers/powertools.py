"""Powertools' parameters utility, which caches in the function's own memory, and a kept connection."""

import os
from typing import Any

from aws_lambda_powertools.utilities import parameters
from connection import query


def lambda_handler(event: object, context: object) -> dict[str, Any]:
    """Answer with the configuration and the database's name."""
    name = f"/{os.environ['ENV']}/{os.environ['APP_CONFIG_PATH']}"
    config = parameters.get_parameter(name, transform="json", max_age=300)
    secret: Any = parameters.get_secret(os.environ["CREDS_PATH"], transform="json", max_age=300)
    return {"config": config, "database": query(secret)}
