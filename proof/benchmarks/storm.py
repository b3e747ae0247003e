"""Hundreds of execution environments that start within a second, in simulated time on the real code.

The handler, the extension's client, the deadlines and the database's client are the
deployed ones; only their edges (a try at the extension, a read around it, a login, a
query) are played here, and the clock is virtual. Each environment is a thread, and one
runs at a time: the one that wakes first.
"""

import logging
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

import application
from proof.benchmarks import markdown
from proof.benchmarks.results import Result
from proof.benchmarks.world import CALL, Clock, World
from shared import credentials, database, deadline, direct_read, extension, frame
from shared.environment import ServingEnvironment
from shared.errors import DependencyUnavailableError
from stacks.settings import from_context

ENVIRONMENTS: Final = 500
PROD: Final = from_context({"env": "prod"}).reserved_concurrency
QUOTA: Final = 40
"""`GetParameter` calls a second for the whole account (AWS general reference, "Systems Manager quotas")."""
HIGHER_QUOTA: Final = 10_000
"""The same with the higher-throughput setting, which is billed by the call."""
INIT: Final = 0.3
"""Seconds from a cold start's begin to the first invocation."""
RETRIES: Final = 6
"""How often a caller tries again after a transient failure, with full jitter of a pause that doubles from a second."""


class Environment:
    """One execution environment: the real handler's service, and the extension beside it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cached = False
        self.outcomes: list[str] = []
        self.answered_at = float("inf")
        self.longest = 0.0
        self.application = frame.Frame(application, ServingEnvironment("/dev/config", "secret", "us-east-1", 2773))
        self.application._extension._try = self._try  # type: ignore[method-assign]
        self.application._database._open = self._open  # type: ignore[method-assign,assignment]

    def live(self) -> None:
        """Start, then invoke until there is an answer or a permanent failure."""
        clock = self.world.clock
        clock.sleep(random.random() + INIT)
        for attempt in range(RETRIES + 1):
            started = clock.now
            try:
                self.application.handle({}, SimpleNamespace(get_remaining_time_in_millis=lambda: 35_000))
                self.outcomes.append("answered")
                self.answered_at = clock.now
                return
            except DependencyUnavailableError:
                self.outcomes.append("transient")
            except Exception as error:
                self.outcomes.append(type(error).__name__)
                return
            finally:
                self.longest = max(self.longest, clock.now - started)
            clock.sleep(random.uniform(0, 2.0**attempt))

    def _try(self, operation: str, name: str, path: str) -> dict[str, Any]:
        """The extension's answer: from its cache, or after the SDK's three tries within its second."""
        if "secretsmanager" in path:
            self.world.clock.sleep(CALL)
            details = '{"host": "h", "dbname": "devDB", "username": "u", "password": "p"}'
            return {"ARN": "secret", "SecretString": details, "VersionId": "v"}
        ends = self.world.clock.now + 1
        for attempt in range(3):
            if self.cached or self.world.get_parameter():
                self.cached = True
                return {"Parameter": {"Name": "/dev/config", "Value": '{"enableVersion": true, "app": "NotesApp"}'}}
            pause = random.uniform(0, 2.0**attempt)
            if attempt == 2 or self.world.clock.now + pause > ends:
                break
            self.world.clock.sleep(pause)
        raise extension._NoAnswerError(extension._GENERIC, status=400)

    def read_directly(self, name: str, _: deadline.Deadline) -> dict[str, Any]:
        """Parameter Store itself: two tries, as botocore is configured."""
        for attempt in range(2):
            if self.world.get_parameter():
                return {"Value": '{"enableVersion": true, "app": "NotesApp"}'}
            if attempt == 0:
                self.world.clock.sleep(random.random())
        refused = DependencyUnavailableError(f"parameter {name}: AWS refused", operation="parameter")
        refused.throttled = True
        raise refused

    def _open(self, _: credentials.Credentials) -> tuple[Any, str]:
        self.world.login()
        return _Connection(self.world), "TLSv1.3"


class _Connection:
    """A connection that answers."""

    def __init__(self, world: World) -> None:
        self._world = world

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        self._world.clock.sleep(0.001)
        asked: list[str] = []

        def rows() -> list[tuple[object, ...]]:
            return [(application.SCHEMA,)] if "schema_history" in asked[-1] else [("devDB", 0, "8.4")]

        yield SimpleNamespace(execute=lambda sql, _=None: asked.append(sql), fetchone=lambda: rows()[0], fetchall=rows)

    def _force_close(self) -> None:
        self._world.connections -= 1


def storm(
    environments: int, quota: float, max_connections: int, pause: float = frame.THROTTLE_PAUSE
) -> tuple[list[object], list[float]]:
    """Run one storm; a row of the table, and the seconds after which each environment answered."""
    random.seed(500)
    clock = Clock()
    world = World(clock, quota, max_connections, tokens=quota)
    current = threading.local()

    def parameter(name: str, remaining: deadline.Deadline) -> dict[str, Any]:
        found: dict[str, Any] = current.environment.read_directly(name, remaining)
        return found

    with ExitStack() as patches:
        # Every module that waits, or the storm would last as long as it plays.
        for module in [each for name, each in sys.modules.items() if name.startswith("shared.")]:
            if getattr(module, "time", None) is time:
                patches.enter_context(mock.patch.object(module, "time", clock))
        patches.enter_context(mock.patch.object(database, "tls_context"))
        patches.enter_context(mock.patch.object(database, "has_unread", return_value=False))
        patches.enter_context(mock.patch.object(direct_read, "parameter", parameter))
        patches.enter_context(mock.patch.object(frame, "THROTTLE_PAUSE", pause))
        started = [Environment(world) for _ in range(environments)]

        def living(environment: Environment) -> Callable[[], None]:
            def live() -> None:
                current.environment = environment
                environment.live()

            return live

        logging.disable(logging.CRITICAL)
        clock.run([living(environment) for environment in started])
        logging.disable(logging.NOTSET)
    last = Counter(environment.outcomes[-1] for environment in started)
    answered = sorted(each.answered_at for each in started if each.outcomes[-1] == "answered")
    times = [answered[len(answered) // 2], answered[int(len(answered) * 0.99)], answered[-1]]
    return [
        sum(environment.outcomes[0] == "answered" for environment in started),
        last["answered"],
        ", ".join(f"{count} {outcome}" for outcome, count in last.items() if outcome != "answered"),
        " / ".join(f"{each:.1f}" for each in times),
        f"{max(each.longest for each in started):.1f}",
        world.calls.total(),
        max(world.calls.values()),
        world.logins,
    ], answered


def measure() -> Result:
    """The storms, one a row."""
    large, micro = (from_context({"instance_class": each}).max_connections for each in ("m7g.large", "t4g.micro"))
    rows = {
        f"{ENVIRONMENTS}; {QUOTA} calls a second; m7g.large": storm(ENVIRONMENTS, QUOTA, large),
        f"{ENVIRONMENTS}; {QUOTA} calls a second; m7g.large; without the pause": storm(ENVIRONMENTS, QUOTA, large, 0),
        f"{ENVIRONMENTS}; {HIGHER_QUOTA:,} calls a second; m7g.large": storm(ENVIRONMENTS, HIGHER_QUOTA, large),
        f"{ENVIRONMENTS}; {HIGHER_QUOTA:,} calls a second; t4g.micro": storm(ENVIRONMENTS, HIGHER_QUOTA, micro),
        f"{PROD} (prod's reserved concurrency); {QUOTA} calls a second; m7g.large": storm(PROD, QUOTA, large),
    }
    columns = [
        *("environments, quota, instance class", "answered at once", "in the end", "not at all"),
        *("seconds to the answer, p50 / p99 / last", "longest invocation, s", "GetParameter calls"),
        *("in the worst second", "logins"),
    ]
    (_, answered), (_, at_once), *_ = rows.values()
    return Result(
        markdown.table(columns, ([name, *row] for name, (row, _) in rows.items())),
        {"with a pause before a throttled read is repeated": answered, "without the pause": at_once},
    )


if __name__ == "__main__":
    print(measure().table)
