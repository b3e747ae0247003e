"""AWS's Advanced Python Wrapper around MySQL Connector/Python, with its secrets and failover plugins; kept."""

import os
from typing import Any

import mysql.connector
from aws_advanced_python_wrapper import AwsWrapperConnection
from aws_lambda_powertools.utilities import parameters

_kept: dict[str, Any] = {}


def lambda_handler(event: object, context: object) -> dict[str, Any]:
    """Answer with the configuration and the database's name."""
    name = f"/{os.environ['ENV']}/{os.environ['APP_CONFIG_PATH']}"
    config = parameters.get_parameter(name, transform="json", max_age=300)
    if not _kept:
        _kept["connection"] = AwsWrapperConnection.connect(
            mysql.connector.Connect,
            host="localhost",
            port=int(os.environ["DATABASE_PORT"]),
            database="devDB",
            plugins="failover,aws_secrets_manager",
            secrets_manager_secret_id=os.environ["CREDS_PATH"],
            secrets_manager_region=os.environ["AWS_REGION"],
            ssl_ca=os.environ["ROOT_CERTIFICATES"],
            ssl_verify_cert=True,
            ssl_verify_identity=True,
            autocommit=True,
        )
    with _kept["connection"].cursor() as cursor:
        cursor.execute("SELECT DATABASE(), (SELECT COUNT(*) FROM note), VERSION()")
        return {"config": config, "database": cursor.fetchone()}
