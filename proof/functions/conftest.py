"""The harness: one execution environment between servers with faults."""

from collections.abc import Iterator

import pytest

import application
from local.tests.aws import AWS
from local.tests.functions import Server, connection_details, start_frame
from proof.testbed.fault_servers import FaultyDatabase, FaultyExtension, running
from proof.testbed.harness import PASSWORD, USER, Harness, server_context, set_variables


@pytest.fixture
def harness(aws: AWS, server: Server) -> Iterator[Harness]:
    extension = FaultyExtension(None, None)
    proxy = FaultyDatabase(server.mysql.port, server_context(server))
    with running(extension, proxy), pytest.MonkeyPatch.context() as monkeypatch:
        set_variables(monkeypatch, extension.port)
        harness = Harness(extension, proxy, server, aws, monkeypatch, start_frame(application))
        harness.details = connection_details(server, port=proxy.port, username=USER, password=PASSWORD)
        harness.heal()
        yield harness
