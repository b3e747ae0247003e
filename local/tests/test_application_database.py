"""Reads and transactions on a real server: what is stored, what is repeated, and on which connection."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from typing import Any

import pytest

from local.tests.functions import Server
from operations.waiting import wait_until
from shared import application_database, database, keys
from shared.application_database import BEGINS, SESSION, ApplicationDatabase, Transaction
from shared.credentials import Credentials
from shared.database import Database
from shared.deadline import Deadline
from shared.errors import (
    AnswerError,
    BadRequestError,
    DependencyUnavailableError,
    InvocationError,
    QueryFailedError,
)
from shared.keys import Key

USER = "writer"
Make = Callable[..., ApplicationDatabase]
INSERT = "INSERT INTO entry (text) VALUES (%s)"


@pytest.fixture
def make(server: Server, trusted: None) -> Iterator[Make]:
    """Make what an application is given, on a connection of its own, and an empty table."""
    server.execute(
        f"DROP USER IF EXISTS {USER}@'%'",
        f"CREATE USER {USER}@'%' IDENTIFIED BY '{USER}' REQUIRE SSL",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON `dev\\_DB`.* TO {USER}@'%'",
        f"USE {server.database}",
        "DROP TABLE IF EXISTS entry",
        "CREATE TABLE entry (id INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(20) UNIQUE, amount DECIMAL(10, 2),"
        " made TIMESTAMP NULL, due DATETIME NULL)",
        "DELETE FROM transaction_key",
    )
    made = []

    def make(seconds: float = 20, function: str = "application") -> ApplicationDatabase:
        deadline = Deadline()
        deadline.start(seconds)
        connection = Database(deadline, "us-east-1", session=SESSION)
        credentials = Credentials("localhost", server.mysql.port, server.database, USER, USER, "v")
        made.append(connection)

        def connected() -> Database:
            if not connection.is_connected:
                connection.connect(credentials)
            return connection

        return ApplicationDatabase(function, connected, deadline, lambda _: nullcontext())

    yield make
    for each in made:
        each.close()
    server.execute(f"USE {server.database}", "DROP TABLE entry", f"DROP USER {USER}@'%'")


def _texts(server: Server) -> list[str]:
    return [row[0] for row in server.execute(f"SELECT text FROM {server.database}.entry ORDER BY id")]


def _insert(*texts: str) -> Callable[[Transaction], int]:
    def work(transaction: Transaction) -> int:
        return [transaction.execute(INSERT, (text,)) for text in texts][-1][1]

    return work


def test_a_read_returns_all_rows_and_none_found_is_an_answer(make: Make) -> None:
    mine = make()
    assert mine.rows("SELECT 1 UNION SELECT 2") == [(1,), (2,)]
    assert mine.rows("SELECT id FROM entry") == []
    assert mine.row("SELECT id FROM entry") is None
    assert mine.row("SELECT 7, '%'") == (7, "%")
    assert mine.row("SELECT 'abc' LIKE 'a%%', %(value)s", {"value": 1}) == (1, 1)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (None, None),
        (True, 1),
        (0.1, 0.1),
        (b"\0'\xff", b"\0'\xff"),
        (date(2026, 1, 31), "2026-01-31"),
        (clock(12, 30, 0, 500_000), "12:30:00.500000"),
        (-timedelta(days=1, hours=12, minutes=30), "-36:30:00"),
    ],
)
def test_a_value_is_bound_as_its_type_is(make: Make, value: object, read: object) -> None:
    """What the server has no type for in a SELECT comes back as text."""
    assert make().row("SELECT %s", (value,)) == (read,)


def test_a_write_outside_a_transaction_is_refused_by_the_server(server: Server, make: Make) -> None:
    with pytest.raises(QueryFailedError, match="errno=1792"):
        make().rows(INSERT, ("a",))
    assert _texts(server) == []


@pytest.mark.parametrize(
    ("statement", "number"),
    [("INSERT INTO entry (text) VALUES (REPEAT('a', 300))", 1406), ("INSERT INTO entry (amount) VALUES (1e9)", 1264)],
)
def test_what_is_too_long_or_too_large_is_refused_and_not_cut(
    server: Server, make: Make, statement: str, number: int
) -> None:
    """The server's own mode, RDS's, would store a part of it."""
    with pytest.raises(QueryFailedError, match=f"errno={number}"):
        make().transaction(lambda transaction: transaction.execute(statement))
    assert _texts(server) == []


def test_a_transaction_returns_what_its_work_returns_and_stores_everything(server: Server, make: Make) -> None:
    def work(transaction: Transaction) -> Any:
        first = transaction.execute(INSERT, ("a",))
        second = transaction.execute("INSERT INTO entry (text) VALUES ('b'), ('c')")
        changed = transaction.execute("UPDATE entry SET amount = %s WHERE text <> %s", (Decimal("12.50"), "a"))
        return first, second, changed, transaction.row("SELECT SUM(amount) FROM entry"), transaction.rows("SELECT 1")

    assert make().transaction(work) == ((1, 1), (2, 2), (2, 0), (Decimal("25.00"),), [(1,)])
    assert _texts(server) == ["a", "b", "c"]


def test_a_timestamp_is_a_moment_and_a_datetime_is_not(server: Server, make: Make) -> None:
    mine = make()
    berlin = datetime(2026, 7, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    mine.transaction(
        lambda transaction: transaction.execute("INSERT INTO entry (made, due) VALUES (%s, %s)", (berlin, berlin))
    )
    made, due = mine.row("SELECT made, due FROM entry") or ()
    assert made == datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert mine.row("SELECT UNIX_TIMESTAMP(made) FROM entry") == (berlin.timestamp(),)
    assert due == datetime(2026, 7, 1, 12)  # noqa: DTZ001 - a DATETIME has no time zone
    assert mine.row("SELECT CAST('0000-00-00 00:00:00' AS CHAR)") == ("0000-00-00 00:00:00",)
    server.execute(f"USE {server.database}", "SET sql_mode = ''", "UPDATE entry SET made = 0")
    assert mine.row("SELECT made FROM entry") == ("0000-00-00 00:00:00",)


def test_each_statement_of_a_transaction_sees_what_others_have_committed(make: Make) -> None:
    other = make()

    def work(transaction: Transaction) -> list[Any]:
        before = transaction.rows("SELECT text FROM entry")
        other.transaction(_insert("a"))
        return [before, transaction.rows("SELECT text FROM entry")]

    assert make().transaction(work) == [[], [("a",)]]


def test_an_exception_of_the_work_rolls_back_and_is_not_repeated(server: Server, make: Make) -> None:
    runs = []
    mine = make()

    def work(transaction: Transaction) -> None:
        runs.append(transaction.execute(INSERT, ("a",)))
        raise BadRequestError("no")

    with pytest.raises(BadRequestError):
        mine.transaction(work)
    assert len(runs) == 1
    assert _texts(server) == []
    mine.transaction(_insert("b"))
    assert _texts(server) == ["b"]


def test_a_refused_statement_can_be_caught_and_the_transaction_goes_on(server: Server, make: Make) -> None:
    def work(transaction: Transaction) -> int:
        transaction.execute(INSERT, ("a",))
        with pytest.raises(QueryFailedError, match="errno=1062"):
            transaction.execute(INSERT, ("a",))
        return transaction.execute(INSERT, ("b",))[0]

    assert make().transaction(work) == 1
    assert _texts(server) == ["a", "b"]


ENDING = [
    "CREATE TABLE other (id INT)",
    "LOCK TABLES entry WRITE",
    "SET autocommit = 0",
    "COMMIT",
    "ROLLBACK",
    "ANALYZE TABLE entry",
    "ALTER TABLE entry ADD COLUMN more INT",
    "SELECT no_such_column FROM entry; COMMIT",
]


@pytest.mark.parametrize("statement", ENDING)
@pytest.mark.parametrize("is_caught", [False, True])
def test_a_statement_that_ends_the_transaction_is_an_error_even_when_it_is_refused(
    server: Server, make: Make, statement: str, *, is_caught: bool
) -> None:
    runs = []
    mine = make()

    def work(transaction: Transaction) -> None:
        runs.append(transaction.execute(INSERT, ("a",)))
        try:
            transaction.execute(statement)
        except InvocationError:
            if not is_caught:
                raise
        transaction.execute(INSERT, ("b",))

    with_error = "no_such_column" not in statement
    if not with_error and is_caught:
        mine.transaction(work)
    else:
        said = "ended the transaction" if with_error else "errno=1064"
        with pytest.raises(QueryFailedError, match=said):
            mine.transaction(work)
    assert len(runs) == 1
    assert ("b" in _texts(server)) == (not with_error and is_caught)
    assert mine.row("SELECT @@autocommit") == (1,)


def test_a_statement_with_rows_that_ends_the_transaction_is_noticed_at_once(server: Server, make: Make) -> None:
    def work(transaction: Transaction) -> None:
        transaction.execute(INSERT, ("a",))
        transaction.rows("ANALYZE TABLE entry")

    with pytest.raises(QueryFailedError, match="ended the transaction"):
        make().transaction(work)
    assert _texts(server) == ["a"]


@pytest.mark.parametrize(
    "statement",
    [
        "BEGIN",
        " start  transaction",
        "/* x */ -- y\n#z\nCOMMIT AND CHAIN",
        "ROLLBACK WORK\nAND CHAIN",
        "/* x *//*!50000 START TRANSACTION */",
        "START/**/TRANSACTION",
        "COMMIT AND/**/CHAIN",
        "SET @a = 1, @@session.completion_type=1",
        "SET SESSION TRANSACTION READ WRITE",
        "SET/**/TRANSACTION/**/READ WRITE",
        "SET transaction_read_only = OFF",
    ],
)
def test_a_transaction_within_a_transaction_or_a_read_is_refused(server: Server, make: Make, statement: str) -> None:
    def work(transaction: Transaction) -> None:
        transaction.execute(INSERT, ("a",))
        transaction.execute(statement)

    with pytest.raises(QueryFailedError, match="within a transaction"):
        make().transaction(work)
    with pytest.raises(QueryFailedError, match="in a read"):
        make().rows(statement)
    assert _texts(server) == []


def test_what_begins_no_transaction_is_run(server: Server, make: Make) -> None:
    def work(transaction: Transaction) -> object:
        transaction.execute("/* BEGIN */ SET @transaction = 'START TRANSACTION'")
        transaction.execute("/**/ INSERT INTO entry (text) VALUES ('BEGIN')")
        return transaction.row("SELECT @transaction /*! , 1 */")

    assert make().transaction(work) == ("START TRANSACTION", 1)
    assert _texts(server) == ["BEGIN"]


def test_a_statement_with_many_comments_is_read_in_linear_time() -> None:
    for begin in (
        "/**/" * 40_000,
        "/*" * 40_000,
        "-- x\n" * 40_000,
        "/* * " * 40_000,
        "COMMIT " + "CHAI " * 40_000,
        "SET " + "TRANSACTIO " * 40_000,
    ):
        started = time.process_time()
        assert not BEGINS.match(begin + "UPDATE")
        assert time.process_time() - started < 1


def test_inside_a_transaction_the_other_reads_and_transactions_are_refused(server: Server, make: Make) -> None:
    mine = make()

    def reads(transaction: Transaction) -> None:
        mine.row("SELECT 1")

    def nests(transaction: Transaction) -> None:
        mine.transaction(_insert("a"))

    for work in (reads, nests):
        with pytest.raises(RuntimeError, match="use its own statements"):
            mine.transaction(work)
    assert mine.row("SELECT 1") == (1,)
    assert _texts(server) == []


def test_a_transaction_that_is_over_runs_nothing(server: Server, make: Make) -> None:
    kept: list[Transaction] = []
    mine = make()
    mine.transaction(kept.append)
    with pytest.raises(QueryFailedError, match="the transaction is over"):
        kept[0].execute(INSERT, ("a",))
    with pytest.raises(QueryFailedError, match="the transaction is over"):
        kept[0].commit()
    assert _texts(server) == []


def test_a_connection_is_replaced_before_a_transaction_and_never_within(
    server: Server, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = make()
    (before,) = mine.row("SELECT CONNECTION_ID()") or ()

    def work(transaction: Transaction) -> Any:
        transaction.execute(INSERT, ("a",))
        monkeypatch.setattr(database, "AGE", -1.0)
        monkeypatch.setattr(database, "IDLE", -1.0)
        return transaction.row("SELECT CONNECTION_ID()")

    monkeypatch.setattr(database, "AGE", -1.0)
    (within,) = mine.transaction(work)
    assert within != before
    assert _texts(server) == ["a"]


def _kill(server: Server) -> None:
    for (number,) in server.execute(f"SELECT id FROM information_schema.processlist WHERE user = '{USER}'"):
        server.execute(f"KILL {number}")


@pytest.mark.parametrize("is_caught", [False, True])
def test_a_transaction_whose_connection_broke_is_run_again_whole(
    server: Server, make: Make, *, is_caught: bool
) -> None:
    runs = []

    def work(transaction: Transaction) -> int:
        runs.append(1)
        transaction.execute(INSERT, ("a",))
        if len(runs) == 1:
            _kill(server)
        try:
            transaction.execute(INSERT, ("b",))
        except InvocationError as error:
            if is_caught:
                raise ValueError("lost") from error
            raise
        return len(runs)

    assert make().transaction(work) == 2
    assert _texts(server) == ["a", "b"]


def test_a_connection_that_broke_before_commit_was_sent_is_no_unknown_outcome(server: Server, make: Make) -> None:
    runs = []

    def work(transaction: Transaction) -> int:
        runs.append(transaction.execute(INSERT, ("a",)))
        if len(runs) == 1:
            _kill(server)
            assert wait_until(lambda: transaction._database.is_broken, 60)
        return len(runs)

    assert make().transaction(work) == 2
    assert _texts(server) == ["a"]


def test_commit_is_not_sent_when_no_time_is_left(server: Server, make: Make) -> None:
    mine = make()

    def work(transaction: Transaction) -> None:
        transaction.execute(INSERT, ("a",))
        mine._deadline.start(0)

    with pytest.raises(DependencyUnavailableError, match="lost before COMMIT"):
        mine.transaction(work)
    assert _texts(server) == []


def test_the_server_gives_up_a_lock_before_the_statement_does_and_nothing_of_the_first_half_is_stored(
    server: Server, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    first, second = make(), make()
    first.transaction(_insert("locked"))
    runs, waited = [], []
    go, again = threading.Event(), threading.Event()

    def hold(transaction: Transaction) -> None:
        transaction.row("SELECT id FROM entry WHERE text = 'locked' FOR UPDATE")
        go.set()
        again.wait()

    def work(transaction: Transaction) -> int:
        runs.append(1)
        transaction.execute(INSERT, (f"half {len(runs)}",))
        started = time.monotonic()
        try:
            transaction.row("SELECT id FROM entry WHERE text = 'locked' FOR UPDATE")
        except InvocationError:
            waited.append(time.monotonic() - started)
            again.set()
            raise
        return len(runs)

    holder = threading.Thread(target=first.transaction, args=(hold,))
    holder.start()
    go.wait()
    try:
        tries = second.transaction(work)
    finally:
        again.set()
        holder.join()
    errnos = [vars(record)["errno"] for record in caplog.records if record.getMessage() == "transaction.failed"]
    assert errnos == [1205] * (tries - 1)
    assert tries > 1
    assert all(0.9 < each < database.QUERY for each in waited)
    assert _texts(server) == ["locked", f"half {tries}"]


def test_a_deadlock_is_run_again(server: Server, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    make().transaction(_insert("a", "b"))
    meet = threading.Barrier(2)

    def transfer(source: str, target: str) -> Callable[[Transaction], None]:
        runs = []

        def work(transaction: Transaction) -> None:
            runs.append(1)
            for text in (source, target):
                transaction.execute("UPDATE entry SET amount = IFNULL(amount, 0) + 1 WHERE text = %s", (text,))
                if len(runs) == 1 and text == source:
                    meet.wait()

        return work

    threads = [
        threading.Thread(target=make().transaction, args=(transfer(*pair),)) for pair in (("a", "b"), ("b", "a"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.execute(f"SELECT amount FROM {server.database}.entry") == [(2,), (2,)]
    errnos = {vars(record)["errno"] for record in caplog.records if record.getMessage() == "transaction.failed"}
    assert errnos == {1213}


def test_a_transaction_that_can_never_be_stored_ends_after_some_tries(
    server: Server, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application_database, "PAUSE", 0.0)
    runs = []

    def work(transaction: Transaction) -> None:
        runs.append(1)
        _kill(server)
        transaction.execute(INSERT, ("a",))

    with pytest.raises(DependencyUnavailableError):
        make().transaction(work)
    assert len(runs) == application_database.TRIES
    assert _texts(server) == []


def test_no_try_begins_that_cannot_end(server: Server, make: Make) -> None:
    runs = []
    mine = make()

    def work(transaction: Transaction) -> None:
        runs.append(1)
        _kill(server)
        mine._deadline.start(0.4)
        transaction.execute(INSERT, ("a",))

    with pytest.raises(DependencyUnavailableError):
        mine.transaction(work)
    assert len(runs) == 1


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_transaction_stores_nothing(server: Server, make: Make, interrupt: type[BaseException]) -> None:
    mine = make()

    def work(transaction: Transaction) -> None:
        transaction.execute(INSERT, ("a",))
        raise interrupt

    with pytest.raises(interrupt):
        mine.transaction(work)
    assert _texts(server) == []
    assert mine.row("SELECT 1") == (1,)


def _key(value: str = "1", request: object = "hello", kind: str = "entry") -> Key:
    return Key(kind, value, request)


def test_the_work_of_a_key_is_done_once_and_each_caller_gets_the_same_answer(server: Server, make: Make) -> None:
    runs = []

    def work(transaction: Transaction) -> Any:
        runs.append(transaction.execute(INSERT, ("a",)))
        return {"id": runs[-1][1], "amount": Decimal("12.50"), "at": (datetime(2026, 1, 1, tzinfo=UTC), b"\0")}

    first, second = make(), make()
    answers = [mine.transaction(work, _key()) for mine in (first, first, second)]
    assert answers == [{"id": 1, "amount": "12.50", "at": ["2026-01-01T00:00:00+00:00", "AA=="]}] * 3
    assert len(runs) == 1
    assert _texts(server) == ["a"]


def test_a_key_belongs_to_one_function_and_one_kind_of_work(server: Server, make: Make) -> None:
    make().transaction(_insert("a"), _key())
    make().transaction(_insert("b"), _key(kind="other"))
    make(function="report").transaction(_insert("c"), _key())
    assert _texts(server) == ["a", "b", "c"]


def test_the_same_key_with_another_request_is_refused_and_not_answered(server: Server, make: Make) -> None:
    mine = make()
    mine.transaction(_insert("a"), _key(request={"b": 1, "a": 2}))
    assert mine.transaction(_insert("b"), _key(request={"a": 2, "b": 1})) == 1
    with pytest.raises(BadRequestError, match="another request"):
        mine.transaction(_insert("b"), _key(request={"a": 2}))
    assert _texts(server) == ["a"]


@pytest.mark.parametrize("answer", [object(), "x" * (6 * 1024 * 1024), "\ud800", float("nan")])
def test_nothing_is_stored_whose_answer_cannot_be_given(server: Server, make: Make, answer: object) -> None:
    mine = make()

    def work(transaction: Transaction) -> object:
        transaction.execute(INSERT, ("a",))
        return answer

    with pytest.raises(AnswerError):
        mine.transaction(work, _key())
    assert _texts(server) == []
    assert mine.transaction(_insert("b"), _key()) == 2


def test_four_callers_at_once_get_one_answer(server: Server, make: Make) -> None:
    answers = []

    def work(transaction: Transaction) -> int:
        number = transaction.execute(INSERT, ("a",))[1]
        time.sleep(0.3)
        return number

    threads = [
        threading.Thread(target=lambda mine: answers.append(mine.transaction(work, _key())), args=(make(),))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [1] * 4
    assert _texts(server) == ["a"]


def test_when_the_first_of_several_callers_fails_another_takes_its_place(
    server: Server, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that wait for its key get shared locks together, and each then waits for the others: a deadlock."""
    caplog.set_level(logging.WARNING)
    answers: list[object] = []
    runs = []

    def work(transaction: Transaction) -> int:
        runs.append(1)
        is_first = len(runs) == 1
        number = transaction.execute(INSERT, (f"run {len(runs)}",))[1]
        if is_first:
            waiting = "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
            # The table is made anew only for who has left it alone for 0.1 s.
            assert wait_until(lambda: len(server.execute(waiting)) == 3, 20, pause=0.2)
            raise ValueError("no")
        return number

    def call(mine: ApplicationDatabase) -> None:
        try:
            answers.append(mine.transaction(work, _key()))
        except ValueError:
            answers.append(None)

    threads = [threading.Thread(target=call, args=(make(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (text,) = _texts(server)
    assert text != "run 1"
    assert answers.count(None) == 1
    assert len(set(answers)) == 2
    errnos = {vars(record)["errno"] for record in caplog.records if record.getMessage() == "transaction.failed"}
    assert 1213 in errnos


def test_a_key_whose_work_was_cut_in_half_is_never_done_again(server: Server, make: Make) -> None:
    mine = make()

    def work(transaction: Transaction) -> None:
        transaction.execute(INSERT, ("a",))
        transaction.execute("ANALYZE TABLE entry")

    with pytest.raises(QueryFailedError, match="ended the transaction"):
        mine.transaction(work, _key())
    with pytest.raises(QueryFailedError, match="without an answer"):
        mine.transaction(_insert("b"), _key())
    assert _texts(server) == ["a"]


def _age(server: Server, **where: str) -> None:
    server.execute(
        f"UPDATE {server.database}.transaction_key SET created_at = NOW() - INTERVAL {keys.KEPT_DAYS + 1} DAY"
    )


def test_old_keys_are_removed_a_few_at_a_time_and_none_that_is_in_use(
    server: Server, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who waited for the one in use would give up, and remove none."""
    monkeypatch.setattr(keys, "REMOVED", 3)
    mine = make()
    for number in range(5):
        mine.transaction(lambda _: 0, _key(str(number)))
    _age(server)
    held, go = threading.Event(), threading.Event()

    def hold(transaction: Transaction) -> None:
        transaction.rows("SELECT id FROM transaction_key ORDER BY created_at LIMIT 1 FOR UPDATE")
        held.set()
        go.wait()

    holder = threading.Thread(target=make().transaction, args=(hold,))
    holder.start()
    held.wait()
    monkeypatch.setattr(keys, "REMOVE_ONE_IN", 1)
    left = []
    for number in range(3):
        mine.transaction(lambda _: 0, _key(f"new {number}"))
        left.append(server.execute(f"SELECT COUNT(*) FROM {server.database}.transaction_key")[0][0])
    go.set()
    holder.join()
    assert caplog.records == []
    assert left == [3, 3, 4]


def test_a_failure_to_remove_old_keys_is_logged_and_the_answer_given(
    server: Server, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keys, "REMOVE_ONE_IN", 1)
    monkeypatch.setattr(keys, "remove_old", lambda transaction: transaction.rows("SELECT x FROM nowhere"))
    assert make().transaction(_insert("a"), _key()) == 1
    assert [record.getMessage() for record in caplog.records] == ["keys.not_removed"]


def test_a_request_with_a_value_of_the_applications_own_is_no_bad_request() -> None:
    """No caller can send it, and nothing is asked of the database."""
    nothing: Any = None
    with pytest.raises(AnswerError, match="no form in JSON"):
        keys.claim(nothing, "application", Key("note", "1", object()))
