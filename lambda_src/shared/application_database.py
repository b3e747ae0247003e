"""The database as an application uses it: reads, and transactions that are stored as a whole or not at all."""

import json
import logging
import random
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from shared import keys
from shared.attempts import attempts
from shared.database import STRICT, Args, Database, Result, Row, is_answer
from shared.deadline import Deadline
from shared.errors import DependencyUnavailableError, InvocationError, OutcomeUnknownError, QueryFailedError
from shared.keys import Key

LOCK_WAIT: Final = 1
"""Seconds that the server waits for a lock, or two: InnoDB looks once a second. It gives up before a statement does."""
SESSION: Final = (
    f"SET {STRICT}, innodb_lock_wait_timeout = {LOCK_WAIT}, lock_wait_timeout = {LOCK_WAIT}",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY",
)
"""What each connection begins with. The server refuses a write outside a transaction, with error 1792."""

TRIES: Final = 4
"""Of a transaction of which nothing was stored."""
PAUSE: Final = 0.05
"""Seconds before the second try, at the most; doubled before each further one."""
LEAST: Final = 0.5
"""Seconds without which no further try begins."""

BEGINS: Final = re.compile(
    r"(?is)(?:\s|/\*(?!M?!)(?:[^*]|\*(?!/))*\*/|(?:--|#)[^\n]*\n)*"
    r"(?:/\*M?!|BEGIN\b|START\b.*\bTRANSACTION\b|(?:COMMIT|ROLLBACK)\b.*\bCHAIN\b|SET\b(?:[^@'\"=]*\bTRANSACTION\b"
    r"|.*\b(?:completion_type|(?:transaction|tx)_read_only)\b))"
)
"""Statements that may begin a transaction, or change its mode, which no status shows. The server runs /*! too."""

Timed = Callable[[str], AbstractContextManager[None]]

logger = logging.getLogger("application")


class Transaction:
    """Statements that are stored together. All run on one connection, or the transaction fails."""

    lost: DependencyUnavailableError | None = None
    """Why the transaction is over with nothing stored, if it is."""

    def __init__(self, database: Database, deadline: Deadline, timed: Timed) -> None:
        self._database = database
        self._deadline = deadline
        self._timed = timed
        self._over: InvocationError | None = None
        with timed("query_ms"):
            database.rows("START TRANSACTION READ WRITE")

    def rows(self, sql: str, args: Args = ()) -> list[Row]:
        """Return a query's rows, as they are committed now or written by this transaction (READ COMMITTED).

        Read a row that decides what is written with `FOR UPDATE`; another transaction may change it otherwise.

        Raises:
            QueryFailedError: the server refused the statement. If it is caught, the transaction goes on, unless the
                statement has ended it, as a definition does.
            DependencyUnavailableError: nothing is stored. The transaction is run again, even if this is caught.
        """
        return self._run(self._database.rows, sql, args)

    def row(self, sql: str, args: Args = ()) -> Row | None:
        """Return the first of the rows, or None; raises as `rows`."""
        return next(iter(self.rows(sql, args)), None)

    def execute(self, sql: str, args: Args = ()) -> tuple[int, int]:
        """Write; return the number of rows changed, and the id that was generated or 0; raises as `rows`."""
        return self._run(self._database.execute, sql, args)

    def commit(self) -> None:
        """Store everything.

        Raises:
            OutcomeUnknownError: the server did not answer.
            InvocationError: nothing is stored.
        """
        self._end()
        if self._database.is_broken or self._deadline.remaining() <= 0:
            self._database.close()
            self.lost = DependencyUnavailableError("database: lost before COMMIT", operation="query")
            self.lost.connection_lost = True
            raise self.lost
        try:
            with self._timed("commit_ms"):
                self._database.rows("COMMIT")
            return
        except InvocationError as error:
            if is_answer(error):
                raise
            facts = error.facts
        raise OutcomeUnknownError("database: COMMIT was not answered", **facts)

    def roll_back(self) -> None:
        """Store nothing; a connection that does not answer is closed, after which the server does the same."""
        self._over = self._over or QueryFailedError("database: the transaction is over", operation="query")
        try:
            self._database.rows("ROLLBACK")
        except InvocationError:
            self._database.close()

    def _end(self) -> None:
        if self._over:
            raise self._over
        self._over = QueryFailedError("database: the transaction is over", operation="query")

    def _run(self, statement: Callable[[str, Args], Result], sql: str, args: Args) -> Result:
        if self._over:
            raise self._over
        if BEGINS.match(sql):
            raise QueryFailedError("database: a transaction within a transaction", operation="query")
        failure: InvocationError | None = None
        try:
            with self._timed("query_ms"):
                result = statement(sql, args)
        except InvocationError as error:
            failure = error
        if not self._database.in_transaction:
            failure = self._over = self._ended(failure)
        if failure:
            raise failure
        return result

    def _ended(self, failure: InvocationError | None) -> InvocationError:
        """Tell a transaction that was lost, of which nothing is stored, from one that a statement has ended."""
        if isinstance(failure, DependencyUnavailableError):
            self.lost = failure
        if failure and self._database.is_broken:
            return failure
        # An implicit commit, or one that the statement asked for; a refused definition commits too
        # (https://dev.mysql.com/doc/refman/8.4/en/implicit-commit.html).
        self._database.close()
        facts = failure.facts if failure else {"operation": "query"}
        return QueryFailedError("database: the statement ended the transaction, and stored it", **facts)


class ApplicationDatabase:
    """Reads and transactions, on the kept connection or a new one, within the invocation's deadline."""

    def __init__(self, function: str, connected: Callable[[], Database], deadline: Deadline, timed: Timed) -> None:
        """Connect nothing yet.

        Args:
            function: whose keys a transaction's keys are.
            connected: returns the kept connection, or a new one.
            deadline: the end of every wait.
            timed: adds a block's time to one of the invocation's durations.
        """
        self._function = function
        self._connected = connected
        self._deadline = deadline
        self._timed = timed
        self._is_inside = False
        self._unknown: OutcomeUnknownError | None = None

    def rows(self, sql: str, args: Args = ()) -> list[Row]:
        """Return a query's rows. It only reads, and is repeated once when the connection breaks.

        Args:
            sql: `%s` for each of the values in a sequence, or `%(name)s` for those in a mapping. With values, any
                other `%` is doubled: `LIKE 'a%%'`. Without, it is not.
            args: the values: None, bool, int, float, str, bytes, Decimal, date, time, timedelta and datetime. A
                datetime with an offset is written as UTC.

        Raises:
            QueryFailedError: the server refused it, or it begins a transaction. Error 1792 is a write outside one.
            DependencyUnavailableError: no answer in time.
        """
        self._stay_outside(sql)
        try:
            return self._read(sql, args)
        except DependencyUnavailableError as error:
            if not error.connection_lost:
                raise
            logger.warning("database.reconnecting", extra=error.facts)
        return self._read(sql, args)

    def row(self, sql: str, args: Args = ()) -> Row | None:
        """Return the first of the rows, or None; otherwise as `rows`."""
        return next(iter(self.rows(sql, args)), None)

    def transaction(self, work: Callable[[Transaction], Any], key: Key | None = None) -> Any:
        """Store all that `work` writes, or nothing, and return what it returns.

        When nothing was stored (a deadlock, a lock not had in time, a lost connection, a server that became
        read-only), `work` is run again from its beginning, up to `TRIES` times within the deadline. So it changes
        nothing but the database. An exception that it raises rolls back, and is not repeated.

        With a key, `work` is done at most once in `keys.KEPT_DAYS`: whoever gives the same key later or meanwhile
        gets the same answer. It comes as JSON has it, to the first caller too.

        Raises:
            OutcomeUnknownError: COMMIT was not answered, and with a key, the key could not be asked for either. With
                a key it is right to call again; without one the caller must look first.
            BadRequestError: the key was used for another request.
            AnswerError: with a key, what `work` returned has no form in JSON; nothing is stored.
            InvocationError: nothing is stored; unless a statement ended the transaction, as the error then says.
        """
        self._stay_outside()
        self._is_inside = True
        try:
            answer = self._repeat(work, key)
            if key and random.randrange(keys.REMOVE_ONE_IN) == 0:  # noqa: S311 - no secret
                self._remove_old_keys()
        finally:
            self._is_inside = False
        return answer

    def _stay_outside(self, sql: str = "") -> None:
        if self._is_inside:
            raise RuntimeError("a transaction is open: use its own statements")
        if BEGINS.match(sql):
            raise QueryFailedError("database: a transaction in a read: use transaction()", operation="query")

    def _read(self, sql: str, args: Args) -> list[Row]:
        database = self._connected()
        with self._timed("query_ms"):
            return database.rows(sql, args)

    def _repeat(self, work: Callable[[Transaction], Any], key: Key | None) -> Any:
        self._unknown = None
        for tries in attempts(self._deadline, lambda tried: random.uniform(0, PAUSE * 2**tried), LEAST):  # noqa: S311 - jitter
            try:
                return self._try(work, key)
            except OutcomeUnknownError as error:
                failure: InvocationError = error
                self._unknown = error
                may_repeat = key is not None
            except InvocationError as error:
                failure = error
                may_repeat = isinstance(error, DependencyUnavailableError) and error.connection_lost
            if not may_repeat or tries == TRIES:
                break
            logger.warning("transaction.failed", extra=failure.facts)
        raise self._unknown or failure

    def _try(self, work: Callable[[Transaction], Any], key: Key | None) -> Any:
        transaction = Transaction(self._connected(), self._deadline, self._timed)
        try:
            if key:
                stored = keys.claim(transaction, self._function, key)
                self._unknown = None  # The key's row has told what became of a COMMIT before.
                if stored is not None:
                    transaction.roll_back()
                    return json.loads(stored)
            answer = work(transaction)
            if key:
                answer = json.loads(keys.store(transaction, self._function, key, answer))
            transaction.commit()
        except BaseException as error:
            transaction.roll_back()
            if transaction.lost and isinstance(error, Exception):
                raise transaction.lost from None  # Whatever `work` made of it.
            raise
        return answer

    def _remove_old_keys(self) -> None:
        """What was done is done: a failure here is only logged."""
        try:
            self._try(keys.remove_old, None)
        except InvocationError as error:
            logger.warning("keys.not_removed", extra=error.facts)
