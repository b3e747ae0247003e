"""Writes under faults on a real server: what the callers were told and what is in the table agree.

INTERRUPTIONS is the data of both the tests here and proof/faults.md, which a test holds to it.
"""

import json
import logging
import os
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import application
from local.tests.functions import Context, Server
from operations.waiting import wait_until
from proof.testbed.fault_servers import (
    Interruption,
    cut_after,
    cut_answer,
    cut_before,
    cut_late,
    cut_unanswered,
    cut_within,
    hold_answer,
    refuse_statement,
)
from proof.testbed.harness import USER, Harness
from shared import application_database
from shared.application_database import ApplicationDatabase, Transaction
from shared.database import QUERY
from shared.environment import ServingEnvironment
from shared.errors import InvocationError, OutcomeUnknownError, QueryFailedError
from shared.frame import Frame
from shared.keys import Key

CUTS: dict[str, Interruption] = {
    "before the server gets it": cut_before,
    "before the server gets all of it": cut_within,
    "when the server has got it": cut_unanswered,
    "before the server gets it, late": cut_late,
    "when the server has answered": cut_after,
    "within the answer": cut_answer,
}
STATEMENTS = ["START", "INSERT INTO note", "SELECT", "UPDATE note", "COMMIT"]
KEYED = ["START", "INSERT IGNORE", "INSERT INTO note", "SELECT", "UPDATE note", "UPDATE transaction_key", "COMMIT"]
REFUSALS = {errno: refuse_statement(errno) for errno in (1053, 1205, 1213, 1290, 1836)}
"""Errors with which nothing is stored: a shutdown, a lock, a deadlock, a server that may not write."""

COMMITTED = ({0}, {0}, {0, 1}, {1}, {1}, {1})
"""For each of `CUTS`, how many rows are stored when it is COMMIT that is cut."""

SOAKED = 5_000


class Schedule:
    """What becomes of the statements of transactions, in turn, from one that begins so; afterwards all pass."""

    def __init__(self, *interruptions: Interruption | None, since: str = "") -> None:
        self._left = deque(interruptions)
        self._since = since

    def __call__(self, sql: str) -> Interruption | None:
        is_login = sql.startswith(("SET ", "SHOW ", "SELECT MAX(version)"))
        if is_login or not self._left or not sql.startswith(self._since):
            return None
        self._since = ""
        return self._left.popleft()


def _answer(event: Any, context: object, config: object, database: ApplicationDatabase) -> object:
    """An application that writes one note, with a key or without."""

    def work(transaction: Transaction) -> int:
        _, number = transaction.execute("INSERT INTO note (text) VALUES (%s)", (event["note"],))
        transaction.row("SELECT text FROM note WHERE id = %s FOR UPDATE", (number,))
        transaction.execute("UPDATE note SET text = text WHERE id = %s", (number,))
        return number

    key = Key("note", event["key"], event["note"]) if "key" in event else None
    return database.transaction(work, key)


def _frame() -> Frame:
    writing: Any = SimpleNamespace(__name__="writing", SCHEMA=application.SCHEMA, answer=_answer)
    return Frame(writing, ServingEnvironment.read(os.environ))


@pytest.fixture
def writing(harness: Harness) -> Harness:
    """The harness with the application that writes, and empty tables."""
    harness.frame = _frame()
    _empty(harness.server)
    return harness


def _empty(server: Server) -> None:
    server.execute(f"USE {server.database}", "DELETE FROM note", "DELETE FROM transaction_key")


def _stored(harness: Harness, *frames: Frame) -> Counter[str]:
    """How often each note is in the table, when no session is left that may still commit one."""
    for frame in (harness.frame, *frames):
        frame._database.close()
    left = f"SELECT id FROM information_schema.processlist WHERE user = '{USER}'"
    assert wait_until(lambda: not harness.server.execute(left), 10, 0.005)
    return Counter(text for (text,) in harness.server.execute(f"SELECT text FROM {harness.server.database}.note"))


def _outcome(harness: Harness, event: dict[str, Any]) -> InvocationError | None:
    """Write; the error, if there is one."""
    try:
        harness.invoke(event)
    except InvocationError as error:
        return error
    return None


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("statement", STATEMENTS)
def test_without_a_key_a_cut_ends_in_one_row_or_in_an_unknown_outcome_of_commit(
    writing: Harness, statement: str, cut: str
) -> None:
    writing.database.on_statement = Schedule(CUTS[cut], since=statement)
    outcome = _outcome(writing, {"note": "a"})
    stored = _stored(writing)["a"]
    if statement != "COMMIT":
        assert (outcome, stored) == (None, 1)
        return
    assert isinstance(outcome, OutcomeUnknownError)
    assert stored in dict(zip(CUTS, COMMITTED, strict=True))[cut]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("statement", KEYED)
def test_with_a_key_a_cut_ends_in_one_row_and_an_answer(writing: Harness, statement: str, cut: str) -> None:
    writing.database.on_statement = Schedule(CUTS[cut], since=statement)
    answer = writing.invoke({"note": "a", "key": "1"})
    assert writing.invoke({"note": "a", "key": "1"}) == answer
    assert _stored(writing) == {"a": 1}
    ((number,),) = writing.server.execute(f"SELECT id FROM {writing.server.database}.note")
    assert answer == number


@pytest.mark.parametrize("errno", REFUSALS)
@pytest.mark.parametrize("key", [{}, {"key": "1"}])
def test_a_refusal_with_which_nothing_is_stored_is_run_again(writing: Harness, key: dict[str, str], errno: int) -> None:
    for statement in KEYED if key else STATEMENTS:
        _empty(writing.server)
        writing.database.on_statement = Schedule(REFUSALS[errno], since=statement)
        assert _outcome(writing, {"note": "a"} | key) is None
        assert _stored(writing) == {"a": 1}


@pytest.mark.parametrize("key", [{}, {"key": "1"}])
def test_a_commit_without_an_answer_ends_in_time(writing: Harness, key: dict[str, str]) -> None:
    writing.database.on_statement = Schedule(hold_answer, since="COMMIT")
    started = time.monotonic()
    outcome = _outcome(writing, {"note": "a"} | key)
    assert time.monotonic() - started < 4
    assert isinstance(outcome, OutcomeUnknownError) == (not key)
    assert _stored(writing) == {"a": 1}


def test_a_key_that_cannot_be_asked_for_is_an_unknown_outcome_until_it_can(writing: Harness) -> None:
    writing.database.on_statement = Schedule(cut_after, *[cut_before] * 20, since="COMMIT")
    assert isinstance(_outcome(writing, {"note": "a", "key": "1"}), OutcomeUnknownError)
    writing.database.on_statement = Schedule()
    assert _outcome(writing, {"note": "a", "key": "1"}) is None
    assert _stored(writing) == {"a": 1}


def test_a_refusal_after_an_unanswered_commit_does_not_say_that_nothing_is_stored(writing: Harness) -> None:
    writing.database.on_statement = Schedule(cut_after, None, refuse_statement(1142), since="COMMIT")
    assert isinstance(_outcome(writing, {"note": "a", "key": "1"}), OutcomeUnknownError)
    assert _stored(writing) == {"a": 1}


def test_a_refusal_after_the_key_was_asked_for_is_told_as_it_is(writing: Harness) -> None:
    writing.database.on_statement = Schedule(cut_before, None, None, refuse_statement(1142), since="COMMIT")
    assert isinstance(_outcome(writing, {"note": "a", "key": "1"}), QueryFailedError)
    assert _stored(writing) == {}


def test_a_refusal_after_which_the_connection_breaks_is_told_and_stores_nothing(writing: Harness) -> None:
    writing.database.on_statement = Schedule(refuse_statement(1142), cut_before, since="UPDATE note")
    assert isinstance(_outcome(writing, {"note": "a"}), QueryFailedError)
    assert _stored(writing) == {}


def test_a_commit_that_the_server_refuses_stores_nothing(writing: Harness) -> None:
    writing.database.on_statement = Schedule(refuse_statement(3100), since="COMMIT")
    assert isinstance(_outcome(writing, {"note": "a"}), QueryFailedError)
    assert _stored(writing) == {}


@pytest.mark.parametrize("statement", ["INSERT INTO note", "COMMIT"])
def test_a_server_that_may_not_write_for_a_moment_is_asked_again(writing: Harness, statement: str) -> None:
    """As after a failover; the server itself refuses, the commit of what it had taken too."""
    starts = []

    def switch(sql: str) -> None:
        if sql.startswith("START"):
            starts.append(sql)
            writing.server.execute("SET GLOBAL read_only = OFF")
        if len(starts) == 1 and sql.startswith(statement):
            writing.server.execute("SET GLOBAL read_only = ON")

    writing.database.on_statement = switch
    try:
        assert _outcome(writing, {"note": "a"}) is None
    finally:
        writing.server.execute("SET GLOBAL read_only = OFF")
    assert len(starts) == 2
    assert _stored(writing) == {"a": 1}


def test_a_freeze_after_which_the_server_has_ended_the_session_is_run_again(writing: Harness) -> None:
    runs = []

    def freeze(_: object, __: object, ___: object, database: ApplicationDatabase) -> object:
        def work(transaction: Transaction) -> int:
            runs.append(transaction.execute("INSERT INTO note (text) VALUES ('a')"))
            if len(runs) == 1:
                transaction.execute("SET SESSION wait_timeout = 1")
                time.sleep(1.5)
            return transaction.execute("INSERT INTO note (text) VALUES ('b')")[0]

        return database.transaction(work)

    writing.monkeypatch.setattr(writing.frame._application, "answer", freeze)
    assert writing.invoke() == 1
    assert len(runs) == 2
    assert _stored(writing) == {"a": 1, "b": 1}


def test_rotations_in_the_middle_of_a_transaction_fail_nothing(
    server: Server, rotate: Callable[[], str], environment: Callable[..., Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    rotate()
    _empty(server)
    frame = environment(application)
    frame.handle({}, Context())
    runs = []

    def store(transaction: Transaction, text: str) -> int:
        _, number = transaction.execute("INSERT INTO note (text) VALUES (%s)", (text,))
        runs.append(number)
        if len(runs) == 1:
            for _ in range(3):  # The cached password is stale then.
                rotate()
            for (session,) in server.execute(
                "SELECT id FROM information_schema.processlist WHERE user LIKE 'notesapp%'"
            ):
                server.execute(f"KILL {session}")
        transaction.row("SELECT 1")
        return number

    monkeypatch.setattr(application, "_store", store)
    assert frame.handle({"note": "a", "key": "1"}, Context()) == {"stored": runs[1]}
    assert server.execute(f"SELECT id, text FROM {server.database}.note") == [(runs[1], "a")]


FAULTS = st.sampled_from([*CUTS.values(), *REFUSALS.values()])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.lists(st.tuples(st.integers(0, 9), FAULTS), min_size=3, max_size=7),
    keyed=st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_whatever_the_schedule_the_table_has_what_the_callers_were_told(
    writing: Harness, faults: list[tuple[int, Interruption]], keyed: list[bool]
) -> None:
    """Each fault strikes after so many statements that pass."""
    _empty(writing.server)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(application_database, "PAUSE", 0.001)
        schedule = [each for passing, fault in faults for each in [*[None] * passing, fault]]
        writing.database.on_statement = Schedule(*schedule)
        outcomes = {
            f"{number}": _outcome(writing, {"note": f"{number}"} | ({"key": f"{number}"} if has_key else {}))
            for number, has_key in enumerate(keyed)
        }
        writing.database.on_statement = Schedule()
    stored = _stored(writing)
    for note, outcome in outcomes.items():
        _agree(outcome, stored[note])
        if keyed[int(note)]:
            assert _outcome(writing, {"note": note, "key": note}) is None
    final = _stored(writing)
    assert all(final[note] == 1 for note in outcomes if keyed[int(note)])


def _agree(outcome: InvocationError | None, stored: int) -> None:
    if outcome is None:
        assert stored == 1
    elif isinstance(outcome, OutcomeUnknownError):
        assert stored in (0, 1)
    else:
        assert stored == 0, outcome


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_soak_of_writes(writing: Harness) -> None:
    """Two execution environments write 5,000 notes, each third without a key and some delivered twice at once."""
    logging.disable(logging.CRITICAL)
    randomness = random.Random(SOAKED)  # noqa: S311 - to be the same again
    lock = threading.Lock()
    faults: list[Interruption] = [*CUTS.values(), *REFUSALS.values()]
    frames = [_frame(), _frame()]
    outcomes: dict[str, list[InvocationError | None]] = {}

    def interrupt(sql: str) -> Interruption | None:
        if sql.startswith(("SET ", "SHOW ", "SELECT MAX(version)")):
            return None
        with lock:
            return randomness.choice(faults) if randomness.randrange(50) == 0 else None

    def write(frame: Frame, notes: Iterable[int]) -> None:
        for number in notes:
            event = {"note": f"{number}"} | ({"key": f"{number}"} if number % 3 else {})
            try:
                json.dumps(frame.handle(event, Context()))
                outcome: InvocationError | None = None
            except InvocationError as error:
                outcome = error
            with lock:
                outcomes.setdefault(f"{number}", []).append(outcome)

    writing.database.on_statement = interrupt
    shared = [number for number in range(SOAKED) if number % 10 == 1 and number % 3]
    alone = [number for number in range(SOAKED) if number not in set(shared)]
    callers = [
        threading.Thread(target=write, args=(frame, sorted(alone[index::2] + shared)))
        for index, frame in enumerate(frames)
    ]
    try:
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    finally:
        logging.disable(logging.NOTSET)
    writing.database.on_statement = Schedule()
    stored = _stored(writing, *frames)
    for note, told in outcomes.items():
        unknown = [each for each in told if isinstance(each, OutcomeUnknownError)]
        _agree(None if None in told else (unknown or told)[0], stored[note])
    acknowledged = sum(None in told for told in outcomes.values())
    undecided = sum(None not in told and OutcomeUnknownError in map(type, told) for told in outcomes.values())
    print(f"\n{len(outcomes)} notes: {acknowledged} acknowledged, {stored.total()} stored, {undecided} undecided")
    assert len(outcomes) == SOAKED
    assert acknowledged <= stored.total() <= acknowledged + undecided


def table() -> str:
    """The part of proof/faults.md about writes."""
    rows = ["| where | without a key | with a key |\n|---|---|---|\n"]
    once = "answers, stored once"
    for cut, stored in zip(CUTS, COMMITTED, strict=True):
        rows.append(f"| any statement before COMMIT, cut {cut} | {once} | {once} |\n")
        said = " or ".join({0: "not stored", 1: "stored once"}[number] for number in sorted(stored))
        rows.append(f"| COMMIT, cut {cut} | fails: `OutcomeUnknownError`, {said} | {once} |\n")
    rows.append(f"| COMMIT, and no answer for {QUERY:g} s | fails: `OutcomeUnknownError`, stored once | {once} |\n")
    rows += [f"| any statement, refused with {errno} | {once} | {once} |\n" for errno in REFUSALS]
    return "".join(rows)
