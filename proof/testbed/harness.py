"""An execution environment between an extension and a database with faults."""

import json
import ssl
from dataclasses import dataclass, field
from typing import Any

import pytest

from local.tests.aws import AWS
from local.tests.functions import CANARY, CONFIG, PARAMETER, SECRET_ID, Context, Server
from proof.testbed.fault_servers import FaultyDatabase, FaultyExtension
from shared.frame import Frame

PASSWORD = CANARY + "faulty"
TOKEN = CANARY + "token"
USER = "faulty"


@dataclass
class Harness:
    """One execution environment between a scriptable extension and a scriptable database."""

    extension: FaultyExtension
    database: FaultyDatabase
    server: Server
    aws: AWS
    monkeypatch: pytest.MonkeyPatch
    frame: Frame
    remaining_ms: int = 29_500
    details: dict[str, Any] = field(default_factory=dict)
    keep: list[list[Any]] = field(default_factory=list)
    """Sockets and servers that a fault opened; `heal` closes them."""

    def invoke(self, event: object = None) -> Any:
        return self.frame.handle(event or {}, Context(self.remaining_ms))

    def heal(self) -> None:
        """Restore everything."""
        self.monkeypatch.undo()
        for each in [each for group in self.keep for each in group]:
            each.stop() if isinstance(each, FaultyExtension) else each.close()
        self.keep.clear()
        set_variables(self.monkeypatch, self.extension.port)
        for server in (self.extension, self.database):
            server.stop()
            server.start()
        self.extension.script.clear()
        self.database.at_greeting.clear()
        self.database.at_query.clear()
        self.database.on_statement = lambda _: None
        self.database._context = server_context(self.server)
        self.extension.parameter = parameter_answer(json.dumps(CONFIG))
        self.set_secret(self.details)
        self.remaining_ms = 29_500
        make_user(self.server)

    def set_secret(self, value: object) -> None:
        """The secret that the extension serves, and Secrets Manager too."""
        self.extension.secret = secret_answer(json.dumps(value))
        self.aws.secrets[SECRET_ID] = {"v1": {"SecretString": json.dumps(value), "Stages": {"AWSCURRENT"}}}


def parameter_answer(value: object, kind: str = "String") -> dict[str, Any]:
    return {"Parameter": {"Name": PARAMETER, "Type": kind, "Value": value, "Version": 0}, "ResultMetadata": {}}


def secret_answer(text: object, **more: object) -> dict[str, Any]:
    """The extension's answer for the secret."""
    return {"ARN": SECRET_ID, "SecretString": text, "VersionId": "v1", **more}


def server_context(server: Server) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.certificates.certificate, server.certificates.key)
    return context


def make_user(server: Server) -> None:
    server.execute(
        f"DROP USER IF EXISTS {USER}@'%'",
        f"CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON `dev\\_DB`.* TO {USER}@'%'",
        f"GRANT SELECT ON `migrations\\_history`.* TO {USER}@'%'",
    )


def set_variables(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", str(port))
