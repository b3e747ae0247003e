"""What steps of rotations are explored, with logins beside them, and what must hold after every schedule."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from unittest import mock

import pymysql
from botocore.exceptions import ReadTimeoutError

from local.tests.aws import AWS, AWSError
from local.tests.fixtures import started_server
from local.tests.functions import (
    CANARY,
    MASTER_ID,
    SECRET_ID,
    Server,
    connection_details,
    rotation_variables,
    start_rotation,
)
from operations.waiting import wait_until
from proof.exploration.scheduler import (
    AFTER,
    BEFORE,
    WHILE,
    Explored,
    Point,
    Run,
    Schedule,
    Scheduler,
    by_hand,
    explore,
)
from rotation import Rotation
from shared.errors import ConfigurationError, InvocationError
from shared.schema import HISTORY

STEPS: Final = ("createSecret", "setSecret", "testSecret", "finishSecret")
ESCAPED: Final = HISTORY.replace("_", "\\_")
USERS: Final = ("notesapp", "notesapp_clone")
GRANTS: Final = [
    f"GRANT SELECT ON `{ESCAPED}`.*",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON `dev\\_DB`.*",
    "GRANT USAGE ON *.*",
]
MORE: Final = "GRANT CREATE ON `dev\\_DB`.* TO {}@'%'"
WRITES: Final = ("put_secret_value", "update_secret_version_stage")
ACCOUNTS: Final = ("CREATE USER", "DROP USER", "ALTER USER", "GRANT")
UNSEEN: Final = (
    *("SHOW VARIABLES", "SELECT 1 FROM information_schema.plugins"),
    *("CREATE DATABASE", "\nCREATE TABLE", "CREATE PROCEDURE"),
)
"""What makes nothing, because it is there, and what reads something that nobody changes."""


@dataclass(frozen=True)
class Scenario:
    """The users as they are before a rotation, and what happens beside it.

    `notesapp` is in use, and `notesapp_clone` was until the rotation before.
    """

    name: str
    before: tuple[str, ...] = ()
    late: str = ""
    """A step that Lambda delivers a second time, during the rotation or the one after it; without one, all four are
    taken by two invocations each."""
    by_hand: str = ""
    """A statement that somebody runs beside."""
    refuses: bool = False
    """Whether the server's policy refuses the passwords until the runs have ended."""


IDLE_HAS_MORE: Final = (MORE.format("notesapp_clone"),)
SCENARIOS: Final = (
    Scenario("users as they should be"),
    Scenario("no users", ("DROP USER notesapp@'%', notesapp_clone@'%'",)),
    Scenario("the idle user has more", IDLE_HAS_MORE),
    Scenario("the user in use has more", (MORE.format("notesapp"),)),
    Scenario("the idle user is locked", ("ALTER USER notesapp_clone@'%' ACCOUNT LOCK",)),
    Scenario("more is granted beside", by_hand=MORE.format("notesapp_clone")),
    Scenario("the password is refused", refuses=True),
    *(Scenario(f"a late {step}", IDLE_HAS_MORE, late=step) for step in STEPS),
)


class Rotations:
    """A server and a secret on which schedules of rotations are tried."""

    def __init__(self, server: Server, execute: Callable[..., list[Any]], aws: AWS) -> None:
        self._server = server
        self._execute = execute
        self._aws = aws
        self._functions = [start_rotation() for _ in range(3)]
        """Execution environments of the function."""
        self._current: list[str] = []
        """The versions that have been current, oldest first."""
        self._spent: set[str] = set()
        """Those whose user a later rotation has begun to give another password."""
        self._worked: set[str] = set()
        """Those with which somebody has logged in: of a first rotation nobody can before it has made the users."""
        self._faults: list[str] = []

    def explore(self, scenario: Scenario, runs: int, **bounds: Any) -> Explored:
        """Explore a scenario with one or two runs at once; the bounds are `explore`'s."""
        return explore(
            partial(self._try, scenario, runs), lambda sql: sql.startswith(WRITES + ACCOUNTS), UNSEEN, **bounds
        )

    def _try(self, scenario: Scenario, runs: int, schedule: Schedule) -> tuple[list[Point], list[str]]:
        self._reset(scenario)
        token = self._aws.stage_rotation(SECRET_ID)
        calls: list[Callable[[], Any]] = [partial(self._rotate, self._functions[0], token, goes_on=bool(scenario.late))]
        if runs > 1:
            steps = (scenario.late,) if scenario.late else STEPS
            calls.append(partial(self._rotate, self._functions[1], token, steps))
        if scenario.by_hand:
            calls.append(by_hand(lambda: self._server.execute(scenario.by_hand)))
        ended, points = Scheduler(self._hold, beside=self._log_in).execute(schedule, calls)
        self._settle()
        self._faults += [f"run {run.number}: {run.error!r}" for run in ended if _is_unexpected(run)]
        if scenario.refuses:
            self._execute("SET GLOBAL validate_password.length = 8")
        self._go_on()
        return points, self._faults

    def _rotate(self, function: Rotation, token: str, steps: tuple[str, ...] = STEPS, *, goes_on: bool = False) -> None:
        """Take the steps as Secrets Manager does, which begins again with the first one that is to be repeated.

        Args:
            function: the execution environment.
            token: the version.
            steps: those to take.
            goes_on: whether another rotation follows.
        """
        for tried in range(2):
            try:
                for step in steps:
                    function.handle({"Step": step, "SecretId": SECRET_ID, "ClientRequestToken": token}, float("inf"))
                break
            except ConfigurationError:
                raise
            except InvocationError:
                if tried or not steps[1:]:
                    raise
        if goes_on:
            self._rotate(function, self._aws.stage_rotation(SECRET_ID))

    def _go_on(self) -> None:
        """Repeat what is pending, then rotate twice: all goes well, and both users are as they should be."""
        function = self._functions[2]
        try:
            if token := self._pending():
                self._rotate(function, token)
        except InvocationError as error:
            self._faults.append(f"a repeat of the rotation fails: {error!r}")
        if self._pending():
            self._faults.append("a version stays pending after a repeat: no rotation can begin")
        for _ in range(2):
            try:
                self._rotate(function, self._aws.stage_rotation(SECRET_ID))
            except InvocationError as error:
                self._faults.append(f"the next rotation fails: {error!r}")
            self._log_in("finished")
        for user in USERS:
            grants = sorted(row[0].partition(" TO ")[0] for row in self._execute(f"SHOW GRANTS FOR {user}@'%'"))
            if grants != GRANTS:
                self._faults.append(f"{user} keeps a right after two rotations: {grants}")

    def _pending(self) -> str:
        """The version that is pending and not current."""
        stages = self._aws.stages(SECRET_ID)
        return next((token for token, of in stages.items() if "AWSPENDING" in of and "AWSCURRENT" not in of), "")

    def _log_in(self, sql: str) -> None:
        """Log in with the credentials that may still be in somebody's cache, where the last step may matter to it."""
        if not sql.startswith((*WRITES, *ACCOUNTS, "finished")):
            return
        token, _ = self._aws.current(SECRET_ID)
        if token in self._current[:-1]:
            self._faults.append(f"after {sql!r}: {self._current.index(token)} of {len(self._current)} is current again")
        if token not in self._current[-1:]:
            self._current.append(token)
        versions = self._aws.secrets[SECRET_ID]
        pending = self._pending()
        if pending and versions[pending]["SecretString"]:
            self._spent.update(self._current[-2:-1])
        self._spent.update(self._current[:-2])
        for version in {*self._current} - self._spent:
            value = self._aws.value(SECRET_ID, version)
            try:
                with self._server.session(value["username"], value["password"]) as execute:
                    execute("USE dev_DB", "SELECT 1 FROM note LIMIT 1")
            except pymysql.MySQLError as error:
                if version in self._worked or sql == "finished":
                    what = "current" if version == token else "current before"
                    self._faults.append(f"after {sql!r}: a login as {value['username']}, {what}, is refused: {error!r}")
            else:
                self._worked.add(version)

    def _reset(self, scenario: Scenario) -> None:
        self._execute("DROP USER IF EXISTS notesapp@'%', notesapp_clone@'%'")
        self._aws.secrets.pop(SECRET_ID, None)
        words = dict(zip(USERS, (CANARY + "second", CANARY + "first"), strict=True))
        for user, word in words.items():
            self._execute(
                f"CREATE USER {user}@'%' IDENTIFIED BY '{word}' REQUIRE SSL",
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON `dev\\_DB`.* TO {user}@'%'",
                f"GRANT SELECT ON `{ESCAPED}`.* TO {user}@'%'",
            )
        self._execute(*scenario.before)
        if scenario.refuses:
            self._execute("SET GLOBAL validate_password.length = 100")
        value = connection_details(self._server, username="notesapp_clone", password=words["notesapp_clone"])
        first = self._aws.add_secret(SECRET_ID, value)
        second = self._aws.set_current(SECRET_ID, value | {"username": "notesapp", "password": words["notesapp"]})
        self._current, self._spent, self._worked, self._faults = [first, second], set(), set(), []
        self._log_in("GRANT")

    def _settle(self) -> None:
        """Wait for the statements that go on in the server without their clients."""
        left = "SELECT 1 FROM information_schema.processlist WHERE user = 'myadmin'"
        assert wait_until(lambda: not self._execute(left), 30, 0.002)

    @contextmanager
    def _hold(self) -> Iterator[Callable[[int], bool]]:
        """Hold statements that change accounts; yields whether the connection's statement is held."""
        with self._server.session() as execute:
            execute("FLUSH TABLES WITH READ LOCK")
            waits = "SELECT 1 FROM information_schema.processlist WHERE id = {} AND state LIKE 'Waiting for%lock'"
            yield lambda connection: bool(self._execute(waits.format(connection)))


def _is_unexpected(run: Run) -> bool:
    """Whether a run ended otherwise than well or with a sentence."""
    return run.error is not None and not isinstance(run.error, InvocationError)


def _asks(aws: AWS) -> Callable[..., dict[str, Any]]:
    """Return what takes `Rotation._ask`'s place: it waits for its turn, and asks the fake without the SDK."""

    def ask(rotation: Rotation, operation: str, **request: Any) -> dict[str, Any]:
        run = threading.current_thread()
        action = run.stop_at(operation) if isinstance(run, Run) else ""
        if action == BEFORE:
            raise ReadTimeoutError(endpoint_url="cut")
        try:
            for _ in range(1 + (action == WHILE)):  # The SDK itself asks again if no answer comes.
                answer = aws.answer(operation.title().replace("_", ""), request)
        except AWSError as error:
            refused = rotation._client.exceptions.from_code(error.code)
            raise refused({"Error": {"Code": error.code}}, operation) from None
        if action == AFTER:
            raise ReadTimeoutError(endpoint_url="cut")
        return answer

    return ask


@contextmanager
def rotations() -> Iterator[Rotations]:
    """Start a server with a fake of Secrets Manager, and give the function its variables."""
    aws = AWS()
    with started_server("rotations") as server, ExitStack() as stack:
        aws.add_secret(MASTER_ID, {"username": server.master, "password": server.master_password})
        bundle = server.mysql.folder.parent / "bundle.pem"
        bundle.write_text(f"# us-east-1\n{server.certificates.ca.read_text()}")
        variables = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", **rotation_variables(server)}
        server.execute(
            "INSTALL COMPONENT 'file://component_validate_password'",
            "SET GLOBAL validate_password.policy = LOW",
        )
        stack.enter_context(mock.patch.dict(os.environ, variables))
        stack.enter_context(mock.patch("shared.database.ROOT_CERTIFICATES", bundle))
        stack.enter_context(mock.patch("rotation.BUDGET", 3600.0))
        stack.enter_context(mock.patch.object(Rotation, "_ask", _asks(aws)))
        yield Rotations(server, stack.enter_context(server.session()), aws)


def explorations(*, whole: bool) -> Iterator[tuple[str, Scenario, int, dict[str, int]]]:
    """Yield what is explored: a name, the scenario, the runs at once, and the bounds."""
    drawn = {} if whole else {"most": 15}
    is_drawn = ", drawn" * bool(drawn)
    for scenario in SCENARIOS:
        switches = int(bool(scenario.by_hand))
        if not scenario.late:
            yield (
                f"{scenario.name}, 1 run, every cut{is_drawn}",
                scenario,
                1,
                {"switches": switches, "cuts": 1, **drawn},
            )
    for scenario in SCENARIOS:
        yield f"{scenario.name}, 2 runs, 2 switches{is_drawn}", scenario, 2, {"switches": 2, "cuts": 0, **drawn}
    for scenario in SCENARIOS if whole else ():
        yield f"{scenario.name}, 2 runs, 2 switches, 1 cut, drawn", scenario, 2, {"switches": 2, "cuts": 1, "most": 200}
