"""The floor: two requests on one kept socket and one ping on another; the answers are read and not parsed."""

import os
import socket
from typing import Any

import pymysql
import urllib3  # noqa: F401 - what the function cannot do without is part of the least

_port = int(os.environ["PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"])
_requests = [
    (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"
        f"X-Aws-Parameters-Secrets-Token: {os.environ['AWS_SESSION_TOKEN']}\r\n\r\n"
    ).encode()
    for path in (
        f"/systemsmanager/parameters/get/?name=/{os.environ['ENV']}/{os.environ['APP_CONFIG_PATH']}",
        f"/secretsmanager/get?secretId={os.environ['CREDS_PATH']}",
    )
]
_kept: dict[str, Any] = {}


def lambda_handler(event: object, context: object) -> dict[str, Any]:
    """Move the bytes."""
    if not _kept:
        _kept["extension"] = socket.create_connection(("localhost", _port))
        _kept["database"] = pymysql.connect(
            host="localhost",
            port=int(os.environ["DATABASE_PORT"]),
            user=os.environ["DATABASE_USER"],
            password=os.environ["DATABASE_PASSWORD"],
            ssl_ca=os.environ["ROOT_CERTIFICATES"],
            ssl_verify_cert=True,
            ssl_verify_identity=True,
        )
    for request in _requests:
        _kept["extension"].sendall(request)
        received = b""
        while b"\r\n\r\n" not in received or not received.endswith(b"}"):
            received += _kept["extension"].recv(65536)
    connection = _kept["database"]._sock
    connection.sendall(b"\x01\x00\x00\x00\x0e")
    connection.recv(65536)
    return {"database": ("", "")}
