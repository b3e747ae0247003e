"""How calls to AWS and connections grow with invocations, environments and time."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

from local import extension
from local.extension import Configuration, ExtensionEmulator, Upstream
from proof.benchmarks import markdown
from proof.benchmarks.results import Result
from proof.benchmarks.services import PARAMETER, SECRET_ID, Services
from shared.deadline import Deadline
from shared.extension import ExtensionClient

HOUR = 3600
INVOCATIONS = (1, 10, 1000, 10_000)


def invocations(services: Services) -> Result:
    """One environment, more and more invocations: ours, and the AWS sample beside it."""
    rows = []
    ours, aws_sample = [], []
    for count in INVOCATIONS:
        ours.append(_run(services, "handler", count))
        calls, connections, memory = ours[-1]
        if count <= 1000:
            aws_sample.append(_run(services, "aws_sample", count)[:2])
        others = aws_sample[-1] if count <= 1000 else ("not run", "not run")
        rows.append([f"{count:,}", calls, connections, f"{memory / 1024:.0f}", *others])
    columns = ["ours: calls to AWS", "connections", "memory, MiB", "the AWS sample: calls", "connections"]
    return Result(
        markdown.table(["invocations of one environment", *columns], rows),
        {
            "invocations": list(INVOCATIONS),
            "ours: calls to AWS": [calls for calls, _, _ in ours],
            "ours: connections": [connections for _, connections, _ in ours],
            "the AWS sample: connections": [connections for _, connections in aws_sample],
        },
    )


def _run(services: Services, handler: str, count: int) -> tuple[int, int, int]:
    """Calls to AWS, connections to the database, and the peak memory in KiB, of one environment's life."""
    calls, connections = sum(services.calls().values()), services.connections()
    with services.extension() as environ:
        memory = services.invoke(handler, count - 1, environ)["memory_kib"]
    # One of the connections is the one that counts them.
    return sum(services.calls().values()) - calls, services.connections() - connections - 1, memory


def environments(services: Services) -> Result:
    """More and more environments at once, 100 invocations each."""
    rows = []
    for count in (1, 4, 16):
        calls, connections = sum(services.calls().values()), services.connections()
        threads = [threading.Thread(target=_live, args=(services,)) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        total = services.connections() - connections - 1
        rows.append([count, sum(services.calls().values()) - calls, total])
    return Result(markdown.table(["environments, 100 invocations each", "calls to AWS", "connections"], rows))


def _live(services: Services) -> None:
    with services.extension() as environ:
        services.invoke("handler", 99, environ)


def hour(services: Services) -> Result:
    """An hour with an invocation each second on the extension's own cache, in virtual time."""
    rows = []
    for ttl in (0, 60, 300):
        before = sum(services.calls().values())
        with services.extension() as environ, _turned_by_hand(environ, ttl) as (client, clock):
            for clock.now in range(HOUR):
                client.parameter(PARAMETER)
                client.secret(SECRET_ID)
        rows.append([ttl, f"{2 * HOUR:,}", f"{sum(services.calls().values()) - before:,}"])
    return Result(markdown.table(["TTL, s", "an hour's reads", "calls to AWS"], rows))


@contextmanager
def _turned_by_hand(environ: dict[str, str], ttl: int) -> Iterator[tuple[ExtensionClient, SimpleNamespace]]:
    """Our client of an extension in this process, and the clock of its cache."""
    clock = SimpleNamespace(now=0.0)
    variables = environ | {
        "SSM_PARAMETER_STORE_TTL": str(ttl),
        "SECRETS_MANAGER_TTL": str(ttl),
        "PARAMETERS_SECRETS_EXTENSION_LOG_LEVEL": "none",
    }
    with mock.patch.dict(os.environ, variables):
        configuration = Configuration.read(os.environ)
        emulator = ExtensionEmulator(Configuration(**{**vars(configuration), "port": 0}), Upstream(configuration))
        emulator._cache = extension.Cache(1000, lambda: clock.now)
        emulator.ready.set()
        threading.Thread(target=emulator.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield ExtensionClient(Deadline(), emulator.server_address[1]), clock
        emulator.shutdown()
        emulator.server_close()
