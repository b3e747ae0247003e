"""Lets one of several runs take its next statement, and no other; explores all orders up to a bound."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from unittest import mock

import pymysql

from operations.waiting import wait_until
from shared.database import Database
from shared.errors import DependencyUnavailableError

_rows = Database.rows
_connect = Database.connect

LOCAL: Final = ("SET ", "START TRANSACTION", "ROLLBACK", "USE ", "SHOW WARNINGS", "connect", "get_random_password")
READS: Final = ("SELECT ", "SHOW ", "CALL ", "describe_secret", "get_secret_value")
SEED: Final = 7
"""Of what is drawn, so that the same is run each time."""
BY_HAND: Final = "by hand"
BEFORE, AFTER, WHILE = "before", "after", "while"
Switch = tuple[int, int]
"""At a step, the run that takes it instead of the one that goes on."""
Cut = tuple[int, str]
"""At a step, when its connection breaks: before the statement, after it and before its answer, or while it runs."""


@dataclass(frozen=True)
class Schedule:
    """What differs from running one after the other, undisturbed."""

    switches: tuple[Switch, ...] = ()
    cut: Cut | None = None

    @property
    def last(self) -> int:
        """The last step at which something differs."""
        return max([*(step for step, _ in self.switches), self.cut[0] if self.cut else -1])


@dataclass
class Point:
    """A step that was taken, and what else might have been done there."""

    step: int
    run: int
    sql: str
    holds_lock: bool
    others: list[int] = field(default_factory=list)
    without_lock: list[int] = field(default_factory=list)
    """Those of the others that ask for no lock."""


class Run(threading.Thread):
    """One run of the code; it stops before each statement until it is told to go on."""

    def __init__(self, number: int, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.number = number
        self._call = call
        self.next_sql = ""
        self.is_waiting = False
        """Whether its last statement was refused the lock."""
        self.holds_lock = False
        self.result: Any = None
        self.error: Exception | None = None
        self._turn = threading.Semaphore(0)
        self._told = threading.Semaphore(0)
        self._action = ""

    def run(self) -> None:
        """Take turns until the end."""
        try:
            self.result = self._call()
        except Exception as error:  # noqa: BLE001 - an outcome
            self.error = error
        self.next_sql = ""
        self.holds_lock = self.is_waiting = False
        self._told.release()

    @staticmethod
    def current() -> "Run":
        """The run whose code asks."""
        run = threading.current_thread()
        assert isinstance(run, Run)
        return run

    def begin(self) -> None:
        """Go to the first statement."""
        self.start()
        self._told.acquire()

    def go(self, action: str) -> None:
        """Take one statement, and go to the next."""
        self._action = action
        self._turn.release()
        self._told.acquire()

    def stop_at(self, sql: str) -> str:
        """Wait for the turn before a statement; return what is to happen to it."""
        self.next_sql = sql
        self._told.release()
        self._turn.acquire()
        return self._action


def _lost(database: Database) -> DependencyUnavailableError:
    database.close()
    error = DependencyUnavailableError("cut", operation="query", errno=2013)
    error.connection_lost = True
    return error


def by_hand(act: Callable[[], object]) -> Callable[[], object]:
    """What somebody does beside the runs, at a moment that the schedule chooses."""

    def do() -> None:
        Run.current().stop_at(BY_HAND)
        with suppress(pymysql.MySQLError):  # What is to be changed is not there, or not there yet.
            act()

    return do


class Scheduler:
    """Executes schedules.

    Args:
        hold: holds a statement in the server while its client goes.
        on_pause: what happens when a run pauses.
        beside: what happens after each step, of which it is told the statement.
    """

    def __init__(
        self,
        hold: Callable[[], AbstractContextManager[Callable[[int], bool]]],
        on_pause: Callable[[], object] = lambda: None,
        beside: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._hold = hold
        self._on_pause = on_pause
        self._beside = beside

    def execute(self, schedule: Schedule, calls: list[Callable[[], Any]]) -> tuple[list[Run], list[Point]]:
        """Run the calls as the schedule says; return the runs as they ended and the steps taken."""
        runs = [Run(number, call) for number, call in enumerate(calls)]
        points: list[Point] = []
        switches = dict(schedule.switches)
        with self._stepping():
            for run in runs:
                run.begin()
            current = runs[0]
            step = 0
            while alive := [run for run in runs if run.next_sql]:
                if all(run.is_waiting for run in alive):
                    time.sleep(0.005)  # For a statement that goes on in the server, whose session holds the lock.
                    for run in alive:
                        run.is_waiting = False
                able = [run for run in alive if not run.is_waiting]
                if current not in able:
                    current = able[0]
                if step in switches and runs[switches[step]] in able:
                    current = runs[switches[step]]
                others = [run for run in able if run is not current]
                numbers = [run.number for run in others], [run.number for run in others if run.next_sql == BY_HAND]
                points.append(Point(step, current.number, current.next_sql, current.holds_lock, *numbers))
                held = current.holds_lock
                current.go(schedule.cut[1] if schedule.cut and schedule.cut[0] == step else "")
                self._beside(points[-1].sql)
                if held and not current.holds_lock:
                    for run in alive:
                        run.is_waiting = False
                step += 1
            for run in runs:
                run.join()
        return runs, points

    @contextmanager
    def _stepping(self) -> Iterator[None]:
        """Have every statement of a run wait for its turn."""

        def rows(database: Database, sql: str, args: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
            run = threading.current_thread()
            return self._take(run, database, sql, args) if isinstance(run, Run) else _rows(database, sql, args)

        def connect(database: Database, *args: Any) -> None:
            run = threading.current_thread()
            if isinstance(run, Run):
                run.holds_lock = False
                if run.stop_at("connect"):
                    raise _lost(database)
            _connect(database, *args)

        def sleep(_: float) -> None:
            run = threading.current_thread()
            assert isinstance(run, Run)
            self._on_pause()
            run.stop_at("pause")

        with (
            mock.patch.object(Database, "rows", rows),
            mock.patch.object(Database, "connect", connect),
            mock.patch("shared.attempts.time", mock.Mock(sleep=sleep)),
        ):
            yield

    def _take(self, run: Run, database: Database, sql: str, args: tuple[str, ...]) -> list[tuple[Any, ...]]:
        """Have a run take one statement when its turn comes; one that asks for the lock waits for its next turn."""
        is_lock = sql.startswith("SELECT GET_LOCK")
        while True:
            action = run.stop_at(sql)
            if action == WHILE:
                self._cut_while_it_runs(database, sql, args)
            if action in (BEFORE, WHILE):
                run.holds_lock = False
                raise _lost(database)
            try:
                found = _rows(database, sql, (args[0], "0") if is_lock else args)
            finally:
                run.holds_lock = run.holds_lock and database._connection is not None
            if not is_lock or found[0][0]:
                break
            run.is_waiting = True
        run.holds_lock = (run.holds_lock or is_lock) and action != AFTER
        if action == AFTER:
            raise _lost(database)
        return found

    def _cut_while_it_runs(self, database: Database, sql: str, args: tuple[str, ...]) -> None:
        """Send the statement, wait until another session's transaction holds it, break the connection, let it go on."""
        connection = database._connection
        assert connection is not None
        self._on_pause()  # Whoever uses the table ends, and the holder takes his place.
        with self._hold() as is_held:
            with connection.cursor() as cursor:
                sent = cursor.mogrify(sql, args or None)
            connection._execute_command(3, sent)  # type: ignore[attr-defined]  # COM_QUERY; no answer is read.
            session = connection.server_thread_id[0]  # type: ignore[attr-defined]
            wait_until(lambda: is_held(session), 0.5, 0.002)
            database.close()


@dataclass
class Explored:
    """What an exploration did."""

    run: int = 0
    not_run: int = 0
    """Known, and not run: a sample was drawn, or the time was up."""
    left_out: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def explore(
    try_schedule: Callable[[Schedule], tuple[list[Point], list[str]]],
    is_long: Callable[[str], bool],
    unseen: tuple[str, ...] = (),
    *,
    switches: int,
    cuts: int,
    until: float = float("inf"),
    most: int = 0,
) -> Explored:
    """Try all schedules up to the bounds, but one of those that differ in nothing that the server can see.

    Args:
        try_schedule: executes one; returns the steps that it took, and what was wrong afterwards.
        is_long: whether a statement can be cut while it runs.
        unseen: how statements begin of which nobody else sees anything.
        switches: the most switches.
        cuts: the most cuts, 0 or 1.
        until: the time of `time.monotonic` at which to stop.
        most: the most schedules to run, drawn from those that are known; 0 runs all.
    """
    explored = Explored()
    started = time.monotonic()
    draw = random.Random(SEED)  # noqa: S311 - a sample
    left = [Schedule()]
    while left and time.monotonic() < until and not explored.faults and not 0 < most <= explored.run:
        schedule = left.pop(draw.randrange(len(left)))
        points, faults = try_schedule(schedule)
        explored.run += 1
        explored.faults += [f"{fault}\n  {schedule}\n{_shown(points)}" for fault in faults]
        for point in points:
            for further, rule in _alternatives(schedule, point, is_long, unseen, switches=switches, cuts=cuts):
                if rule:
                    explored.left_out[rule] += 1
                else:
                    left.append(further)
    explored.not_run = len(left)
    explored.seconds = time.monotonic() - started
    return explored


def _alternatives(
    schedule: Schedule,
    point: Point,
    is_long: Callable[[str], bool],
    unseen: tuple[str, ...],
    *,
    switches: int,
    cuts: int,
) -> Iterator[tuple[Schedule, str]]:
    """Yield what else might be done at a step after all that the schedule does, each with the rule that leaves it out.

    The rules: what happens before a statement of the session's own (a setting, BEGIN) might as well happen after it;
    what a statement that only reads does to its own connection might as well happen after it; a statement of ours is
    atomic, so that it is cut before or after it; and while a run holds the lock, another can do nothing but wait.
    """
    is_local = point.sql.startswith(LOCAL + unseen)
    has_switched_here = any(step == point.step for step, _ in schedule.switches)
    if len(schedule.switches) < switches and point.step > schedule.last:
        for other in point.others:
            waits = point.holds_lock and other not in point.without_lock
            rule = "the other can only wait" if waits else "the session's own" if is_local else ""
            yield Schedule((*schedule.switches, (point.step, other)), schedule.cut), rule
    if schedule.cut or not cuts or point.step < schedule.last or point.sql == "pause":
        return
    if point.step == schedule.last and not has_switched_here:
        return
    is_read = point.sql.startswith(READS)
    for when, rule in (
        (BEFORE, "the session's own" if is_local else ""),
        (AFTER, "the session's own" if is_local else "only reads" if is_read else ""),
        (WHILE, "" if is_long(point.sql) else "atomic"),
    ):
        yield Schedule(schedule.switches, (point.step, when)), rule


def _shown(points: list[Point]) -> str:
    return "\n".join(f"    {point.step:3} run {point.run}: {' '.join(point.sql.split())[:100]}" for point in points)
